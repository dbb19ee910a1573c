//! Reading whole blocks, each verified against its entry before it leaves.

use std::sync::Arc;

use base::crc::crc32c;
use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Buffer, Error, Result};
use rustix::fs::Advice;

use crate::counters::add;
use crate::layout::{BlockState, Entry};
use crate::slot::{Files, Slot, missing, read_up_to};
use crate::types::{BlockRead, ChunkMap, ChunkRef};
use crate::write::{MIN_DIRECT_BYTES, blocks_of, check_span};

/// How far the kernel is asked to read ahead.
const AHEAD_BYTES: u64 = 2 << 20;

impl Slot {
    pub fn read(self: &Arc<Slot>, chunk: ChunkRef, offset: u32, length: u32) -> Result<BlockRead> {
        check_span(chunk.id, offset, length as usize)?;
        let state = self.read_state()?;
        self.check_version(chunk)?;
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        let blocks = blocks_of(offset, length as usize);
        let mut data = Buffer::take(blocks.len() * BLOCK_BYTES);
        let mut crcs = Vec::with_capacity(blocks.len() * 4);
        let mut present = blocks.clone().filter(|&block| !loaded.table.is_absent(block));
        if let Some(first) = present.next() {
            let last = present.next_back().unwrap_or(first);
            let span = (first - blocks.start) * BLOCK_BYTES..(last + 1 - blocks.start) * BLOCK_BYTES;
            self.read_blocks(&loaded.files, &mut data[span], first)?;
            if !self.reads_direct(length as usize) {
                self.read_ahead(&loaded.files, blocks.end);
            }
        }
        for (block, bytes) in blocks.clone().zip(data.chunks_exact_mut(BLOCK_BYTES)) {
            let crc = match loaded.table.get(block) {
                Entry::Good(BlockState::Absent, _) => {
                    bytes.fill(0);
                    zero_crc()
                }
                entry => self.check_block(&loaded.files, bytes, block, entry)?,
            };
            crcs.extend_from_slice(&crc.to_le_bytes());
        }
        let counting = self.counting();
        add(&counting.reads, 1);
        add(&counting.read_bytes, data.len() as u64);
        Ok(BlockRead {
            offset: (blocks.start * BLOCK_BYTES) as u32,
            data,
            crcs,
            version: self.version(),
            stored_bytes: loaded.table.present() * BLOCK_BYTES as u32,
        })
    }

    /// Fill `buffer` from block `first` on; what lies behind the end of the file stays as it is and fails its check.
    pub(crate) fn read_blocks(&self, files: &Files, buffer: &mut [u8], first: usize) -> Result<()> {
        let offset = (first * BLOCK_BYTES) as u64;
        // Whatever direct I/O does not like, a file that ends within a block for one, the page cache takes.
        let past_cache = if self.reads_direct(buffer.len()) { files.direct(self) } else { None };
        let read = match past_cache.map(|direct| read_up_to(direct, buffer, offset)) {
            Some(Ok(count)) => Ok(count),
            Some(Err(_)) | None => read_up_to(&files.data, buffer, offset),
        };
        match read {
            Ok(count) => {
                buffer[count..].fill(0);
                Ok(())
            }
            // One bad sector does not fail a disk for writing; the copy is bad, and another one answers.
            Err(error) => {
                add(&self.counting().bad_blocks, 1);
                let offset = first * BLOCK_BYTES;
                Err(Error::integrity(format!(
                    "chunk {} cannot be read at {offset} ({error}) on disk {}; read another copy",
                    self.id,
                    self.disk.path.display()
                )))
            }
        }
    }

    /// Long reads bypass the page cache where that pays: a third of the processor time, and nothing is evicted for bytes
    /// that are read once.
    fn reads_direct(&self, length: usize) -> bool {
        length >= MIN_DIRECT_BYTES && self.disk.probe.reads
    }

    /// Check a block just read and give its CRC. A mismatch is looked at once more, past the page cache: what a cache
    /// has wrong is no rot.
    pub(crate) fn check_block(&self, files: &Files, bytes: &mut [u8], block: usize, entry: Entry) -> Result<u32> {
        let why = match entry {
            Entry::Good(_, crc) if crc32c(bytes) == crc => return Ok(crc),
            Entry::Good(_, crc) => {
                let at = (block * BLOCK_BYTES) as u64;
                // Advice only: where it fails, the same bytes come again.
                files.data.advise(at, BLOCK_BYTES as u64, Advice::DontNeed);
                if read_up_to(&files.data, bytes, at).is_ok_and(|count| count == BLOCK_BYTES) && crc32c(bytes) == crc {
                    return Ok(crc);
                }
                "does not match its checksum"
            }
            Entry::Wrong => "has a checksum entry that is not its own",
        };
        add(&self.counting().bad_blocks, 1);
        let offset = block * BLOCK_BYTES;
        Err(Error::integrity(format!(
            "chunk {} block at {offset} {why} on disk {}; read another copy and replace this one",
            self.id,
            self.disk.path.display()
        )))
    }

    fn read_ahead(&self, files: &Files, block: usize) {
        let from = (block * BLOCK_BYTES) as u64;
        if from < CHUNK_BYTES {
            // Advice only: without it the read is slower, not wrong.
            files.data.advise(from, AHEAD_BYTES.min(CHUNK_BYTES - from), Advice::WillNeed);
        }
    }

    pub fn map(self: &Arc<Slot>, chunk: ChunkRef) -> Result<ChunkMap> {
        let state = self.read_state()?;
        self.check_version(chunk)?;
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        let (present, digest) = loaded.table.map();
        Ok(ChunkMap { version: self.version(), present, digest })
    }
}

/// CRC of an absent block.
pub(crate) fn zero_crc() -> u32 {
    static CRC: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| crc32c(&[0; BLOCK_BYTES]));
    *CRC
}
