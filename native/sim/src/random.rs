//! All luck of a run comes from its seed.

use base::random::SplitMix;

pub struct Random(SplitMix);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(SplitMix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// 0 to `n` - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// `low` to `high` - 1.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// Another source, independent of what is drawn here later.
    pub fn split(&mut self) -> Random {
        Random::new(self.next())
    }
}
