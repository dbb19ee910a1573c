//! One chunk's table in memory: raw entries by page, and which pages differ from the disk. Pure: no I/O.
//!
//! Invariant: the raw words here are those the disk has or gets, so a flipped bit that was read from the disk stays
//! visible until the block is written again.

use base::crc::crc32c;
use base::limits::BLOCKS_PER_CHUNK;

use crate::layout::{BlockState, Entry, PAGE_BYTES, PAGE_ENTRIES, PAGES, TagKey};

pub type Page = Box<[u64; PAGE_ENTRIES]>;

pub struct Table {
    key: TagKey,
    pages: [Option<Page>; PAGES],
    /// Blocks that are not absent, wrong ones included.
    present: u32,
    /// Pages that may hold pending entries, by bit.
    pending: u32,
}

impl Table {
    pub fn new(key: TagKey) -> Table {
        Table { key, pages: [const { None }; PAGES], present: 0, pending: 0 }
    }

    pub fn present(&self) -> u32 {
        self.present
    }

    pub fn has_pending(&self) -> bool {
        self.pending != 0
    }

    pub fn get(&self, index: usize) -> Entry {
        match &self.pages[index / PAGE_ENTRIES] {
            Some(page) => self.key.decode(index, page[index % PAGE_ENTRIES]),
            None => Entry::Good(BlockState::Absent, 0),
        }
    }

    pub fn is_absent(&self, index: usize) -> bool {
        self.get(index) == Entry::Good(BlockState::Absent, 0)
    }

    /// The word that `set` would store.
    pub fn raw_for(&self, index: usize, state: BlockState, crc: u32) -> u64 {
        self.key.encode(index, state, crc)
    }

    pub fn set(&mut self, index: usize, state: BlockState, crc: u32) {
        let was = !self.is_absent(index);
        let is = state != BlockState::Absent;
        let raw = self.key.encode(index, state, crc);
        self.page_mut(index / PAGE_ENTRIES)[index % PAGE_ENTRIES] = raw;
        self.present = self.present + u32::from(is) - u32::from(was);
        if matches!(state, BlockState::Fresh | BlockState::Overwrite) {
            self.pending |= 1 << (index / PAGE_ENTRIES);
        }
    }

    /// Keep a word as it came from the disk, for a block whose entry is wrong.
    pub fn set_wrong(&mut self, index: usize, raw: u64) {
        let was = !self.is_absent(index);
        self.page_mut(index / PAGE_ENTRIES)[index % PAGE_ENTRIES] = raw;
        self.present = self.present + 1 - u32::from(was);
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        let key = self.key;
        self.pages[page].get_or_insert_with(|| {
            Box::new(std::array::from_fn(|i| key.encode(page * PAGE_ENTRIES + i, BlockState::Absent, 0)))
        })
    }

    /// The page as the disk gets it; an untouched one says that all its blocks are absent.
    pub fn page_bytes(&mut self, page: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        for word in self.page_mut(page).iter() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Pages with any entry ever set, by bit.
    pub fn touched(&self) -> u32 {
        (0..PAGES).filter(|&page| self.pages[page].is_some()).fold(0, |bits, page| bits | 1 << page)
    }

    /// Pending entries become stable; returns the pages that changed, by bit.
    pub fn settle_pending(&mut self) -> u32 {
        let changed = std::mem::take(&mut self.pending);
        for page in (0..PAGES).filter(|page| changed & 1 << page != 0) {
            let key = self.key;
            let Some(words) = &mut self.pages[page] else { continue };
            for (i, word) in words.iter_mut().enumerate() {
                let index = page * PAGE_ENTRIES + i;
                if let Entry::Good(BlockState::Fresh | BlockState::Overwrite, crc) = key.decode(index, *word) {
                    *word = key.encode(index, BlockState::Stable, crc);
                }
            }
        }
        changed
    }

    /// The same blocks under another key. Wrong entries stay wrong.
    pub fn retagged(&self, key: TagKey) -> Table {
        let mut table = Table::new(key);
        for index in self.present_blocks() {
            match self.get(index) {
                Entry::Good(state, crc) => table.set(index, state, crc),
                Entry::Wrong => table.set_wrong(index, wrong_word(key, index)),
            }
        }
        table
    }

    /// Indexes of the blocks that are not absent, in order.
    pub fn present_blocks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..BLOCKS_PER_CHUNK)
            .filter(|index| self.pages[index / PAGE_ENTRIES].is_some())
            .filter(|&index| !self.is_absent(index))
    }

    /// Bitmap of present blocks, least significant bit first, and the digest of the chunk map.
    pub fn map(&self) -> (Vec<u8>, u32) {
        let mut bitmap = Vec::new();
        let mut listed = Vec::with_capacity(self.present as usize * 8);
        for index in self.present_blocks() {
            bitmap.resize(index / 8 + 1, 0);
            bitmap[index / 8] |= 1 << (index % 8);
            let crc = match self.get(index) {
                Entry::Good(_, crc) => crc,
                Entry::Wrong => 0,
            };
            listed.extend_from_slice(&(index as u32).to_le_bytes());
            listed.extend_from_slice(&crc.to_le_bytes());
        }
        (bitmap, crc32c(&listed))
    }
}

/// A word that no key of this chunk accepts at `index`.
pub fn wrong_word(key: TagKey, index: usize) -> u64 {
    key.encode(index, BlockState::Stable, 0) ^ 1
}
