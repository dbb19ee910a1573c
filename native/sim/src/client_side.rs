//! One client: the real rules of an open file, the glue that `client::drive` is for them, and a program of random operations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Error, ErrorKind, Reason};
use chunk::ChunkRef;
use client::file::{
    Action, CELL_BYTES, Event, File, Limits, Now, Patch, Refusal, Rounds, Source, Synced, Taken, Timer, chain, overlay,
};
use wire::proto::name_request::Op;
use wire::proto::*;

use crate::leader::INLINE_LIMIT;
use crate::oracle::{EffectId, GRAIN, Reading, Register, Time};
use crate::random::Random;
use crate::server_side::{Answer, Outcome, Question, ReplyTo};
use crate::world::{MS, SECOND, Step, World, silent};

const WINDOW: usize = 256 << 10;
const MAP_CHUNKS: u32 = 64;
const SYNC_PATIENCE: Time = 1200 * MS;
const READ_PATIENCE: Time = 700 * MS;

pub type Call = u64;

pub enum ClientStep {
    /// Begin the next operation.
    Next,
    Tick,
    Fired {
        open: u64,
        timer: Timer,
    },
    Replied {
        op_id: u64,
        back: Back,
        outcome: Result<Box<NameReply>, Error>,
    },
    Answered {
        call: Call,
        server: u32,
        outcome: Outcome,
    },
    Waited {
        call: Call,
        server: u32,
    },
    /// A read asks again.
    ReadOn,
}

/// What becomes of a reply of the leader. `open`: of which opening of the file.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    Granted { open: u64, index: u64 },
    TrimTold { open: u64, index: u64 },
    InlineWritten { open: u64 },
    Committed { open: u64, cycle: u64 },
    Turn { open: u64 },
    Body { open: u64 },
    Map { open: u64, index: u64 },
    Size { open: u64 },
    Opened,
    Resized { open: u64 },
    AppendedInline { open: u64 },
    Nothing,
}

enum Waiting {
    Send { index: u64, round: u32, seq: u64, offset: u32, info: Arc<ChunkInfo> },
    Trim { index: u64, info: Arc<ChunkInfo> },
    Sync { cycle: u64, index: u64, server: u32, boot: u64 },
    Read,
}

enum Doing {
    Idle,
    Opening { began: Time },
    Writing { effect: EffectId, at: u64, data: Vec<u8> },
    Appending { record: EffectId, data: Vec<u8>, stage: AppendStage },
    Flushing { changes: u64, began: Time, then: Then },
    Cutting { effect: EffectId },
    Reading(Read),
    Over,
}

#[derive(PartialEq)]
enum AppendStage {
    Begin,
    /// Everything written before is being committed: it still fits into the inode.
    Flush(u64),
    Inline,
    Parts(usize),
}

#[derive(Clone, Copy)]
enum Then {
    Nothing,
    Close,
    Cut(u64),
}

struct Read {
    began: Time,
    offset: u64,
    end: u64,
    looked: bool,
    asking: bool,
    /// What it appended itself was not committed when its size was taken, and may have moved since.
    moving: bool,
    parts: Option<VecDeque<(u64, u64)>>,
    part: Option<Part>,
    got: Vec<u8>,
}

struct Part {
    patches: Vec<Patch>,
    replicas: Option<VecDeque<Replica>>,
    info: Option<ChunkInfo>,
    refresh: bool,
    tries: u32,
}

struct Opened {
    is_log: bool,
    inode: u64,
    at: Time,
    file: File,
    seen_faults: u64,
    asking_body: bool,
    reappend: bool,
}

pub struct Client {
    pub life: u32,
    pub paused_until: Time,
    /// For the oracle: another one for each life.
    name: u32,
    session: u64,
    op_id: u64,
    writer: u64,
    rounds: Rounds,
    random: Random,
    opened: Option<Opened>,
    opens: u64,
    /// Changes that have no answer yet.
    unanswered: BTreeSet<u64>,
    doing: Doing,
    calls: BTreeMap<Call, (u64, Waiting)>,
    /// Closed, while something that they asked for is under way.
    closed: BTreeMap<u64, Opened>,
    next_call: Call,
}

impl Client {
    /// What it still does after the end, if anything.
    pub fn is_stuck(&self) -> Option<&'static str> {
        match self.doing {
            Doing::Over => None,
            Doing::Idle => Some("idle"),
            Doing::Opening { .. } => Some("opening"),
            Doing::Writing { .. } => Some("writing"),
            Doing::Appending { .. } => Some("appending"),
            Doing::Flushing { .. } => Some("syncing"),
            Doing::Cutting { .. } => Some("cutting"),
            Doing::Reading(_) => Some("reading"),
        }
    }
}

impl World {
    pub fn add_client(&mut self, name: u32) {
        let session = self.leader.open_session(self.now);
        let (random, writer) = (self.random.split(), self.random.next());
        let id = self.clients.len();
        self.clients.push(Client {
            life: 1,
            paused_until: 0,
            name,
            session,
            op_id: 0,
            writer,
            rounds: Rounds::default(),
            random,
            opened: None,
            opens: 0,
            unanswered: BTreeSet::new(),
            doing: Doing::Idle,
            calls: BTreeMap::new(),
            closed: BTreeMap::new(),
            next_call: 0,
        });
        self.after(0, Step::Client { id, life: 1, what: ClientStep::Next });
    }

    /// The machine of a client dies; another one comes in its place.
    pub fn kill_client(&mut self, id: usize) {
        let session = self.leader.open_session(self.now);
        let (writer, random) = (self.random.next(), self.random.split());
        let over = self.now + 9 * SECOND; // what is under way may still arrive
        let client = &mut self.clients[id];
        let name = client.name;
        client.life += 1;
        client.name += 100;
        (client.session, client.op_id, client.writer, client.rounds) = (session, 0, writer, Rounds::default());
        (client.random, client.opened, client.doing) = (random, None, Doing::Idle);
        client.calls.clear();
        client.closed.clear();
        client.unanswered.clear();
        let life = client.life;
        self.register.died(name, over);
        self.after(SECOND, Step::Client { id, life, what: ClientStep::Next });
    }

    fn now_of(&self) -> Now {
        Now { mono_ms: self.now / MS, wall_ns: (self.now * 1000) as i64 }
    }

    pub fn client_step(&mut self, id: usize, step: ClientStep) {
        match step {
            ClientStep::Next => self.next_operation(id),
            ClientStep::Tick => {
                let session = self.clients[id].session;
                self.leader.hears(session, self.now);
                if self.clients[id].opened.as_ref().is_some_and(|opened| opened.file.needs_ticks()) {
                    self.tell(id, Event::Tick);
                }
            }
            ClientStep::Fired { open, timer } => self.tell_if(id, open, Event::Fired(timer)),
            ClientStep::Replied { op_id, back, outcome } => {
                self.clients[id].unanswered.remove(&op_id);
                self.replied(id, back, outcome);
            }
            ClientStep::Answered { call, server, outcome } => self.answered(id, call, server, outcome),
            ClientStep::Waited { call, server } => {
                let failure = crate::server_side::Failure { error: silent("a chunkserver"), answered: false };
                self.answered(id, call, server, Err(failure));
            }
            ClientStep::ReadOn => {}
        }
        self.pump(id);
    }

    // ---- the file ----

    fn tell_if(&mut self, id: usize, open: u64, event: Event) {
        let client = &mut self.clients[id];
        let Some(old) = client.closed.remove(&open) else {
            if client.opens == open && client.opened.is_some() {
                self.tell(id, event);
            }
            return;
        };
        let current = (std::mem::replace(&mut client.opens, open), client.opened.replace(old));
        self.tell(id, event);
        let client = &mut self.clients[id];
        let old = std::mem::replace(&mut client.opened, current.1);
        client.opens = current.0;
        client.closed.extend(old.map(|old| (open, old)));
    }

    fn tell(&mut self, id: usize, event: Event) {
        let now = self.now_of();
        self.act(id, |file| ((), file.decide(now, event)));
    }

    fn act<T>(&mut self, id: usize, change: impl FnOnce(&mut File) -> (T, Vec<Action>)) -> Option<T> {
        let opened = self.clients[id].opened.as_mut()?;
        let (answer, actions) = change(&mut opened.file);
        for action in actions {
            self.perform(id, action);
        }
        Some(answer)
    }

    fn perform(&mut self, id: usize, action: Action) {
        let client = &self.clients[id];
        let open = client.opens;
        let Some(opened) = &client.opened else { return };
        let inode = opened.inode;
        match action {
            Action::Grant { index, request } => self.ask(id, Op::GrantWrite(request), Back::Granted { open, index }),
            Action::TellTrim { index, request } => self.ask(id, Op::TrimDone(request), Back::TrimTold { open, index }),
            Action::WriteInline { offset, data } => {
                let message = WriteInline { inode, offset, data: data.into(), append: false };
                self.ask(id, Op::WriteInline(message), Back::InlineWritten { open });
            }
            Action::Commit { cycle, request } => {
                self.ask(id, Op::CommitWrite(request), Back::Committed { open, cycle })
            }
            Action::AskTurn => self.ask(id, Op::AppendBegin(AppendBegin { inode }), Back::Turn { open }),
            Action::Release { chunks, abandoned } => {
                self.ask(id, Op::ReleaseGrants(ReleaseGrants { inode, chunks, abandoned }), Back::Nothing);
            }
            Action::Send { index, round, info, piece, create } => {
                let Some((head, rest)) = chain(&info) else { return };
                let message = ChunkWrite {
                    chunk: info.chunk,
                    offset: piece.offset,
                    length: piece.data.len() as u32,
                    crcs: piece.crcs().to_vec(),
                    create,
                    chain: rest,
                    sync: false,
                    writer: client.writer,
                    round,
                };
                let patience = hops(message.chain.len());
                let data = Arc::new(piece.data.to_vec());
                let waiting = Waiting::Send { index, round, seq: piece.seq, offset: piece.offset, info };
                self.call(id, head.server_id, Question::Write { message, data }, waiting, patience);
            }
            Action::Trim { index, info } => {
                let (Some(length), Some(chunk), Some((head, rest)), true) =
                    (info.trim, info.chunk, chain(&info), info.written)
                else {
                    return self.tell(id, Event::Trimmed { index, outcome: Ok(()) });
                };
                let patience = hops(rest.len());
                let what = Question::Trim { chunk: reference(chunk), length, chain: rest };
                self.call(id, head.server_id, what, Waiting::Trim { index, info }, patience);
            }
            Action::Sync { cycle, index, chunk, replica, boot_id } => {
                let what = Question::Sync { chunk: reference(chunk), boot: boot_id };
                let server = replica.server_id;
                self.call(id, server, what, Waiting::Sync { cycle, index, server, boot: boot_id }, SYNC_PATIENCE);
            }
            Action::Wait { timer, after_ms } => {
                let life = client.life;
                let wait = after_ms * MS / 2 + self.weather.below(after_ms * MS);
                self.after(wait, Step::Client { id, life, what: ClientStep::Fired { open, timer } });
            }
            Action::Reappend => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.reappend = true;
                }
            }
            Action::GaveUp(error) => self.note(|| format!("client {id} gave up: {error}")),
            Action::Forget { .. } | Action::Progress | Action::LeftOut(_) => {}
        }
    }

    fn ask(&mut self, id: usize, op: Op, back: Back) {
        let client = &mut self.clients[id];
        let is_read = matches!(op, Op::Getattr(_) | Op::GetChunks(_) | Op::Open(_));
        if !is_read {
            client.op_id += 1;
            client.unanswered.insert(client.op_id);
        }
        let op_id = if is_read { 0 } else { client.op_id };
        let acked_below = client.unanswered.first().copied().unwrap_or(client.op_id);
        let creds = Some(Credentials::default());
        let request = NameRequest { session: client.session, op_id, acked_below, creds, op: Some(op) };
        self.ask_leader(id, request, back);
    }

    fn call(&mut self, id: usize, server: u32, what: Question, waiting: Waiting, patience: Time) {
        self.note(|| format!("client {id} asks server {server}: {}", brief(&what)));
        let client = &mut self.clients[id];
        client.next_call += 1;
        let (call, life) = (client.next_call, client.life);
        client.calls.insert(call, (client.opens, waiting));
        self.ask_server(server as usize - 1, what, ReplyTo::Client { id, life, call }, None);
        self.after(patience, Step::Client { id, life, what: ClientStep::Waited { call, server } });
    }

    fn answered(&mut self, id: usize, call: Call, server: u32, outcome: Outcome) {
        let Some((open, waiting)) = self.clients[id].calls.remove(&call) else { return };
        if let Err(failure) = &outcome {
            self.note(|| format!("client {id} hears of server {server}: {}", failure.error));
        }
        match waiting {
            Waiting::Send { index, round, seq, offset, info } => {
                let outcome = stamps(outcome, &info).map(|stamps| ChunkWriteReply { stamps });
                self.tell_if(id, open, Event::Sent { index, round, seq, offset, outcome });
            }
            Waiting::Trim { index, info } => {
                let outcome = stamps(outcome, &info).map(drop);
                self.tell_if(id, open, Event::Trimmed { index, outcome });
            }
            Waiting::Sync { cycle, index, server, boot } => {
                let outcome = match outcome {
                    Ok(Answer::Synced(stamp)) if stamp.boot_id == boot => Synced::Stable,
                    Ok(_) => Synced::Restarted,
                    Err(failure) if failure.answered && failure.error.reason == Reason::Restarted => Synced::Restarted,
                    Err(failure) if failure.answered && failure.error.kind == ErrorKind::Stale => Synced::Moved,
                    Err(failure) => Synced::Failed(failure.error),
                };
                self.tell_if(id, open, Event::Synced { cycle, index, server, outcome });
            }
            Waiting::Read => self.read_answered(id, server, outcome),
        }
    }

    fn replied(&mut self, id: usize, back: Back, outcome: Result<Box<NameReply>, Error>) {
        match back {
            Back::Nothing => {}
            Back::Granted { open, index } => self.tell_if(id, open, Event::Granted { index, outcome }),
            Back::TrimTold { open, index } => self.tell_if(id, open, Event::TrimTold { index, outcome }),
            Back::InlineWritten { open } => self.tell_if(id, open, Event::InlineWritten { outcome }),
            Back::Committed { open, cycle } => self.tell_if(id, open, Event::Committed { cycle, outcome }),
            Back::Turn { open } => self.tell_if(id, open, Event::Turn { outcome }),
            Back::Opened => self.was_opened(id, outcome),
            Back::Body { open }
            | Back::Map { open, .. }
            | Back::Size { open }
            | Back::Resized { open }
            | Back::AppendedInline { open } => {
                if self.clients[id].opens != open || self.clients[id].opened.is_none() {
                    return;
                }
                match outcome {
                    Ok(reply) => self.replied_well(id, back, reply),
                    Err(error) => self.replied_badly(id, back, error),
                }
            }
        }
    }

    fn replied_well(&mut self, id: usize, back: Back, reply: Box<NameReply>) {
        match back {
            Back::Body { .. } => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.asking_body = false;
                }
                self.tell(id, Event::Learned { reply, first: 0, count: u64::from(MAP_CHUNKS) });
            }
            Back::Map { index, .. } => {
                let fresh = reply.chunks.iter().find(|info| info.index == index).cloned();
                self.tell(id, Event::Learned { reply, first: index, count: u64::from(MAP_CHUNKS) });
                self.read_mapped(id, index, fresh);
            }
            Back::Size { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Seen(attr));
                }
                if let Doing::Reading(read) = &mut self.clients[id].doing {
                    (read.looked, read.asking) = (true, false);
                }
            }
            Back::Resized { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Resized(attr));
                }
                if let Doing::Cutting { effect } = self.clients[id].doing {
                    self.register.done(effect, self.now);
                    self.ended(id);
                }
            }
            Back::AppendedInline { .. } => {
                let Doing::Appending { record, data, .. } = std::mem::replace(&mut self.clients[id].doing, Doing::Idle)
                else {
                    return;
                };
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.file.appended_inline(&reply, &data);
                }
                self.log.taken(record, self.now);
                self.log.synced(self.clients[id].name, self.now, self.now);
                self.ended(id);
            }
            _ => {}
        }
    }

    fn replied_badly(&mut self, id: usize, back: Back, error: Error) {
        if let (Back::AppendedInline { .. }, Doing::Appending { stage, .. }) = (back, &mut self.clients[id].doing) {
            if error.reason == Reason::TurnTaken || error.kind == ErrorKind::Unavailable {
                *stage = AppendStage::Begin;
                let life = self.clients[id].life;
                return self.after(5 * MS, Step::Client { id, life, what: ClientStep::ReadOn });
            }
            if error.errno == libc::EFBIG {
                *stage = AppendStage::Parts(0);
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.file.outgrown();
                }
                return;
            }
        }
        self.fail(format!("client {id}: {back:?} failed: {error}"));
    }

    // ---- the program ----

    fn ended(&mut self, id: usize) {
        self.operations += 1;
        self.clients[id].doing = Doing::Idle;
        let think = if self.calm { MS } else { self.plan.think };
        let wait = self.clients[id].random.below(think);
        let life = self.clients[id].life;
        self.after(wait, Step::Client { id, life, what: ClientStep::Next });
    }

    fn next_operation(&mut self, id: usize) {
        if !matches!(self.clients[id].doing, Doing::Idle) {
            return;
        }
        let calm = self.calm;
        let Some(opened) = &self.clients[id].opened else {
            if calm {
                self.clients[id].doing = Doing::Over;
                return;
            }
            return self.open(id);
        };
        let (is_log, span) = (opened.is_log, self.plan.span);
        let draw = self.clients[id].random.below(100);
        match draw {
            _ if calm => self.flush(id, Then::Close),
            0..8 => self.flush(id, Then::Close),
            8..22 => self.flush(id, Then::Nothing),
            22..45 => self.begin_read(id, span),
            _ if is_log => self.begin_append(id),
            45..57 => {
                let size = self.clients[id].random.below(span / GRAIN) * GRAIN;
                let size = if draw < 50 { 0 } else { size };
                self.flush(id, Then::Cut(size));
            }
            _ => self.begin_write(id, span),
        }
    }

    fn open(&mut self, id: usize) {
        let (appends, now) = (self.plan.appends, self.now);
        let client = &mut self.clients[id];
        client.opens += 1;
        let is_log = client.random.per_mille(appends);
        let inode = if is_log { self.leader.log } else { self.leader.cuts };
        client.doing = Doing::Opening { began: now };
        let back = Back::Opened;
        self.note(|| format!("client {id} opens {inode}"));
        self.ask(id, Op::Open(Open { inode, read: true, write: true }), back);
    }

    fn was_opened(&mut self, id: usize, outcome: Result<Box<NameReply>, Error>) {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(error) => return self.fail(format!("client {id} cannot open: {error}")),
        };
        let Some(attr) = reply.attr else { return self.fail("an open without attributes".into()) };
        let limits = Limits { window_bytes: WINDOW, inline_bytes: INLINE_LIMIT, deadline_ms: 60_000 };
        let log = self.leader.log;
        let client = &mut self.clients[id];
        let Doing::Opening { began } = client.doing else { return };
        client.opened = Some(Opened {
            is_log: attr.inode == log,
            inode: attr.inode,
            at: began,
            file: File::new(attr, Credentials::default(), limits, client.rounds.clone()),
            seen_faults: 0,
            asking_body: false,
            reappend: false,
        });
        let knows = reply.is_inline || !reply.chunks.is_empty();
        let count = reply.chunks.last().map_or(0, |info| info.index + 1);
        let event = if knows { Event::Learned { reply, first: 0, count } } else { Event::Seen(attr) };
        self.tell(id, event);
        self.ended(id);
    }

    fn begin_write(&mut self, id: usize, span: u64) {
        let random = &mut self.clients[id].random;
        let mut offset = random.below(span / GRAIN) * GRAIN;
        let length = match random.below(3) {
            0 => GRAIN * random.between(1, 16),
            1 => GRAIN * random.between(1, 300),
            _ => GRAIN * random.between(1, (span / GRAIN).max(2)),
        };
        if random.per_mille(30) {
            offset = CHUNK_BYTES - GRAIN * random.between(0, 8);
        }
        let name = self.clients[id].name;
        let effect = self.register.begin_write(name, offset, length, self.now);
        self.note(|| format!("client {id} writes {length} at {offset} (effect {effect})"));
        self.clients[id].doing = Doing::Writing { effect, at: offset, data: Register::fill(effect, length) };
    }

    fn begin_append(&mut self, id: usize) {
        let random = &mut self.clients[id].random;
        let length = if random.per_mille(300) { GRAIN * random.between(1, 600) } else { GRAIN * random.between(1, 12) };
        let record = self.log.begin(self.clients[id].name, length);
        self.note(|| format!("client {id} appends {length} (record {record})"));
        let data = Register::fill(record, length);
        self.clients[id].doing = Doing::Appending { record, data, stage: AppendStage::Begin };
    }

    fn flush(&mut self, id: usize, then: Then) {
        let (now, began) = (self.now_of(), self.now);
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

    fn begin_read(&mut self, id: usize, span: u64) {
        let is_log = self.clients[id].opened.as_ref().is_some_and(|opened| opened.is_log);
        let random = &mut self.clients[id].random;
        let (offset, length) = match is_log {
            true => (0, 1 << 20),
            false => (random.below(span / GRAIN) * GRAIN, GRAIN * random.between(1, 1 + span / GRAIN)),
        };
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

    // ---- going on with what is being done ----

    fn pump(&mut self, id: usize) {
        while self.failure.is_none() && self.pump_once(id) {}
    }

    /// Whether anything moved.
    fn pump_once(&mut self, id: usize) -> bool {
        if self.clients[id].opened.as_ref().is_some_and(|opened| opened.reappend) && self.reappend(id) {
            return true;
        }
        match &self.clients[id].doing {
            Doing::Writing { .. } => self.pump_write(id),
            Doing::Appending { .. } => self.pump_append(id),
            Doing::Flushing { .. } => self.pump_flush(id),
            Doing::Reading(_) => self.pump_read(id),
            Doing::Idle | Doing::Opening { .. } | Doing::Cutting { .. } | Doing::Over => false,
        }
    }

    fn reappend(&mut self, id: usize) -> bool {
        let now = self.now_of();
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

    fn know_body(&mut self, id: usize) {
        let open = self.clients[id].opens;
        let Some(opened) = &mut self.clients[id].opened else { return };
        if !std::mem::replace(&mut opened.asking_body, true) {
            let op = Op::GetChunks(GetChunks { inode: opened.inode, first: 0, count: MAP_CHUNKS });
            self.ask(id, op, Back::Body { open });
        }
    }

    fn pump_write(&mut self, id: usize) -> bool {
        let now = self.now_of();
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
        let now = self.now_of();
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
                let message = WriteInline { inode, offset: 0, data: data.clone().into(), append: true };
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

    fn pump_flush(&mut self, id: usize) -> bool {
        let Client { doing: Doing::Flushing { changes, began, then }, opened: Some(opened), name, .. } =
            &mut self.clients[id]
        else {
            return false;
        };
        if !opened.file.is_done(*changes) {
            return false;
        }
        let (began, then, name, is_log, inode) = (*began, *then, *name, opened.is_log, opened.inode);
        if opened.file.faults() != opened.seen_faults {
            let fault = opened.file.fault().cloned();
            self.fail(format!("client {id}: written bytes were given up: {fault:?}"));
            return false;
        }
        if is_log {
            self.log.synced(name, began, self.now)
        } else {
            self.register.synced(name, began, self.now)
        }
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
                self.ended(id);
            }
            Then::Cut(size) => {
                let effect = self.register.begin_cut(name, size, self.now);
                self.note(|| format!("client {id} cuts to {size} (effect {effect})"));
                self.clients[id].doing = Doing::Cutting { effect };
                let (open, session, op_id) =
                    (self.clients[id].opens, self.clients[id].session, self.clients[id].op_id + 1);
                self.leader.cutting.insert((session, op_id), effect);
                let cut = SetAttr { inode, size: Some(size), by_handle: true, ..SetAttr::default() };
                self.ask(id, Op::Setattr(cut), Back::Resized { open });
            }
        }
        true
    }

    // ---- reading, as `client::drive::read` and `fetch` do it ----

    fn pump_read(&mut self, id: usize) -> bool {
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
        let part = read.part.get_or_insert_with(|| Part {
            patches: Vec::new(),
            replicas: None,
            info: None,
            refresh: false,
            tries: 0,
        });
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

    fn read_mapped(&mut self, id: usize, index: u64, fresh: Option<ChunkInfo>) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else { return };
        read.asking = false;
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

    fn read_answered(&mut self, id: usize, server: u32, outcome: Outcome) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), .. } = &mut self.clients[id] else { return };
        read.asking = false;
        let Some((start, end)) = read.parts.as_ref().and_then(|parts| parts.front().copied()) else { return };
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
                let patches: Vec<_> = part.patches.iter().map(|patch| (patch.offset(), patch.bytes().len())).collect();
                let info = part.info.as_ref().map(|info| (info.chunk, info.trim, info.written));
                Some(format!("client {id} got {} bytes of {info:?}, over them {patches:?}", bytes.len()))
            }
            _ => None,
        };
        self.note(|| told.unwrap_or_default());
        let Client { doing: Doing::Reading(read), .. } = &mut self.clients[id] else { return };
        let Some((start, _)) = read.parts.as_mut().and_then(VecDeque::pop_front) else { return };
        if let Some(part) = read.part.take() {
            overlay(&mut bytes, (start % CHUNK_BYTES) as u32, &part.patches);
        }
        read.got.extend_from_slice(&bytes);
    }

    fn end_read(&mut self, id: usize) {
        let Client { doing: Doing::Reading(read), opened: Some(opened), name, .. } = &self.clients[id] else { return };
        let reading = Reading { client: *name, opened: opened.at, begin: read.began, end: self.now };
        let whole = read.got.len() < (read.end - read.offset) as usize && !read.moving;
        let values: Vec<_> = read.got.chunks(GRAIN as usize).map(Register::decode).collect();
        let found = match opened.is_log {
            true => self.log.check(opened.at, &values, whole),
            false => values.iter().enumerate().try_for_each(|(at, value)| {
                let offset = read.offset + at as u64 * GRAIN;
                match value {
                    Some(value) => self.register.check(reading, offset, *value),
                    None => Err(format!("bytes of nobody at {offset}")),
                }
            }),
        };
        if let Err(sentence) = found {
            return self.fail(format!("client {id} read: {sentence}"));
        }
        self.ended(id);
    }
}

fn hops(chain: usize) -> Time {
    1100 * MS + 150 * MS * chain as u64
}

fn reference(chunk: wire::proto::ChunkRef) -> ChunkRef {
    ChunkRef { id: chunk.id, version: chunk.version }
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

fn brief(what: &Question) -> String {
    match what {
        Question::Write { message, .. } => {
            format!("write {} at {} of {:?} round {}", message.length, message.offset, message.chunk, message.round)
        }
        other => format!("{other:?}"),
    }
}

/// As `client::drive::perform` reads the answer of a chain.
fn stamps(outcome: Outcome, info: &ChunkInfo) -> Result<Vec<Stamp>, Refusal> {
    let head = chain(info).map(|(head, _)| head.server_id);
    let failure = match outcome {
        Ok(Answer::Stamps(stamps)) => return Ok(stamps),
        Ok(_) => return Err(Refusal { error: Error::integrity("another answer"), blamed: head.into_iter().collect() }),
        Err(failure) => failure,
    };
    let blamed = match &failure.error {
        error if failure.answered && error.kind == ErrorKind::Stale => Vec::new(),
        error if failure.answered && !error.failed_servers.is_empty() => error.failed_servers.clone(),
        error if failure.answered && error.kind == ErrorKind::Integrity => Vec::new(),
        _ => head.into_iter().collect(),
    };
    Err(Refusal { error: failure.error, blamed })
}
