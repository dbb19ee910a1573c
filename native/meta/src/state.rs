//! The state machine's face: commands in, replies and events out, and what the leader and the planners may look at.

use std::sync::Arc;

use base::{Error, Result};
use prost::Message;
use wire::proto::name_request::Op;
use wire::proto::{AdminReply, ChunkState, Command, Credentials, NameReply, NameRequest, Position, command};

use crate::access::Caller;
use crate::errors;
use crate::inode::Inode;
use crate::ops;
use crate::tables::{Entry, Listed, Server, Tables};

/// Everything the masters agree on. A clone is a frozen view and costs nothing.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) tables: Tables,
    /// Of the entry applied last; 0 after a snapshot was read, until the next one. Not part of what is agreed on.
    applied: u64,
}

/// What `Bootstrap` fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    pub cluster_id: String,
    pub copies: u32,
    pub min_copies: u32,
    pub inline_limit: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub inodes: u64,
    pub chunks: u64,
    pub sessions: u64,
    /// Sum of the sizes of all regular files, holes included; saturates.
    pub bytes: u64,
    pub orphans: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    pub id: u32,
    pub address: String,
    pub epoch: u64,
    /// The last epoch that its disks are known to remember.
    pub confirmed: u64,
    /// The last entry of the log that they are known to remember.
    pub remembered: u64,
    pub up: bool,
    pub weight: u32,
    pub boot_id: u64,
    /// Committed write sets it is in.
    pub chunks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    pub id: u64,
    pub name: String,
    pub host: String,
    pub mount_point: String,
    pub registered_ns: i64,
}

/// A chunk that no file has any more: delete it where it may lie, up to this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreedChunk {
    pub id: u64,
    pub version: u32,
    pub servers: Vec<u32>,
}

/// What a command caused besides its reply, for the leader to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    ChunksFreed(Vec<FreedChunk>),
    /// The last name of this inode went; purge it once nobody has it open.
    Orphaned(u64),
    Purged(u64),
    /// This orphan was given a name.
    Named(u64),
    SessionEnded(u64),
    /// Version, write set or healing mark of this chunk changed, or it is new.
    ChunkChanged(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    Name(NameReply),
    Admin(AdminReply),
}

impl Applied {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Applied::Name(reply) => reply.encode_to_vec(),
            Applied::Admin(reply) => reply.encode_to_vec(),
        }
    }

    pub fn error(&self) -> Option<&wire::proto::Error> {
        match self {
            Applied::Name(reply) => reply.error.as_ref(),
            Applied::Admin(reply) => reply.error.as_ref(),
        }
    }
}

/// What an operation works with: the tables, and everything that is not its own message.
pub(crate) struct Context<'a> {
    pub tables: &'a mut Tables,
    /// Of the log entry.
    pub index: u64,
    pub now_ns: i64,
    pub seed: u64,
    pub session: u64,
    pub caller: Caller<'a>,
    pub events: &'a mut Vec<Event>,
}

impl State {
    pub fn new() -> State {
        State::default()
    }

    /// The tables of a snapshot.
    pub(crate) fn of(tables: Tables) -> State {
        State { tables, applied: 0 }
    }

    /// Carry out one command of the log entry `index`. The reply carries the refusal, if it is one.
    pub fn apply_at(&mut self, index: u64, command: &Command) -> (Applied, Vec<Event>) {
        self.applied = index;
        self.apply(command)
    }

    /// Carry out one command. The reply carries the refusal, if it is one; the state is then as before.
    pub fn apply(&mut self, command: &Command) -> (Applied, Vec<Event>) {
        let mut events = Vec::new();
        let applied = match &command.what {
            Some(command::What::Name(request)) => {
                Applied::Name(self.apply_name(command, request, &mut events).unwrap_or_else(refused))
            }
            Some(command::What::Admin(request)) => {
                let reply = ops::admin(&mut self.context(command, 0, None, &mut events), request);
                Applied::Admin(
                    reply.unwrap_or_else(|error| AdminReply { error: Some(error.into()), ..AdminReply::default() }),
                )
            }
            None => Applied::Name(refused(errors::invalid("the command is empty"))),
        };
        (applied, events)
    }

    /// Answer a read. Opening only checks the rights; the leader registers the handle.
    pub fn query(&self, request: &NameRequest) -> NameReply {
        ops::query(&self.tables, request).unwrap_or_else(refused)
    }

    /// `apply` over encoded messages: a `Command` in, a `NameReply` or `AdminReply` out.
    pub fn apply_bytes(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let command = Command::decode(command).map_err(|error| undecodable("command", &error))?;
        Ok(self.apply(&command).0.encode())
    }

    /// `query` over encoded messages: a `NameRequest` in, a `NameReply` out.
    pub fn query_bytes(&self, request: &[u8]) -> Result<Vec<u8>> {
        let request = NameRequest::decode(request).map_err(|error| undecodable("request", &error))?;
        Ok(self.query(&request).encode_to_vec())
    }

    /// Exactly once per (session, operation id): a retry gets the remembered reply. Only "nobody could answer" is not
    /// remembered, so that the same operation may be tried again.
    fn apply_name(&mut self, command: &Command, request: &NameRequest, events: &mut Vec<Event>) -> Result<NameReply> {
        let op = request.op.as_ref().ok_or_else(|| errors::invalid("the request names no operation"))?;
        if self.tables.config.is_none() {
            return Err(errors::no_cluster());
        }
        let (asked, level) = (wire::level::asked(op), self.tables.level());
        if asked > level {
            return Err(errors::above_level(wire::op::of(op).name, asked, level));
        }
        match op {
            Op::RegisterSession(op) => return ops::session::register(&mut self.context(command, 0, None, events), op),
            Op::CloseSession(_) => {
                ops::session::end(&mut self.context(command, request.session, None, events), request.session);
                return Ok(NameReply::default());
            }
            op if !wire::op::is_change(op) => return Err(errors::unsupported("a read in the log")),
            _ => {}
        }
        let remembered = {
            self.tables.session(request.session)?;
            self.tables.forget_replies(request.session, request.acked_below);
            self.tables.session(request.session)?.recall(request.op_id)?
        };
        if let Some(reply) = remembered {
            return NameReply::decode(&*reply).map_err(|error| undecodable("remembered reply", &error));
        }
        let mut context = self.context(command, request.session, request.creds.as_ref(), events);
        let reply = match ops::mutate(&mut context, op) {
            Ok(reply) => reply,
            Err(error) if error.kind == base::ErrorKind::Unavailable => return Err(error),
            Err(error) => refused(error),
        };
        self.tables.put_reply(request.session, request.op_id, Arc::from(reply.encode_to_vec()));
        Ok(reply)
    }

    fn context<'a>(
        &'a mut self,
        command: &Command,
        session: u64,
        creds: Option<&'a Credentials>,
        events: &'a mut Vec<Event>,
    ) -> Context<'a> {
        Context {
            tables: &mut self.tables,
            index: self.applied,
            now_ns: command.now_ns,
            seed: command.seed,
            session,
            caller: Caller::new(creds),
            events,
        }
    }

    // ---- what the leader and the planners look at ----

    pub fn cluster(&self) -> Option<ClusterConfig> {
        self.tables.config.as_deref().cloned()
    }

    /// The cluster level: see `wire::level`.
    pub fn level(&self) -> u32 {
        self.tables.level()
    }

    /// Where these masters are in their history, for others to remember.
    pub fn position(&self) -> Position {
        let next = &self.tables.next;
        Position {
            index: self.applied,
            mark: self.tables.history.mark(),
            next_chunk: next.chunk,
            next_inode: next.inode,
            next_session: next.session,
            next_epoch: next.epoch,
        }
    }

    /// Whether these masters have lived through what somebody remembers.
    pub fn contains(&self, remembered: &Position) -> bool {
        self.tables.history.contains(remembered.index, remembered.mark, self.applied)
    }

    /// Copies of such a chunk stay where they are although no file has it: see `AcceptHistory`.
    pub fn keeps_unknown(&self, chunk: u64) -> bool {
        chunk < self.tables.history.keep_below
    }

    /// When anything was changed last, by the time that its command was given. Walks everything.
    pub fn newest_change_ns(&self) -> Option<i64> {
        self.tables.newest_change_ns()
    }

    pub fn counters(&self) -> Counters {
        Counters {
            inodes: self.tables.inode_count(),
            chunks: self.tables.chunk_count(),
            sessions: self.tables.session_count(),
            bytes: u64::try_from(self.tables.totals().file_bytes).unwrap_or(u64::MAX),
            orphans: self.tables.orphan_count(),
        }
    }

    /// Estimated: tree nodes are taken to be two thirds full.
    pub fn memory_bytes(&self) -> u64 {
        let tables = &self.tables;
        let records = tables.inode_count() * size_of::<(u64, Inode)>() as u64
            + tables.entry_count() * (size_of::<((u64, crate::name::Name), Entry)>() as u64)
            + tables.entry_count() * size_of::<((u64, u64), Listed)>() as u64
            + tables.chunk_count() * (size_of::<(u64, crate::chunk::Chunk)>() + size_of::<((u64, u32), u64)>()) as u64
            + tables.xattrs().count() * size_of::<((u64, crate::xattrs::Key), Arc<[u8]>)>() as u64;
        records + records / 2 + tables.totals().heap_bytes
    }

    pub fn chunk(&self, id: u64) -> Option<ChunkState> {
        self.tables.chunk(id).ok().map(|chunk| chunk.state(id, self.tables.writers(id)))
    }

    pub fn chunks(&self) -> impl Iterator<Item = ChunkState> {
        self.tables.chunks_from(0).map(|(id, chunk)| chunk.state(id, self.tables.writers(id)))
    }

    /// At most `n` chunks with ids from `id` on.
    pub fn chunks_from(&self, id: u64, n: usize) -> Vec<ChunkState> {
        self.tables.chunks_from(id).take(n).map(|(id, chunk)| chunk.state(id, self.tables.writers(id))).collect()
    }

    pub fn healing(&self) -> Vec<ChunkState> {
        self.tables.healing().filter_map(|id| self.chunk(id)).collect()
    }

    /// Chunks that somebody may have sent bytes for which not all copies have, with those sessions; 0: one that ended.
    pub fn granted(&self) -> Vec<(u64, Vec<u64>)> {
        self.tables.grants().map(|(chunk, writers)| (chunk, writers.to_vec())).collect()
    }

    pub fn server(&self, id: u32) -> Option<ServerState> {
        self.tables.server(id).map(|server| server_state(id, server))
    }

    pub fn servers(&self) -> Vec<ServerState> {
        self.tables.servers().map(|(id, server)| server_state(id, server)).collect()
    }

    pub fn has_session(&self, id: u64) -> bool {
        self.tables.session(id).is_ok()
    }

    pub fn sessions(&self) -> Vec<SessionState> {
        let view = |(id, session): (u64, &crate::session::Session)| SessionState {
            id,
            name: session.info.name.clone(),
            host: session.info.host.clone(),
            mount_point: session.info.mount_point.clone(),
            registered_ns: session.info.registered_ns,
        };
        self.tables.sessions().map(view).collect()
    }

    /// Unlinked inodes whose data is kept.
    pub fn orphans(&self) -> Vec<u64> {
        self.tables.orphans().collect()
    }

    pub fn is_orphan(&self, inode: u64) -> bool {
        self.tables.is_orphan(inode)
    }
}

fn server_state(id: u32, server: &Server) -> ServerState {
    ServerState {
        id,
        address: server.address.to_string(),
        epoch: server.epoch,
        confirmed: server.confirmed,
        remembered: server.remembered,
        up: server.up,
        weight: server.weight,
        boot_id: server.boot_id,
        chunks: server.chunks,
    }
}

fn refused(error: Error) -> NameReply {
    NameReply { error: Some(error.into()), ..NameReply::default() }
}

fn undecodable(what: &str, error: &prost::DecodeError) -> Error {
    errors::invalid(format!("the {what} cannot be decoded: {error}"))
}
