//! Verifying stored chunks in the background, from the disk and not from the page cache.

use std::sync::Arc;

use base::Buffer;
use base::Result;
use base::crc::crc32c;
use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK};
use rustix::fs::Advice;

use crate::counters::add;
use crate::layout::{BlockState, Entry};
use crate::slot::{Slot, missing, read_up_to};
use crate::types::BadBlock;

/// Blocks read at once: 1 MiB.
const STEP_BLOCKS: usize = 256;

/// What one step over a chunk did.
pub(crate) struct Step {
    pub bytes: u64,
    /// Where to go on; None at the chunk's end.
    pub next: Option<usize>,
    pub bad: Vec<BadBlock>,
}

impl Slot {
    /// Verify up to `STEP_BLOCKS` blocks from `from` on. Unsynced blocks are left to a later round.
    pub(crate) fn scrub(self: &Arc<Slot>, from: usize) -> Result<Step> {
        let state = self.read_state()?;
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        let Some(first) = (from..BLOCKS_PER_CHUNK).find(|&block| !loaded.table.is_absent(block)) else {
            return Ok(Step { bytes: 0, next: None, bad: Vec::new() });
        };
        let end = (first + STEP_BLOCKS).min(BLOCKS_PER_CHUNK);
        let mut data = Buffer::take((end - first) * BLOCK_BYTES);
        let offset = (first * BLOCK_BYTES) as u64;
        let file = match loaded.files.direct(self) {
            Some(direct) => direct,
            None => {
                // Advice only: without it the page cache is verified instead of the disk.
                loaded.files.data.advise(offset, data.len() as u64, Advice::DontNeed);
                &loaded.files.data
            }
        };
        let read = read_up_to(file, &mut data, offset).unwrap_or(0);
        data[read..].fill(0);
        let mut step =
            Step { bytes: data.len() as u64, next: Some(end).filter(|&end| end < BLOCKS_PER_CHUNK), bad: Vec::new() };
        for (block, bytes) in (first..end).zip(data.chunks_exact_mut(BLOCK_BYTES)) {
            let entry = loaded.table.get(block);
            match entry {
                Entry::Good(BlockState::Stable, crc) if crc32c(bytes) == crc => continue,
                Entry::Good(BlockState::Stable, _) | Entry::Wrong => {}
                Entry::Good(..) => continue,
            }
            // Once more and block by block: a bad sector must not condemn its neighbours.
            let again = self
                .read_blocks(&loaded.files, bytes, block)
                .and_then(|()| self.check_block(&loaded.files, bytes, block, entry));
            if let Err(error) = again {
                let offset = (block * BLOCK_BYTES) as u32;
                step.bad.push(BadBlock { chunk: self.chunk(), offset, reason: error.message });
            }
        }
        add(&self.counting().scrubbed_bytes, step.bytes);
        Ok(step)
    }
}
