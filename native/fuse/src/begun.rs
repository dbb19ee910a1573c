//! Work that begins in the thread that brings it: it is polled there once, and only what it must wait for moves to the
//! runtime. A request to the masters is on the wire before any other thread has to wake up for it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Stage {
    /// Its first poll runs in the caller's thread; `true`: it was woken meanwhile.
    Beginning(bool),
    /// Waits for its first wake.
    Waiting(Work),
    /// In a task of the runtime, or done.
    Gone,
}

struct Begun {
    stage: Mutex<Stage>,
    runtime: Handle,
}

/// Carry `work` out: as far as it comes without waiting in this thread, the rest in a task of `runtime`.
pub fn begin(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    let begun = Arc::new(Begun { stage: Mutex::new(Stage::Beginning(false)), runtime: runtime.clone() });
    let mut work: Work = Box::pin(work);
    let waker = Waker::from(begun.clone());
    // Timers and spawns of the first poll belong to the runtime.
    let entered = runtime.enter();
    let first = || work.as_mut().poll(&mut Context::from_waker(&waker));
    // As in a task, a panic ends this request and nothing else; the hook has told the log.
    let polled = catch_unwind(AssertUnwindSafe(first)).unwrap_or(Poll::Ready(()));
    drop(entered);
    if polled.is_ready() {
        *begun.stage.lock() = Stage::Gone;
        return;
    }
    let mut stage = begun.stage.lock();
    if matches!(*stage, Stage::Beginning(true)) {
        *stage = Stage::Gone;
        drop(stage);
        runtime.spawn(work);
    } else {
        *stage = Stage::Waiting(work);
    }
}

impl Wake for Begun {
    fn wake(self: Arc<Self>) {
        let mut stage = self.stage.lock();
        match std::mem::replace(&mut *stage, Stage::Gone) {
            Stage::Beginning(_) => *stage = Stage::Beginning(true),
            Stage::Waiting(work) => {
                drop(stage);
                // Its first poll there registers the task's own waker wherever it still waits.
                self.runtime.spawn(work);
            }
            Stage::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn what_need_not_wait_is_done_in_the_callers_thread() {
        let runtime = runtime();
        let (done, seen) = channel();
        begin(runtime.handle(), async move { done.send(thread::current().id()).unwrap() });
        assert_eq!(seen.try_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn what_waits_goes_on_in_the_runtime_wherever_the_wake_comes_from() {
        let runtime = runtime();
        for round in 0..1000 {
            let (done, seen) = channel();
            let (wake, woken) = tokio::sync::oneshot::channel();
            let waker = thread::spawn(move || wake.send(round).unwrap());
            begin(runtime.handle(), async move { done.send(woken.await.unwrap()).unwrap() });
            assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), round);
            waker.join().unwrap();
        }
    }

    #[test]
    fn a_wake_during_the_first_poll_is_not_lost() {
        let runtime = runtime();
        let (done, seen) = channel();
        begin(runtime.handle(), async move {
            let mut polls = 0;
            std::future::poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            done.send(polls).unwrap();
        });
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), 3);
    }

    #[test]
    fn timers_work_from_the_first_poll_on() {
        let runtime = runtime();
        let (done, seen) = channel();
        begin(runtime.handle(), async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            done.send(()).unwrap();
        });
        seen.recv_timeout(PATIENCE).unwrap();
    }
}
