//! The process's one async runtime, and how a call waits for what runs there: in slices, so that the caller can look
//! for signals in between. An operation whose caller went away runs to its end; its result is dropped.

use std::cell::RefCell;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use base::{Error, Result};
use tokio::runtime::{Handle, Runtime};

/// Longest wait inside one call. Longer and Ctrl-C feels dead; shorter only wakes more often.
const SLICE: Duration = Duration::from_millis(500);
/// What a call returns when its slice is over: go on with `mng_wait`. No operation fails with this errno.
pub(crate) const STILL_RUNNING: i64 = -(libc::EINPROGRESS as i64);

/// Threads of the runtime, at least and at most, one for two cores between: several nodes share a small machine, and two
/// threads on two cores spend a seventh of the processor time on waking each other: docs/performance/metadata.md.
const WORKERS: (usize, usize) = (1, 4);

type Waiting = Box<dyn FnMut() -> Option<Result<i64>>>;

thread_local! {
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime, started on first use.
pub fn handle() -> Result<Handle> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let workers =
        std::thread::available_parallelism().map_or(WORKERS.0, |cores| (cores.get() / 2).clamp(WORKERS.0, WORKERS.1));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("mooseng")
        .enable_all()
        .build()
        .map_err(|error| Error::from(error).context("starting the native runtime"))?;
    Ok(RUNTIME.get_or_init(|| runtime).handle().clone())
}

/// Start `operation` and wait one slice for it; `finish` turns its value into the call's result, in this thread and
/// before its buffers go away.
pub fn wait<T: Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
    finish: impl FnOnce(T) -> Result<i64> + 'static,
) -> Result<i64> {
    let (sender, receiver) = sync_channel(1);
    handle()?.spawn(async move {
        let _ = sender.send(operation.await);
    });
    wait_for(receiver, finish)
}

/// As `wait`, for what blocks its thread.
pub fn wait_blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T> + Send + 'static,
    finish: impl FnOnce(T) -> Result<i64> + 'static,
) -> Result<i64> {
    let (sender, receiver) = sync_channel(1);
    handle()?.spawn_blocking(move || {
        let _ = sender.send(operation());
    });
    wait_for(receiver, finish)
}

fn wait_for<T: 'static>(receiver: Receiver<Result<T>>, finish: impl FnOnce(T) -> Result<i64> + 'static) -> Result<i64> {
    let mut finish = Some(finish);
    WAITING.set(Some(Box::new(move || match receiver.recv_timeout(SLICE) {
        Ok(outcome) => Some(outcome.and_then(|value| finish.take().map_or(Ok(0), |finish| finish(value)))),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(Error::namespace(
            libc::ENOTRECOVERABLE,
            "the native library panicked in the background; its log has the place, please report it as a bug",
        ))),
    })));
    go_on()
}

/// One more slice for the operation that this thread waits for.
pub fn go_on() -> Result<i64> {
    let Some(mut waiting) = WAITING.take() else {
        return Err(Error::namespace(libc::EINVAL, "this thread waits for no operation"));
    };
    match waiting() {
        Some(outcome) => outcome,
        None => {
            WAITING.set(Some(waiting));
            Ok(STILL_RUNNING)
        }
    }
}
