//! One client: the real rules of an open file, the glue that `client::drive` is for them, and a program of random operations.

mod beside;
mod names;
mod program;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Error, ErrorKind, Reason};
use chunk::ChunkRef;
use client::file::{
    Action, Event, File, Now, Refusal, Rounds, Synced, Timer, blamed, chain, not_synced, stamped, synced, write_request,
};
use wire::proto::name_request::Op;
use wire::proto::*;

pub use names::FileName;

use crate::oracle::{EffectId, Time};
use crate::random::Random;
use crate::server_side::{Answer, Failure, Outcome, Question, ReplyTo};
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
                let message = write_request(&info, &piece, rest, (client.writer, round), create);
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
                let after = after_ms * MS * 1000 / client.rate;
                let wait = after / 2 + self.weather.below(after);
                self.after(wait, Step::Client { id, life, what: ClientStep::Fired { open, timer } });
            }
            Action::Reappend => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.reappend = true;
                }
            }
            Action::GaveUp(error) => self.gave_up(id, &error),
            Action::Forget { .. } | Action::Progress | Action::LeftOut(_) => {}
        }
    }

    fn ask(&mut self, id: usize, op: Op, back: Back) {
        let client = &mut self.clients[id];
        let once = wire::op::is_once(&op);
        if once {
            client.op_id += 1;
            client.unanswered.insert(client.op_id);
        }
        let op_id = if once { client.op_id } else { 0 };
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
                let outcome = told_by_chain(outcome, &info);
                self.tell_if(id, open, Event::Sent { index, round, seq, offset, outcome });
            }
            Waiting::Trim { index, info } => {
                let outcome = told_by_chain(outcome, &info).map(drop);
                self.tell_if(id, open, Event::Trimmed { index, outcome });
            }
            Waiting::Sync { cycle, index, server, boot } => {
                let outcome = match outcome {
                    Ok(Answer::Synced(stamp)) => synced(&ChunkSyncReply { stamp: Some(stamp) }, boot),
                    Ok(_) => Synced::Failed(Error::integrity("another answer")),
                    Err(failure) => not_synced(failure.error, failure.answered),
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
            Back::Found => self.was_found(id, outcome),
            Back::Created => self.was_created(id, outcome),
            Back::Opened => self.was_opened(id, outcome),
            Back::Unlinked | Back::Renamed => self.was_named(id, outcome),
            Back::Body { open }
            | Back::Map { open, .. }
            | Back::Size { open }
            | Back::Stat { open, .. }
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
                let overtaken = self.clients[id].opened.as_ref().is_some_and(|opened| opened.file.is_overtaken(&reply));
                self.tell(id, Event::Learned { reply, first: index, count: u64::from(MAP_CHUNKS) });
                self.read_mapped(id, index, fresh, overtaken);
            }
            Back::Size { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Seen(attr));
                }
                if let Doing::Reading(read) = &mut self.clients[id].doing {
                    (read.looked, read.asking) = (true, false);
                }
            }
            Back::Stat { began, .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Seen(attr));
                }
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.at = began;
                }
                self.ended(id);
            }
            Back::Resized { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Resized(attr));
                }
                if let Doing::Cutting { effect, .. } = self.clients[id].doing {
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
        if let (Back::Resized { .. }, Doing::Cutting { is_asked, .. }) = (back, &mut self.clients[id].doing)
            && error.reason == Reason::TurnTaken
        {
            *is_asked = false;
            let life = self.clients[id].life;
            return self.after(5 * MS, Step::Client { id, life, what: ClientStep::ReadOn });
        }
        match (back, &self.clients[id].doing) {
            // Nobody can know whether it was carried out: it was, or it was not, and is over.
            (Back::Resized { .. }, Doing::Cutting { effect, .. }) if error.reason == Reason::NoSession => {
                let effect = *effect;
                self.register.is_over(effect, self.now);
                self.ended(id);
            }
            (Back::AppendedInline { .. }, _) if error.reason == Reason::NoSession => self.ended(id),
            _ => self.fail(format!("client {id}: {back:?} failed: {error}")),
        }
    }
}

fn hops(chain: usize) -> Time {
    1100 * MS + 150 * MS * chain as u64
}

fn reference(chunk: wire::proto::ChunkRef) -> ChunkRef {
    ChunkRef { id: chunk.id, version: chunk.version }
}

fn brief(what: &Question) -> String {
    match what {
        Question::Write { message, .. } => {
            format!("write {} at {} of {:?} round {}", message.length, message.offset, message.chunk, message.round)
        }
        other => format!("{other:?}"),
    }
}

fn told_by_chain(outcome: Outcome, info: &ChunkInfo) -> Result<ChunkWriteReply, Refusal> {
    let failure = match outcome {
        Ok(Answer::Stamps(stamps)) => return stamped(info, ChunkWriteReply { stamps }),
        Ok(_) => Failure { error: Error::integrity("another answer"), answered: false },
        Err(failure) => failure,
    };
    Err(Refusal { blamed: blamed(info, &failure.error, failure.answered), error: failure.error })
}
