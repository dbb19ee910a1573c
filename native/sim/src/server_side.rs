//! One chunkserver: the real store on a simulated disk, and the order of its answers as `chunkserver::requests` has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Error, ErrorKind, Reason, Result, crc};
use chunk::sim::{SimDisk, SimImage};
use chunk::{ChunkMap, ChunkRef, Memory, Sender, Store, StoreConfig};
use chunkserver::outcome;
use wire::proto::{ChunkFill, ChunkWrite, DiskStatus, Fill, Position, Replica, Stamp};

use crate::client_side::{Call, ClientStep};
use crate::leader::{LeaderStep, TaskId};
use crate::oracle::Time;
use crate::world::{MS, SECOND, Step, World, silent};

/// A hop that says nothing for this long has failed.
const HOP: Time = 900 * MS;
const COPY: Time = 10 * SECOND;
/// How long a request waits for a registration after the start, as in `chunkserver::memory`.
const FIRST_LOOK: Time = 2 * SECOND;
const IMAGES: usize = 12;

/// A failure as the one who asked sees it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub error: Error,
    /// The server said so itself.
    pub answered: bool,
}

#[derive(Clone, Debug)]
pub enum Question {
    Write { message: ChunkWrite, data: Arc<Vec<u8>> },
    Fill { message: ChunkFill },
    Trim { chunk: ChunkRef, length: u32, chain: Vec<Replica> },
    Sync { chunk: ChunkRef, boot: u64 },
    Read { chunk: ChunkRef, offset: u32, length: u32 },
    Map { chunk: ChunkRef, fence: bool },
    Settle { chunk: ChunkRef },
    Fetch { chunk: ChunkRef, present: Vec<u8> },
    Copy { chunk: ChunkRef, source: usize },
    Delete { chunk: ChunkRef },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Stamps(Vec<Stamp>),
    Synced(Stamp),
    Bytes { offset: u32, data: Vec<u8>, boot: u64 },
    Map { version: u32, present: Vec<u8>, digest: u32 },
    Blocks(Vec<(u32, Vec<u8>)>),
    Stored(u32),
}

pub type Outcome = std::result::Result<Answer, Failure>;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub enum ReplyTo {
    Client { id: usize, life: u32, call: Call },
    Server { id: usize, boot: u64, pending: u64 },
    Leader { task: TaskId, server: usize },
    Nobody,
}

pub enum ServerStep {
    Asked {
        what: Question,
        reply: ReplyTo,
        of_client: bool,
        epoch: Option<u64>,
        /// The start of the server that the connection reached; none when it was down, so that one that comes up meanwhile
        /// is reached.
        connected: Option<u64>,
    },
    Told {
        boot: u64,
        pending: u64,
        outcome: Outcome,
    },
    /// No answer came for this.
    Waited {
        boot: u64,
        pending: u64,
    },
}

enum Pending {
    Chain { own: Own, next: u32, chain: Vec<u32>, reply: ReplyTo, turn: Option<Turn> },
    CopyMap { chunk: ChunkRef, source: usize, reply: ReplyTo },
    CopyBlocks { chunk: ChunkRef, digest: u32, reply: ReplyTo },
}

/// This server's part in a change that others behind it carry out too.
enum Own {
    Done(Result<Stamp>),
    /// A promise, which comes last here.
    Promise(ChunkFill),
}

#[derive(Clone, Copy, PartialEq)]
struct Turn {
    chunk: u64,
    start: u64,
    end: u64,
}

pub struct Server {
    pub id: u32,
    pub disk: SimDisk,
    pub boot: u64,
    pub epoch: u64,
    pub paused_until: Time,
    started: Time,
    pub has_bad_disk: bool,
    pub had_bad_disk: bool,
    /// Chunks whose copy here was found bad since the start, until another took its place.
    pub rotten: BTreeSet<u64>,
    /// A leader compared what this server's disk remembers with what it knows.
    looked_at: bool,
    /// Former states of the disk, for one that is put back.
    images: VecDeque<(Time, SimImage)>,
    store: Option<Store>,
    pending: BTreeMap<u64, Pending>,
    next_pending: u64,
    turns: Vec<Turn>,
    waiting: Vec<(Question, ReplyTo)>,
}

impl Server {
    pub fn new(index: usize, seed: u64) -> Server {
        Server {
            id: index as u32 + 1,
            disk: SimDisk::new(1 << 32, seed ^ (index as u64 + 1)),
            boot: 0,
            epoch: 0,
            paused_until: 0,
            started: 0,
            has_bad_disk: false,
            had_bad_disk: false,
            rotten: BTreeSet::new(),
            looked_at: false,
            images: VecDeque::new(),
            store: None,
            pending: BTreeMap::new(),
            next_pending: 1,
            turns: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.store.is_some()
    }

    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    pub fn stop(&mut self) {
        self.store = None;
        self.pending.clear();
        self.turns.clear();
        self.waiting.clear();
        self.rotten.clear();
        (self.epoch, self.looked_at) = (0, false);
    }

    /// What it says of its disks, and what they remember.
    pub fn disks(&self) -> Vec<DiskStatus> {
        self.store().map_or(Vec::new(), |store| chunkserver::with_memories(chunkserver::disk_statuses(store), store))
    }

    /// Write down what a leader said, before anything is done under it. A disk that cannot is one that takes no writes.
    pub fn remember(&mut self, epoch: u64, position: Position, outdated: &[String]) {
        let outdated: Vec<PathBuf> = outdated.iter().map(PathBuf::from).collect();
        if let Some(store) = &self.store {
            let _ = store.remember(chunkserver::memory(epoch, Some(&position)), &outdated);
        }
        (self.epoch, self.looked_at) = (epoch, true);
    }

    /// What is done about once a second.
    pub fn second(&mut self, now: Time) {
        if let Some(store) = &self.store {
            store.tick((now * 1000) as i64);
        }
        self.images.push_back((now, self.disk.snapshot()));
        while self.images.len() > IMAGES {
            self.images.pop_front();
        }
    }

    /// The oldest that is kept, when it is old enough to be told from what the disk holds now.
    pub fn old_image(&self, now: Time) -> Option<SimImage> {
        self.images.front().filter(|(at, _)| at + 4 * SECOND < now).map(|(_, image)| image.clone())
    }

    /// Whether it waits for the masters before it answers: its disk may be an older image of itself.
    fn is_unknown(&self) -> bool {
        !self.looked_at && self.store().is_some_and(|store| store.memory() != Memory::default())
    }

    fn stamp(&self, stored_bytes: u32) -> Stamp {
        Stamp { server_id: self.id, boot_id: self.boot, stored_bytes }
    }

    fn keep(&mut self, pending: Pending) -> u64 {
        self.next_pending += 1;
        self.pending.insert(self.next_pending, pending);
        self.next_pending
    }

    fn try_turn(&mut self, turn: Turn) -> bool {
        let free = !self
            .turns
            .iter()
            .any(|other| other.chunk == turn.chunk && other.start < turn.end && turn.start < other.end);
        if free {
            self.turns.push(turn);
        }
        free
    }
}

impl World {
    pub fn start_server(&mut self, id: usize) {
        let boot = self.random.next() | 1;
        let now_ns = (self.now * 1000) as i64;
        let server = &mut self.servers[id];
        let config = StoreConfig {
            disks: vec![PathBuf::from("disk")],
            server_id: server.id,
            cluster_id: "sim".into(),
            direct_io: chunk::DirectIo::Off,
            reserve_bytes: 0,
        };
        match Store::open_simulated(config, std::slice::from_ref(&server.disk), now_ns) {
            Ok(store) => {
                (server.boot, server.started) = (boot, self.now);
                server.store = Some(store);
            }
            // It is tried again when the disk works.
            Err(_) if server.has_bad_disk => {}
            Err(error) => self.fail(format!("chunkserver {} does not start: {error}", id + 1)),
        }
    }

    /// Ask a server; the answer, or that the connection was refused, comes back to `reply`.
    pub fn ask_server(&mut self, id: usize, what: Question, reply: ReplyTo, epoch: Option<u64>) {
        let of_client = matches!(reply, ReplyTo::Client { .. });
        if self.is_lost() {
            return; // the one who asked waits in vain
        }
        let travel = self.travel();
        let connected = self.servers[id].is_up().then_some(self.servers[id].boot);
        self.after(travel, Step::Server { id, what: ServerStep::Asked { what, reply, of_client, epoch, connected } });
    }

    pub fn server_step(&mut self, id: usize, step: ServerStep) {
        match step {
            ServerStep::Asked { what, reply, of_client, epoch, connected } => {
                // A connection ends with its process, and what was on its way through it with both.
                let is_gone = connected.is_some_and(|boot| boot != self.servers[id].boot);
                if is_gone || !self.servers[id].is_up() {
                    let error = Error::new(ErrorKind::Unavailable, libc::ECONNREFUSED, "connection refused");
                    return self.answer(id, reply, Err(Failure { error, answered: false }));
                }
                if epoch.is_some_and(|epoch| epoch != self.servers[id].epoch) {
                    return self.answer(id, reply, Err(Failure { error: Error::stale("epoch"), answered: true }));
                }
                let (unknown, started) = (self.servers[id].is_unknown(), self.servers[id].started);
                if unknown && epoch.is_none() {
                    if self.now < started + FIRST_LOOK {
                        let what = ServerStep::Asked { what, reply, of_client, epoch, connected };
                        return self.after(50 * MS, Step::Server { id, what });
                    }
                    let error = Error::unavailable("not registered since its start").with_failed(self.servers[id].id);
                    return self.answer(id, reply, Err(Failure { error, answered: true }));
                }
                self.serve(id, what, reply, of_client);
            }
            ServerStep::Told { boot, pending, outcome } => self.resume(id, boot, pending, outcome),
            ServerStep::Waited { boot, pending } => {
                self.resume(id, boot, pending, Err(Failure { error: silent("the next server"), answered: false }));
            }
        }
    }

    fn answer(&mut self, id: usize, reply: ReplyTo, outcome: Outcome) {
        self.answer_after(0, id, reply, outcome);
    }

    fn answer_after(&mut self, wait: Time, id: usize, reply: ReplyTo, outcome: Outcome) {
        if self.is_lost() {
            return;
        }
        let travel = wait + self.travel();
        let server_id = self.servers[id].id;
        let step = match reply {
            ReplyTo::Client { id, life, call } => {
                Step::Client { id, life, what: ClientStep::Answered { call, server: server_id, outcome } }
            }
            ReplyTo::Server { id, boot, pending } => {
                Step::Server { id, what: ServerStep::Told { boot, pending, outcome } }
            }
            ReplyTo::Leader { task, server } => Step::Leader(LeaderStep::Told { task, server, outcome }),
            ReplyTo::Nobody => return,
        };
        self.after(travel, step);
    }

    fn serve(&mut self, id: usize, what: Question, reply: ReplyTo, of_client: bool) {
        let span = match &what {
            Question::Write { message, .. } => {
                let start = u64::from(message.offset);
                message.chunk.map(|chunk| (chunk.id, start, start + u64::from(message.length)))
            }
            Question::Fill { message } => {
                let start = u64::from(message.offset);
                message.chunk.map(|chunk| (chunk.id, start, start + u64::from(message.length)))
            }
            Question::Trim { chunk, length, .. } => Some((chunk.id, u64::from(*length), CHUNK_BYTES)),
            _ => None,
        };
        if let Some((chunk, start, end)) = span {
            let turn = Turn { chunk, start, end };
            if of_client && !self.servers[id].try_turn(turn) {
                return self.servers[id].waiting.push((what, reply));
            }
            return self.change(id, what, reply, of_client.then_some(turn));
        }
        if let Question::Copy { chunk, source } = what {
            let pending = self.servers[id].keep(Pending::CopyMap { chunk, source, reply });
            return self.ask_next(id, source, Question::Map { chunk, fence: true }, pending, COPY);
        }
        let longest = if matches!(what, Question::Sync { .. }) && !self.calm { self.plan.sync } else { 0 };
        let read = if let Question::Read { chunk, .. } = what { Some(chunk) } else { None };
        let outcome = self.look(id, what).map_err(|error| Failure { error, answered: true });
        if let (Some(chunk), Err(failure)) = (read, &outcome) {
            self.servers[id].found(chunk, &failure.error);
        }
        let wait = self.weather.below(longest);
        self.answer_after(wait, id, reply, outcome);
    }

    fn look(&mut self, id: usize, what: Question) -> Result<Answer> {
        let server = &self.servers[id];
        let Some(store) = server.store() else { return Err(Error::unavailable("down")) };
        match what {
            Question::Sync { chunk, boot } => {
                if boot != server.boot {
                    return Err(Error::stale("started anew").with_failed(server.id).because(Reason::Restarted));
                }
                let stored = store.sync(chunk).map_err(|error| outcome::own(error, server.id))?;
                Ok(Answer::Synced(server.stamp(stored)))
            }
            Question::Read { chunk, offset, length } => {
                let block = store.read(chunk, offset, length).map_err(|error| outcome::own(error, server.id))?;
                let boot = server.boot;
                Ok(Answer::Bytes { offset: block.offset, data: block.data.to_vec(), boot })
            }
            Question::Map { chunk, fence } => {
                if fence {
                    store.fence(chunk)?;
                }
                Ok(mapped(store.map(chunk)?))
            }
            Question::Settle { chunk } => Ok(mapped(store.settle(chunk)?)),
            Question::Fetch { chunk, present } => {
                let blocks = (0..present.len() * 8).filter(|block| present[block / 8] & (1 << (block % 8)) != 0);
                let read = |block: usize| {
                    let offset = (block * BLOCK_BYTES) as u32;
                    store.read(chunk, offset, BLOCK_BYTES as u32).map(|read| (offset, read.data.to_vec()))
                };
                Ok(Answer::Blocks(blocks.map(read).collect::<Result<_>>()?))
            }
            Question::Delete { chunk } => {
                store.delete(chunk)?;
                self.servers[id].rotten.remove(&chunk.id);
                Ok(Answer::Stored(0))
            }
            Question::Write { .. } | Question::Fill { .. } | Question::Trim { .. } | Question::Copy { .. } => {
                Err(Error::unavailable("not here"))
            }
        }
    }

    /// A write, fill or trim: here, then at the next of its chain, under one turn of the head.
    fn change(&mut self, id: usize, what: Question, reply: ReplyTo, turn: Option<Turn>) {
        let server = &self.servers[id];
        let Some(store) = server.store() else { return };
        let mut found = None;
        let (own, next) = match &what {
            Question::Write { message, data } => {
                let (chunk, sender) =
                    (chunk_of(message.chunk), Sender { writer: message.writer, round: message.round });
                if let Err(error) = store.check_sender(chunk.id, sender) {
                    self.give_turn(id, turn);
                    return self.answer(id, reply, Err(Failure { error, answered: true }));
                }
                let own = store.write(chunk, sender, message.offset, data, &message.crcs, message.create);
                if let Err(error) = &own {
                    found = Some((chunk, error.clone()));
                }
                let chain = message.chain.clone();
                let onward = ChunkWrite { chain: rest(&chain), ..message.clone() };
                (Some(own), (chain, Question::Write { message: onward, data: data.clone() }))
            }
            Question::Fill { message } => {
                let (chunk, sender) =
                    (chunk_of(message.chunk), Sender { writer: message.writer, round: message.round });
                if let Err(error) = store.check_sender(chunk.id, sender) {
                    self.give_turn(id, turn);
                    return self.answer(id, reply, Err(Failure { error, answered: true }));
                }
                let is_last = message.fill() == Fill::Promise && !message.chain.is_empty();
                let own = (!is_last).then(|| fill(store, message));
                if let Some(Err(error)) = &own {
                    found = Some((chunk, error.clone()));
                }
                let chain = message.chain.clone();
                let onward = ChunkFill { chain: rest(&chain), ..message.clone() };
                (own, (chain, Question::Fill { message: onward }))
            }
            Question::Trim { chunk, length, chain } => {
                let own = store.trim(*chunk, *length);
                (Some(own), (chain.clone(), Question::Trim { chunk: *chunk, length: *length, chain: rest(chain) }))
            }
            _ => return,
        };
        let own = own.map(|own| server.stamped(own));
        if let Some((chunk, error)) = found {
            self.servers[id].found(chunk, &error);
        }
        let (chain, onward) = next;
        let Some(first) = chain.first() else {
            self.give_turn(id, turn);
            let own = own.unwrap_or_else(|| Err(Error::unavailable("nothing was done")));
            let outcome = outcome::merge(own, Ok(Vec::new()));
            let outcome = outcome.map(Answer::Stamps).map_err(|error| Failure { error, answered: true });
            return self.answer(id, reply, outcome);
        };
        let next = first.server_id;
        let names = chain.iter().map(|replica| replica.server_id).collect();
        let own = match (own, &what) {
            (None, Question::Fill { message }) => Own::Promise(message.clone()),
            (own, _) => Own::Done(own.unwrap_or_else(|| Err(Error::unavailable("nothing was done")))),
        };
        let pending = self.servers[id].keep(Pending::Chain { own, next, chain: names, reply, turn });
        let patience = HOP + 100 * MS * chain.len() as u64;
        self.ask_next(id, next as usize - 1, onward, pending, patience);
    }

    fn ask_next(&mut self, id: usize, next: usize, what: Question, pending: u64, patience: Time) {
        let boot = self.servers[id].boot;
        self.ask_server(next, what, ReplyTo::Server { id, boot, pending }, None);
        self.after(patience, Step::Server { id, what: ServerStep::Waited { boot, pending } });
    }

    fn resume(&mut self, id: usize, boot: u64, pending: u64, told: Outcome) {
        if self.servers[id].boot != boot || !self.servers[id].is_up() {
            return;
        }
        match self.servers[id].pending.remove(&pending) {
            None => {}
            Some(Pending::Chain { own, next, chain, reply, turn }) => {
                let stamps = match told {
                    Ok(Answer::Stamps(stamps)) if stamps.iter().map(|stamp| stamp.server_id).eq(chain) => Ok(stamps),
                    Ok(_) => Err(outcome::next(Error::integrity("stamps of others"), next)),
                    Err(failure) => Err(outcome::next(failure.error, next)),
                };
                let server = &self.servers[id];
                let own = match (own, server.store()) {
                    (Own::Done(own), _) => own,
                    (Own::Promise(message), Some(store)) if stamps.is_ok() => server.stamped(fill(store, &message)),
                    (Own::Promise(_), _) => Ok(server.stamp(0)),
                };
                self.give_turn(id, turn);
                let outcome = outcome::merge(own, stamps).map(Answer::Stamps);
                self.answer(id, reply, outcome.map_err(|error| Failure { error, answered: true }));
            }
            Some(Pending::CopyMap { chunk, source, reply }) => match told {
                Ok(Answer::Map { version, present, digest }) if version == chunk.version => {
                    let pending = self.servers[id].keep(Pending::CopyBlocks { chunk, digest, reply });
                    self.ask_next(id, source, Question::Fetch { chunk, present }, pending, COPY);
                }
                Ok(_) => self.answer(id, reply, Err(Failure { error: Error::stale("version"), answered: true })),
                Err(failure) => self.answer(id, reply, Err(failure)),
            },
            Some(Pending::CopyBlocks { chunk, digest, reply }) => {
                let outcome = told.and_then(|answer| {
                    let Answer::Blocks(blocks) = answer else {
                        return Err(Failure { error: Error::integrity("no blocks"), answered: true });
                    };
                    let copied = self.servers[id].put_copy(chunk, digest, &blocks);
                    copied.map(Answer::Stored).map_err(|error| Failure { error, answered: true })
                });
                self.answer(id, reply, outcome);
            }
        }
    }

    /// Whoever waits for the span may go on.
    fn give_turn(&mut self, id: usize, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let server = &mut self.servers[id];
        if let Some(at) = server.turns.iter().position(|held| *held == turn) {
            server.turns.swap_remove(at);
        }
        for (what, reply) in std::mem::take(&mut server.waiting) {
            self.serve(id, what, reply, true);
        }
    }
}

fn chunk_of(chunk: Option<wire::proto::ChunkRef>) -> ChunkRef {
    chunk.map_or(ChunkRef { id: 0, version: 0 }, |chunk| ChunkRef { id: chunk.id, version: chunk.version })
}

fn rest(chain: &[Replica]) -> Vec<Replica> {
    chain.iter().skip(1).cloned().collect()
}

fn fill(store: &Store, message: &ChunkFill) -> Result<u32> {
    let sender = Sender { writer: message.writer, round: message.round };
    let fill = match message.fill() {
        Fill::Hole => chunk::Fill::Hole,
        Fill::Promise => chunk::Fill::Promise,
    };
    store.fill(chunk_of(message.chunk), sender, message.offset, message.length, fill, message.create)
}

fn mapped(map: ChunkMap) -> Answer {
    Answer::Map { version: map.version, present: map.present, digest: map.digest }
}

impl Server {
    fn stamped(&self, stored: Result<u32>) -> Result<Stamp> {
        stored.map(|stored| self.stamp(stored)).map_err(|error| outcome::own(error, self.id))
    }

    /// A copy that does not match its checksums is told to the leader with the next heartbeat.
    fn found(&mut self, chunk: ChunkRef, error: &Error) {
        if error.kind == ErrorKind::Integrity {
            self.rotten.insert(chunk.id);
        }
    }

    fn put_copy(&mut self, chunk: ChunkRef, digest: u32, blocks: &[(u32, Vec<u8>)]) -> Result<u32> {
        let store = self.store().ok_or_else(|| Error::unavailable("down"))?;
        let copy = store.begin_copy(chunk)?;
        let mut listed = Vec::new();
        for (offset, data) in blocks {
            let sum = crc::piece_crcs(*offset as usize, data);
            listed.extend_from_slice(&(offset / BLOCK_BYTES as u32).to_le_bytes());
            listed.extend_from_slice(&sum);
            copy.write(*offset, data, &sum)?;
        }
        if crc::crc32c(&listed) != digest {
            return Err(Error::stale("the source changed while it was read"));
        }
        let stored = copy.finish()?;
        self.rotten.remove(&chunk.id);
        Ok(stored)
    }
}
