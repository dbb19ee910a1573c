//! What a reader needs to know: where the bytes come from, and what of ours lies over them.

use base::Buffer;
use wire::proto::{ChunkInfo, NameReply, Replica};

use super::File;
use super::pieces::Patch;

/// Where chunk `index` lies, for a reader.
pub enum Source {
    Known(ChunkInfo),
    /// To be asked for with GetChunks.
    Unknown,
}

impl File {
    /// Bytes of the inode itself; `None` when the file lies in chunks.
    pub fn read_inline(&self, offset: u64, end: u64) -> Option<Buffer> {
        self.content_at(offset, end)
    }

    /// Bytes of ours over `start..end` of chunk `index` that some copy may lack, oldest first.
    pub fn patches(&self, index: u64, start: u32, end: u32) -> Vec<Patch> {
        let mut patches = Vec::new();
        if let Some(convert) = self.convert.as_ref().filter(|convert| index == 0 && convert.version.is_none())
            && let Some(bytes) = convert.content.get(start as usize..convert.content.len().min(end as usize))
            && !bytes.is_empty()
        {
            patches.push(Patch::Copied(start, bytes.to_vec()));
        }
        if let Some(writer) = self.writers.get(&index) {
            let source = self.map.get(&index).and_then(|info| self.held_under(index, info).unwrap_or(info).chunk);
            patches.extend(writer.patches(source, start, end));
        }
        patches
    }

    pub fn source(&self, index: u64) -> Source {
        self.map.get(&index).cloned().map_or(Source::Unknown, |info| Source::Known(self.readable(index, info)))
    }

    /// Whether it is known where chunk `index` lies, as of what was last heard of the file.
    pub fn is_located(&self, index: u64) -> bool {
        self.map.contains_key(&index)
    }

    /// Whether an answer of the masters was overtaken by one that knows more: it may not name a chunk that we committed.
    pub fn is_overtaken(&self, reply: &NameReply) -> bool {
        reply.attr.is_some_and(|attr| attr.data_version < self.attr.data_version)
    }

    /// What we wrote is there to be read, committed or not.
    pub fn readable(&self, index: u64, info: ChunkInfo) -> ChunkInfo {
        match self.held_under(index, &info) {
            Some(grant) => ChunkInfo { written: true, ..grant.clone() },
            None => info,
        }
    }

    /// The grant under which copies hold bytes of ours, if it reaches to what the masters say of the chunk.
    fn held_under(&self, index: u64, info: &ChunkInfo) -> Option<&ChunkInfo> {
        let writer = self.writers.get(&index).filter(|writer| writer.holds())?;
        let grant = writer.last_grant()?;
        (info.chunk.is_none() || info.chunk == grant.chunk).then_some(grant)
    }

    /// Whether this start of the server is another one than took bytes of ours that are not committed.
    pub fn took_another_start(&self, index: u64, server: u32, boot_id: u64) -> bool {
        let boot = self.writers.get(&index).and_then(|writer| writer.boot_of(server));
        boot_id != 0 && boot.is_some_and(|boot| boot != boot_id)
    }

    /// Forget where chunk `index` lies: no copy could be read there.
    pub fn forget_source(&mut self, index: u64) {
        self.map.remove(&index);
    }
}

/// First server and the rest of the chain. The start differs by chunk, so that the load spreads, but stays for one
/// chunk and version, so that its writes arrive in order.
pub fn chain(info: &ChunkInfo) -> Option<(Replica, Vec<Replica>)> {
    let turn = info.chunk.as_ref().map_or(0, |chunk| chunk.id) as usize % info.replicas.len().max(1);
    let mut order = info.replicas.clone();
    order.rotate_left(turn);
    let head = (!order.is_empty()).then(|| order.remove(0))?;
    Some((head, order))
}

/// Lay `patches` over `target`, which begins at `offset` of the chunk.
pub fn overlay(target: &mut [u8], offset: u32, patches: &[Patch]) {
    patches.iter().for_each(|patch| patch.lay_over(target, offset));
}
