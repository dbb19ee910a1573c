//! A second pair of hands: one of two fdatasyncs runs on a thread here while the caller does the other, so that a chunk
//! waits for its disk once. It never queues: when all hands are busy, the caller does both.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};

use base::{Error, Result};
use parking_lot::Mutex;

/// Hands of one store; more than the syncs that its server runs at a time are never needed.
pub(crate) const HANDS: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Beside(SyncSender<Job>);

impl Beside {
    pub fn start(hands: usize) -> Beside {
        let (sender, receiver) = sync_channel::<Job>(0);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..hands {
            let receiver = receiver.clone();
            let started =
                std::thread::Builder::new().name(format!("chunk-sync-{number}")).spawn(move || work(&receiver));
            if let Err(error) = started {
                tracing::warn!(%error, "a thread for syncing could not be started; syncs take longer");
            }
        }
        Beside(sender)
    }

    /// Run both, at once if a hand is free. The first error wins; both have ended in any case.
    pub fn both(
        &self,
        here: impl FnOnce() -> Result<()>,
        there: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (done, outcome) = channel();
        let job: Job = Box::new(move || drop(done.send(there())));
        let left = match self.0.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
        };
        let here = here();
        if let Some(job) = left {
            run(job);
        }
        let there =
            outcome.recv().unwrap_or_else(|_| Err(Error::unavailable("a sync panicked; the log has the place")));
        here.and(there)
    }
}

fn work(receiver: &Mutex<Receiver<Job>>) {
    loop {
        let job = receiver.lock().recv();
        let Ok(job) = job else { return };
        run(job);
    }
}

/// A panic is the caller's answer: the sender of the outcome is gone.
fn run(job: Job) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(why: &str) -> Error {
        Error::unavailable(why)
    }

    #[test]
    fn both_run_with_or_without_a_free_hand_and_an_error_of_either_is_told() {
        for hands in [0, 1] {
            let beside = Beside::start(hands);
            for _ in 0..50 {
                assert!(beside.both(|| Ok(()), || Ok(())).is_ok());
                assert_eq!(beside.both(|| Err(refused("here")), || Ok(())).unwrap_err().message, "here");
                assert_eq!(beside.both(|| Ok(()), || Err(refused("there"))).unwrap_err().message, "there");
            }
        }
    }

    #[test]
    fn a_panic_beside_is_an_error_and_the_hand_lives_on() {
        let beside = Beside::start(1);
        while beside.both(|| Ok(()), || panic!("on purpose")).is_ok() {}
        assert!(beside.both(|| Ok(()), || Ok(())).is_ok());
    }
}
