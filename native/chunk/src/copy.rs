//! A chunk being copied here: written block by block, seen by nobody until it is whole and durable.

use std::sync::Arc;

use base::Result;

use crate::counters::add;
use crate::slot::Slot;
use crate::store::Inner;
use crate::types::{ChunkRef, Sender};
use crate::write::{check_span, verify};

/// Replaces whatever this server has of the chunk when it is finished; discarded when it is dropped before.
pub struct Copy {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    chunk: ChunkRef,
    finished: bool,
}

impl Copy {
    pub(crate) fn new(inner: Arc<Inner>, slot: Arc<Slot>, chunk: ChunkRef) -> Copy {
        Copy { inner, slot, chunk, finished: false }
    }

    /// Put `data` at `offset`, its pieces' CRCs checked first. Not synced.
    pub fn write(&self, offset: u32, data: &[u8], crcs: &[u8]) -> Result<u32> {
        check_span(self.chunk.id, offset, data.len())?;
        verify(self.chunk.id, offset, data, crcs)?;
        self.slot.write(self.chunk, Sender::default(), offset, data, crcs)
    }

    /// Make the copy durable, then visible at its version, then free what it replaces. ESTALE when the chunk moved on
    /// to a newer version meanwhile.
    pub fn finish(mut self) -> Result<u32> {
        self.inner.check_newest(self.chunk)?;
        self.slot.publish()?;
        if let Some(held) = self.inner.find(self.chunk.id) {
            self.slot.rounds.take_over(&held.rounds);
        }
        let replaced = self.inner.install(&self.slot, self.chunk)?;
        self.finished = true;
        add(&self.slot.counting().copied, 1);
        if let Some(replaced) = replaced
            && let Err(error) = replaced.free()
        {
            tracing::warn!(chunk = self.chunk.id, "the replaced copy stays until the next start: {error}");
        }
        Ok(self.slot.stored_bytes())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.slot.free()
        {
            tracing::warn!(chunk = self.chunk.id, "a discarded copy keeps its slot until the next start: {error}");
        }
    }
}
