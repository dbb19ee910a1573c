//! What must hold at the end of a run: nobody waits, every chunk has all its copies, they are equal, and hold what was synced.

use std::collections::BTreeSet;

use base::limits::CHUNK_BYTES;
use chunk::ChunkRef;
use wire::proto::name_request::Op;
use wire::proto::*;

use crate::client_side::FileName;
use crate::leader::{COPIES, INLINE_LIMIT};
use crate::oracle::{GRAIN, Reading, Register, Value};
use crate::world::World;

impl World {
    /// Everything is whole, and every copy holds what was synced.
    pub fn check_whole(&mut self) {
        for id in 0..self.clients.len() {
            if let Some(doing) = self.clients[id].is_stuck() {
                return self.fail(format!("client {id} still is {doing}"));
            }
        }
        let chunks: Vec<ChunkState> = self.leader.state.chunks().collect();
        for chunk in &chunks {
            if let Err(sentence) = self.check_copies(chunk) {
                return self.fail(format!("{sentence}; {chunk:?}"));
            }
        }
        if let Some(inode) = self.leader.state.orphans().first() {
            return self.fail(format!("inode {inode} has no name, nobody holds it open, and it is there"));
        }
        // All copies are equal.
        if let Err(sentence) = self.check_content() {
            self.fail(format!("at the end: {sentence}"));
        }
    }

    fn check_copies(&self, chunk: &ChunkState) -> Result<(), String> {
        if !chunk.written {
            return Ok(());
        }
        if chunk.servers.len() < COPIES {
            return Err(format!("chunk {} has {} copies", chunk.id, chunk.servers.len()));
        }
        if !chunk.writers.is_empty() {
            return Err(format!("chunk {} is granted to nobody that lives", chunk.id));
        }
        let reference = ChunkRef { id: chunk.id, version: chunk.version };
        let mut digests = Vec::new();
        for server in &chunk.servers {
            let store = self.servers[*server as usize - 1].store().ok_or("a server is down")?;
            digests.push(store.map(reference).map_err(|error| format!("copy on server {server}: {error}"))?.digest);
        }
        if digests.iter().any(|digest| *digest != digests[0]) {
            return Err(format!("copies of chunk {} differ: {digests:?}", chunk.id));
        }
        Ok(())
    }

    fn check_content(&mut self) -> Result<(), String> {
        let temporary = (0..self.clients.len()).map(|id| FileName::New(id).to_string());
        let named: BTreeSet<u64> =
            temporary.chain([FileName::Cuts.to_string()]).filter_map(|name| self.leader.named(&name)).collect();
        for file in named {
            let read = Reading { client: u32::MAX, file, opened: self.now, begin: self.now, end: self.now };
            for offset in self.register.touched(file) {
                let grain = self.stored(file, offset)?.unwrap_or_else(|| vec![0; GRAIN as usize]);
                self.register.look(read, offset, &[Register::decode(&grain)])?;
            }
        }
        let mut values: Vec<Option<Value>> = Vec::new();
        while let Some(grain) = self.stored(self.leader.log, values.len() as u64 * GRAIN)? {
            values.push(Register::decode(&grain));
        }
        self.log.check(self.now, &values, true)
    }

    /// The inode's bytes lie in a chunk from now on: with what was stable before.
    pub fn look_at_moved(&mut self, file: u64) {
        for offset in self.register.touched(file).range(..u64::from(INLINE_LIMIT)).copied().collect::<Vec<_>>() {
            self.look_at_once(file, offset);
        }
    }

    /// What a reader would get who opens the file now and whose messages take no time. Who meets a server that does not answer
    /// asks another, and is not looked at here. On a disk that failed the look itself could find what nobody else would.
    pub fn look_at_once(&mut self, file: u64, offset: u64) {
        if self.servers.iter().any(|server| server.had_bad_disk) {
            return;
        }
        let at = self.now + 1;
        let read = Reading { client: u32::MAX, file, opened: at, begin: at, end: at };
        let Ok(grain) = self.stored(file, offset) else { return };
        let grain = grain.unwrap_or_else(|| vec![0; GRAIN as usize]);
        if let Err(sentence) = self.register.look(read, offset, &[Register::decode(&grain)]) {
            self.fail(format!("right after an fsync or a move out of the inode: {sentence}"));
        }
    }

    /// A grain as the first copy has it; `None` behind the end.
    fn stored(&self, inode: u64, offset: u64) -> Result<Option<Vec<u8>>, String> {
        let index = offset / CHUNK_BYTES;
        let op = Op::GetChunks(GetChunks { inode, first: index, count: 1 });
        let reply = self.leader.state.query(&NameRequest { op: Some(op), ..NameRequest::default() });
        if offset >= reply.attr.map_or(0, |attr| attr.size) {
            return Ok(None);
        }
        let (within, length) = ((offset % CHUNK_BYTES) as u32, GRAIN as usize);
        if reply.is_inline {
            let mut grain = reply.inline_data.get(offset as usize..).unwrap_or(&[]).to_vec();
            grain.resize(length, 0);
            return Ok(Some(grain));
        }
        let info = reply.chunks.iter().find(|info| info.index == index && info.written && info.chunk.is_some());
        let Some(info) = info.filter(|info| info.trim.is_none_or(|trim| within < trim)) else {
            return Ok(Some(vec![0; length]));
        };
        let chunk = info
            .chunk
            .map_or(ChunkRef { id: 0, version: 0 }, |chunk| ChunkRef { id: chunk.id, version: chunk.version });
        let server = info.replicas.first().map_or(1, |replica| replica.server_id);
        let store = self.servers[server as usize - 1].store().ok_or("a server is down")?;
        let block = store.read(chunk, within, length as u32).map_err(|error| format!("server {server}: {error}"))?;
        let start = (within - block.offset) as usize;
        Ok(Some(block.data[start..start + length].to_vec()))
    }
}
