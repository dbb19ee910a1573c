//! The masters, as one state machine behind a log that answers late, twice or not at all; and what the leader does by itself:
//! it settles chunks whose writers ended, heals, and deletes what was freed. `master::settle` decides, this carries out.

use std::collections::{BTreeMap, BTreeSet};

use base::{Error, ErrorKind, Reason};
use chunk::ChunkRef;
use master::history;
use master::settle::{self, Told, Verdict};
use meta::{Applied, Event, State};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

use crate::client_side::{Back, ClientStep};
use crate::oracle::{EffectId, Time};
use crate::server_side::{Answer, Outcome, Question, ReplyTo};
use crate::world::{MS, SECOND, Step, World};

const LOOK: Time = 250 * MS;
/// A session with grants that is silent for this long has its chunks settled, as in `master::settle`.
const SILENT: Time = 5 * SECOND;
const AGAIN: Time = 2 * SECOND;
/// A copy short for this long is made anew.
const HEAL_AFTER: Time = 3 * SECOND;
const ORDER: Time = 11 * SECOND;
pub const COPIES: usize = 3;
pub const INLINE_LIMIT: u32 = 512;

pub type TaskId = u64;

pub enum LeaderStep {
    /// `maybe_done`: an answer to it may have been lost.
    Asked {
        client: usize,
        life: u32,
        request: NameRequest,
        back: Back,
        maybe_done: bool,
    },
    Registers {
        server: usize,
    },
    Misses {
        server: usize,
    },
    Look,
    Told {
        task: TaskId,
        server: usize,
        outcome: Outcome,
    },
    Waited {
        task: TaskId,
    },
    Deletes {
        chunk: ChunkRef,
        server: usize,
    },
    Purges {
        inode: u64,
    },
}

enum Task {
    Settle { chunk: u64, heal_id: u64, wait_for: Vec<u32>, told: BTreeMap<u32, Told> },
    Heal { chunk: u64, heal_id: u64 },
}

pub struct Leader {
    pub state: State,
    pub log: u64,
    /// Servers that a write needs.
    pub min_copies: u32,
    down_until: Time,
    heard: BTreeMap<u64, Time>,
    tasks: BTreeMap<TaskId, Task>,
    next_task: TaskId,
    not_before: BTreeMap<u64, Time>,
    short_since: BTreeMap<u64, Time>,
    ops: u64,
    /// As each server told them last.
    disks: BTreeMap<u32, Vec<DiskStatus>>,
    /// The second of the last heartbeats.
    beats: u64,
    /// Inodes that were opened, or made, by answers which may be on their way until then.
    opening: BTreeMap<u64, Time>,
    /// Cuts on their way, by session and operation.
    pub cutting: BTreeMap<(u64, u64), EffectId>,
}

impl Leader {
    pub fn new() -> Leader {
        Leader {
            state: State::new(),
            log: 0,
            min_copies: 2,
            down_until: 0,
            heard: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_task: 1,
            not_before: BTreeMap::new(),
            short_since: BTreeMap::new(),
            ops: 0,
            disks: BTreeMap::new(),
            beats: 0,
            opening: BTreeMap::new(),
            cutting: BTreeMap::new(),
        }
    }

    pub fn apply(&mut self, now: Time, what: command::What) -> (Applied, Vec<Event>) {
        self.ops += 1;
        let command = Command { now_ns: (now * 1000) as i64, seed: self.ops, what: Some(what) };
        self.state.apply_at(self.ops, &command)
    }

    /// Put the log back to where this state was. -> the state that was there.
    pub fn restore(&mut self, state: State) -> State {
        self.ops = state.position().index;
        std::mem::replace(&mut self.state, state)
    }

    pub fn admin(&mut self, now: Time, op: Admin) -> (Result<AdminReply, Error>, Vec<Event>) {
        let what = command::What::Admin(AdminCommand { expected_term: 0, op: Some(op) });
        let (applied, events) = self.apply(now, what);
        let reply = match applied {
            Applied::Admin(AdminReply { error: Some(error), .. }) => Err(error.into()),
            Applied::Admin(reply) => Ok(reply),
            Applied::Name(_) => Err(Error::integrity("a name reply to an admin command")),
        };
        (reply, events)
    }

    pub fn bootstrap(&mut self) {
        let (copies, min_copies) = (COPIES as u32, self.min_copies);
        let config = Bootstrap { cluster_id: "sim".into(), copies, min_copies, inline_limit: INLINE_LIMIT };
        let _ = self.admin(0, Admin::Bootstrap(config));
        let _ = self.admin(0, Admin::BeginHistory(BeginHistory { mark: 1 }));
    }

    /// The file that is appended to. Others are made by clients.
    pub fn make_log(&mut self) {
        let session = self.open_session(0);
        let op = Create { parent: meta::ROOT, name: "log".into(), mode: 0o666, exclusive: true, ..Create::default() };
        let creds = Some(Credentials::default());
        let request = NameRequest { session, op_id: 1, acked_below: 0, creds, op: Some(Op::Create(op)) };
        if let Applied::Name(reply) = self.apply(0, command::What::Name(request)).0 {
            self.log = reply.attr.map_or(0, |attr| attr.inode);
        }
    }

    /// The inode of a name in the root.
    pub fn named(&self, name: &str) -> Option<u64> {
        let op = Op::Lookup(Lookup { parent: meta::ROOT, name: name.into() });
        self.state.query(&NameRequest { op: Some(op), ..NameRequest::default() }).attr.map(|attr| attr.inode)
    }

    pub fn open_session(&mut self, now: Time) -> u64 {
        let op = RegisterSession { name: "sim".into(), ..RegisterSession::default() };
        let request = NameRequest { op: Some(Op::RegisterSession(op)), ..NameRequest::default() };
        let Applied::Name(reply) = self.apply(now, command::What::Name(request)).0 else { return 0 };
        self.heard.insert(reply.session, now);
        reply.session
    }

    pub fn hears(&mut self, session: u64, now: Time) {
        if self.down_until <= now && self.state.has_session(session) {
            self.heard.insert(session, now);
        }
    }

    pub fn size_of(&self, inode: u64) -> u64 {
        let request = NameRequest { op: Some(Op::Getattr(GetAttr { inode })), ..NameRequest::default() };
        self.state.query(&request).attr.map_or(0, |attr| attr.size)
    }

    fn is_working_on(&self, chunk: u64) -> bool {
        self.tasks.values().any(|task| match task {
            Task::Settle { chunk: other, .. } | Task::Heal { chunk: other, .. } => *other == chunk,
        })
    }
}

impl World {
    pub fn lose_leader(&mut self, time: Time) {
        self.leader.down_until = self.now + time;
        self.leader.tasks.clear();
        self.leader.disks.clear();
        let until = self.leader.down_until;
        self.leader.heard.values_mut().for_each(|heard| *heard = until);
    }

    pub fn ask_leader(&mut self, client: usize, request: NameRequest, back: Back) {
        let life = self.clients[client].life;
        let wait = self.travel();
        self.after(wait, Step::Leader(LeaderStep::Asked { client, life, request, back, maybe_done: false }));
    }

    pub fn leader_step(&mut self, step: LeaderStep) {
        match step {
            LeaderStep::Asked { client, life, request, back, maybe_done } => {
                self.asked((client, life), request, back, maybe_done)
            }
            LeaderStep::Registers { server } => self.register_server(server),
            LeaderStep::Misses { server } => self.miss_server(server),
            LeaderStep::Look => {
                if self.leader.down_until <= self.now {
                    self.look_around();
                }
                self.after(LOOK, Step::Leader(LeaderStep::Look));
            }
            LeaderStep::Told { task, server, outcome } => self.told(task, server, outcome),
            LeaderStep::Waited { task } => {
                if let Some(task) = self.leader.tasks.remove(&task) {
                    self.end_task(task, None);
                }
            }
            LeaderStep::Purges { inode } if self.is_in_use(inode) || self.leader.down_until > self.now => {
                self.after(SECOND, Step::Leader(LeaderStep::Purges { inode }));
            }
            LeaderStep::Purges { inode } => drop(self.admin(Admin::Purge(Purge { inodes: vec![inode] }))),
            LeaderStep::Deletes { chunk, server } => {
                let epoch = self.servers[server].epoch;
                self.ask_server(server, Question::Delete { chunk }, ReplyTo::Nobody, Some(epoch));
            }
        }
    }

    fn asked(&mut self, (client, life): (usize, u32), request: NameRequest, back: Back, maybe_done: bool) {
        let is_dead = self.clients[client].life != life;
        // The engine of a client asks again, with the same number, until it has an answer.
        let again = |world: &mut World, request, back, maybe_done| {
            if is_dead {
                return;
            }
            let wait = world.weather.between(200 * MS, 500 * MS);
            world.after(wait, Step::Leader(LeaderStep::Asked { client, life, request, back, maybe_done }));
        };
        if is_dead && self.weather.per_mille(500) {
            return; // its connection is gone; half of what was under way came through
        }
        if self.leader.down_until > self.now || self.is_lost() {
            return again(self, request, back, maybe_done);
        }
        self.leader.hears(request.session, self.now);
        let reply = self.carry_out(&request);
        self.note_opening(&request, &reply);
        if self.is_lost() {
            return again(self, request, back, true);
        }
        let outcome = match reply.error {
            Some(error) => Err(Error::from(error)),
            None => Ok(Box::new(reply)),
        };
        let waits = !matches!(
            back,
            Back::Granted { .. }
                | Back::TrimTold { .. }
                | Back::InlineWritten { .. }
                | Back::Committed { .. }
                | Back::Turn { .. }
                | Back::AppendedInline { .. }
        );
        if waits && outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable) {
            return again(self, request, back, maybe_done);
        }
        let what = match outcome {
            Err(error) if error.reason == Reason::NoSession => ClientStep::NoSession { request, back, maybe_done },
            outcome => ClientStep::Replied { op_id: request.op_id, back, outcome },
        };
        let wait = self.travel();
        self.after(wait, Step::Client { id: client, life, what });
    }

    /// Who opens a file holds it from when the leader says so.
    fn note_opening(&mut self, request: &NameRequest, reply: &NameReply) {
        if let (Some(Op::Open(_) | Op::Create(_)), Some(attr)) = (&request.op, &reply.attr) {
            self.leader.opening.insert(attr.inode, self.now + 9 * SECOND);
        }
    }

    fn is_in_use(&self, inode: u64) -> bool {
        self.is_held_open(inode) || self.leader.opening.get(&inode).is_some_and(|until| *until > self.now)
    }

    fn carry_out(&mut self, request: &NameRequest) -> NameReply {
        if !request.op.as_ref().is_some_and(wire::op::is_change) {
            return self.leader.state.query(request);
        }
        let cut = match &request.op {
            Some(Op::Setattr(SetAttr { inode, size: Some(_), .. })) => {
                let effect = self.leader.cutting.get(&(request.session, request.op_id)).copied();
                effect.map(|effect| (effect, self.leader.size_of(*inode)))
            }
            _ => None,
        };
        let (applied, events) = self.leader.apply(self.now, command::What::Name(request.clone()));
        self.follow(events);
        let Applied::Name(reply) = applied else { return NameReply::default() };
        if let Some((effect, size)) = cut.filter(|_| reply.error.is_none()) {
            self.register.reaches_back_to(effect, size);
        }
        self.note(|| format!("leader: {:?} -> {:?}", request.op, reply.error.as_ref().map(|error| &error.message)));
        if let Some(Op::CommitWrite(commit)) = &request.op
            && commit.convert_inline
            && reply.error.is_none()
        {
            self.look_at_moved(commit.inode);
        }
        reply
    }

    fn follow(&mut self, events: Vec<Event>) {
        for event in events {
            if let Event::Orphaned(inode) = event {
                let wait = self.weather.between(100 * MS, 2 * SECOND);
                self.after(wait, Step::Leader(LeaderStep::Purges { inode }));
            }
            let Event::ChunksFreed(freed) = event else { continue };
            for chunk in freed {
                for server in chunk.servers {
                    let wait = self.weather.between(500 * MS, 4 * SECOND);
                    let chunk = ChunkRef { id: chunk.id, version: chunk.version };
                    self.after(wait, Step::Leader(LeaderStep::Deletes { chunk, server: server as usize - 1 }));
                }
            }
        }
    }

    fn admin(&mut self, op: Admin) -> Result<AdminReply, Error> {
        self.note(|| format!("leader: {op:?}"));
        let (reply, events) = self.leader.admin(self.now, op);
        self.follow(events);
        reply
    }

    // ---- chunkservers come and go ----

    pub fn register_server(&mut self, id: usize) {
        if self.leader.down_until > self.now {
            return self.after(150 * MS, Step::Leader(LeaderStep::Registers { server: id }));
        }
        let (server_id, boot_id) = (self.servers[id].id, self.servers[id].boot);
        if !self.servers[id].is_up() {
            return;
        }
        let disks = self.servers[id].disks();
        let server = self.leader.state.server(server_id);
        let confirmed = server.map_or((0, 0), |server| (server.confirmed, server.remembered));
        let before = self.leader.disks.get(&server_id).cloned().unwrap_or_default();
        let before = &before[..];
        let outdated = history::outdated(&disks, confirmed, before);
        self.note(|| {
            let told = |disks: &[DiskStatus]| {
                disks.iter().map(|disk| (disk.chunks, disk.epoch, disk.remembered)).collect::<Vec<_>>()
            };
            let before = told(before);
            format!("server {server_id} registers with {:?}, before {before:?}; outdated: {outdated:?}", told(&disks))
        });
        let address = format!("s:{server_id}");
        match self.admin(Admin::RegisterServer(RegisterServer { server_id, address, boot_id })) {
            Ok(reply) => {
                let position = self.leader.state.position();
                self.servers[id].remember(reply.epoch, position, &outdated);
            }
            Err(error) => return self.fail(format!("chunkserver {server_id} cannot register: {error}")),
        }
        self.drop_what_is_not_held(id);
        self.beat(id);
    }

    /// Copies that a server ought to have and does not.
    fn drop_what_is_not_held(&mut self, id: usize) {
        let server = &self.servers[id];
        let Some(store) = server.store() else { return };
        let server_id = server.id;
        let entries = store.inventory();
        let lost = store.lost();
        let is_whole = |entry: &&chunk::ChunkEntry| !entry.outdated && !lost.contains(&entry.id);
        let held: BTreeSet<u64> = entries.iter().filter(is_whole).map(|entry| entry.id).collect();
        let chunks = self.leader.state.chunks();
        let missing: Vec<ChunkState> = chunks
            .filter(|chunk| chunk.written && chunk.servers.contains(&server_id) && !held.contains(&chunk.id))
            .collect();
        for chunk in missing {
            let drop = DropReplica { chunk_id: chunk.id, version: chunk.version, server_id };
            let _ = self.admin(Admin::DropReplica(drop));
        }
    }

    /// Copies that a server found bad, as `policy/healing.py` drops them: while a good one is left.
    fn drop_what_is_rotten(&mut self, id: usize) {
        let server_id = self.servers[id].id;
        for chunk_id in self.servers[id].rotten.clone() {
            let Some(chunk) = self.leader.state.chunk(chunk_id).filter(|chunk| chunk.servers.contains(&server_id))
            else {
                continue;
            };
            let is_good =
                |id: &u32| self.is_registered(*id) && !self.servers[*id as usize - 1].rotten.contains(&chunk_id);
            if chunk.heal_id == 0 && !self.leader.is_working_on(chunk_id) && chunk.servers.iter().any(is_good) {
                let drop = DropReplica { chunk_id, version: chunk.version, server_id };
                let _ = self.admin(Admin::DropReplica(drop));
            }
        }
    }

    /// A heartbeat: how the disks are, what was lost with one, and the place where the masters are.
    fn beat(&mut self, id: usize) {
        let (server_id, epoch, disks) = (self.servers[id].id, self.servers[id].epoch, self.servers[id].disks());
        let confirmed = self.leader.state.server(server_id).map_or((0, 0), |known| (known.confirmed, known.remembered));
        let is_due = |remembered: &u64| confirmed < (epoch, *remembered);
        if let Some(remembered) = history::remembered_by_all(&disks, epoch).filter(is_due) {
            let _ = self.admin(Admin::ConfirmServer(ConfirmServer { server_id, epoch, remembered }));
        }
        self.leader.disks.insert(server_id, disks);
        let position = self.leader.state.position();
        self.servers[id].remember(epoch, position, &[]);
        self.servers[id].second(self.now);
    }

    fn miss_server(&mut self, id: usize) {
        if self.servers[id].epoch != 0 {
            return;
        }
        let server_id = self.servers[id].id;
        if let Some(known) = self.leader.state.server(server_id) {
            let _ = self.admin(Admin::SetServerUp(SetServerUp { server_id, epoch: known.epoch, up: false }));
        }
    }

    fn is_registered(&self, server: u32) -> bool {
        self.servers[server as usize - 1].is_up() && self.servers[server as usize - 1].epoch != 0
    }

    // ---- what the leader does by itself ----

    fn look_around(&mut self) {
        let turn = self.now / SECOND;
        if std::mem::replace(&mut self.leader.beats, turn) != turn {
            for id in (0..self.servers.len()).filter(|id| self.is_registered(*id as u32 + 1)).collect::<Vec<_>>() {
                if self.servers[id].paused_until <= self.now {
                    self.drop_what_is_not_held(id);
                    self.drop_what_is_rotten(id);
                    self.beat(id);
                }
            }
        }
        let (now, expire) = (self.now, self.plan.expire);
        let silent: Vec<u64> =
            self.leader.heard.iter().filter(|(_, at)| **at + expire < now).map(|(session, _)| *session).collect();
        for session in silent {
            self.leader.heard.remove(&session);
            let _ = self.admin(Admin::ExpireSession(ExpireSession { session }));
        }
        for (chunk, writers) in self.leader.state.granted() {
            let heard = &self.leader.heard;
            let over = |session: &u64| heard.get(session).is_none_or(|at| at + SILENT < now);
            let waits = self.leader.not_before.get(&chunk).is_some_and(|at| *at > now);
            if writers.iter().any(over) && !waits && !self.leader.is_working_on(chunk) {
                self.settle(chunk);
            }
        }
        let chunks: Vec<ChunkState> = self.leader.state.chunks().collect();
        for chunk in chunks {
            if self.leader.is_working_on(chunk.id) {
                continue;
            }
            if chunk.heal_id != 0 {
                let end = EndHeal { chunk_id: chunk.id, heal_id: chunk.heal_id, ok: false, stored_bytes: 0 };
                let _ = self.admin(Admin::EndHeal(end));
                continue;
            }
            self.heal_if_short(&chunk);
        }
    }

    fn heal_if_short(&mut self, chunk: &ChunkState) {
        let target = (1..=self.servers.len() as u32).find(|id| !chunk.servers.contains(id) && self.is_registered(*id));
        if chunk.servers.len() >= COPIES || !chunk.written || target.is_none() {
            self.leader.short_since.remove(&chunk.id);
            return;
        }
        let since = *self.leader.short_since.entry(chunk.id).or_insert(self.now);
        let source = settle::chain(chunk.id, &chunk.servers).into_iter().find(|id| self.is_registered(*id));
        if let (Some(target), Some(source), true) = (target, source, since + HEAL_AFTER <= self.now) {
            self.leader.short_since.remove(&chunk.id);
            self.heal(chunk.id, chunk.version, source, target);
        }
    }

    fn settle(&mut self, chunk_id: u64) {
        self.leader.not_before.insert(chunk_id, self.now + AGAIN);
        let Some(chunk) = self.leader.state.chunk(chunk_id) else { return };
        if chunk.servers.iter().any(|id| !self.is_registered(*id)) {
            return;
        }
        let begin = BeginHeal { chunk_id, version: chunk.version, target: 0 };
        let Ok(AdminReply { chunk: Some(chunk), .. }) = self.admin(Admin::BeginHeal(begin)) else { return };
        let wait_for = settle::chain(chunk.id, &chunk.servers);
        let task = self.begin_task(Task::Settle {
            chunk: chunk_id,
            heal_id: chunk.heal_id,
            wait_for: wait_for.clone(),
            told: BTreeMap::new(),
        });
        for id in wait_for {
            let (server, reference) = (id as usize - 1, ChunkRef { id: chunk.id, version: chunk.version });
            let epoch = self.servers[server].epoch;
            let what = Question::Settle { chunk: reference };
            self.ask_server(server, what, ReplyTo::Leader { task, server }, Some(epoch));
        }
    }

    fn heal(&mut self, chunk_id: u64, version: u32, source: u32, target: u32) {
        let begin = BeginHeal { chunk_id, version, target };
        let Ok(AdminReply { chunk: Some(chunk), .. }) = self.admin(Admin::BeginHeal(begin)) else { return };
        let task = self.begin_task(Task::Heal { chunk: chunk_id, heal_id: chunk.heal_id });
        let (server, reference) = (target as usize - 1, ChunkRef { id: chunk.id, version: chunk.version });
        let epoch = self.servers[server].epoch;
        let what = Question::Copy { chunk: reference, source: source as usize - 1 };
        self.ask_server(server, what, ReplyTo::Leader { task, server }, Some(epoch));
    }

    fn begin_task(&mut self, task: Task) -> TaskId {
        self.leader.next_task += 1;
        let id = self.leader.next_task;
        self.leader.tasks.insert(id, task);
        self.after(ORDER, Step::Leader(LeaderStep::Waited { task: id }));
        id
    }

    fn told(&mut self, id: TaskId, server: usize, outcome: Outcome) {
        if self.leader.down_until > self.now {
            return;
        }
        let Some(mut task) = self.leader.tasks.remove(&id) else { return };
        let Task::Settle { wait_for, told, .. } = &mut task else { return self.end_task(task, Some(outcome)) };
        let answer = match outcome {
            Ok(Answer::Map { version, digest, .. }) => Told { version, digest },
            Err(failure) if failure.error.errno == libc::ENOENT => Told { version: 0, digest: 0 },
            _ => return self.end_task(task, None),
        };
        told.insert(server as u32 + 1, answer);
        if wait_for.iter().all(|id| told.contains_key(id)) {
            self.end_task(task, Some(Ok(Answer::Stored(0))));
        } else {
            self.leader.tasks.insert(id, task);
        }
    }

    /// `None`: somebody did not answer.
    fn end_task(&mut self, task: Task, outcome: Option<Outcome>) {
        match task {
            Task::Heal { chunk, heal_id } => {
                if let Some(Err(failure)) = &outcome {
                    self.note(|| format!("leader: chunk {chunk} cannot be healed: {}", failure.error));
                }
                let stored = match outcome {
                    Some(Ok(Answer::Stored(bytes))) => Some(bytes),
                    _ => None,
                };
                let stored_bytes = stored.unwrap_or(0);
                let end = EndHeal { chunk_id: chunk, heal_id, ok: stored.is_some(), stored_bytes };
                let _ = self.admin(Admin::EndHeal(end));
            }
            Task::Settle { chunk, heal_id, wait_for, told } => {
                let all = outcome.is_some();
                let told: Vec<(u32, Told)> =
                    wait_for.iter().filter_map(|id| told.get(id).map(|told| (*id, *told))).collect();
                let verdict = all.then(|| settle::compare(&told));
                let ok = verdict == Some(Verdict::Equal);
                let end = EndHeal { chunk_id: chunk, heal_id, ok, stored_bytes: 0 };
                let ended = self.admin(Admin::EndHeal(end));
                if let (Some(Verdict::Differ { source, targets }), Ok(AdminReply { chunk: Some(now), .. })) =
                    (verdict, ended)
                    && let Some(target) = targets.first()
                {
                    // The others when the grants are looked at again.
                    self.leader.not_before.remove(&chunk);
                    self.heal(chunk, now.version, source, *target);
                }
            }
        }
    }
}
