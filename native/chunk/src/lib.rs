//! The chunk store: 64 MiB chunks on local disks, each 4 KiB block checksummed and bound to its place.
//!
//! Plain threads, `pread` and `pwrite`. It never talks to the network, never decides where copies belong, and never
//! answers with bytes that it has not checked. Bytes on disk: FORMAT.md, "Chunk data file", "Checksum table" and
//! "Chunkserver directory".

pub mod bench;
mod beside;
mod cache;
mod copy;
mod counters;
mod disk;
mod env;
mod fill;
mod free;
mod fs;
mod history;
mod identity;
mod layout;
mod open;
mod probe;
mod read;
mod recover;
mod rounds;
mod scrub;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slot;
mod store;
mod table;
mod trim;
mod types;
mod write;

#[cfg(test)]
mod tests;

pub use copy::Copy;
pub use counters::Counters;
pub use env::Env;
pub use history::Memory;
pub use store::Store;
pub use types::{
    BadBlock, BlockRead, ChunkEntry, ChunkMap, ChunkRef, DirectIo, DiskCondition, DiskInfo, Fill, ScrubCursor, Sender,
    StoreConfig,
};
