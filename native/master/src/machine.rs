//! The replicated state machine as Raft drives it: decodes a batch, applies its commands in order, collects replies.
//! The same batch gives the same state on every master; only what the leader notes beside it depends on who leads.
//! Lock order: the state first, then `Soft`; never the state while holding a part of `Soft`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::{Error, Result};
use meta::{Applied, Event, State};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use prost::Message;
use wire::proto::{self, AdminReply, Batch, BatchReply, Command, NameReply, command, name_request::Op};

use crate::copies::Copies;
use crate::sessions::Sessions;
use crate::turns::Turns;

/// Events that may wait for the leader's driver. Past it they are dropped and the driver looks at the state instead.
const MOST_EVENTS: usize = 100_000;
/// Write grants remembered; the oldest half is forgotten past it.
const MOST_GRANTS: usize = 100_000;

/// What the leader keeps in memory only. Made anew when a master becomes leader.
pub struct Soft {
    pub sessions: Mutex<Sessions>,
    pub copies: RwLock<Copies>,
    pub grants: Mutex<HashMap<u64, Instant>>,
    /// Empty by itself once nobody waits.
    pub turns: Turns,
}

impl Soft {
    fn new(now: Instant, session_timeout: Duration) -> Soft {
        Soft {
            sessions: Mutex::new(Sessions::new(now, session_timeout)),
            copies: RwLock::new(Copies::default()),
            grants: Mutex::new(HashMap::new()),
            turns: Turns::default(),
        }
    }

    pub fn reset(&self, now: Instant, session_timeout: Duration) {
        *self.sessions.lock() = Sessions::new(now, session_timeout);
        self.copies.write().clear();
        self.grants.lock().clear();
    }
}

/// Events that wait for the leader's driver; `lost` says that the state must be looked through instead.
#[derive(Default)]
pub struct Inbox {
    pub events: Vec<Event>,
    pub lost: bool,
}

pub struct Machine {
    /// The cluster level that this master can do.
    able: u32,
    state: RwLock<State>,
    pub soft: Soft,
    /// This master leads: note what the leader's memory needs, and collect events.
    leading: AtomicBool,
    /// Batches of this master that wait for their replies; without one nobody reads them, so they are not encoded.
    pub awaited: AtomicUsize,
    /// The time of the last command applied, for whoever leads next.
    last_stamp_ns: AtomicI64,
    inbox: Mutex<Inbox>,
}

impl Machine {
    pub fn new(able: u32, session_timeout: Duration) -> Machine {
        Machine {
            able,
            state: RwLock::new(State::new()),
            soft: Soft::new(Instant::now(), session_timeout),
            leading: AtomicBool::new(false),
            awaited: AtomicUsize::new(0),
            last_stamp_ns: AtomicI64::new(i64::MIN),
            inbox: Mutex::default(),
        }
    }

    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// A view that does not change, in O(1).
    pub fn frozen(&self) -> State {
        self.state.read().clone()
    }

    /// The time that the last command applied was given; after a snapshot the newest change in it.
    pub fn last_stamp_ns(&self) -> i64 {
        self.last_stamp_ns.load(Ordering::Acquire)
    }

    /// Start or stop collecting for the leader. What was applied before must be read from the state.
    pub fn set_leading(&self, leading: bool) {
        // Under the state's lock, so that no batch is half noted.
        let _state = self.state.write();
        self.leading.store(leading, Ordering::Release);
        *self.inbox.lock() = Inbox::default();
    }

    pub fn take_events(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock())
    }

    fn apply_batch(&self, index: u64, term: u64, batch: &[u8]) -> Result<Vec<u8>> {
        let batch = read_batch(batch, self.able)?;
        let leading = self.leading.load(Ordering::Acquire);
        let awaited = self.awaited.load(Ordering::Acquire) > 0;
        let mut replies = Vec::with_capacity(if awaited { batch.commands.len() } else { 0 });
        let mut happened = Vec::new();
        {
            let mut state = self.state.write();
            for command in &batch.commands {
                let (applied, events) = apply_command(&mut state, index, term, command);
                if leading {
                    self.note(&state, command, &applied);
                    happened.extend(events);
                }
                if awaited {
                    replies.push(applied.encode());
                }
            }
        }
        if let Some(last) = batch.commands.last() {
            self.last_stamp_ns.store(last.now_ns, Ordering::Release);
        }
        self.collect(happened);
        if leading {
            self.soft.turns.look();
        }
        Ok(if awaited { BatchReply { replies }.encode_to_vec() } else { Vec::new() })
    }

    fn collect(&self, happened: Vec<Event>) {
        if happened.is_empty() {
            return;
        }
        let mut inbox = self.inbox.lock();
        if inbox.events.len() + happened.len() > MOST_EVENTS {
            inbox.lost = true;
        } else {
            inbox.events.extend(happened);
        }
    }

    /// Keep the leader's memory up with one applied command.
    fn note(&self, state: &State, command: &Command, applied: &Applied) {
        let (Some(command::What::Name(request)), Applied::Name(reply)) = (&command.what, applied) else { return };
        if reply.error.is_some() {
            return;
        }
        let now = Instant::now();
        match &request.op {
            // Before any later command can unlink it, so that a file just created cannot be purged under its creator.
            Some(Op::Create(_)) => {
                if let Some(attr) = &reply.attr {
                    self.soft.sessions.lock().open(request.session, attr.inode, now);
                }
            }
            Some(Op::RegisterSession(_)) => self.soft.sessions.lock().register(reply.session, now),
            Some(Op::GrantWrite(_)) => self.note_grant(reply, now),
            Some(Op::CommitWrite(commit)) => self.note_stored(state, &commit.stored),
            _ => {}
        }
    }

    fn note_grant(&self, reply: &NameReply, now: Instant) {
        let Some(chunk) = reply.chunks.first().and_then(|info| info.chunk.as_ref()) else { return };
        let mut grants = self.soft.grants.lock();
        if grants.len() >= MOST_GRANTS {
            let mut times: Vec<Instant> = grants.values().copied().collect();
            let middle = times.len() / 2;
            let cut = *times.select_nth_unstable(middle).1;
            grants.retain(|_, at| *at > cut);
        }
        grants.insert(chunk.id, now);
    }

    /// A committed write is on every server of the set, so each of them has the chunk.
    fn note_stored(&self, state: &State, stored: &[proto::ChunkStored]) {
        if stored.is_empty() {
            return;
        }
        let index = state.position().index;
        let mut copies = self.soft.copies.write();
        for stored in stored {
            if let Some(chunk) = state.chunk(stored.chunk_id)
                && chunk.version == stored.version
            {
                for server in &chunk.servers {
                    copies.written(*server, stored.chunk_id, stored.version, index);
                }
            }
        }
    }
}

/// The commands of a committed entry. An error is one of this master alone: its software is older than that which wrote it,
/// and masters that know all of it go on.
fn read_batch(bytes: &[u8], able: u32) -> Result<Batch> {
    let older = |what: String| {
        Error::integrity(format!(
            "{what}; this master's software does cluster level {able}: start it with the software of the other masters"
        ))
    };
    let batch = Batch::decode(bytes).map_err(|error| older(format!("it cannot be read ({error})")))?;
    // What is not known here was dropped by the decoder, fields within known operations too.
    if batch.encoded_len() != bytes.len() {
        return Err(older("it holds an operation or a field that is not known here".to_string()));
    }
    match batch.commands.iter().map(wire::level::needed_by).max() {
        Some(needed) if needed > able => Err(older(format!("it needs cluster level {needed}"))),
        _ => Ok(batch),
    }
}

/// Apply one command; an order of an older leader's term is refused on every master alike.
fn apply_command(state: &mut State, index: u64, term: u64, command: &Command) -> (Applied, Vec<Event>) {
    if let Some(command::What::Admin(admin)) = &command.what
        && admin.expected_term != 0
        && admin.expected_term != term
    {
        let error = stale_term(admin.expected_term, term).into();
        return (Applied::Admin(AdminReply { error: Some(error), ..AdminReply::default() }), Vec::new());
    }
    state.apply_at(index, command)
}

pub fn stale_term(expected: u64, term: u64) -> Error {
    Error::stale(format!("term {expected} is over, the leader's is {term}; look at the cluster again before acting"))
}

impl raft::StateMachine for Machine {
    fn apply(&self, index: u64, term: u64, batch: &[u8]) -> Result<Vec<u8>> {
        self.apply_batch(index, term, batch)
    }

    fn freeze(&self) -> Box<dyn raft::Frozen> {
        Box::new(FrozenState(self.frozen()))
    }

    fn restore(&self, mut input: &mut dyn Read) -> Result<()> {
        let restored = State::read_snapshot(&mut input)?;
        if restored.level() > self.able {
            return Err(Error::integrity(format!(
                "the snapshot is of cluster level {}, this master does {}; start it with the software of the other masters",
                restored.level(),
                self.able
            )));
        }
        self.last_stamp_ns.store(restored.newest_change_ns().unwrap_or(i64::MIN), Ordering::Release);
        *self.state.write() = restored;
        // What happened in between is not known as events.
        self.inbox.lock().lost = true;
        Ok(())
    }
}

struct FrozenState(State);

impl raft::Frozen for FrozenState {
    fn write(&self, mut out: &mut dyn Write) -> io::Result<()> {
        self.0.write_snapshot(&mut out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::StateMachine;
    use wire::proto::{AdminCommand, Bootstrap, admin_command};

    fn bootstrap(expected_term: u64) -> Vec<u8> {
        let op = admin_command::Op::Bootstrap(Bootstrap {
            cluster_id: "c".into(),
            copies: 3,
            min_copies: 2,
            inline_limit: 8192,
        });
        let what = command::What::Admin(AdminCommand { expected_term, op: Some(op) });
        Batch { commands: vec![Command { now_ns: 1, seed: 1, what: Some(what) }] }.encode_to_vec()
    }

    fn why(machine: &Machine, batch: &[u8]) -> String {
        let before = machine.state().hash();
        let error = machine.apply(1, 1, batch).unwrap_err();
        assert_eq!(machine.state().hash(), before, "nothing of it was applied");
        error.message
    }

    #[test]
    fn an_entry_that_cannot_be_read_stops_this_master_and_changes_nothing() {
        let machine = machine_at(wire::level::LEVEL);
        assert!(why(&machine, b"\xff\xff\xff").contains("cannot be read"));
    }

    #[test]
    fn an_operation_or_a_field_of_later_software_stops_this_master_and_changes_nothing() {
        let machine = machine_at(wire::level::LEVEL);
        // Within a batch a command, within it a request, within it field 200: (field << 3 | 2), length.
        let operation = [0x0a, 0x05, 0x1a, 0x03, 0xc2, 0x0c, 0x00];
        assert!(why(&machine, &operation).contains("not known here"));
        // A whole command first: not even that is applied.
        let mixed = [&bootstrap(0)[..], &operation].concat();
        assert!(why(&machine, &mixed).contains("start it with the software of the other masters"));
    }

    fn raise(level: u32) -> Vec<u8> {
        let what = command::What::Admin(AdminCommand {
            expected_term: 0,
            op: Some(admin_command::Op::RaiseLevel(proto::RaiseLevel { level })),
        });
        Batch { commands: vec![Command { now_ns: 1, seed: 1, what: Some(what) }] }.encode_to_vec()
    }

    #[test]
    fn a_level_above_what_this_master_does_stops_it_in_the_log_and_in_a_snapshot() {
        let (newer, older) = (machine_at(2), machine_at(1));
        newer.apply(1, 1, &bootstrap(0)).unwrap();
        older.apply(1, 1, &bootstrap(0)).unwrap();
        newer.apply(2, 1, &raise(2)).unwrap();
        assert!(why(&older, &raise(2)).contains("needs cluster level 2"));
        let mut bytes = Vec::new();
        newer.freeze().write(&mut bytes).unwrap();
        let error = older.restore(&mut &bytes[..]).unwrap_err();
        assert!(error.message.contains("the snapshot is of cluster level 2"), "{error}");
        assert_eq!((newer.state().level(), older.state().level()), (2, 1));
    }

    fn machine_at(level: u32) -> Machine {
        Machine::new(level, Duration::from_secs(60))
    }

    #[test]
    fn an_order_of_an_older_term_changes_nothing() {
        let machine = machine_at(wire::level::LEVEL);
        machine.awaited.store(1, Ordering::Release);
        let reply = BatchReply::decode(&machine.apply(1, 5, &bootstrap(4)).unwrap()[..]).unwrap();
        let error = AdminReply::decode(&reply.replies[0][..]).unwrap().error.unwrap();
        assert_eq!(error.errno, libc::ESTALE);
        assert!(machine.state().cluster().is_none());
    }

    #[test]
    fn the_last_time_given_is_known_after_a_batch_and_after_a_snapshot() {
        let machine = machine_at(wire::level::LEVEL);
        machine.apply(1, 1, &bootstrap(0)).unwrap();
        assert_eq!(machine.last_stamp_ns(), 1);
        let mut bytes = Vec::new();
        machine.freeze().write(&mut bytes).unwrap();
        let other = machine_at(wire::level::LEVEL);
        other.restore(&mut &bytes[..]).unwrap();
        assert_eq!(other.last_stamp_ns(), 1);
    }

    #[test]
    fn a_state_written_and_restored_is_the_same() {
        let machine = machine_at(wire::level::LEVEL);
        machine.apply(1, 1, &bootstrap(0)).unwrap();
        let mut bytes = Vec::new();
        machine.freeze().write(&mut bytes).unwrap();
        let other = machine_at(wire::level::LEVEL);
        other.restore(&mut &bytes[..]).unwrap();
        let mut again = Vec::new();
        other.freeze().write(&mut again).unwrap();
        assert_eq!(bytes, again);
    }
}
