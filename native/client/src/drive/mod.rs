//! Carries out what open files decide: one lock around each file's state, and a task for each action that waits for
//! somebody. Decides nothing about bytes or versions.

pub mod accessed;
pub mod allocate;
pub mod append;
mod duplicate;
pub mod engine;
mod fetch;
mod perform;
mod read;
mod returning;
mod seek;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::Result;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use wire::proto::{Attr, Credentials};

use crate::file::{Action, Event, File, Limits, Now, ReadAhead, Rounds};
use crate::peers::Peers;
use accessed::Accessed;
use perform::perform;
use returning::Returning;

pub use read::ReadData;

/// Written and uncommitted bytes of all files together. Less stalls many parallel writers, more is only memory.
const DIRTY_BUDGET_BYTES: usize = 256 << 20;
/// Bytes fetched ahead for all handles together.
const READ_AHEAD_BUDGET_BYTES: usize = 96 << 20;
/// Permits count KiB.
const PERMIT_BYTES: usize = 1024;
/// How long a writer over budget waits before it presses the others again.
const PRESS_AGAIN: Duration = Duration::from_millis(500);

/// What all open files of one engine share.
pub struct Drive {
    pub peers: Arc<Peers>,
    pub open: Mutex<HashMap<u64, FileRef>>,
    read_budget: Arc<Semaphore>,
    dirty_bytes: AtomicUsize,
    /// Rings when written bytes were committed or given up.
    freed: Notify,
    rounds: Rounds,
    returning: Returning,
    pub accessed: Arc<Accessed>,
    start: Instant,
}

pub type FileRef = Arc<OpenFile>;

/// One inode as all its handles here share it.
pub struct OpenFile {
    pub inode: u64,
    state: Mutex<Inner>,
    /// Held by a write or a truncation: they take effect one after another.
    pub order: tokio::sync::Mutex<()>,
    /// Rings when whoever waits for room, a turn or a commit should look again.
    progress: Notify,
}

pub struct Inner {
    pub file: File,
    /// By handle. Data is kept within a handle and looked at anew at open.
    pub readers: HashMap<u64, ReadAhead>,
    pub handles: usize,
    charged: usize,
    /// Fetches of its bytes so far.
    fetches: u64,
}

impl Inner {
    /// The number of a fetch that begins now.
    fn next_fetch(&mut self) -> u64 {
        self.fetches += 1;
        self.fetches
    }
}

impl Drive {
    pub fn new(peers: Arc<Peers>) -> Drive {
        let atime = peers.config.atime;
        Drive {
            peers,
            open: Mutex::default(),
            read_budget: Arc::new(Semaphore::new(READ_AHEAD_BUDGET_BYTES / PERMIT_BYTES)),
            dirty_bytes: AtomicUsize::new(0),
            freed: Notify::new(),
            rounds: Rounds::default(),
            returning: Returning::default(),
            accessed: Arc::new(Accessed::new(atime)),
            start: Instant::now(),
        }
    }

    /// As in `now`, which asks for the leader's clock too.
    pub fn mono_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms(), wall_ns: self.peers.clock.now_ns() }
    }

    pub fn new_file(&self, attr: Attr, creds: &Credentials) -> FileRef {
        let config = &self.peers.config;
        let limits = Limits {
            window_bytes: config.write_window_bytes as usize,
            inline_bytes: self.peers.session().inline_limit,
            deadline_ms: config.deadline_ms,
        };
        let file = File::new(attr, creds.clone(), limits, self.rounds.clone());
        Arc::new(OpenFile {
            inode: attr.inode,
            state: Mutex::new(Inner { file, readers: HashMap::new(), handles: 0, charged: 0, fetches: 0 }),
            order: tokio::sync::Mutex::new(()),
            progress: Notify::new(),
        })
    }

    /// Look at a file, or change what decides nothing.
    pub fn with<T>(&self, file: &FileRef, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut file.state.lock())
    }

    /// Something happened: let the file decide, and begin what it says.
    pub fn tell(self: &Arc<Self>, file: &FileRef, event: Event) {
        let now = self.now();
        self.act(file, |state| ((), state.decide(now, event)));
    }

    /// As `tell`, for what answers at once.
    pub fn act<T>(self: &Arc<Self>, file: &FileRef, change: impl FnOnce(&mut File) -> (T, Vec<Action>)) -> T {
        let (answer, actions) = self.change(file, change);
        actions.into_iter().for_each(|action| self.spawn(file, action));
        answer
    }

    fn spawn(self: &Arc<Self>, file: &FileRef, action: Action) {
        let (drive, file) = (self.clone(), file.clone());
        tokio::spawn(async move { drive.carry_out(&file, action).await });
    }

    /// An action and those that follow from it one by one; where it branches, tasks of their own go on.
    async fn carry_out(self: &Arc<Self>, file: &FileRef, mut action: Action) {
        while let Some(event) = perform(self, file, action).await {
            let now = self.now();
            let ((), mut actions) = self.change(file, |state| ((), state.decide(now, event)));
            let Some(next) = actions.pop() else { return };
            actions.into_iter().for_each(|other| self.spawn(file, other));
            action = next;
        }
    }

    /// Under the file's lock: what it decides, and what needs no waiting. -> what is left to be carried out.
    fn change<T>(&self, file: &FileRef, change: impl FnOnce(&mut File) -> (T, Vec<Action>)) -> (T, Vec<Action>) {
        let (mut progress, mut given_up) = (false, None);
        let (answer, waiting) = {
            let mut inner = file.state.lock();
            let (answer, mut actions) = change(&mut inner.file);
            let readers = &mut inner.readers;
            actions.retain(|action| match action {
                Action::Forget { start, end } => {
                    readers.values_mut().for_each(|reader| reader.drop_range(*start, *end));
                    false
                }
                Action::Progress => {
                    progress = true;
                    false
                }
                Action::GaveUp(error) => {
                    given_up = Some(error.clone());
                    false
                }
                Action::LeftOut(servers) => {
                    crate::metrics::add(&self.peers.metrics.counters.failed_replicas, servers.len() as u64);
                    tracing::warn!(
                        inode = file.inode,
                        ?servers,
                        "copies that failed were left out; healing restores them"
                    );
                    false
                }
                Action::Release { .. } => {
                    self.returning.begin(file.inode);
                    true
                }
                _ => true,
            });
            let charged = inner.file.unstable_bytes();
            let before = std::mem::replace(&mut inner.charged, charged);
            self.dirty_bytes.fetch_add(charged, Ordering::Relaxed);
            self.dirty_bytes.fetch_sub(before, Ordering::Relaxed);
            if charged < before {
                self.freed.notify_waiters();
            }
            (answer, actions)
        };
        if let Some(error) = given_up {
            tracing::warn!(inode = file.inode, %error, "written bytes were given up; the next write, fsync or close reports it");
            crate::metrics::add(&self.peers.metrics.counters.write_faults, 1);
        }
        if progress {
            file.progress.notify_waiters();
        }
        (answer, waiting)
    }

    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// Wait until written bytes of all files are within the budget; what others wrote is committed meanwhile.
    async fn budget(self: &Arc<Self>) -> Result<()> {
        while self.dirty_bytes() > DIRTY_BUDGET_BYTES {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.dirty_bytes() <= DIRTY_BUDGET_BYTES {
                break;
            }
            let files: Vec<FileRef> = self.open.lock().values().cloned().collect();
            for file in files {
                if self.with(&file, |inner| inner.file.is_dirty()) {
                    self.tell(&file, Event::Flush { settle: false });
                }
            }
            let _ = tokio::time::timeout(PRESS_AGAIN, freed).await;
            self.peers.check_open()?;
        }
        Ok(())
    }

    /// Everything written before the call is committed afterwards, or the file's faults tell why not.
    pub async fn flush(self: &Arc<Self>, file: &FileRef, settle: bool) {
        let now = self.now();
        let changes = self.act(file, |state| {
            let actions = state.decide(now, Event::Flush { settle });
            (state.changes(), actions)
        });
        self.until(file, |state| state.is_done(changes)).await;
    }

    /// As `flush`; or why not, which no handle has told by that.
    pub async fn committed(self: &Arc<Self>, file: &FileRef, settle: bool) -> Result<()> {
        let before = self.with(file, |inner| inner.file.faults());
        self.flush(file, settle).await;
        self.with(file, |inner| match inner.file.fault() {
            Some(fault) if inner.file.faults() != before => Err(fault.clone()),
            _ => Ok(()),
        })
    }

    /// Wait until the file says so.
    async fn until(&self, file: &FileRef, holds: impl Fn(&File) -> bool) {
        loop {
            let mut progress = std::pin::pin!(file.progress.notified());
            progress.as_mut().enable();
            if holds(&file.state.lock().file) {
                return;
            }
            progress.await;
        }
    }
}
