//! Reading, as `client::drive::read` and `fetch` do it, and what the oracle says of it.

use std::collections::VecDeque;

use base::ErrorKind;
use base::limits::CHUNK_BYTES;
use client::file::{Event, Patch, Source, chain, overlay};
use wire::proto::name_request::Op;
use wire::proto::*;

use super::asking::reference;
use super::{Back, Client, ClientStep, Doing, FileName, MAP_CHUNKS, READ_PATIENCE, Waiting};
use crate::oracle::{GRAIN, Reading, Register, Time};
use crate::server_side::{Answer, Outcome, Question};
use crate::world::{MS, Step, World};

pub(super) struct Read {
    began: Time,
    offset: u64,
    end: u64,
    pub looked: bool,
    pub asking: bool,
    /// What it appended itself was not committed when its size was taken, and may have moved since.
    moving: bool,
    parts: Option<VecDeque<(u64, u64)>>,
    part: Option<Part>,
    got: Vec<u8>,
}

struct Part {
    patches: Vec<Patch>,
    /// What lay over it when a task began to fetch it ahead, and when that task comes to it; what lies over it then is not
    /// that task's business.
    ahead: Option<Vec<Patch>>,
    begins: Time,
    replicas: Option<VecDeque<Replica>>,
    info: Option<ChunkInfo>,
    refresh: bool,
    /// As a server called it old.
    old: Option<ChunkRef>,
    tries: u32,
}

impl World {
    pub(super) fn begin_read(&mut self, id: usize, span: u64) {
        let is_log = self.clients[id].opened.as_ref().is_some_and(|opened| opened.name == FileName::Log);
        let random = &mut self.clients[id].random;
        let (offset, length) = match is_log {
            true => (0, 1 << 20),
            false => (random.below(span / GRAIN) * GRAIN, GRAIN * random.between(1, 1 + span / GRAIN)),
        };
        self.read_range(id, offset, length);
    }

    pub(super) fn read_range(&mut self, id: usize, offset: u64, length: u64) {
        self.note(|| format!("client {id} reads {length} at {offset}"));
        self.clients[id].doing = Doing::Reading(Read {
            began: self.now,
            offset,
            end: offset + length,
            looked: false,
            asking: false,
            moving: false,
            parts: None,
            part: None,
            got: Vec::new(),
        });
    }

    pub(super) fn pump_read(&mut self, id: usize) -> bool {
        let open = self.clients[id].opens;
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else {
            return false;
        };
        if read.asking {
            return false;
        }
        if read.part.is_none() && !opened.file.is_body_known() {
            self.know_body(id);
            return false;
        }
        if read.parts.is_none() {
            let size = opened.file.size();
            if read.offset >= size && !read.looked {
                read.asking = true;
                let inode = opened.inode;
                self.ask(id, Op::Getattr(GetAttr { inode }), Back::Size { open });
                return false;
            }
            let end = read.end.min(size).max(read.offset);
            read.moving = opened.file.is_dirty();
            if let Some(bytes) = opened.file.read_inline(read.offset, end).filter(|_| end > read.offset) {
                read.got = bytes.to_vec();
                read.parts = Some(VecDeque::new());
            } else {
                read.parts = Some(client_cut(read.offset, end));
            }
            return true;
        }
        let Some((start, end)) = read.parts.as_ref().and_then(|parts| parts.front().copied()) else {
            self.end_read(id);
            return true;
        };
        let index = start / CHUNK_BYTES;
        let (from, to) = ((start % CHUNK_BYTES) as u32, ((end - 1) % CHUNK_BYTES) as u32 + 1);
        let (now, random) = (self.now, &mut self.weather);
        let part = read.part.get_or_insert_with(|| {
            // What is fetched ahead counts only where it is known what the masters have.
            let is_ahead = opened.file.is_located(index) && random.per_mille(500);
            Part {
                patches: Vec::new(),
                ahead: is_ahead.then(|| opened.file.patches(index, from, to)),
                begins: if is_ahead { now + random.below(3 * MS) } else { now },
                replicas: None,
                info: None,
                refresh: false,
                old: None,
                tries: 0,
            }
        });
        if now < part.begins {
            let wait = part.begins - now;
            let life = self.clients[id].life;
            self.after(wait, Step::Client { id, life, what: ClientStep::ReadOn });
            return false;
        }
        if part.info.is_none() {
            if std::mem::take(&mut part.refresh) {
                opened.file.forget_source(index);
            }
            match opened.file.source(index) {
                Source::Known(info) => {
                    part.info = Some(info);
                    part.patches = opened.file.patches(index, from, to);
                }
                Source::Unknown => {
                    read.asking = true;
                    let op = Op::GetChunks(GetChunks { inode: opened.inode, first: index, count: MAP_CHUNKS });
                    self.ask(id, op, Back::Map { open, index });
                    return false;
                }
            }
        }
        self.read_part(id, from, to)
    }

    fn read_part(&mut self, id: usize, from: u32, to: u32) -> bool {
        let turn = self.clients[id].random.below(8) as usize;
        let Client { doing: Doing::Reading(read), .. } = &mut self.clients[id] else { return false };
        let Some(Part { info: Some(info), replicas, .. }) = &mut read.part else { return false };
        let readable = info.trim.map_or(to - from, |trim| trim.saturating_sub(from).min(to - from));
        let Some(chunk) = info.chunk.filter(|_| info.written && readable > 0) else {
            self.got_part(id, vec![0; (to - from) as usize]);
            return true;
        };
        let queue = replicas.get_or_insert_with(|| {
            let mut ranked: Vec<Replica> = info.replicas.clone();
            let count = ranked.len().max(1);
            ranked.rotate_left(turn % count);
            if info.granted
                && let Some((head, _)) = chain(info)
            {
                ranked.retain(|replica| replica.server_id != head.server_id);
                ranked.insert(0, head);
            }
            ranked.into()
        });
        match queue.pop_front() {
            Some(replica) => {
                read.asking = true;
                let what = Question::Read { chunk: reference(chunk), offset: from, length: to - from };
                self.call(id, replica.server_id, what, Waiting::Read, READ_PATIENCE);
                false
            }
            None => {
                let Some(part) = &mut read.part else { return false };
                part.tries += 1;
                (part.info, part.replicas, part.refresh) = (None, None, true);
                if part.tries > 200 {
                    self.fail(format!("client {id} cannot read chunk {chunk:?}"));
                    return false;
                }
                read.asking = true;
                let life = self.clients[id].life;
                let call = {
                    let client = &mut self.clients[id];
                    client.next_call += 1;
                    client.calls.insert(client.next_call, (client.opens, Waiting::Read));
                    client.next_call
                };
                self.after(100 * MS, Step::Client { id, life, what: ClientStep::Waited { call, server: 0 } });
                false
            }
        }
    }

    pub(super) fn read_mapped(&mut self, id: usize, index: u64, fresh: Option<ChunkInfo>, overtaken: bool) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else { return };
        read.asking = false;
        if overtaken && matches!(opened.file.source(index), Source::Unknown) {
            return; // it is asked again
        }
        let Some((start, end)) = read.parts.as_ref().and_then(|parts| parts.front().copied()) else { return };
        if let Some(part) = &mut read.part {
            part.patches =
                opened.file.patches(index, (start % CHUNK_BYTES) as u32, ((end - 1) % CHUNK_BYTES) as u32 + 1);
            part.info = Some(match opened.file.source(index) {
                Source::Known(info) => info,
                Source::Unknown => {
                    opened.file.readable(index, fresh.unwrap_or(ChunkInfo { index, ..ChunkInfo::default() }))
                }
            });
        }
    }

    pub(super) fn read_answered(&mut self, id: usize, server: u32, outcome: Outcome) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else { return };
        read.asking = false;
        let Some((start, end)) = read.parts.as_ref().and_then(|parts| parts.front().copied()) else { return };
        if let Err(failure) = &outcome
            && failure.answered
            && failure.error.kind == ErrorKind::Stale
            && let Some(part) = &mut read.part
            && let Some(chunk) = part.info.as_ref().and_then(|info| info.chunk).filter(|chunk| part.old != Some(*chunk))
        {
            part.old = Some(chunk);
            (part.info, part.replicas, part.refresh) = (None, None, true);
            return;
        }
        let Ok(Answer::Bytes { offset, data, boot }) = outcome else { return };
        let (index, from, length) = (start / CHUNK_BYTES, (start % CHUNK_BYTES) as u32, (end - start) as usize);
        let trim = read.part.as_ref().and_then(|part| part.info.as_ref()).and_then(|info| info.trim);
        let readable = trim.map_or(length, |trim| trim.saturating_sub(from).min(length as u32) as usize);
        let begin = (from - offset) as usize;
        let Some(bytes) = data.get(begin..begin + length) else {
            return self
                .fail(format!("server {server} answered {} bytes at {offset} for {length} at {from}", data.len()));
        };
        let mut bytes = bytes.to_vec();
        bytes[readable..].fill(0);
        if opened.file.took_another_start(index, server, boot) {
            self.tell(id, Event::ReadFrom { index, server, boot_id: boot });
        }
        let Client { doing: Doing::Reading(Read { part: Some(part), .. }), opened: Some(opened), .. } =
            &mut self.clients[id]
        else {
            return;
        };
        part.patches.extend(opened.file.patches(index, from, from + length as u32));
        self.got_part(id, bytes);
    }

    fn got_part(&mut self, id: usize, mut bytes: Vec<u8>) {
        let told = match &self.clients[id].doing {
            Doing::Reading(Read { part: Some(part), .. }) => {
                let patches: Vec<_> = part.patches.iter().map(|patch| patch.span()).collect();
                let info = part.info.as_ref().map(|info| (info.chunk, info.trim, info.written));
                Some(format!("client {id} got {} bytes of {info:?}, over them {patches:?}", bytes.len()))
            }
            _ => None,
        };
        self.note(|| told.unwrap_or_default());
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else { return };
        let Some((start, end)) = read.parts.as_mut().and_then(VecDeque::pop_front) else { return };
        if let Some(part) = read.part.take() {
            let (index, from) = (start / CHUNK_BYTES, (start % CHUNK_BYTES) as u32);
            let since =
                |noted: Vec<Patch>| [noted, opened.file.patches(index, from, from + (end - start) as u32)].concat();
            overlay(&mut bytes, from, &part.ahead.map_or(part.patches, since));
        }
        read.got.extend_from_slice(&bytes);
    }

    fn end_read(&mut self, id: usize) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), name, .. } = &self.clients[id] else { return };
        let reading =
            Reading { client: *name, file: opened.inode, opened: opened.at, begin: read.began, end: self.now };
        let whole = read.got.len() < (read.end - read.offset) as usize && !read.moving;
        let values: Vec<_> = read.got.chunks(GRAIN as usize).map(Register::decode).collect();
        let register = &mut self.register;
        let found = match opened.name {
            // Its own record may lie where another's is by now: it lost its place and does not know yet.
            FileName::Log if read.moving => Ok(()),
            FileName::Log => self.log.check(opened.at, &values, whole),
            _ => register.look(reading, read.offset, &values),
        };
        if let Err(sentence) = found {
            return self.fail(format!("client {id} read: {sentence}"));
        }
        self.ended(id);
    }
}

/// `start..end` cut at the ends of chunks and at half MiB.
fn client_cut(start: u64, end: u64) -> VecDeque<(u64, u64)> {
    let unit = 512 << 10;
    let mut parts = VecDeque::new();
    let mut at = start;
    while at < end {
        let stop = end.min((at / unit + 1) * unit);
        parts.push_back((at, stop));
        at = stop;
    }
    parts
}
