//! What all requests of one mount share. The operations themselves are in `names`, `files` and `directories`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result};
use client::Engine;
use kernel::abi::write;
use kernel::{Replier, Request};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use wire::proto::Credentials;

use crate::askers::Askers;
use crate::attributes::errno;
use crate::begun::begin;
use crate::directories::Directories;
use crate::files::Files;
use crate::groups::Groups;
use crate::known::KnownDirectories;
use crate::metrics::{Counters, Operation};
use crate::notices::Notices;
use crate::pages::Pages;
use crate::recent::Recent;

/// At most one failure a second reaches the log; a broken cluster fails thousands of requests.
const COMPLAINT_EVERY: Duration = Duration::from_secs(1);

pub struct Core {
    pub engine: Arc<Engine>,
    pub files: Files,
    pub directories: Directories,
    pub pages: Pages,
    pub known: KnownDirectories,
    pub recent: Recent,
    pub counters: Counters,
    pub notices: Notices,
    groups: Groups,
    askers: Askers,
    runtime: Handle,
    running: watch::Sender<u64>,
    complained: Mutex<Option<Instant>>,
    next_handle: AtomicU64,
}

impl Core {
    pub fn new(engine: Arc<Engine>, runtime: Handle, groups: Groups) -> Core {
        Core {
            engine,
            files: Files::default(),
            directories: Directories::default(),
            pages: Pages::default(),
            known: KnownDirectories::default(),
            recent: Recent::default(),
            counters: Counters::default(),
            notices: Notices::default(),
            groups,
            askers: Askers::default(),
            runtime,
            running: watch::Sender::new(0),
            complained: Mutex::new(None),
            next_handle: AtomicU64::new(1),
        }
    }

    /// Who asks. To be taken in the FUSE thread, while the asking process surely waits.
    pub fn creds(&self, request: &Request<'_>) -> Credentials {
        let mut groups = self.groups.of(request.pid, request.uid, request.gid);
        // With what creates something the kernel tells whether its directory's group is one of them.
        groups.extend(request.extensions.groups());
        Credentials { uid: request.uid, gid: request.gid, groups }
    }

    /// In whose name bytes are written: root's where the kernel lets set-id bits stay, nobody's when they are a page of a
    /// mapping, which comes at any time.
    pub fn writer(&self, request: &Request<'_>, flags: u32) -> Option<Credentials> {
        if flags & write::CACHE != 0 {
            return None;
        }
        let drops_set_id = flags & write::KILL_SUIDGID != 0;
        Some(if drops_set_id { self.creds(request) } else { Credentials::default() })
    }

    /// A number for a new open file or directory, never used before.
    pub fn next_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// Carry out one request of thread `pid`, beginning in this thread; `answer` sends the reply, or the errno that the
    /// application sees. Who is killed waits no longer, but what it asked for is carried out.
    pub fn run<T: Send + 'static>(
        self: &Arc<Core>,
        operation: Operation,
        pid: u32,
        reply: Replier,
        work: impl Future<Output = Result<T>> + Send + 'static,
        answer: impl FnOnce(Replier, std::result::Result<T, i32>) + Send + 'static,
    ) {
        let core = self.clone();
        self.running.send_modify(|running| *running += 1);
        self.askers.begin(pid, reply.waiter());
        if operation == Operation::Flush {
            // A process that was killed closes its files, and no signal tells of it.
            self.interrupted(reply.unique());
        }
        begin(&self.runtime, async move {
            let running = Running { core: &core, unique: reply.unique() };
            let start = Instant::now();
            let outcome = work.await;
            core.counters.done(operation, start.elapsed());
            answer(reply, outcome.map_err(|error| core.failed(operation, &error)));
            drop(running);
        });
    }

    /// Who waits for this request got a signal, or may have been killed.
    pub fn interrupted(&self, unique: u64) {
        self.askers.watch(unique, &self.runtime);
    }

    /// Nobody waited any more for a file that was opened.
    pub fn forsake(self: &Arc<Core>, handle: u64) {
        let core = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = core.release(handle).await {
                tracing::debug!(%error, "a file that nobody waited for was closed");
            }
        });
    }

    /// Until no request is being carried out, or the time is over. Returns how many are left.
    pub async fn drained(&self, timeout: Duration) -> u64 {
        let mut running = self.running.subscribe();
        let _ = tokio::time::timeout(timeout, running.wait_for(|running| *running == 0)).await;
        *self.running.borrow()
    }

    /// What the application will see. A refusal is between it and the name space; trouble is for the operator too.
    pub fn failed(&self, operation: Operation, error: &Error) -> i32 {
        self.counters.failed(operation);
        let mut complained = self.complained.lock();
        if error.kind != ErrorKind::Namespace && complained.is_none_or(|at| at.elapsed() >= COMPLAINT_EVERY) {
            *complained = Some(Instant::now());
            tracing::warn!(?operation, errno = error.errno, "an application saw an error: {}", error.message);
        }
        errno(error)
    }
}

struct Running<'a> {
    core: &'a Core,
    unique: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.core.askers.end(self.unique);
        self.core.running.send_modify(|running| *running -= 1);
    }
}
