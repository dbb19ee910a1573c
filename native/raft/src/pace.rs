//! How often each follower is asked. The leader and a bare majority of prompt followers commit an entry; whoever comes
//! after them in the order of ids is in reserve: it gets what came up since in steps, which saves it messages and syncs.
//! As soon as one of the others is late or unreachable, nobody is in reserve. Never decides what is committed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two appends to a follower in reserve. Longer, and it has more to catch up with when another one fails;
/// shorter saves less.
const STEP: Duration = Duration::from_millis(5);
/// A follower that has not answered for this long is late: a commit may wait for the one in reserve.
const LATE: Duration = Duration::from_millis(3);

/// The appends on their way, by follower.
pub struct Paces {
    start: Instant,
    /// When the append on its way was sent, in ns since `start`; `IDLE`: none is; `LOST`: the last one got no answer.
    asked: BTreeMap<u64, AtomicU64>,
}

const IDLE: u64 = 0;
const LOST: u64 = u64::MAX;

impl Paces {
    pub fn new(members: impl Iterator<Item = u64>) -> Paces {
        // Nobody has answered yet.
        Paces { start: Instant::now(), asked: members.map(|id| (id, AtomicU64::new(LOST))).collect() }
    }

    fn now_ns(&self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).max(1)
    }

    pub fn asking(&self, id: u64) {
        if let Some(asked) = self.asked.get(&id) {
            asked.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    pub fn answered(&self, id: u64, well: bool) {
        if let Some(asked) = self.asked.get(&id) {
            asked.store(if well { IDLE } else { LOST }, Ordering::Relaxed);
        }
    }

    /// How long to wait until the next append to follower `id`, which was last asked at `last`.
    pub fn wait(&self, id: u64, last: Option<Instant>) -> Duration {
        let now_ns = self.now_ns();
        let others = self.asked.iter().filter(|(other, _)| **other < id);
        let prompt = others.filter(|(_, asked)| is_prompt(asked.load(Ordering::Relaxed), now_ns)).count();
        // The leader and half of the others are a majority.
        let in_reserve = prompt >= self.asked.len().div_ceil(2);
        match last.filter(|_| in_reserve) {
            Some(last) => STEP.saturating_sub(last.elapsed()),
            None => Duration::ZERO,
        }
    }
}

fn is_prompt(asked_ns: u64, now_ns: u64) -> bool {
    match asked_ns {
        IDLE => true,
        LOST => false,
        asked_ns => now_ns.saturating_sub(asked_ns) < LATE.as_nanos() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_followers_is_in_reserve_while_the_first_is_prompt() {
        let paces = Paces::new([2, 3].into_iter());
        let just_now = Some(Instant::now());
        assert_eq!(paces.wait(3, just_now), Duration::ZERO, "nobody has answered yet");
        paces.answered(2, true);
        assert!(paces.wait(3, just_now) > Duration::ZERO);
        assert_eq!(paces.wait(2, just_now), Duration::ZERO, "the commit needs this one");
        assert_eq!(paces.wait(3, None), Duration::ZERO, "it was not asked for long");
        paces.answered(2, false);
        assert_eq!(paces.wait(3, just_now), Duration::ZERO);
    }

    #[test]
    fn a_follower_that_lets_wait_is_not_counted_on() {
        let late = LATE.as_nanos() as u64;
        assert!(is_prompt(1000, 1000 + late - 1) && !is_prompt(1000, 1000 + late));
    }

    #[test]
    fn of_four_followers_two_are_needed() {
        let paces = Paces::new(2..=5);
        let just_now = Some(Instant::now());
        paces.answered(2, true);
        assert_eq!(paces.wait(5, just_now), Duration::ZERO);
        paces.answered(4, true);
        assert!(paces.wait(5, just_now) > Duration::ZERO);
        assert_eq!(paces.wait(4, just_now), Duration::ZERO);
    }
}
