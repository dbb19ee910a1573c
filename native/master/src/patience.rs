//! Whether an entry waits a moment for changes that are about to come: several in one entry cost hardly more than one.
//! Pure: times are arguments.

use std::time::{Duration, Instant};

/// The longest wait: less than an entry takes on a quick disk, and enough for a client to come with its next change.
pub const MOMENT: Duration = Duration::from_micros(300);
/// Weight of what was before when one more is learnt, of 8.
const MEMORY: f32 = 7.0 / 8.0;
/// More than these are not counted: a burst must not be waited for long after it.
const MOST: u32 = 32;

/// Learns how many changes come within a moment of the point where an entry could begin, whether it waited or not.
#[derive(Default)]
pub struct Patience {
    expected: f32,
    /// When the newest entry could begin, and what came within a moment of it.
    could_begin: Option<Instant>,
    came: u32,
}

impl Patience {
    /// A change came.
    pub fn saw(&mut self, at: Instant) {
        if let Some(began) = self.could_begin
            && at > began
            && at <= began + MOMENT
        {
            self.came = (self.came + 1).min(MOST);
        }
    }

    /// An entry of `held` changes could begin: for how many more to wait, a moment at most. Only if they would double it:
    /// the others wait too. A lone client never waits, as it sends nothing before it is answered.
    pub fn wait_for(&mut self, now: Instant, held: usize) -> usize {
        if self.could_begin.is_some() {
            self.expected = self.expected * MEMORY + self.came as f32 * (1.0 - MEMORY);
        }
        (self.could_begin, self.came) = (Some(now), 0);
        let more = self.expected.round() as usize;
        if more >= held { more } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of `held` changes that could begin every millisecond, with `came` more within a moment of each.
    fn after(entries: u32, came: u32, held: usize) -> usize {
        let (mut patience, mut now, mut wait) = (Patience::default(), Instant::now(), 0);
        for _ in 0..entries {
            wait = patience.wait_for(now, held);
            (0..came).for_each(|_| patience.saw(now + MOMENT / 2));
            patience.saw(now + 2 * MOMENT);
            now += Duration::from_millis(1);
        }
        wait
    }

    #[test]
    fn a_lone_client_never_waits() {
        assert_eq!(after(1000, 0, 1), 0);
    }

    #[test]
    fn what_mostly_comes_is_waited_for_and_not_more() {
        assert_eq!(after(1000, 1, 1), 1);
        assert_eq!(after(1000, 3, 2), 3);
        assert_eq!(after(1000, 3, 4), 0, "too little for so large an entry");
        assert_eq!(after(2, 1, 1), 0, "one alone is no habit");
    }

    #[test]
    fn habits_are_forgotten() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut waits = Vec::new();
        for entry in 0..100 {
            waits.push(patience.wait_for(now, 1));
            if entry < 50 {
                patience.saw(now + MOMENT);
            }
            now += Duration::from_millis(1);
        }
        assert_eq!((waits[49], waits[99]), (1, 0));
    }
}
