//! Cutting a chunk's end off, durably. Not atomic: a crash may leave some blocks; the trim is then asked for again.

use std::sync::Arc;

use base::crc::piece_crcs;
use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK, CHUNK_BYTES};
use base::{Error, Result};

use crate::counters::add;
use crate::slot::Slot;
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
        {
            // A sync under way could count blocks as stable that are about to go.
            let _one = self.lock_syncs();
            let mut control = self.control()?;
            self.check_version(chunk)?;
            self.forget(&mut control, (length as usize).div_ceil(BLOCK_BYTES)..BLOCKS_PER_CHUNK)?;
        }
        self.sync()?;
        Ok(self.stored_bytes())
    }
}
