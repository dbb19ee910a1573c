//! What a client does, and how far it is with it: the program of random operations, writes, appends, syncs and cuts.

use base::Error;
use base::limits::CHUNK_BYTES;
use client::file::{CELL_BYTES, Event, Taken};
use wire::proto::name_request::Op;
use wire::proto::*;

use super::{AppendStage, Back, Client, ClientStep, Doing, FileName, Heir, MAP_CHUNKS, Then};
use crate::leader::INLINE_LIMIT;
use crate::oracle::{GRAIN, Log, Register};
use crate::world::{MS, SECOND, Step, World};

impl World {
    // ---- the program ----

    pub(super) fn ended(&mut self, id: usize) {
        self.operations += 1;
        self.clients[id].doing = Doing::Idle;
        // Some operations follow each other faster than any answer comes.
        let hurries = self.calm || self.clients[id].random.per_mille(300);
        let think = if hurries { MS } else { self.plan.think };
        let wait = 1 + self.clients[id].random.below(think);
        let life = self.clients[id].life;
        self.after(wait, Step::Client { id, life, what: ClientStep::Next });
    }

    pub(super) fn next_operation(&mut self, id: usize) {
        if !matches!(self.clients[id].doing, Doing::Idle) {
            return;
        }
        let calm = self.calm;
        let Some(opened) = &self.clients[id].opened else {
            if calm {
                self.clients[id].doing = Doing::Over;
                return;
            }
            return self.choose_name(id);
        };
        let (is_log, span) = (opened.name == FileName::Log, self.plan.span);
        if let Some(heir) = self.clients[id].heir.take().filter(|_| !calm) {
            return self.inherit(id, heir);
        }
        let draw = self.clients[id].random.below(100);
        match draw {
            _ if calm => self.flush(id, Then::Close),
            0..8 => self.flush(id, Then::Close),
            8..15 => self.flush(id, Then::Nothing),
            15..20 => self.sync_beside(id),
            20..25 => self.stat(id),
            25..45 => self.begin_read(id, span),
            _ if is_log => self.begin_append(id),
            45..57 => {
                // As often a growth as a cut.
                let size = self.clients[id].random.below(2 * span / GRAIN) * GRAIN;
                let size = if draw < 50 { 0 } else { size };
                self.flush(id, Then::Cut(size));
            }
            57..64 => self.begin_fill(id, span),
            _ => self.begin_write(id, span),
        }
    }

    fn inherit(&mut self, id: usize, heir: Heir) {
        match heir {
            Heir::Opens(_, size) => {
                self.clients[id].heir = Some(Heir::Reads(size));
                self.flush(id, Then::Cut(size));
            }
            Heir::Reads(size) => self.read_range(id, 0, size),
        }
    }

    /// Whoever looks at a file gets from then on what was synced before, through the descriptor it has.
    fn stat(&mut self, id: usize) {
        let Some(opened) = &self.clients[id].opened else { return };
        let (inode, back) = (opened.inode, Back::Stat { open: self.clients[id].opens, began: self.now });
        self.clients[id].doing = Doing::Stating;
        self.ask(id, Op::Getattr(GetAttr { inode }), back);
    }

    fn begin_write(&mut self, id: usize, span: u64) {
        let random = &mut self.clients[id].random;
        let mut offset = random.below(span / GRAIN) * GRAIN;
        let length = match random.below(4) {
            // Often in the inode, or over what moves out of it.
            3 => {
                offset = random.below(u64::from(INLINE_LIMIT) / GRAIN) * GRAIN;
                GRAIN * random.between(1, 8)
            }
            0 => GRAIN * random.between(1, 16),
            1 => GRAIN * random.between(1, 300),
            _ => GRAIN * random.between(1, (span / GRAIN).max(2)),
        };
        if random.per_mille(30) {
            offset = CHUNK_BYTES - GRAIN * random.between(0, 8);
        }
        let (name, file) = (self.clients[id].name, self.clients[id].opened.as_ref().map_or(0, |opened| opened.inode));
        let effect = self.register.begin_write(name, file, (offset, length), self.now);
        self.note(|| format!("client {id} writes {length} at {offset} (effect {effect})"));
        self.clients[id].doing = Doing::Writing { effect, at: offset, data: Register::fill(effect, length) };
    }

    /// A hole, or a promise that keeps the size: within the file as this client sees it.
    fn begin_fill(&mut self, id: usize, span: u64) {
        let Some(opened) = self.clients[id].opened.as_ref() else { return };
        let (file, size) = (opened.inode, opened.file.size());
        let random = &mut self.clients[id].random;
        let at = (random.below(span / GRAIN) * GRAIN).min(size);
        let end = (at + GRAIN * random.between(1, (span / GRAIN).max(2))).min(size / GRAIN * GRAIN);
        if at >= end {
            return self.ended(id);
        }
        let is_hole = random.per_mille(700);
        let name = self.clients[id].name;
        let effect = is_hole.then(|| self.register.begin_hole(name, file, (at, end - at), self.now));
        self.note(|| format!("client {id} fills {} at {at} (hole {effect:?})", end - at));
        self.clients[id].doing = Doing::Filling { effect, at, end };
    }

    fn pump_fill(&mut self, id: usize) -> bool {
        let now = self.now_of(id);
        let Doing::Filling { effect, at, end } = self.clients[id].doing else { return false };
        let until = end.min((at / CHUNK_BYTES + 1) * CHUNK_BYTES);
        let fill = if effect.is_some() { Fill::Hole } else { Fill::Promise };
        match self.act(id, |file| file.fill(now, (at, until), fill, false)) {
            Some(Taken::At(_)) => {
                if until < end {
                    self.clients[id].doing = Doing::Filling { effect, at: until, end };
                    return true;
                }
                if let Some(effect) = effect {
                    self.register.taken(effect, self.now);
                }
                self.ended(id);
                true
            }
            Some(Taken::NeedsBody) => {
                self.know_body(id);
                false
            }
            _ => false,
        }
    }

    fn begin_append(&mut self, id: usize) {
        let random = &mut self.clients[id].random;
        let length = if random.per_mille(300) { GRAIN * random.between(1, 600) } else { GRAIN * random.between(1, 12) };
        let record = self.log.begin(self.clients[id].name, length);
        self.note(|| format!("client {id} appends {length} (record {record})"));
        let data = Log::fill(record, length);
        self.clients[id].doing = Doing::Appending { record, data, stage: AppendStage::Begin };
    }

    fn flush(&mut self, id: usize, then: Then) {
        let (now, began) = (self.now_of(id), self.now);
        let settle = !matches!(then, Then::Nothing);
        self.note(|| {
            format!(
                "client {id} {}",
                match then {
                    Then::Nothing => "syncs".to_string(),
                    Then::Close => "closes".into(),
                    Then::Cut(size) => format!("will cut to {size}"),
                }
            )
        });
        let changes = self.act(id, |file| {
            let actions = file.decide(now, Event::Flush { settle });
            (file.changes(), actions)
        });
        self.clients[id].doing = Doing::Flushing { changes: changes.unwrap_or(0), began, then };
    }

    // ---- going on with what is being done ----

    pub(super) fn pump(&mut self, id: usize) {
        while self.failure.is_none() && (self.pump_beside(id) || self.pump_once(id)) {}
    }

    /// Whether anything moved.
    fn pump_once(&mut self, id: usize) -> bool {
        if self.clients[id].opened.as_ref().is_some_and(|opened| opened.reappend) && self.reappend(id) {
            return true;
        }
        match &self.clients[id].doing {
            Doing::Writing { .. } => self.pump_write(id),
            Doing::Filling { .. } => self.pump_fill(id),
            Doing::Appending { .. } => self.pump_append(id),
            Doing::Flushing { .. } => self.pump_flush(id),
            Doing::Reading(_) => self.pump_read(id),
            Doing::Cutting { .. } => self.pump_cut(id),
            Doing::Idle | Doing::Opening { .. } | Doing::Naming | Doing::Stating | Doing::Over => false,
        }
    }

    fn reappend(&mut self, id: usize) -> bool {
        let now = self.now_of(id);
        match self.act(id, |file| file.reappend(now)) {
            Some(Taken::NeedsBody) => {
                self.know_body(id);
                false
            }
            Some(Taken::NeedsRoom) => false,
            _ => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.reappend = false;
                }
                true
            }
        }
    }

    pub(super) fn know_body(&mut self, id: usize) {
        let open = self.clients[id].opens;
        let Some(opened) = &mut self.clients[id].opened else { return };
        if !std::mem::replace(&mut opened.asking_body, true) {
            let op = Op::GetChunks(GetChunks { inode: opened.inode, first: 0, count: MAP_CHUNKS });
            self.ask(id, op, Back::Body { open });
        }
    }

    fn pump_write(&mut self, id: usize) -> bool {
        let now = self.now_of(id);
        let Doing::Writing { effect, at, data } = &mut self.clients[id].doing else { return false };
        let (effect, at) = (*effect, *at);
        let length = data.len().min((CELL_BYTES - at % CELL_BYTES) as usize);
        let part: Vec<u8> = data[..length].to_vec();
        match self.act(id, |file| file.write(now, at, &part)) {
            Some(Taken::At(_)) => {
                let Doing::Writing { at, data, .. } = &mut self.clients[id].doing else { return false };
                data.drain(..length);
                *at += length as u64;
                if data.is_empty() {
                    self.register.taken(effect, self.now);
                    self.ended(id);
                }
                true
            }
            Some(Taken::NeedsBody) => {
                self.know_body(id);
                false
            }
            _ => false,
        }
    }

    fn pump_append(&mut self, id: usize) -> bool {
        let now = self.now_of(id);
        let open = self.clients[id].opens;
        let Client { doing: Doing::Appending { record, data, stage }, opened: Some(opened), .. } =
            &mut self.clients[id]
        else {
            return false;
        };
        match *stage {
            AppendStage::Begin => {
                if !opened.file.is_body_known() {
                    self.know_body(id);
                    return false;
                }
                if !opened.file.stays_inline(data.len() as u64) {
                    *stage = AppendStage::Parts(0);
                    return true;
                }
                *stage = AppendStage::Flush(opened.file.changes());
                self.tell(id, Event::Flush { settle: false });
                true
            }
            AppendStage::Flush(changes) => {
                if !opened.file.is_done(changes) {
                    return false;
                }
                *stage = AppendStage::Inline;
                let inode = opened.inode;
                let message = WriteInline { inode, offset: 0, data: data.clone().into(), append: true, times: None };
                self.ask(id, Op::WriteInline(message), Back::AppendedInline { open });
                true
            }
            AppendStage::Inline => false,
            AppendStage::Parts(done) => {
                let length = (data.len() - done).min(CELL_BYTES as usize);
                let (part, ends, record) = (data[done..done + length].to_vec(), done + length == data.len(), *record);
                match self.act(id, |file| file.append(now, &part, ends)) {
                    Some(Taken::At(_)) => {
                        if ends {
                            self.log.taken(record, self.now);
                            self.ended(id);
                        } else if let Doing::Appending { stage, .. } = &mut self.clients[id].doing {
                            *stage = AppendStage::Parts(done + length);
                        }
                        true
                    }
                    Some(Taken::NeedsBody) => {
                        self.know_body(id);
                        false
                    }
                    Some(Taken::NeedsTurn) => {
                        let failed =
                            self.clients[id].opened.as_mut().and_then(|opened| opened.file.take_turn_failure());
                        if let Some(error) = failed {
                            self.fail(format!("client {id} cannot append: {error}"));
                        }
                        false
                    }
                    _ => false,
                }
            }
        }
    }

    /// What a client had written and not committed is nowhere, or comes until what is under way has arrived. A full disk under
    /// one of the last copies is told, not waited for; nothing else may lead to this.
    pub(super) fn gave_up(&mut self, id: usize, error: &Error) {
        self.note(|| format!("client {id} gave up: {error}"));
        let is_full =
            matches!(error.errno, libc::ENOSPC | libc::EROFS) && self.servers.iter().any(|server| server.had_bad_disk);
        if !is_full {
            return self.fail(format!("client {id}: written bytes were given up: {error}"));
        }
        let name = self.clients[id].name;
        let over = self.now + 9 * SECOND;
        self.register.died(name, over, over);
        self.log.gave_up(name);
    }

    fn pump_flush(&mut self, id: usize) -> bool {
        let Client { doing: Doing::Flushing { changes, began, then }, opened: Some(opened), name, .. } =
            &mut self.clients[id]
        else {
            return false;
        };
        if !opened.file.is_done(*changes) {
            return false;
        }
        let (began, then, name, inode) = (*began, *then, *name, opened.inode);
        self.was_synced(id, began);
        match then {
            Then::Nothing => self.ended(id),
            Then::Close => {
                self.act(id, |file| ((), file.closing()));
                let client = &mut self.clients[id];
                let old = client.opened.take();
                client.closed.extend(old.map(|old| (client.opens, old)));
                while client.closed.len() > 4 {
                    client.closed.pop_first();
                }
                self.after_close(id);
            }
            Then::Cut(size) => {
                let effect = self.register.begin_cut(name, inode, size, self.now);
                self.note(|| format!("client {id} cuts to {size} (effect {effect})"));
                self.clients[id].doing = Doing::Cutting { effect, size, is_asked: false };
            }
        }
        true
    }

    /// The cut follows what was sent before it, once nobody else has the turn at the end.
    fn pump_cut(&mut self, id: usize) -> bool {
        let client = &mut self.clients[id];
        let (Doing::Cutting { effect, size, is_asked }, Some(opened)) = (&mut client.doing, &client.opened) else {
            return false;
        };
        if std::mem::replace(is_asked, true) {
            return false;
        }
        let cut = SetAttr { inode: opened.inode, size: Some(*size), by_handle: true, ..SetAttr::default() };
        self.leader.cutting.insert((client.session, client.op_id + 1), *effect);
        let open = client.opens;
        self.ask(id, Op::Setattr(cut), Back::Resized { open });
        true
    }
}
