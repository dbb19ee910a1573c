//! One handle's sequential detection and what was fetched ahead for it. Pure but for the shared results it keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Buffer, Result};
use futures::future::{BoxFuture, Shared};
use tokio::sync::OwnedSemaphorePermit;

/// Segments start at multiples of this and are at most this long.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// Reads this far from the head of the stream still belong to it: the kernel reads ahead in parallel.
const SLACK_BYTES: u64 = 2 << 20;
const FIRST_WINDOW_BYTES: u64 = 2 << 20;

/// Bytes of a file as they arrived, without a copy.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub buffer: Arc<Buffer>,
    pub start: usize,
    pub end: usize,
    /// Budget held as long as anybody holds the bytes.
    pub _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl Fetched {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

pub type Fetching = Shared<BoxFuture<'static, Result<Fetched>>>;

struct Segment {
    end: u64,
    data: Fetching,
    /// Rises over all fetches of a file, in the order in which they begin.
    number: u64,
}

#[derive(Default)]
pub struct ReadAhead {
    head: u64,
    window: u64,
    segments: BTreeMap<u64, Segment>,
    near_reads: u32,
}

impl ReadAhead {
    /// Note a read of `start..end`; the answer is how far to fetch ahead, 0 when the reads are not sequential.
    pub fn note(&mut self, start: u64, end: u64, most: u64) -> u64 {
        let near = start <= self.head.saturating_add(SLACK_BYTES) && start.saturating_add(SLACK_BYTES) >= self.head;
        if !near {
            *self = ReadAhead { head: end, ..ReadAhead::default() };
            return 0;
        }
        self.near_reads = self.near_reads.saturating_add(1);
        self.head = self.head.max(end);
        let behind = self.head.saturating_sub(SLACK_BYTES);
        while self.segments.first_key_value().is_some_and(|(_, segment)| segment.end <= behind) {
            self.segments.pop_first();
        }
        if self.near_reads < 2 || most == 0 {
            return 0;
        }
        self.window = (self.window * 2).clamp(FIRST_WINDOW_BYTES.min(most), most);
        self.head + self.window
    }

    /// Which segments of `start..until`, below `size`, are not there yet.
    pub fn missing(&self, start: u64, until: u64, size: u64) -> Vec<(u64, u64)> {
        let (mut list, mut at) = (Vec::new(), start / SEGMENT_BYTES * SEGMENT_BYTES);
        while at < until.min(size) {
            let end = (at + SEGMENT_BYTES).min(size);
            if self.segments.get(&at).is_none_or(|segment| segment.end < end) {
                list.push((at, end));
            }
            at += SEGMENT_BYTES;
        }
        list
    }

    pub fn insert(&mut self, start: u64, end: u64, number: u64, data: Fetching) {
        self.segments.insert(start, Segment { end, data, number });
    }

    /// Fetch `number` read `start..end` while somebody writes: what was fetched there before it may be older.
    pub fn drop_older(&mut self, start: u64, end: u64, number: u64) {
        self.segments.retain(|at, segment| segment.end <= start || end <= *at || segment.number >= number);
    }

    /// The segment that holds all of `start..end`, and where it starts.
    pub fn find(&self, start: u64, end: u64) -> Option<(u64, Fetching)> {
        let (at, segment) = self.segments.range(..=start).next_back()?;
        (end <= segment.end).then(|| (*at, segment.data.clone()))
    }

    pub fn drop_range(&mut self, start: u64, end: u64) {
        self.segments.retain(|at, segment| segment.end <= start || end <= *at);
    }

    /// Forget the bytes, keep the notion of the stream.
    pub fn clear(&mut self) {
        self.segments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn nothing() -> Fetching {
        futures::future::pending().boxed().shared()
    }

    #[test]
    fn a_stream_is_seen_at_its_second_read_and_the_window_doubles_to_the_limit() {
        let mut ahead = ReadAhead::default();
        let mib = 1 << 20;
        assert_eq!(ahead.note(0, mib, 16 * mib), 0);
        assert_eq!(ahead.note(mib, 2 * mib, 16 * mib), 4 * mib);
        assert_eq!(ahead.note(2 * mib, 3 * mib, 16 * mib), 7 * mib);
        assert_eq!((3..9).map(|at| ahead.note(at * mib, (at + 1) * mib, 16 * mib)).last(), Some(25 * mib));
    }

    #[test]
    fn a_jump_ends_the_stream_and_forgets_its_bytes() {
        let mut ahead = ReadAhead::default();
        ahead.note(0, 10, 1 << 24);
        ahead.insert(0, 10, 1, nothing());
        assert_eq!(ahead.note(1 << 30, (1 << 30) + 10, 1 << 24), 0);
        assert!(ahead.find(0, 10).is_none());
    }

    #[test]
    fn what_was_fetched_before_a_later_fetch_of_the_same_place_is_dropped() {
        let mut ahead = ReadAhead::default();
        ahead.insert(0, SEGMENT_BYTES, 3, nothing());
        ahead.insert(SEGMENT_BYTES, 2 * SEGMENT_BYTES, 5, nothing());
        ahead.drop_older(0, 2 * SEGMENT_BYTES, 3);
        assert!(ahead.find(0, 1).is_some());
        ahead.drop_older(SEGMENT_BYTES, 2 * SEGMENT_BYTES, 4);
        ahead.drop_older(0, 1, 4);
        assert!(ahead.find(0, 1).is_none() && ahead.find(SEGMENT_BYTES, SEGMENT_BYTES + 1).is_some());
    }

    #[test]
    fn only_missing_segments_are_named_and_a_short_tail_is_fetched_again_after_growth() {
        let mut ahead = ReadAhead::default();
        ahead.insert(0, SEGMENT_BYTES, 1, nothing());
        ahead.insert(SEGMENT_BYTES, SEGMENT_BYTES + 5, 2, nothing());
        assert_eq!(ahead.missing(0, 2 * SEGMENT_BYTES, SEGMENT_BYTES + 5), []);
        assert_eq!(ahead.missing(0, 2 * SEGMENT_BYTES, SEGMENT_BYTES + 9), [(SEGMENT_BYTES, SEGMENT_BYTES + 9)]);
        ahead.drop_range(3, 4);
        assert_eq!(ahead.missing(0, SEGMENT_BYTES, 9 * SEGMENT_BYTES), [(0, SEGMENT_BYTES)]);
    }
}
