//! Cutting a chunk's end off, durably. Not atomic: a crash may leave some blocks; the trim is then asked for again.

use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Error, Result};

use crate::counters::add;
use crate::slot::Slot;
use crate::types::{ChunkRef, Fill, Sender};

impl Slot {
    /// Every byte from `length` on reads as zero: a hole to the end, made durable.
    pub fn trim(self: &Arc<Slot>, chunk: ChunkRef, length: u32) -> Result<u32> {
        if u64::from(length) > CHUNK_BYTES {
            let message = format!("cannot trim chunk {} at {length}, beyond its {CHUNK_BYTES} bytes", chunk.id);
            return Err(Error::namespace(libc::EINVAL, message));
        }
        add(&self.counting().trims, 1);
        self.fill(chunk, Sender::default(), length, CHUNK_BYTES as u32 - length, Fill::Hole)?;
        self.sync()?;
        Ok(self.stored_bytes())
    }
}
