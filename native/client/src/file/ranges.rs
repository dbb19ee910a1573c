//! Sets of byte ranges, sorted and merged. Pure.

/// Half-open ranges; never empty, never touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.0.partition_point(|range| range.1 < start);
        let to = self.0.partition_point(|range| range.0 <= end);
        let merged = self.0[from..to].iter().fold((start, end), |all, range| (all.0.min(range.0), all.1.max(range.1)));
        self.0.splice(from..to, [merged]);
    }

    pub fn extend(&mut self, other: &Ranges) {
        other.iter().for_each(|(start, end)| self.insert(start, end));
    }

    /// What of `start..end` is not in the set.
    pub fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut gaps, mut at) = (Vec::new(), start);
        for (from, to) in self.iter() {
            if from.min(end) > at {
                gaps.push((at, from.min(end)));
            }
            at = at.max(to);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_bytes(spans in prop::collection::vec((0u64..60, 0u64..20), 0..20)) {
            let (mut ranges, mut model) = (Ranges::default(), [false; 100]);
            for (start, length) in spans {
                ranges.insert(start, start + length);
                (start..start + length).for_each(|at| model[at as usize] = true);
            }
            let inside: Vec<bool> = (0..100).map(|at| ranges.iter().any(|(s, e)| (s..e).contains(&at))).collect();
            prop_assert_eq!(&inside[..], &model[..]);
            let outside: Vec<bool> = (0..100).map(|at| ranges.gaps(0, 100).iter().any(|(s, e)| (*s..*e).contains(&at))).collect();
            prop_assert!((0..100).all(|at| inside[at] != outside[at]));
            prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.1 < b.0));
        }
    }
}
