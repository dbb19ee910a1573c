//! Overlapping writes to one chunk take turns at the head of the chain, so that every copy sees them in one order.
//! Invariant: ranges held for one chunk never overlap. Only the head takes turns: clients list a chain in the order
//! of the committed write set, so one chunk has one head, and followers get the writes already in turn.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

#[derive(Default)]
pub struct Turns {
    held: Mutex<HashMap<u64, Vec<Range>>>,
    freed: Notify,
}

/// The right to write one range; given back when dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    chunk: u64,
    range: Range,
}

impl Turns {
    /// Wait until nobody else holds any byte of `start..end` of `chunk`.
    pub async fn take(&self, chunk: u64, start: u64, end: u64) -> Turn<'_> {
        let range = Range { start, end };
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_take(chunk, range) {
                return Turn { turns: self, chunk, range };
            }
            freed.await;
        }
    }

    fn try_take(&self, chunk: u64, range: Range) -> bool {
        let mut held = self.held.lock();
        let ranges = held.entry(chunk).or_default();
        if ranges.iter().any(|other| other.start < range.end && range.start < other.end) {
            return false;
        }
        ranges.push(range);
        true
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut held = self.turns.held.lock();
        if let Some(ranges) = held.get_mut(&self.chunk) {
            if let Some(at) = ranges.iter().position(|range| *range == self.range) {
                ranges.swap_remove(at);
            }
            if ranges.is_empty() {
                held.remove(&self.chunk);
            }
        }
        drop(held);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overlapping_ranges_wait_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.take(1, 0, 100).await;
        let _beside = turns.take(1, 100, 200).await;
        let _other_chunk = turns.take(2, 0, 100).await;
        let overlapping = turns.take(1, 50, 60);
        tokio::pin!(overlapping);
        assert!(futures::poll!(&mut overlapping).is_pending());
        drop(first);
        assert!(futures::poll!(&mut overlapping).is_ready());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_chunks_that_nobody_writes() {
        let turns = Turns::default();
        drop(turns.take(1, 0, 1).await);
        assert!(turns.held.lock().is_empty());
    }
}
