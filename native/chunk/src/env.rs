//! What a store runs on: a file system per disk, a clock, threads, and how much it may hold open. The real one is the
//! default; a simulated one has no clock and no thread of its own.

use std::time::{Duration, Instant};
#[cfg(any(test, feature = "sim"))]
use std::{
    path::PathBuf,
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
};

use base::time::wall_ns;

use crate::beside::HANDS;
use crate::fs::Fs;
#[cfg(any(test, feature = "sim"))]
use crate::sim::SimDisk;

/// Open slots at most: each has two or three descriptors and up to 128 KiB of table.
const MAX_OPEN_SLOTS: usize = 512;
/// Free slots made ahead, so that a new chunk creates no file: at least this many, twice what the last round took, and
/// at most `MAX_SPARE_SLOTS`. Fewer, and a burst of small files waits for creates; more only costs inodes.
const SPARE_SLOTS: usize = if cfg!(test) { 2 } else { 32 };
const MAX_SPARE_SLOTS: usize = if cfg!(test) { 2 } else { 1024 };

/// Where the time comes from.
pub(crate) enum Clock {
    Real(Instant),
    /// Nanoseconds since 1970; it stands still until it is told.
    #[cfg(any(test, feature = "sim"))]
    Told(Arc<AtomicI64>),
}

impl Clock {
    /// Nanoseconds since 1970.
    pub fn wall_ns(&self) -> i64 {
        match self {
            Clock::Real(_) => wall_ns(),
            #[cfg(any(test, feature = "sim"))]
            Clock::Told(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Time since some moment before the store was opened; it never goes back.
    pub fn monotonic(&self) -> Duration {
        match self {
            Clock::Real(start) => start.elapsed(),
            #[cfg(any(test, feature = "sim"))]
            Clock::Told(now) => Duration::from_nanos(u64::try_from(now.load(Ordering::Relaxed)).unwrap_or(0)),
        }
    }
}

/// See the head of this file.
pub struct Env {
    /// One per configured disk; real where there is none.
    filesystems: Vec<Fs>,
    pub(crate) clock: Clock,
    pub(crate) open_slots: usize,
    pub(crate) spare_slots: usize,
    pub(crate) max_spare_slots: usize,
    /// Threads that sync; without any, the caller does it all in one order.
    pub(crate) hands: usize,
}

impl Env {
    pub fn real() -> Env {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        Env {
            filesystems: Vec::new(),
            clock: Clock::Real(Instant::now()),
            // Half of the descriptors for slots, three each; the rest is for sockets.
            open_slots: (limit / 6).clamp(8, MAX_OPEN_SLOTS as u64) as usize,
            spare_slots: SPARE_SLOTS,
            max_spare_slots: MAX_SPARE_SLOTS,
            // The crash tests want one order of events.
            hands: if cfg!(test) { 0 } else { HANDS },
        }
    }

    /// Disk `i` is mounted at path `i`. It holds little: 16 open slots, 2 spare ones.
    #[cfg(any(test, feature = "sim"))]
    pub fn simulated(paths: &[PathBuf], disks: &[SimDisk], now_ns: i64) -> Env {
        Env {
            filesystems: paths.iter().zip(disks).map(|(path, disk)| Fs::Simulated(disk.mount(path))).collect(),
            clock: Clock::Told(Arc::new(AtomicI64::new(now_ns))),
            open_slots: 16,
            spare_slots: 2,
            max_spare_slots: 2,
            hands: 0,
        }
    }

    /// At most so many slots open at a time: each has up to 128 KiB of table in memory.
    #[must_use]
    pub fn with_open_slots(self, open_slots: usize) -> Env {
        Env { open_slots, ..self }
    }

    /// So many free slots are made ahead.
    #[must_use]
    pub fn with_spare_slots(self, spare_slots: usize) -> Env {
        Env { spare_slots, max_spare_slots: spare_slots, ..self }
    }

    /// The file system of a configured disk.
    pub(crate) fn fs(&self, disk: usize) -> Fs {
        self.filesystems.get(disk).cloned().unwrap_or(Fs::Real)
    }

    /// Whether disks may be scanned by threads, side by side.
    pub(crate) fn has_threads(&self) -> bool {
        self.filesystems.is_empty()
    }

    /// Move a told clock on; it never goes back. A real one is not told.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn tell(&self, now_ns: i64) {
        if let Clock::Told(now) = &self.clock {
            now.fetch_max(now_ns, Ordering::Relaxed);
        }
    }
}
