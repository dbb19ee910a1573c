//! One client: the real rules of an open file, the glue that `client::drive` is for them, and a program of random operations.

mod asking;
mod beside;
mod hearing;
mod names;
mod program;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Error;
use client::file::{Action, Event, File, Now, Rounds, Timer};
use wire::proto::*;

pub use names::FileName;

use crate::oracle::{EffectId, Time};
use crate::random::Random;
use crate::server_side::{Failure, Outcome};
use crate::world::{MS, SECOND, Step, World, silent};
use beside::Beside;
use reading::Read;

const WINDOW: usize = 256 << 10;
const MAP_CHUNKS: u32 = 64;
const SYNC_PATIENCE: Time = 1200 * MS;
const READ_PATIENCE: Time = 700 * MS;
/// Longer than a leader takes to call a client silent and to compare the copies that it wrote to.
const HEIR_AFTER_SETTLING: Time = 8 * SECOND;

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
    /// The session had expired when the leader was asked this.
    NoSession {
        request: NameRequest,
        back: Back,
        maybe_done: bool,
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
    Granted {
        open: u64,
        index: u64,
    },
    TrimTold {
        open: u64,
        index: u64,
    },
    InlineWritten {
        open: u64,
    },
    Committed {
        open: u64,
        cycle: u64,
    },
    Turn {
        open: u64,
    },
    Body {
        open: u64,
    },
    Map {
        open: u64,
        index: u64,
    },
    Size {
        open: u64,
    },
    /// Of a stat that began then.
    Stat {
        open: u64,
        began: Time,
    },
    Found,
    Created,
    Opened,
    Unlinked,
    Renamed,
    Resized {
        open: u64,
    },
    AppendedInline {
        open: u64,
    },
    Nothing,
}

enum Waiting {
    Send { index: u64, round: u32, seq: u64, offset: u32, info: Arc<ChunkInfo> },
    Trim { index: u64, info: Arc<ChunkInfo> },
    Sync { cycle: u64, index: u64, server: u32, boot: u64 },
    Read,
}

#[allow(clippy::large_enum_variant)] // One for each of four clients.
enum Doing {
    Idle,
    Opening {
        began: Time,
        name: FileName,
        inode: u64,
    },
    /// Unlinking, or renaming over.
    Naming,
    Stating,
    Writing {
        effect: EffectId,
        at: u64,
        data: Vec<u8>,
    },
    Filling {
        /// Of a hole.
        effect: Option<EffectId>,
        at: u64,
        end: u64,
    },
    Appending {
        record: EffectId,
        data: Vec<u8>,
        stage: AppendStage,
    },
    Flushing {
        changes: u64,
        began: Time,
        then: Then,
    },
    Cutting {
        effect: EffectId,
        size: u64,
        is_asked: bool,
    },
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

/// A client that comes in the place of a dead one whose bytes behind the end nobody committed: it makes the file as long as
/// that one saw it, and reads it.
#[derive(Clone, Copy)]
enum Heir {
    Opens(FileName, u64),
    Reads(u64),
}

struct Opened {
    name: FileName,
    inode: u64,
    /// When it was opened, or looked at last.
    at: Time,
    file: File,
    asking_body: bool,
    reappend: bool,
    beside: Option<Beside>,
}

pub struct Client {
    pub life: u32,
    pub paused_until: Time,
    /// For the oracle: another one for each life.
    name: u32,
    /// Its clock goes so many thousandths as fast as the true one, and its date is off by so much.
    rate: u64,
    off_ns: i64,
    session: u64,
    op_id: u64,
    writer: u64,
    rounds: Rounds,
    random: Random,
    opened: Option<Opened>,
    opens: u64,
    /// Changes that have no answer yet.
    unanswered: BTreeSet<u64>,
    heir: Option<Heir>,
    doing: Doing,
    calls: BTreeMap<Call, (u64, Waiting)>,
    /// Closed, while something that they asked for is under way.
    closed: BTreeMap<u64, Opened>,
    next_call: Call,
}

impl Client {
    pub fn jump(&mut self, by_ns: i64) {
        self.off_ns += by_ns;
    }

    /// What it still does after the end, if anything.
    pub fn is_stuck(&self) -> Option<&'static str> {
        match self.doing {
            Doing::Over => None,
            Doing::Idle => Some("idle"),
            Doing::Opening { .. } => Some("opening"),
            Doing::Naming => Some("taking a name away"),
            Doing::Stating => Some("looking at its size"),
            Doing::Writing { .. } => Some("writing"),
            Doing::Filling { .. } => Some("making a hole or a promise"),
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
        let (rate, off_ns) = self.plan.clock(&mut self.random);
        self.clients.push(Client {
            life: 1,
            paused_until: 0,
            name,
            rate,
            off_ns,
            session,
            op_id: 0,
            writer,
            rounds: Rounds::default(),
            random,
            opened: None,
            opens: 0,
            unanswered: BTreeSet::new(),
            heir: None,
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
        // What is under way may still arrive.
        let (unheard, over) = match self.plan.late {
            0 => (self.now + SECOND / 2, self.now + 4 * SECOND),
            _ => (self.now + 9 * SECOND, self.now + 9 * SECOND),
        };
        let heir = self.heir_of(id);
        let client = &mut self.clients[id];
        let name = client.name;
        client.life += 1;
        client.name += 100;
        (client.session, client.op_id, client.writer, client.rounds) = (session, 0, writer, Rounds::default());
        (client.random, client.opened, client.heir, client.doing) = (random, None, heir, Doing::Idle);
        client.calls.clear();
        client.closed.clear();
        client.unanswered.clear();
        // Some heirs come only when the leader has settled what the dead one left.
        let wait = if client.heir.is_some() && client.random.per_mille(500) { HEIR_AFTER_SETTLING } else { SECOND };
        let life = client.life;
        self.register.died(name, unheard, over);
        self.after(wait, Step::Client { id, life, what: ClientStep::Next });
    }

    fn heir_of(&self, id: usize) -> Option<Heir> {
        let opened = self.clients[id].opened.as_ref().filter(|opened| opened.name != FileName::Log)?;
        let (end, seen) = (self.leader.size_of(opened.inode), opened.file.size());
        (end > 0 && seen > end).then_some(Heir::Opens(opened.name, seen))
    }

    fn now_of(&self, id: usize) -> Now {
        let client = &self.clients[id];
        let mono = self.now * client.rate / 1000;
        Now { mono_ms: mono / MS, wall_ns: (mono * 1000) as i64 + client.off_ns }
    }

    pub fn client_step(&mut self, id: usize, step: ClientStep) {
        match step {
            ClientStep::Next => self.next_operation(id),
            ClientStep::Tick => {
                self.renew(id);
                if self.clients[id].opened.as_ref().is_some_and(|opened| opened.file.needs_ticks()) {
                    self.tell(id, Event::Tick);
                }
            }
            ClientStep::Fired { open, timer } => self.tell_if(id, open, Event::Fired(timer)),
            ClientStep::Replied { op_id, back, outcome } => {
                self.clients[id].unanswered.remove(&op_id);
                self.replied(id, back, outcome);
            }
            ClientStep::NoSession { request, back, maybe_done } => self.without_session(id, request, back, maybe_done),
            ClientStep::Answered { call, server, outcome } => self.answered(id, call, server, outcome),
            ClientStep::Waited { call, server } => {
                let failure = Failure { error: silent("a chunkserver"), answered: false };
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
        let now = self.now_of(id);
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
}
