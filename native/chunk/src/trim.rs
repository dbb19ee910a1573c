//! Cutting a chunk's end off, durably. Not atomic: a crash may leave some blocks; the trim is then asked for again.

use std::sync::Arc;

use base::crc::piece_crcs;
use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK, CHUNK_BYTES};
use base::{Error, Result};

use crate::counters::add;
use crate::fs::FileHandle;
use crate::layout::{BlockState, PAGE_ENTRIES};
use crate::slot::{Slot, missing};
use crate::types::{ChunkRef, Sender};

impl Slot {
    /// Every byte from `length` on reads as zero.
    pub fn trim(self: &Arc<Slot>, chunk: ChunkRef, length: u32) -> Result<u32> {
        if u64::from(length) > CHUNK_BYTES {
            let message = format!("cannot trim chunk {} at {length}, beyond its {CHUNK_BYTES} bytes", chunk.id);
            return Err(Error::namespace(libc::EINVAL, message));
        }
        self.disk.check_writable()?;
        add(&self.counting().trims, 1);
        self.advance(chunk.version)?;
        let within = length as usize % BLOCK_BYTES;
        let cut = length as usize / BLOCK_BYTES;
        if within != 0 && !self.read_state()?.as_ref().is_none_or(|loaded| loaded.table.is_absent(cut)) {
            let zeros = vec![0; BLOCK_BYTES - within];
            self.write(chunk, Sender::default(), length, &zeros, &piece_crcs(length as usize, &zeros))?;
        }
        self.forget_from(chunk, (length as usize).div_ceil(BLOCK_BYTES))?;
        self.sync()?;
        Ok(self.stored_bytes())
    }

    /// Make all blocks from `first` on absent, durably, and give their space back.
    fn forget_from(self: &Arc<Slot>, chunk: ChunkRef, first: usize) -> Result<()> {
        // A sync under way could count blocks as stable that are about to go.
        let _one = self.lock_syncs();
        let mut control = self.control()?;
        self.check_version(chunk)?;
        let (files, pages) = {
            let mut state = self.state().write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            let gone: Vec<usize> = loaded.table.present_blocks().filter(|&block| block >= first).collect();
            let pages = gone.iter().fold(0u32, |pages, block| pages | 1 << (block / PAGE_ENTRIES));
            for block in gone {
                loaded.table.set(block, BlockState::Absent, 0);
            }
            self.present.store(loaded.table.present(), std::sync::atomic::Ordering::Relaxed);
            let files = loaded.files.clone();
            self.write_pages(&mut control, &mut loaded.table, &files, pages)?;
            (files, pages)
        };
        if pages != 0 {
            // The entries first: a hole under a present block would be rot.
            self.barrier(&mut control, &files)?;
            self.punch(&files.data, first)?;
        }
        Ok(())
    }

    fn punch(&self, data: &FileHandle, first: usize) -> Result<()> {
        let from = (first * BLOCK_BYTES) as u64;
        let length = ((BLOCKS_PER_CHUNK - first) * BLOCK_BYTES) as u64;
        if length == 0 {
            return Ok(());
        }
        data.punch_hole(from, length).map_err(|error| self.data_error(&error))
    }
}
