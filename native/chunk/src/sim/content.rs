//! The bytes of one file, in sparse pages that are shared until they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const PAGE_BYTES: usize = 4096;

type Page = Arc<[u8; PAGE_BYTES]>;

#[derive(Clone, Default)]
pub(crate) struct Content {
    pages: BTreeMap<u64, Page>,
    length: u64,
}

/// One thing done to a file's bytes.
#[derive(Clone)]
pub(crate) enum Change {
    Write(u64, Arc<[u8]>),
    Truncate(u64),
    /// From here, so many bytes; the length stays.
    Hole(u64, u64),
}

/// Pages that `length` bytes at `offset` touch.
fn pages_of(offset: u64, length: u64) -> std::ops::Range<u64> {
    let page = PAGE_BYTES as u64;
    offset / page..(offset + length).div_ceil(page)
}

impl Content {
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn allocated_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Bytes that such a write would allocate.
    pub fn new_bytes(&self, offset: u64, length: usize) -> u64 {
        let missing = pages_of(offset, length as u64).filter(|page| !self.pages.contains_key(page));
        (missing.count() * PAGE_BYTES) as u64
    }

    /// Fill what the file has of the buffer; how much that is.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let (page, within) = place(offset + done as u64);
            let step = (PAGE_BYTES - within).min(count - done);
            match self.pages.get(&page) {
                Some(bytes) => buffer[done..done + step].copy_from_slice(&bytes[within..within + step]),
                None => buffer[done..done + step].fill(0),
            }
            done += step;
        }
        count
    }

    pub fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = place(offset + done as u64);
            let step = (PAGE_BYTES - within).min(bytes.len() - done);
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + step].copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    pub fn truncate(&mut self, length: u64) {
        if length < self.length {
            self.punch(length, self.length - length);
        }
        self.length = length;
    }

    /// Zero a range; whole pages of it are given back.
    pub fn punch(&mut self, from: u64, length: u64) {
        let end = from.saturating_add(length);
        let touched: Vec<u64> = self.pages.range(pages_of(from, length)).map(|(page, _)| *page).collect();
        for page in touched {
            let start = page * PAGE_BYTES as u64;
            let first = from.saturating_sub(start) as usize;
            let last = (end - start).min(PAGE_BYTES as u64) as usize;
            // What lies behind the end of the file is nothing that a page must keep.
            if first == 0 && (last == PAGE_BYTES || end >= self.length) {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                Arc::make_mut(bytes)[first..last].fill(0);
            }
        }
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, bytes) => self.write(bytes, *offset),
            Change::Truncate(length) => self.truncate(*length),
            Change::Hole(from, length) => self.punch(*from, *length),
        }
    }

    /// `apply` where `newer` has the outcome already: its pages are shared.
    pub fn follow(&mut self, change: &Change, newer: &Content) {
        if let Change::Write(offset, bytes) = change {
            for page in pages_of(*offset, bytes.len() as u64) {
                if let Some(bytes) = newer.pages.get(&page) {
                    self.pages.insert(page, bytes.clone());
                }
            }
            self.length = newer.length;
        } else {
            *self = newer.clone();
        }
    }

    /// Flip a bit; whether there is such a byte.
    pub fn flip(&mut self, offset: u64) -> bool {
        let (page, within) = place(offset);
        match self.pages.get_mut(&page) {
            Some(bytes) if offset < self.length => {
                Arc::make_mut(bytes)[within] ^= 0x10;
                true
            }
            _ => false,
        }
    }

    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (*page, bytes.as_slice()))
    }
}

/// Page and place in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}
