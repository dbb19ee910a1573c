//! A disk in memory with a volatile cache, for simulators and tests: it keeps what was synced apart from what was only
//! written, and can lose power, fail, run full and rot. No thread, no clock, no random number that is not of a seed: the
//! same calls leave the same bytes. Not a part of what ships: cargo feature `sim`.
//!
//! | call | what it does |
//! |---|---|
//! | `SimDisk::new(capacity_bytes, seed)` | an empty disk; clones are the same disk. The seed gives the disk's uuid |
//! | `Store::open_simulated(config, &disks, now_ns)` | a store on it, `disks[i]` at `config.disks[i]`; 16 slots open, 2 spare |
//! | `Store::open_in(config, Env::simulated(&config.disks, &disks, now_ns).with_open_slots(4))` | the same with other limits |
//! | `store.tick(now_ns)` | its background work of one second; nothing else runs by itself |
//! | `kill()` | the process ends: what was written stays, open handles and the lock die |
//! | `power_cut(seed)` | the same, and of what was not synced a part survives (`power`) |
//! | `stop_after(n)` | `kill` instead of the n-th operation from now on; `is_stopped()` tells |
//! | `operations()` | changes and syncs so far: the crash points of a run |
//! | `snapshot()`, `restore(&image)` | the whole disk, its cache included, to go back to; `restore` kills |
//! | `sync_all()` | an orderly stop: everything written is durable, as in the image of a stopped machine |
//! | `inject(SimFault { op, after, errno, stay })` | after so many of these operations one fails, or all with `stay` |
//! | `inject_on(suffix, fault)` | the same for paths with this end, as ".sums" |
//! | `clear_faults()` | no more of them |
//! | `while_syncing(suffix, act)` | when the next sync of such a path has done its work and not returned yet, `act` runs once |
//! | `flip(path, offset)` | one bit of a file rots; the path as `Store::locate` gives it, or relative to the disk |
//! | `paths()`, `read(path)` | what is there now |
//! | `digest()` | a hash of every name and byte, durable and not |
//! | `used_bytes()` | what files take, in pages of 4 KiB |
//!
//! The clock must be later at each opening, as real ones are: a chunk's incarnation is the time of its creation, or one
//! more than the last, and tells its entries from those of a chunk that a crash took off the disk.
//!
//! Of a store whose disk was killed every operation fails with EIO; drop it before or after, as you like. Bytes are in
//! sparse pages, shared between the cache, the durable state and images: a chunk costs what is written to it.

mod content;
mod mount;
mod power;
mod tree;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use mount::{Mount, SimFile};
use power::Luck;
use tree::Tree;

/// What a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimOp {
    /// Reading a file.
    Read,
    Write,
    /// A write that puts so many bytes before it fails.
    ShortWrite(usize),
    /// Syncing a file or directory. What one that failed was to make durable never is, though it stays readable: as the
    /// kernel does it.
    Sync,
    /// Making, renaming or removing a name.
    Name,
    /// Truncating or punching a hole.
    Cut,
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimFault {
    pub op: SimOp,
    /// Such operations that still work.
    pub after: u64,
    pub errno: i32,
    /// Fail on and on, as a full disk does, instead of once.
    pub stay: bool,
}

/// A whole disk at one moment, its cache included. Cheap: pages are shared.
#[derive(Clone)]
pub struct SimImage(Tree);

/// See the head of this file.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

type Act = Box<dyn FnOnce() + Send>;

struct State {
    tree: Tree,
    capacity_bytes: u64,
    luck: Luck,
    /// Counts processes: a handle of an earlier one is dead.
    process: u64,
    locked: bool,
    operations: u64,
    stop_at: Option<u64>,
    stopped: bool,
    faults: Vec<(String, SimFault)>,
    while_syncing: Option<(String, Act)>,
    /// Where it was mounted last.
    root: PathBuf,
}

/// An error of this number.
fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// How an operation goes.
enum Verdict {
    Done,
    Fails { errno: i32, short_bytes: usize },
}

impl State {
    fn end_process(&mut self) {
        self.process += 1;
        self.locked = false;
        self.tree.forget_unreachable();
    }

    fn check_alive(&self, process: u64) -> io::Result<()> {
        if process == self.process { Ok(()) } else { Err(errno(libc::EIO)) }
    }

    /// Count an operation and say whether it works.
    fn judge(&mut self, process: u64, op: SimOp, path: &str) -> io::Result<Verdict> {
        self.check_alive(process)?;
        if op != SimOp::Read {
            if self.stop_at == Some(self.operations) {
                self.end_process();
                self.stop_at = None;
                self.stopped = true;
                return Err(errno(libc::EIO));
            }
            self.operations += 1;
        }
        let hits = |fault: &SimFault| match (fault.op, op) {
            (SimOp::ShortWrite(_), SimOp::Write) => true,
            (wanted, op) => wanted == op,
        };
        let hit = |(suffix, fault): &(String, SimFault)| hits(fault) && path.ends_with(suffix.as_str());
        let mut failing = None;
        for (at, (_, fault)) in self.faults.iter_mut().enumerate().filter(|(_, entry)| hit(entry)) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if failing.is_none() {
                failing = Some((at, *fault));
            }
        }
        let Some((at, fault)) = failing else { return Ok(Verdict::Done) };
        if !fault.stay {
            self.faults.remove(at);
        }
        let short_bytes = if let SimOp::ShortWrite(bytes) = fault.op { bytes } else { 0 };
        Ok(Verdict::Fails { errno: fault.errno, short_bytes })
    }

    /// The same for what fails as a whole.
    fn enter(&mut self, process: u64, op: SimOp, path: &str) -> io::Result<()> {
        match self.judge(process, op, path)? {
            Verdict::Done => Ok(()),
            Verdict::Fails { errno: number, .. } => Err(errno(number)),
        }
    }

    /// What is to run before the sync of `path` returns.
    fn act_while_syncing(&mut self, path: &str) -> Option<Act> {
        self.while_syncing.take_if(|(suffix, _)| path.ends_with(suffix.as_str())).map(|(_, act)| act)
    }

    /// A path relative to the disk.
    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl SimDisk {
    pub fn new(capacity_bytes: u64, seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            tree: Tree::default(),
            capacity_bytes,
            luck: Luck::new(seed),
            process: 0,
            locked: false,
            operations: 0,
            stop_at: None,
            stopped: false,
            faults: Vec::new(),
            while_syncing: None,
            root: PathBuf::new(),
        })))
    }

    /// The disk as a process sees it from now on, below `path`.
    pub(crate) fn mount(&self, path: &Path) -> Mount {
        let mut state = self.0.lock();
        state.root = path.to_path_buf();
        state.stopped = false;
        Mount::new(self.clone(), path, state.process)
    }

    /// The process ends, orderly or not: the page cache stays.
    pub fn kill(&self) {
        self.0.lock().end_process();
    }

    /// The power goes and comes back: what was not synced is there, not there, or there in part, as the seed has it.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.0.lock();
        state.end_process();
        state.stop_at = None;
        state.tree.lose_power(&mut Luck::new(seed));
        state.tree.forget_unreachable();
    }

    /// Make everything durable that was written.
    pub fn sync_all(&self) {
        self.0.lock().tree.sync_all();
    }

    /// Let `operations` more be done, and end the process instead of the next one. A power cut or `restore` forgets it.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.0.lock();
        state.stop_at = Some(state.operations + operations);
        state.stopped = false;
    }

    /// Whether the process ended where `stop_after` said; until the disk is opened again.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// Changes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    pub fn snapshot(&self) -> SimImage {
        SimImage(self.0.lock().tree.clone())
    }

    /// Put a former state back under a process that ends by it.
    pub fn restore(&self, image: &SimImage) {
        let mut state = self.0.lock();
        state.end_process();
        state.stop_at = None;
        state.tree = image.0.clone();
        state.tree.forget_unreachable();
    }

    pub fn inject(&self, fault: SimFault) {
        self.inject_on("", fault);
    }

    /// Only for paths that end in `suffix`.
    pub fn inject_on(&self, suffix: &str, fault: SimFault) {
        self.0.lock().faults.push((suffix.to_string(), fault));
    }

    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// What is written by `act` comes too late for the sync during which it runs.
    pub fn while_syncing(&self, suffix: &str, act: impl FnOnce() + Send + 'static) {
        self.0.lock().while_syncing = Some((suffix.to_string(), Box::new(act)));
    }

    /// Flip a bit of the byte at `offset`, in the cache and on the medium; whether there was one.
    pub fn flip(&self, path: impl AsRef<Path>, offset: u64) -> bool {
        let mut state = self.0.lock();
        let path = state.relative(path.as_ref()).to_path_buf();
        state.tree.find(&path).is_ok_and(|inode| state.tree.flip(inode, offset))
    }

    /// Relative paths of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().tree.paths()
    }

    /// The bytes of a file as a process would read them.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let inode = state.tree.find(state.relative(path.as_ref()))?;
        let content = state.tree.content(inode)?;
        let mut bytes = vec![0; content.length() as usize];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    pub fn digest(&self) -> u64 {
        self.0.lock().tree.digest()
    }

    pub fn used_bytes(&self) -> u64 {
        self.0.lock().tree.used_bytes()
    }
}
