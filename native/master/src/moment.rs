//! A timer of microseconds: the runtime's own counts in milliseconds.

use std::os::fd::OwnedFd;

use base::Result;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

use crate::patience::MOMENT;

/// One caller at a time.
pub struct Moment(AsyncFd<OwnedFd>);

impl Moment {
    pub fn new() -> Result<Moment> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(std::io::Error::from)?;
        // SAFETY: the descriptor is owned by what is made here, and nothing else closes it.
        let registered = unsafe { AsyncFd::register(timer) };
        Ok(Moment(registered.map_err(std::io::Error::from)?))
    }

    /// Returns a moment from now; earlier on an error, which costs nothing but a smaller entry.
    pub async fn pass(&self) {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value: Timespec { tv_nsec: MOMENT.as_nanos() as _, ..never } };
        if rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once).is_err() {
            return;
        }
        while let Ok(mut ready) = self.0.readable().await {
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            // Not yet: the readiness was that of a moment nobody waited for to its end.
            if read.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_moment_passes_again_after_one_that_was_given_up() {
        let moment = Moment::new().unwrap();
        tokio::select! {
            biased;
            () = moment.pass() => panic!("too early"),
            () = std::future::ready(()) => {}
        }
        std::thread::sleep(2 * MOMENT);
        let start = Instant::now();
        moment.pass().await;
        assert!(start.elapsed() >= MOMENT);
    }
}
