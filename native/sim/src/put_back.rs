//! The masters put back to an older state, or made anew: tried at the end of a run, when everything is whole. What the rules
//! let an older leader do must leave every copy that the newer one knows, and give no number out twice.

use std::collections::BTreeSet;

use chunk::{ChunkRef, Memory};
use master::copies::Held;
use master::health::{Ahead, ahead};
use master::{deletes, history};
use meta::{Applied, State};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

use crate::oracle::Time;
use crate::random::Random;
use crate::world::{SECOND, World};

/// A copy of the masters' directories.
pub struct Backup {
    /// When it is made; `None`: it never is, and the masters are made anew.
    at: Option<Time>,
    kept: Option<State>,
}

impl Backup {
    /// Luck of its own, so that nothing else in the run moves.
    pub fn draw(seed: u64, length: Time) -> Backup {
        let mut random = Random::new(seed ^ 0x6261_636b_7570);
        let made = random.below(4) > 0;
        let at = SECOND + random.below(length);
        Backup { at: made.then_some(at), kept: None }
    }

    /// Frozen views cost nothing.
    pub fn look(&mut self, now: Time, state: &State) {
        if self.at.is_some_and(|at| at <= now) {
            (self.at, self.kept) = (None, Some(state.clone()));
        }
    }
}

impl World {
    /// Put the masters back, let them and the chunkservers meet, and give them back what they had: all is as before.
    pub fn try_put_back(&mut self) {
        let ids: Vec<usize> = (0..self.servers.len()).filter(|id| self.servers[*id].is_up()).collect();
        let known = self.leader.state.position();
        ids.iter().for_each(|id| self.write_down(*id, known));
        let made_anew = self.backup.kept.is_none();
        let newest = self.leader.restore(self.backup.kept.take().unwrap_or_default());
        self.note(|| format!("masters put back from {known:?}; made anew: {made_anew}"));
        if made_anew {
            self.leader.bootstrap();
        }
        let _ = self.command(Admin::BeginHistory(BeginHistory { mark: 99 }));
        let refused = self.meet(&ids);
        self.write_a_new_file("put back");
        if !refused.is_empty() {
            let known = refused.iter().map(history::known_of).collect();
            let _ = self.command(Admin::AcceptHistory(AcceptHistory { server_id: 0, known }));
            let again = self.meet(&ids);
            if let Some(hello) = again.first() {
                return self
                    .fail(format!("chunkserver {} is refused though its history was accepted", hello.server_id));
            }
            self.write_a_new_file("accepted");
            self.adopt_newer_copies(&ids);
        }
        self.leader.restore(newest);
        if self.failure.is_none() {
            self.check_whole();
        }
        if let Some(failure) = &mut self.failure {
            failure.insert_str(0, "the masters were put back: ");
        }
    }

    fn command(&mut self, op: Admin) -> Result<AdminReply, base::Error> {
        self.leader.admin(self.now, op).0
    }

    /// What is done about once a second.
    fn write_down(&mut self, id: usize, position: Position) {
        let server = &self.servers[id];
        let Position { index, mark, next_chunk, next_inode, next_session, next_epoch } = position;
        let memory = Memory { epoch: server.epoch, index, mark, next_chunk, next_inode, next_session, next_epoch };
        if let Some(Err(error)) = server.store().map(|store| store.remember(memory, &[])) {
            self.fail(format!("chunkserver {} remembers nothing: {error}", id + 1));
        }
    }

    fn hello(&self, id: usize) -> Option<ServerHello> {
        let server = &self.servers[id];
        let store = server.store()?;
        let Memory { index, mark, next_chunk, next_inode, next_session, next_epoch, .. } = store.memory();
        let remembered = Position { index, mark, next_chunk, next_inode, next_session, next_epoch };
        Some(ServerHello {
            server_id: server.id,
            boot_id: server.boot,
            address: format!("s:{}", server.id),
            remembered: (mark != 0).then_some(remembered),
            highest_chunk: store.highest_chunk(),
            ..ServerHello::default()
        })
    }

    /// Each server asks to be registered; who is deletes what the leader takes for garbage. -> those that were refused.
    fn meet(&mut self, ids: &[usize]) -> Vec<ServerHello> {
        let mut refused = Vec::new();
        for hello in ids.iter().filter_map(|id| self.hello(*id)).collect::<Vec<_>>() {
            if let Some(why) = history::lacks(&self.leader.state, &hello) {
                self.note(|| format!("leader refuses server {}: {why}", hello.server_id));
                let _ = self.command(Admin::RaiseNumbers(RaiseNumbers { known: vec![history::known_of(&hello)] }));
                refused.push(hello);
                continue;
            }
            let ServerHello { server_id, address, boot_id, .. } = hello;
            let _ = self.command(Admin::RegisterServer(RegisterServer { server_id, address, boot_id }));
            self.delete_garbage(server_id as usize - 1);
        }
        refused
    }

    fn delete_garbage(&mut self, id: usize) {
        let server_id = self.servers[id].id;
        let Some(store) = self.servers[id].store() else { return };
        let mut deleted = Vec::new();
        for entry in store.inventory() {
            let delete = DeleteIntent { server_id, chunk_id: entry.id, version: entry.version };
            if deletes::is_orphan(&self.leader.state, &delete) {
                deleted.push((entry.id, store.delete(ChunkRef { id: entry.id, version: entry.version }).is_ok()));
            }
        }
        self.note(|| format!("server {server_id} deletes {deleted:?}"));
    }

    /// What the leader finds with its inventories. Then nobody is refused for the version that these masters know.
    fn adopt_newer_copies(&mut self, ids: &[usize]) {
        for chunk in self.leader.state.chunks_from(0, usize::MAX) {
            let held = self.holders(ids, chunk.id);
            if let Some(Ahead { version: held, servers }) = ahead(chunk.version, held.iter().copied()) {
                self.note(|| format!("copies of chunk {} on {servers:?} are at version {held}", chunk.id));
                let adopt = AdoptCopies { chunk_id: chunk.id, version: chunk.version, held, servers };
                if let Err(error) = self.command(Admin::AdoptCopies(adopt)) {
                    return self.fail(format!("newer copies of chunk {} cannot be taken: {error}", chunk.id));
                }
            }
            let Some(now) = self.leader.state.chunk(chunk.id) else { continue };
            if held.iter().any(|(_, held)| held.version > now.version && !held.bad) {
                return self
                    .fail(format!("copies of chunk {} can be read by nobody at version {}", now.id, now.version));
            }
        }
    }

    fn holders(&self, ids: &[usize], chunk: u64) -> Vec<(u32, Held)> {
        let of_server = |id: &usize| {
            let entry = self.servers[*id].store()?.inventory().into_iter().find(|entry| entry.id == chunk)?;
            Some((self.servers[*id].id, Held { version: entry.version, bad: entry.outdated }))
        };
        ids.iter().filter_map(of_server).collect()
    }

    /// A client makes a file and asks for a chunk; neither number may have been in use.
    fn write_a_new_file(&mut self, name: &str) {
        let Some(chunk) = self.grant_in_new_file(name) else { return };
        let stores = self.servers.iter().filter_map(|server| server.store());
        let used: BTreeSet<u64> = stores.flat_map(|store| store.inventory()).map(|entry| entry.id).collect();
        self.note(|| format!("a new file is given chunk {chunk}; in use: {used:?}"));
        if used.contains(&chunk) {
            self.fail(format!("chunk {chunk} is given out again, and servers have bytes of another file there"));
        }
    }

    /// `None`: too few servers are registered.
    fn grant_in_new_file(&mut self, name: &str) -> Option<u64> {
        let session = self.leader.open_session(self.now);
        let mut ask = |op_id, op| {
            let creds = Some(Credentials::default());
            let request = NameRequest { session, op_id, acked_below: 0, creds, op: Some(op) };
            match self.leader.apply(self.now, command::What::Name(request)).0 {
                Applied::Name(reply) if reply.error.is_none() => Some(reply),
                _ => None,
            }
        };
        let name = name.into();
        let create = Create { parent: meta::ROOT, name, mode: 0o666, exclusive: true, ..Create::default() };
        let inode = ask(1, Op::Create(create))?.attr?.inode;
        let grant = GrantWrite { inode, ..GrantWrite::default() };
        ask(2, Op::GrantWrite(grant))?.chunks.first()?.chunk.map(|chunk| chunk.id)
    }
}
