//! The nouns of the public API: configuration in, plain values out. No behaviour but construction.

use std::path::PathBuf;

use base::Buffer;

/// One version of one chunk. Versions fence: a lower one than stored is refused with ESTALE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    pub id: u64,
    pub version: u32,
}

/// Who sends a write, and for which time: of one writer's rounds only the latest is taken. The default counts no rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Random, one for each client; 0: no rounds.
    pub writer: u64,
    /// From 0; one more each time the writer sends pieces of this chunk again.
    pub round: u32,
}

/// What becomes of a span without bytes that a writer sends. Source: fallocate(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Its bytes are zeros; whole blocks are absent, and their space is free.
    Hole,
    /// Blocks that nobody wrote are there, as zeros that take space; the others stay as they are.
    Promise,
}

/// Whether long aligned writes bypass the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// Each disk's own measurement at open decides.
    #[default]
    Auto,
    /// Wherever O_DIRECT works at all.
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// One directory per disk. An empty one is formatted, a foreign one refuses to open.
    pub disks: Vec<PathBuf>,
    pub server_id: u32,
    pub cluster_id: String,
    pub direct_io: DirectIo,
    /// Free space that new data may not use, per disk (at most 5 % of the disk): too little, and a full disk has no
    /// room left for the file system's own bookkeeping; too much is only wasted.
    pub reserve_bytes: u64,
}

/// What a read answers: whole blocks around the span asked for, verified.
#[derive(Debug)]
pub struct BlockRead {
    /// The asked offset rounded down to a block.
    pub offset: u32,
    pub data: Buffer,
    /// CRC-32C of each block, 4 bytes little endian each.
    pub crcs: Vec<u8>,
    pub version: u32,
    pub stored_bytes: u32,
}

/// Which blocks of a chunk exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkMap {
    pub version: u32,
    /// One bit per block, least significant first, cut after the last present block.
    pub present: Vec<u8>,
    /// CRC-32C over (block index, block CRC), 4 bytes little endian each, of the present blocks in order.
    pub digest: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    pub id: u64,
    pub version: u32,
    pub stored_bytes: u32,
    /// Index into the configured disks.
    pub disk: usize,
    /// Of an older image of its disk: kept, but neither read, written nor copied.
    pub outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCondition {
    Ok,
    /// Takes overwrites and deletes.
    Full,
    ReadOnly,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    pub path: PathBuf,
    pub total_bytes: u64,
    /// What chunks may still use.
    pub free_bytes: u64,
    pub chunks: u64,
    pub condition: DiskCondition,
    /// The condition in words, for people: "ok", "full", "read-only: <why>", "failed: <why>".
    pub state: String,
    pub direct_io: bool,
    /// Of `chunks`: of an older image of the disk.
    pub outdated: u64,
}

/// A stored block that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    pub chunk: ChunkRef,
    /// Byte offset of the block in the chunk.
    pub offset: u32,
    pub reason: String,
}

/// Where a scrub goes on: at this block of the first chunk with at least this id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    pub chunk_id: u64,
    pub block: u32,
    /// Full rounds over all chunks so far.
    pub rounds: u64,
}
