//! Reading a table from disk and settling what a crash left pending. It reads; its caller writes the result.
//!
//! | entry on disk | data matches | data differs |
//! |---|---|---|
//! | stable | stable | rot: EBADMSG when read |
//! | pending fresh | stable | absent: the write was never synced |
//! | pending overwrite | stable | stable with the CRC of what is there: old and new sectors of an unsynced write |
//! | pending overwrite | | behind the end of the file: rot |
//! | wrong or zero, page known to be on disk | | rot: EBADMSG when read |
//! | wrong or zero, page never synced | | absent: left by the slot's chunk before |

use std::io;

use base::Buffer;
use base::crc::crc32c;
use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK};

use crate::layout::{AREA_BYTES, BlockState, Entry, Header, PAGE_ENTRIES, entry_offset};
use crate::slot::{Files, read_up_to};
use crate::table::{Table, wrong_word};

pub(crate) struct Recovered {
    pub table: Table,
    /// Pages that must be written again, by bit.
    pub changed_pages: u32,
    pub whole: u64,
    pub absent: u64,
    pub torn: u64,
}

/// What a pending block turns into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Whole,
    Absent,
    Torn(u32),
    /// An overwritten block that is not there at all: it was on disk once, so this is rot.
    Lost,
}

/// The crash rule. `found` is the CRC of the block's bytes, None when the file ends before it.
pub(crate) fn settle(state: BlockState, crc: u32, found: Option<u32>) -> Settled {
    match (state, found) {
        (_, Some(found)) if found == crc => Settled::Whole,
        (BlockState::Overwrite, Some(found)) => Settled::Torn(found),
        (BlockState::Overwrite, None) => Settled::Lost,
        _ => Settled::Absent,
    }
}

pub(crate) fn read_table(header: &Header, files: &Files) -> io::Result<Recovered> {
    let mut raw = Buffer::zeroed(AREA_BYTES as usize);
    read_up_to(&files.sums, &mut raw, entry_offset(header.area, 0))?;
    let key = header.key();
    let mut block = Buffer::take(BLOCK_BYTES);
    let mut recovered = Recovered { table: Table::new(key), changed_pages: 0, whole: 0, absent: 0, torn: 0 };
    let words = raw.chunks_exact(8).map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i])));
    for (index, word) in words.enumerate().take(BLOCKS_PER_CHUNK) {
        let page = index / PAGE_ENTRIES;
        let durable = header.pages & 1 << page != 0;
        let state = match key.decode(index, word) {
            Entry::Wrong if durable => {
                recovered.table.set_wrong(index, word);
                continue;
            }
            Entry::Wrong | Entry::Good(BlockState::Absent, _) => continue,
            Entry::Good(BlockState::Stable, crc) => {
                recovered.table.set(index, BlockState::Stable, crc);
                continue;
            }
            Entry::Good(state, crc) => (state, crc),
        };
        recovered.changed_pages |= 1 << page;
        let found = match read_up_to(&files.data, &mut block, (index * BLOCK_BYTES) as u64) {
            Ok(BLOCK_BYTES) => Some(crc32c(&block)),
            Ok(_) => None,
            // An unreadable block stays wrong: readers get EBADMSG and take another copy.
            Err(_) => {
                recovered.table.set_wrong(index, wrong_word(key, index));
                continue;
            }
        };
        match settle(state.0, state.1, found) {
            Settled::Whole => {
                recovered.whole += 1;
                recovered.table.set(index, BlockState::Stable, state.1);
            }
            Settled::Torn(crc) => {
                recovered.torn += 1;
                recovered.table.set(index, BlockState::Stable, crc);
            }
            Settled::Lost => recovered.table.set_wrong(index, wrong_word(key, index)),
            Settled::Absent => {
                recovered.absent += 1;
                recovered.table.set(index, BlockState::Absent, 0);
            }
        }
    }
    // Pages with entries that the header does not know yet are written whole, so that nothing old stays in them.
    recovered.changed_pages |= recovered.table.touched() & !header.pages;
    Ok(recovered)
}
