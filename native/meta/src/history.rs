//! Which past the masters have: a mark for each leader that began, so that whoever remembers a position of another past
//! (masters put back to an older state, masters made anew) is told from who remembers one of this.
//!
//! Invariants: first indexes rise; a position is contained in at most one leader's range; what was once contained stays
//! so, unless the masters themselves are put back.

use std::sync::Arc;

use wire::proto::Position;

use crate::tables::Next;

/// Leaders remembered. A position older than all of them is not held against anybody: 1,024 elections ago.
const MOST_MARKS: usize = 1024;
/// Foreign positions that an operator accepted; older ones are long replaced on their servers.
const MOST_ACCEPTED: usize = 1024;
/// Numbers that the masters may have given out since a position was named, a second or so.
const MARGIN: u64 = 1 << 20;
/// No number is as high; what claims so is nonsense and must not use the others up.
const HIGHEST_NUMBER: u64 = 1 << 62;

/// A leader began with `mark` at `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Began {
    pub first: u64,
    pub mark: u64,
}

/// Positions of `mark` up to `last` belong to another past that an operator accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub mark: u64,
    pub last: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Oldest first.
    pub began: Arc<Vec<Began>>,
    /// Older leaders were forgotten.
    pub folded: bool,
    pub accepted: Arc<Vec<Accepted>>,
    /// Copies of chunks that no file has are kept while their ids are below: they may be of an accepted past.
    pub keep_below: u64,
}

impl History {
    pub fn begin(&mut self, first: u64, mark: u64) {
        let began = Arc::make_mut(&mut self.began);
        began.push(Began { first, mark });
        if began.len() > MOST_MARKS {
            began.remove(0);
            self.folded = true;
        }
    }

    pub fn accept(&mut self, mark: u64, last: u64) {
        let accepted = Arc::make_mut(&mut self.accepted);
        accepted.retain(|other| other.mark != mark || other.last > last);
        accepted.push(Accepted { mark, last });
        if accepted.len() > MOST_ACCEPTED {
            accepted.remove(0);
        }
    }

    /// The leader that applied last.
    pub fn mark(&self) -> u64 {
        self.began.last().map_or(0, |began| began.mark)
    }

    /// Whether the entries up to `index` under `mark` are among those up to `applied`.
    pub fn contains(&self, index: u64, mark: u64, applied: u64) -> bool {
        if self.folded && self.began.first().is_some_and(|oldest| index < oldest.first) {
            return true;
        }
        let end = |at: usize| self.began.get(at + 1).map_or(applied, |next| next.first.saturating_sub(1));
        let in_range = |(at, began): (usize, &Began)| began.mark == mark && (began.first..=end(at)).contains(&index);
        self.began.iter().enumerate().any(in_range)
            || self.accepted.iter().any(|accepted| accepted.mark == mark && index <= accepted.last)
    }
}

impl Next {
    /// Leave out every number that was in use at `known`, or may have been soon after.
    pub fn raise(&mut self, known: &Position) {
        let above = |next: &mut u64, known: u64| {
            *next =
                (*next).max(Some(known).filter(|known| *known <= HIGHEST_NUMBER).unwrap_or(0)).saturating_add(MARGIN);
        };
        above(&mut self.chunk, known.next_chunk);
        above(&mut self.inode, known.next_inode);
        above(&mut self.session, known.next_session);
        above(&mut self.epoch, known.next_epoch);
        above(&mut self.heal, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(began: &[(u64, u64)]) -> History {
        let mut history = History::default();
        began.iter().for_each(|(first, mark)| history.begin(*first, *mark));
        history
    }

    #[test]
    fn a_position_is_contained_within_the_range_of_its_leader_only() {
        let history = history(&[(3, 77), (10, 88)]);
        let contained = |index, mark| history.contains(index, mark, 15);
        assert!(contained(3, 77) && contained(9, 77) && contained(10, 88) && contained(15, 88));
        assert!(!contained(10, 77), "another leader had taken over there");
        assert!(!contained(16, 88), "not applied yet: the masters are older");
        assert!(!contained(9, 88) && !contained(2, 77) && !contained(12, 99));
    }

    #[test]
    fn an_accepted_past_counts_up_to_where_it_was_accepted() {
        let mut history = history(&[(3, 77)]);
        history.accept(99, 50);
        assert!(history.contains(50, 99, 10) && history.contains(1, 99, 10));
        assert!(!history.contains(51, 99, 10));
        history.accept(99, 60);
        assert_eq!(history.accepted.len(), 1);
    }

    #[test]
    fn leaders_of_long_ago_are_folded_and_held_against_nobody() {
        let mut history = History::default();
        (1..=MOST_MARKS as u64 + 5).for_each(|leader| history.begin(leader * 10, leader));
        assert_eq!((history.began.len(), history.folded), (MOST_MARKS, true));
        assert!(history.contains(15, 1, 1 << 40) && history.contains(12, 4242, 1 << 40));
        assert!(!history.contains(1 << 30, 4242, 1 << 40));
    }

    #[test]
    fn numbers_jump_over_what_is_known_and_over_nonsense_not_at_all() {
        let mut next = Next::default();
        next.raise(&Position { next_chunk: 5000, next_inode: 3, next_epoch: u64::MAX, ..Position::default() });
        assert_eq!((next.chunk, next.inode), (5000 + MARGIN, 3 + MARGIN));
        assert_eq!(next.epoch, 1 + MARGIN);
    }

    proptest! {
        /// Masters run through leaders; at some point they are put back to an older state and go on otherwise.
        #[test]
        fn positions_of_the_own_past_are_contained_and_those_of_a_lost_future_are_not(
            steps in prop::collection::vec((1u64..20, any::<bool>()), 1..60), back_to in any::<prop::sample::Index>(),
            after in prop::collection::vec((1u64..20, any::<bool>()), 1..60),
        ) {
            let (mut history, mut index, mut mark) = (History::default(), 0, 0);
            let run = |steps: &[(u64, bool)], history: &mut History, index: &mut u64, mark: &mut u64, from: u64| {
                let mut named = Vec::new();
                for (at, (entries, elects)) in steps.iter().enumerate() {
                    if *elects || at == 0 {
                        *index += 1;
                        *mark = from + at as u64 + 1;
                        history.begin(*index, *mark);
                    }
                    *index += entries;
                    named.push((*index, *mark, history.clone()));
                }
                named
            };
            let before = run(&steps, &mut history, &mut index, &mut mark, 0);
            for (position, mark, _) in &before {
                prop_assert!(history.contains(*position, *mark, index));
            }
            let at = back_to.index(before.len());
            let (mut index, mut mark, mut history) = before[at].clone();
            run(&after, &mut history, &mut index, &mut mark, 1 << 32);
            for (number, (position, mark, _)) in before.iter().enumerate() {
                prop_assert_eq!(history.contains(*position, *mark, index), number <= at);
            }
        }
    }
}
