//! Where each entry of the log lies, and the newest entries themselves. In memory; no I/O.
//! Invariants: entries are consecutive and start right after `purged`; an entry without a place on disk is always in
//! memory.

use std::collections::VecDeque;

use crate::types::{Entry, LogId, log_id, term_of};

/// Bytes of recent entries kept in memory: what followers and the state machine are about to read.
const CACHE_BYTES: usize = 32 << 20;

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
    /// Of the record with its header.
    pub size: u32,
}

#[derive(Clone, Debug)]
pub struct Slot {
    pub term: u64,
    pub place: Option<Place>,
    pub entry: Option<Entry>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct Index {
    purged: Option<LogId>,
    /// Index of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    cached_bytes: usize,
    /// How many of the oldest slots are known to be out of memory.
    evicted: usize,
}

impl Index {
    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub fn first(&self) -> u64 {
        self.base
    }

    pub fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| log_id(slot.term, self.next() - 1)).or(self.purged)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn get(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first())?).ok()?)
    }

    /// Add an entry that is not on disk yet; false for a hole.
    pub fn append(&mut self, entry: Entry, bytes: usize) -> bool {
        if self.slots.is_empty() && self.purged.is_none() {
            self.base = entry.log_id.index;
        }
        if entry.log_id.index != self.next() {
            return false;
        }
        self.cached_bytes += bytes;
        self.slots.push_back(Slot { term: term_of(&entry.log_id), place: None, entry: Some(entry), bytes });
        self.evict();
        true
    }

    /// Add an entry found on disk; false for a hole. The first one found may have any index: what was before it is
    /// judged when all is read.
    pub fn load(&mut self, id: LogId, place: Place) -> bool {
        // An entry at an index that is there replaces it and all after it.
        self.truncate(id.index.checked_sub(1));
        if self.slots.is_empty() {
            self.base = id.index;
        }
        if id.index != self.next() {
            return false;
        }
        self.slots.push_back(Slot { term: term_of(&id), place: Some(place), entry: None, bytes: 0 });
        true
    }

    /// All records were read, and `purge` is the last word on what was compacted; false when entries are missing.
    pub fn loaded(&mut self, purge: Option<LogId>) -> bool {
        let known_from = purge.map_or(0, |id| id.index + 1);
        let complete = self.slots.is_empty() || self.base <= known_from;
        if let Some(upto) = purge {
            self.purge(upto);
        }
        complete
    }

    /// The writer put an entry on disk.
    pub fn placed(&mut self, id: LogId, place: Place) {
        let first = self.first();
        let slot = id.index.checked_sub(first).and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = slot
            && slot.term == term_of(&id)
            && slot.place.is_none()
        {
            slot.place = Some(place);
        }
    }

    /// Drop what comes after `last`; everything with `None`.
    pub fn truncate(&mut self, last: Option<u64>) {
        let keep = last.map_or(0, |last| (last + 1).saturating_sub(self.first())) as usize;
        while self.slots.len() > keep {
            if let Some(slot) = self.slots.pop_back() {
                self.cached_bytes -= slot.bytes;
            }
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    /// Drop everything up to `upto`; the log may end before it.
    pub fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index > upto.index) {
            return;
        }
        while self.base <= upto.index {
            let Some(slot) = self.slots.pop_front() else { break };
            self.cached_bytes -= slot.bytes;
            self.evicted = self.evicted.saturating_sub(1);
            self.base += 1;
        }
        if self.slots.is_empty() {
            self.base = upto.index + 1;
        }
        self.purged = Some(upto);
    }

    fn evict(&mut self) {
        while self.cached_bytes > CACHE_BYTES {
            let Some(slot) = self.slots.get_mut(self.evicted) else { return };
            if slot.place.is_none() {
                return;
            }
            self.cached_bytes -= slot.bytes;
            (slot.bytes, slot.entry) = (0, None);
            self.evicted += 1;
        }
    }
}
