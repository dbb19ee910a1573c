//! Spans without bytes that a writer sends: holes, and zeros that take space. Ordered with writes, as these are: by the
//! writer's lock, by versions and by rounds. Not atomic: after a crash that comes before a sync, part of it may be done.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Result;
use base::crc::piece_crcs;
use base::limits::BLOCK_BYTES;

use crate::layout::{BlockState, PAGE_ENTRIES};
use crate::slot::{Control, Slot, missing};
use crate::types::{ChunkRef, Fill, Sender};
use crate::write::blocks_of;

impl Slot {
    /// Fill `length` bytes at `offset`. Returns the bytes that the chunk then stores.
    pub fn fill(
        self: &Arc<Slot>,
        chunk: ChunkRef,
        sender: Sender,
        offset: u32,
        length: u32,
        fill: Fill,
    ) -> Result<u32> {
        self.disk.check_writable()?;
        loop {
            // A sync under way could count blocks as stable that are about to go.
            let one = self.lock_syncs();
            let mut control = self.control()?;
            self.check_write(chunk, sender)?;
            if self.version() < chunk.version {
                drop(control);
                drop(one);
                self.advance(chunk.version)?;
                continue;
            }
            // Also when it fails from here on: then nobody knows how much of it is done.
            self.rounds.note(sender);
            match fill {
                Fill::Hole => self.make_hole(&mut control, sender, offset as usize, (offset + length) as usize)?,
                Fill::Promise => self.promise(&mut control, sender, blocks_of(offset, length as usize))?,
            }
            // Also where nothing was to do: the chunk is here.
            self.set_born();
            return Ok(self.stored_bytes());
        }
    }

    fn make_hole(&self, control: &mut Control, sender: Sender, start: usize, end: usize) -> Result<()> {
        // Whole blocks between up to two parts of blocks.
        let first = end.min(start.next_multiple_of(BLOCK_BYTES));
        let last = first.max(end / BLOCK_BYTES * BLOCK_BYTES);
        self.zero_part(control, sender, start..first)?;
        self.zero_part(control, sender, last..end)?;
        if first < last { self.forget(control, first / BLOCK_BYTES..last / BLOCK_BYTES) } else { Ok(()) }
    }

    /// Bytes of one block; one that nobody wrote stays so.
    fn zero_part(&self, control: &mut Control, sender: Sender, bytes: Range<usize>) -> Result<()> {
        let absent = |block: usize| self.state().read().as_ref().is_none_or(|loaded| loaded.table.is_absent(block));
        if bytes.is_empty() || absent(bytes.start / BLOCK_BYTES) {
            return Ok(());
        }
        let (files, zeros) = (self.files()?, vec![0; bytes.len()]);
        let plan = self.plan(&files, bytes.start as u32, &zeros, &piece_crcs(bytes.start, &zeros))?;
        self.put(control, &files, sender, &plan)
    }

    fn promise(&self, control: &mut Control, sender: Sender, blocks: Range<usize>) -> Result<()> {
        let mut at = blocks.start;
        while at < blocks.end {
            let absent = {
                let state = self.state().read();
                let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
                let Some(first) = (at..blocks.end).find(|block| loaded.table.is_absent(*block)) else { break };
                first..(first..blocks.end).find(|block| !loaded.table.is_absent(*block)).unwrap_or(blocks.end)
            };
            at = absent.end;
            self.put(control, &*self.files()?, sender, &self.plan_zeros(absent)?)?;
        }
        Ok(())
    }

    /// Make blocks absent, durably, and give their space back. The caller keeps syncs out.
    fn forget(&self, control: &mut Control, blocks: Range<usize>) -> Result<()> {
        let (files, pages) = {
            let mut state = self.state().write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            let gone: Vec<usize> = blocks.clone().filter(|&block| !loaded.table.is_absent(block)).collect();
            let pages = gone.iter().fold(0u32, |pages, block| pages | 1 << (block / PAGE_ENTRIES));
            for block in gone {
                loaded.table.set(block, BlockState::Absent, 0);
            }
            self.present.store(loaded.table.present(), Ordering::Relaxed);
            let files = loaded.files.clone();
            self.write_pages(control, &mut loaded.table, &files, pages)?;
            (files, pages)
        };
        if pages != 0 {
            // The entries first: a hole under a present block would be rot.
            self.barrier(control, &files)?;
            let (from, length) = (blocks.start * BLOCK_BYTES, blocks.len() * BLOCK_BYTES);
            files.data.punch_hole(from as u64, length as u64).map_err(|error| self.data_error(&error))?;
        }
        Ok(())
    }
}
