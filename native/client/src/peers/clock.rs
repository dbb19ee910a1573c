//! The leader's clock, as it was told last: the times of a file come from one clock, whichever client writes to it.

use std::time::Instant;

use base::time::wall_ns;
use parking_lot::Mutex;

/// How much two clocks may differ after a second, in nanoseconds.
const DRIFT_NS: u64 = 100_000;

/// What the leader's clock said.
#[derive(Clone, Copy)]
struct Told {
    at: Instant,
    now_ns: i64,
    /// By how much it may be wrong: half of the time that the answer took.
    error_ns: u64,
}

impl Told {
    fn error_ns(&self) -> u64 {
        self.error_ns + self.at.elapsed().as_secs() * DRIFT_NS
    }
}

#[derive(Default)]
pub struct LeaderClock(Mutex<Option<Told>>);

impl LeaderClock {
    /// An answer to what was asked at `asked` says `now_ns`; 0: this leader does not tell. It was half way then. What is
    /// known better stays.
    pub fn told(&self, now_ns: i64, asked: Instant) {
        let half = asked.elapsed() / 2;
        let new = Told { at: asked + half, now_ns, error_ns: u64::try_from(half.as_nanos()).unwrap_or(u64::MAX) };
        let mut known = self.0.lock();
        if now_ns != 0 && known.is_none_or(|known| new.error_ns <= known.error_ns()) {
            *known = Some(new);
        }
    }

    pub fn forget(&self) {
        *self.0.lock() = None;
    }

    /// Nanoseconds since 1970; by our own clock until the leader has told.
    pub fn now_ns(&self) -> i64 {
        match *self.0.lock() {
            Some(told) => told.now_ns.saturating_add(i64::try_from(told.at.elapsed().as_nanos()).unwrap_or(i64::MAX)),
            None => wall_ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_was_told() {
        let clock = LeaderClock::default();
        clock.told(0, Instant::now());
        assert!((clock.now_ns() - wall_ns()).abs() < 1_000_000_000);
        clock.told(1_000, Instant::now());
        let first = clock.now_ns();
        assert!((1_000..1_000_000_000).contains(&first) && clock.now_ns() >= first);
        clock.told(1 << 40, Instant::now() - std::time::Duration::from_secs(9));
        assert!(clock.now_ns() < 1_000_000_000, "an answer that took long says little");
    }
}
