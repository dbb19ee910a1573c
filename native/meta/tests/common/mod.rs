//! A small cluster's state with a client in front of it, for tests: every change is checked against the invariants,
//! every refusal against "nothing changed".
#![allow(dead_code)]

use meta::{Applied, Event, State};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

pub const ROOT: u64 = meta::ROOT;
pub const CHUNK: u64 = base::limits::CHUNK_BYTES;
pub const LIMIT: u32 = 64;

pub fn creds(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
    Credentials { uid, gid, groups: groups.to_vec() }
}

#[derive(Clone)]
pub struct World {
    pub state: State,
    pub session: u64,
    pub op_id: u64,
    pub now_ns: i64,
    pub who: Credentials,
    pub events: Vec<Event>,
    pub log: Vec<Command>,
}

impl World {
    /// Four chunkservers, three copies of which two must stay, a tiny inline limit, one session of root.
    pub fn new() -> World {
        let mut world = World {
            state: State::new(),
            session: 0,
            op_id: 0,
            now_ns: 1_000,
            who: creds(0, 0, &[]),
            events: Vec::new(),
            log: Vec::new(),
        };
        let config = Bootstrap { cluster_id: "test".into(), copies: 3, min_copies: 2, inline_limit: LIMIT };
        world.admin(Admin::Bootstrap(config)).unwrap();
        for server_id in 1..=4 {
            let address = format!("127.0.0.1:{}", 9000 + server_id);
            world.admin(Admin::RegisterServer(RegisterServer { server_id, address, boot_id: 7 })).unwrap();
        }
        world.session = world.register();
        world
    }

    pub fn register(&mut self) -> u64 {
        self.name(Op::RegisterSession(RegisterSession { name: "t".into(), ..Default::default() })).unwrap().session
    }

    pub fn apply(&mut self, command: Command) -> Applied {
        let before = self.state.content_hash();
        let (applied, events) = self.state.apply(&command);
        self.log.push(command);
        if let Some(error) = applied.error() {
            assert!(error.errno > 0 && !error.message.is_empty(), "{error:?}");
            assert_eq!(before, self.state.content_hash(), "a refused operation left a trace: {error:?}");
            assert!(events.is_empty(), "a refused operation has events: {events:?}");
        }
        self.state.check().unwrap_or_else(|broken| panic!("{broken} after {:?}", self.log.last()));
        self.events = events;
        applied
    }

    pub fn admin(&mut self, op: Admin) -> Result<AdminReply, i32> {
        self.now_ns += 1;
        let what = command::What::Admin(AdminCommand { expected_term: 0, op: Some(op) });
        match self.apply(Command { now_ns: self.now_ns, seed: self.now_ns as u64, what: Some(what) }) {
            Applied::Admin(AdminReply { error: Some(error), .. }) => Err(error.errno),
            Applied::Admin(reply) => Ok(reply),
            Applied::Name(reply) => panic!("a name reply to an admin command: {reply:?}"),
        }
    }

    pub fn request(&mut self, op: Op) -> NameRequest {
        self.op_id += 1;
        NameRequest {
            session: self.session,
            op_id: self.op_id,
            acked_below: 0,
            creds: Some(self.who.clone()),
            op: Some(op),
        }
    }

    pub fn send(&mut self, request: NameRequest) -> NameReply {
        self.now_ns += 1;
        let command =
            Command { now_ns: self.now_ns, seed: self.now_ns as u64, what: Some(command::What::Name(request)) };
        match self.apply(command) {
            Applied::Name(reply) => reply,
            Applied::Admin(reply) => panic!("an admin reply to a name request: {reply:?}"),
        }
    }

    /// A change; the error is the errno.
    pub fn name(&mut self, op: Op) -> Result<NameReply, i32> {
        let request = self.request(op);
        split(self.send(request))
    }

    /// A read; the error is the errno.
    pub fn read(&self, op: Op) -> Result<NameReply, i32> {
        split(self.state.query(&NameRequest { creds: Some(self.who.clone()), op: Some(op), ..Default::default() }))
    }

    /// Do something as another user.
    pub fn run_as<T>(&mut self, who: Credentials, act: impl FnOnce(&mut World) -> T) -> T {
        let old = std::mem::replace(&mut self.who, who);
        let result = act(self);
        self.who = old;
        result
    }

    // ---- shorthands ----

    pub fn mkdir(&mut self, parent: u64, name: &str, mode: u32) -> Result<u64, i32> {
        self.name(Op::Mkdir(MkDir { parent, name: name.into(), mode, full_mode: None }))
            .map(|reply| reply.attr.unwrap().inode)
    }

    pub fn create(&mut self, parent: u64, name: &str, mode: u32) -> Result<u64, i32> {
        let op = Create { parent, name: name.into(), mode, exclusive: true, write: true, ..Default::default() };
        self.name(Op::Create(op)).map(|reply| reply.attr.unwrap().inode)
    }

    pub fn symlink(&mut self, parent: u64, name: &str, target: &str) -> Result<u64, i32> {
        let op = Symlink { parent, name: name.into(), target: target.into() };
        self.name(Op::Symlink(op)).map(|reply| reply.attr.unwrap().inode)
    }

    pub fn unlink(&mut self, parent: u64, name: &str) -> Result<Attr, i32> {
        self.name(Op::Unlink(Unlink { parent, name: name.into() })).map(|reply| reply.attr.unwrap())
    }

    pub fn rmdir(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        self.name(Op::Rmdir(RmDir { parent, name: name.into() })).map(drop)
    }

    pub fn link(&mut self, inode: u64, parent: u64, name: &str) -> Result<Attr, i32> {
        self.name(Op::Link(Link { inode, parent, name: name.into() })).map(|reply| reply.attr.unwrap())
    }

    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str), flags: u32) -> Result<(), i32> {
        let op = Rename {
            source_parent: from.0,
            source_name: from.1.into(),
            target_parent: to.0,
            target_name: to.1.into(),
            flags,
        };
        self.name(Op::Rename(op)).map(drop)
    }

    pub fn setattr(&mut self, op: SetAttr) -> Result<Attr, i32> {
        self.name(Op::Setattr(op)).map(|reply| reply.attr.unwrap())
    }

    pub fn chmod(&mut self, inode: u64, mode: u32) -> Result<Attr, i32> {
        self.setattr(SetAttr { inode, mode: Some(mode), ..Default::default() })
    }

    pub fn chown(&mut self, inode: u64, uid: Option<u32>, gid: Option<u32>) -> Result<Attr, i32> {
        self.setattr(SetAttr { inode, uid, gid, ..Default::default() })
    }

    pub fn truncate(&mut self, inode: u64, size: u64) -> Result<Attr, i32> {
        self.setattr(SetAttr { inode, size: Some(size), ..Default::default() })
    }

    pub fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Result<Attr, i32> {
        let op = WriteInline { inode, offset, data: data.to_vec().into(), append: false, times: None };
        self.name(Op::WriteInline(op)).map(|reply| reply.attr.unwrap())
    }

    pub fn grant(&mut self, inode: u64, index: u64) -> Result<NameReply, i32> {
        self.name(Op::GrantWrite(GrantWrite { inode, index, ..Default::default() }))
    }

    pub fn commit(&mut self, inode: u64, size: u64, chunk: &ChunkInfo, stored_bytes: u32) -> Result<Attr, i32> {
        let op = CommitWrite { inode, size, stored: vec![stored(chunk, stored_bytes)], ..Default::default() };
        self.name(Op::CommitWrite(op)).map(|reply| reply.attr.unwrap())
    }

    /// A file with these chunks, all written and committed.
    pub fn chunked(&mut self, name: &str, chunks: u64) -> u64 {
        let inode = self.create(ROOT, name, 0o644).unwrap();
        for index in 0..chunks {
            let chunk = self.grant(inode, index).unwrap().chunks[0].clone();
            self.commit(inode, (index + 1) * CHUNK, &chunk, CHUNK as u32).unwrap();
        }
        inode
    }

    pub fn attr(&self, inode: u64) -> Attr {
        self.read(Op::Getattr(GetAttr { inode })).unwrap().attr.unwrap()
    }

    pub fn lookup(&self, parent: u64, name: &str) -> Result<u64, i32> {
        let reply = self.read(Op::Lookup(Lookup { parent, name: name.into() }))?;
        Ok(reply.attr.unwrap().inode)
    }

    pub fn map(&self, inode: u64) -> NameReply {
        self.read(Op::GetChunks(GetChunks { inode, first: 0, count: 100 })).unwrap()
    }

    pub fn names(&self, inode: u64) -> Vec<String> {
        let op = ReadDir { inode, by_handle: true, ..Default::default() };
        let reply = self.read(Op::Readdir(op)).unwrap();
        reply.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
    }

    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.state.write_snapshot(&mut bytes).unwrap();
        bytes
    }
}

pub fn stored(chunk: &ChunkInfo, stored_bytes: u32) -> ChunkStored {
    let reference = chunk.chunk.unwrap();
    ChunkStored { index: chunk.index, chunk_id: reference.id, stored_bytes, version: reference.version, settled: true }
}

pub fn split(reply: NameReply) -> Result<NameReply, i32> {
    match reply.error {
        Some(error) => Err(error.errno),
        None => Ok(reply),
    }
}
