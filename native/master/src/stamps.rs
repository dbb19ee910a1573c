//! The time and the randomness that the leader gives to commands. Times follow the wall clock; where that is a little
//! behind what was given before, by this leader or by the one before it, they wait for it instead of going back.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use base::random::SplitMix;

/// A clock that is behind by less than this is waited for: masters' clocks differ so much, and are put right by so much.
/// By more, an earlier time came from a clock that had jumped ahead, and the times follow the clock again. Larger:
/// after a jump of that size times stand still for so long. Smaller: a new leader with a slow clock sends them back.
pub const MOST_DRAG_NS: i64 = 10_000_000_000;

/// The time of the next command: the wall clock's, but later than each of `given` that is near enough to it.
pub fn stamp(wall_ns: i64, given: [i64; 2]) -> i64 {
    let near = given.into_iter().filter(|given| given.saturating_sub(wall_ns) < MOST_DRAG_NS);
    near.map(|given| given.saturating_add(1)).fold(wall_ns, i64::max)
}

pub struct Stamps {
    /// The last time that this master gave.
    last_ns: i64,
    random: SplitMix,
}

impl Stamps {
    pub fn new() -> Stamps {
        Stamps { last_ns: i64::MIN, random: SplitMix(RandomState::new().hash_one(Instant::now())) }
    }

    /// `committed_ns`: of the last command applied here, whoever gave it.
    pub fn now_ns(&mut self, wall_ns: i64, committed_ns: i64) -> i64 {
        self.last_ns = stamp(wall_ns, [self.last_ns, committed_ns]);
        self.last_ns
    }

    pub fn seed(&mut self) -> u64 {
        self.random.draw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;

    #[test]
    fn a_jump_of_the_clock_that_was_put_right_leaves_no_trace_in_later_times() {
        let mut stamps = Stamps::new();
        assert_eq!(stamps.now_ns(HOUR, i64::MIN), HOUR);
        assert_eq!(stamps.now_ns(2 * HOUR, HOUR), 2 * HOUR);
        assert_eq!(stamps.now_ns(HOUR + SECOND, 2 * HOUR), HOUR + SECOND, "the command at 2 h may be the last applied");
        assert_eq!(stamps.now_ns(HOUR + 2 * SECOND, HOUR + SECOND), HOUR + 2 * SECOND);
    }

    #[test]
    fn a_leader_that_jumped_once_and_leads_again_keeps_to_what_the_one_between_committed() {
        let mut stamps = Stamps::new();
        stamps.now_ns(5 * HOUR, i64::MIN);
        assert_eq!(stamps.now_ns(HOUR - SECOND, HOUR), HOUR + 1);
    }

    #[test]
    fn a_new_leader_with_a_slow_clock_sends_no_time_back_and_follows_its_clock_once_that_has_caught_up() {
        let mut stamps = Stamps::new();
        assert_eq!(stamps.now_ns(HOUR - 5 * SECOND, HOUR), HOUR + 1);
        assert_eq!(stamps.now_ns(HOUR - 4 * SECOND, HOUR), HOUR + 2, "each is later than the one before");
        assert_eq!(stamps.now_ns(HOUR + SECOND, HOUR + 2), HOUR + SECOND);
    }

    fn any_time() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -HOUR..HOUR]
    }

    proptest! {
        #[test]
        fn times_are_the_clocks_or_ahead_of_it_by_a_bounded_drag(wall in any_time(), a in any_time(), b in any_time()) {
            let stamp = stamp(wall, [a, b]);
            prop_assert!(stamp >= wall && stamp.saturating_sub(wall) <= MOST_DRAG_NS);
            for given in [a, b] {
                prop_assert!(stamp > given || given.saturating_sub(wall) >= MOST_DRAG_NS || given == i64::MAX);
            }
        }

        #[test]
        fn clocks_within_the_drag_of_each_other_never_send_times_back_over_any_changes_of_leader(
            skews in prop::collection::vec(-MOST_DRAG_NS / 2..MOST_DRAG_NS / 2 - SECOND, 3),
            turns in prop::collection::vec((0usize..3, 0i64..SECOND), 1..200),
        ) {
            let mut leaders: Vec<Stamps> = (0..3).map(|_| Stamps::new()).collect();
            let (mut time, mut committed) = (HOUR, i64::MIN);
            for (leader, passed) in turns {
                time += passed;
                let stamp = leaders[leader].now_ns(time + skews[leader], committed);
                prop_assert!(stamp > committed);
                committed = stamp;
            }
        }
    }
}
