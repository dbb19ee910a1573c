//! How long to wait before the next try: doubling, jittered, so that those who ask do not come back all at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

/// Some 64 random bits; good enough for jitter and for picking a server.
pub fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// The wait after `tries` failures: between half and all of 10 ms x 2^tries, or of `longest`.
pub fn pause(tries: u32, longest: Duration, random: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << tries.min(10)).min(longest);
    full / 2 + full.mul_f64((random % 1024) as f64 / 2048.0)
}

/// Half to all of `full`.
pub fn jittered(full: Duration) -> Duration {
    full / 2 + full.mul_f64((random() % 1024) as f64 / 2048.0)
}

pub struct Backoff {
    tries: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(LONGEST)
    }
}

impl Backoff {
    pub fn up_to(longest: Duration) -> Backoff {
        Backoff { tries: 0, longest }
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(pause(self.tries, self.longest, random())).await;
        self.tries = self.tries.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_and_stay_below_the_longest() {
        let pause = |tries, random| pause(tries, LONGEST, random);
        assert!(pause(0, 0) >= Duration::from_millis(5) && pause(0, 1023) <= Duration::from_millis(10));
        assert!(pause(3, 0) >= Duration::from_millis(40));
        assert!(pause(u32::MAX, u64::MAX) <= LONGEST);
    }
}
