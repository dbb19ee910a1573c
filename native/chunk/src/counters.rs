//! What the store counts about itself; read by the chunkserver's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters, shared by every part of the store.
        #[derive(Default)]
        pub(crate) struct Counting { $(pub $name: AtomicU64),* }

        /// Counter values at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),* }

        impl Counting {
            pub fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counters! {
    writes, write_bytes,
    /// Bytes of those that bypassed the page cache.
    direct_bytes,
    reads, read_bytes, syncs,
    /// Table syncs before overwriting stable blocks.
    barriers,
    trims,
    /// Version advances.
    advances,
    created, deleted, copied,
    /// Blocks found wrong by reads, writes or scrubs.
    bad_blocks,
    scrubbed_bytes,
    /// Fresh blocks whose write a crash cut off (now absent again).
    recovered_absent,
    /// Overwritten blocks that a crash left as old and new sectors mixed.
    recovered_torn,
    /// Pending blocks that a crash left whole.
    recovered_whole,
    /// Times a slot was opened and closed again for room.
    opened, evicted,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
