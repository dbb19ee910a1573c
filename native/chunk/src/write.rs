//! Writing into a chunk: verify, compose whole blocks, order data against table, and put things right after a failure.
//!
//! Order. Blocks that were absent or unsynced: data, then entries, no sync. When a stable block is overwritten:
//! all entries of the write first (as pending overwrite, with the new CRCs), one table sync, then the data.

use std::ops::Range;
use std::sync::Arc;

use base::crc::{check_pieces, crc32c};
use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Buffer, Error, Result};

use crate::counters::add;
use crate::layout::{BlockState, Entry, PAGE_ENTRIES, entry_offset};
use crate::read::zero_crc;
use crate::slot::{Control, Files, Slot, missing, read_up_to};
use crate::types::{ChunkRef, Sender};

/// Shorter writes go through the page cache: they are merged there, and read back soon.
pub(crate) const MIN_DIRECT_BYTES: usize = 256 << 10;

/// Refuse a span outside the chunk.
pub(crate) fn check_span(chunk: u64, offset: u32, length: usize) -> Result<()> {
    if u64::from(offset) + length as u64 > CHUNK_BYTES {
        let message = format!("{length} bytes at {offset} reach beyond the {CHUNK_BYTES} bytes of chunk {chunk}");
        return Err(Error::namespace(libc::EINVAL, message));
    }
    Ok(())
}

/// Blocks that `length` bytes at `offset` touch.
pub(crate) fn blocks_of(offset: u32, length: usize) -> Range<usize> {
    let start = offset as usize;
    let end = if length == 0 { start / BLOCK_BYTES } else { (start + length).div_ceil(BLOCK_BYTES) };
    start / BLOCK_BYTES..end
}

/// Check the sender's CRCs before anything is touched.
pub(crate) fn verify(chunk: u64, offset: u32, data: &[u8], crcs: &[u8]) -> Result<()> {
    check_pieces(offset as usize, data, crcs).map_err(|at| {
        Error::integrity(format!(
            "chunk {chunk}: the data to write at {} does not match its checksum; send it again",
            offset as usize + at
        ))
    })
}

/// What the whole blocks of a write are made of.
enum Body<'a> {
    Bytes(&'a [u8]),
    /// So many bytes, which the file system makes by itself.
    Zeros(usize),
}

/// A write cut at block boundaries: up to one composed block before and behind the whole blocks of the data.
pub(crate) struct Plan<'a> {
    blocks: Range<usize>,
    head: Option<Buffer>,
    body: Body<'a>,
    tail: Option<Buffer>,
    /// New CRC and state of each block.
    entries: Vec<(BlockState, u32)>,
    /// A stable block is among them.
    overwrites: bool,
    /// An absent block is among them: the file system has to allocate.
    allocates: bool,
}

impl<'a> Plan<'a> {
    fn of(blocks: Range<usize>, body: Body<'a>) -> Plan<'a> {
        let entries = Vec::with_capacity(blocks.len());
        Plan { blocks, head: None, body, tail: None, entries, overwrites: false, allocates: false }
    }
}

impl Slot {
    /// Put verified `data` at `offset`; `crcs` as `piece_crcs` makes them.
    pub fn write(
        self: &Arc<Slot>,
        chunk: ChunkRef,
        sender: Sender,
        offset: u32,
        data: &[u8],
        crcs: &[u8],
    ) -> Result<u32> {
        self.disk.check_writable()?;
        let mut control = self.control()?;
        // Under the lock that orders all writes of the chunk: a round that is taken now is the latest.
        self.check_write(chunk, sender)?;
        while self.version() < chunk.version {
            drop(control);
            self.advance(chunk.version)?;
            control = self.control()?;
            self.check_write(chunk, sender)?;
        }
        if data.is_empty() {
            return Ok(self.stored_bytes());
        }
        let files = self.files()?;
        let plan = self.plan(&files, offset, data, crcs)?;
        self.put(&mut control, &files, sender, &plan)?;
        let counting = self.counting();
        add(&counting.writes, 1);
        add(&counting.write_bytes, data.len() as u64);
        Ok(self.stored_bytes())
    }

    /// Under the lock that orders all writes of the chunk.
    pub(crate) fn put(&self, control: &mut Control, files: &Files, sender: Sender, plan: &Plan) -> Result<()> {
        let allocated = (plan.blocks.len() * BLOCK_BYTES) as u64;
        let _room = plan.allocates.then(|| self.disk.claim(allocated)).transpose()?;
        // Also when it fails from here on: then nobody knows which of its bytes are here.
        self.rounds.note(sender);
        self.mark_dirty(control, files)?;
        self.carry_out(control, files, plan)?;
        self.set_born();
        Ok(())
    }

    pub(crate) fn check_write(&self, chunk: ChunkRef, sender: Sender) -> Result<()> {
        self.check_version(chunk)?;
        self.rounds.check(self.id, sender)
    }

    pub(crate) fn files(&self) -> Result<Arc<Files>> {
        self.state().read().as_ref().map(|loaded| loaded.files.clone()).ok_or_else(|| missing(self.id))
    }

    pub(crate) fn plan<'a>(&self, files: &Files, offset: u32, data: &'a [u8], crcs: &[u8]) -> Result<Plan<'a>> {
        let start = offset as usize;
        let end = start + data.len();
        let blocks = blocks_of(offset, data.len());
        let head_bytes = match start % BLOCK_BYTES {
            0 if data.len() >= BLOCK_BYTES => 0,
            within => data.len().min(BLOCK_BYTES - within),
        };
        let tail_bytes = if head_bytes == data.len() { 0 } else { end % BLOCK_BYTES };
        let (head, rest) = data.split_at(head_bytes);
        let (body, tail) = rest.split_at(rest.len() - tail_bytes);
        let compose = |block: usize, within: usize, part: &[u8]| -> Result<Option<Buffer>> {
            if part.is_empty() {
                return Ok(None);
            }
            let mut buffer = self.old_block(files, block)?;
            buffer[within..within + part.len()].copy_from_slice(part);
            Ok(Some(buffer))
        };
        let head = compose(blocks.start, start % BLOCK_BYTES, head)?;
        let tail = compose(blocks.end - 1, 0, tail)?;
        let last = blocks.end - 1;
        let crcs = blocks.clone().zip(crcs.chunks_exact(4)).map(|(block, crc)| match (&head, &tail) {
            (Some(head), _) if block == blocks.start => crc32c(head),
            (_, Some(tail)) if block == last => crc32c(tail),
            // A whole block's CRC was verified as it came: the same number is stored.
            _ => u32::from_le_bytes(std::array::from_fn(|i| crc[i])),
        });
        let crcs: Vec<u32> = crcs.collect();
        self.with_entries(Plan { head, tail, ..Plan::of(blocks, Body::Bytes(body)) }, crcs)
    }

    /// Zeros that take space in whole blocks.
    pub(crate) fn plan_zeros(&self, blocks: Range<usize>) -> Result<Plan<'static>> {
        let count = blocks.len();
        self.with_entries(Plan::of(blocks, Body::Zeros(count * BLOCK_BYTES)), vec![zero_crc(); count])
    }

    fn with_entries<'a>(&self, mut plan: Plan<'a>, crcs: Vec<u32>) -> Result<Plan<'a>> {
        let state = self.state().read();
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        for (block, crc) in plan.blocks.clone().zip(crcs) {
            let state = match loaded.table.get(block) {
                Entry::Good(BlockState::Absent, _) => {
                    plan.allocates = true;
                    BlockState::Fresh
                }
                Entry::Good(BlockState::Fresh, _) => BlockState::Fresh,
                Entry::Good(BlockState::Overwrite, _) => BlockState::Overwrite,
                Entry::Good(BlockState::Stable, _) | Entry::Wrong => {
                    plan.overwrites = true;
                    BlockState::Overwrite
                }
            };
            plan.entries.push((state, crc));
        }
        Ok(plan)
    }

    /// The block as it is now, verified; zeros when absent.
    fn old_block(&self, files: &Files, block: usize) -> Result<Buffer> {
        let state = self.state().read();
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        let mut buffer = Buffer::zeroed(BLOCK_BYTES);
        if !loaded.table.is_absent(block) {
            self.read_blocks(files, &mut buffer, block)?;
            let entry = loaded.table.get(block);
            self.check_block(files, &mut buffer, block, entry)?;
        }
        Ok(buffer)
    }

    fn carry_out(&self, control: &mut Control, files: &Files, plan: &Plan) -> Result<()> {
        if plan.overwrites {
            let put = self.put_entries(control, files, plan).and_then(|()| self.barrier(control, files));
            if let Err(error) = put {
                self.restore(control, files, plan);
                return Err(error);
            }
        }
        control.unsynced = true;
        let (written, was_absent) = {
            let mut state = self.state().write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            let was_absent: Vec<usize> = if plan.allocates {
                plan.blocks.clone().filter(|&block| loaded.table.is_absent(block)).collect()
            } else {
                Vec::new()
            };
            let written = self.put_plan(files, plan);
            if written.is_ok() {
                for (block, &(state, crc)) in plan.blocks.clone().zip(&plan.entries) {
                    loaded.table.set(block, state, crc);
                }
                self.present.store(loaded.table.present(), std::sync::atomic::Ordering::Relaxed);
            }
            (written, was_absent)
        };
        if let Err(error) = written {
            self.restore(control, files, plan);
            return Err(error);
        }
        if !plan.overwrites {
            let put = self.put_entries(control, files, plan);
            if let Err(error) = put {
                self.forget_new(control, files, plan, &was_absent);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Write the data where it belongs, the long aligned middle past the page cache.
    fn put_plan(&self, files: &Files, plan: &Plan) -> Result<()> {
        let put = |bytes: &[u8], block: usize| {
            self.put_data(&files.data, bytes, (block * BLOCK_BYTES) as u64).map_err(|error| self.data_error(&error))
        };
        let mut block = plan.blocks.start;
        if let Some(head) = &plan.head {
            put(head, block)?;
            block += 1;
        }
        match plan.body {
            Body::Bytes([]) => {}
            Body::Bytes(body) => self.put_body(files, body, block)?,
            Body::Zeros(count) => {
                let zeroed = self.put_zeros(&files.data, (block * BLOCK_BYTES) as u64, count as u64);
                zeroed.map_err(|error| self.data_error(&error))?;
            }
        }
        if let Some(tail) = &plan.tail {
            put(tail, plan.blocks.end - 1)?;
        }
        Ok(())
    }

    fn put_body(&self, files: &Files, body: &[u8], block: usize) -> Result<()> {
        let offset = (block * BLOCK_BYTES) as u64;
        if body.len() >= MIN_DIRECT_BYTES
            && self.disk.probe.wins
            && let Some(direct) = files.direct(self)
        {
            let aligned = (body.as_ptr() as usize).is_multiple_of(BLOCK_BYTES);
            let written = if aligned {
                self.put_data(direct, body, offset)
            } else {
                self.put_data(direct, &Buffer::copy_of(body), offset)
            };
            match written {
                // Some file systems refuse single direct writes; the page cache takes them.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => {
                    add(&self.counting().direct_bytes, body.len() as u64);
                    return other.map_err(|error| self.data_error(&error));
                }
            }
        }
        self.put_data(&files.data, body, offset).map_err(|error| self.data_error(&error))
    }

    /// Write the plan's entries to the disk's table: 8 bytes a block where the page is there, else whole pages.
    fn put_entries(&self, control: &mut Control, files: &Files, plan: &Plan) -> Result<()> {
        let state = self.state().read();
        let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
        let table = &loaded.table;
        let words =
            plan.blocks.clone().zip(&plan.entries).map(|(block, &(state, crc))| table.raw_for(block, state, crc));
        let words: Vec<u64> = words.collect();
        put_words(self, control, files, plan.blocks.start, &words, |block| table.raw_for(block, BlockState::Absent, 0))
    }

    /// After a failed write: memory still has the old entries. Blocks that were there before are looked at again, as
    /// the failed write may have reached some of them; then the disk's table gets what memory says.
    fn restore(&self, control: &mut Control, files: &Files, plan: &Plan) {
        let mut buffer = Buffer::take(BLOCK_BYTES);
        let mut state = self.state().write();
        let Some(loaded) = state.as_mut() else { return };
        for block in plan.blocks.clone() {
            let Entry::Good(was, _) = loaded.table.get(block) else { continue };
            if was == BlockState::Absent {
                continue;
            }
            let Ok(BLOCK_BYTES) = read_up_to(&files.data, &mut buffer, (block * BLOCK_BYTES) as u64) else { continue };
            let now = if was == BlockState::Fresh { BlockState::Fresh } else { BlockState::Overwrite };
            loaded.table.set(block, now, crc32c(&buffer));
            control.unsynced = true;
        }
        self.rewrite_entries(control, files, plan, loaded);
    }

    /// After data whose entries could not be written: what was absent is absent again. A block that was there before
    /// has bytes that were acknowledged beside those of the failed write, so memory keeps its new entry, which is what
    /// its data is.
    fn forget_new(&self, control: &mut Control, files: &Files, plan: &Plan, was_absent: &[usize]) {
        let mut state = self.state().write();
        let Some(loaded) = state.as_mut() else { return };
        for &block in was_absent {
            loaded.table.set(block, BlockState::Absent, 0);
        }
        self.present.store(loaded.table.present(), std::sync::atomic::Ordering::Relaxed);
        self.rewrite_entries(control, files, plan, loaded);
    }

    fn rewrite_entries(&self, control: &mut Control, files: &Files, plan: &Plan, loaded: &mut crate::slot::Loaded) {
        let pages = plan.blocks.start / PAGE_ENTRIES..=(plan.blocks.end - 1) / PAGE_ENTRIES;
        // Entries of synced blocks may go out as stable only when no sync is under way; word by word avoids the rest
        // of the page.
        for page in pages.filter(|page| control.written & 1 << page != 0) {
            let bytes = loaded.table.page_bytes(page);
            let first = plan.blocks.start.max(page * PAGE_ENTRIES);
            let last = plan.blocks.end.min((page + 1) * PAGE_ENTRIES);
            let span = (first % PAGE_ENTRIES) * 8..(first % PAGE_ENTRIES + last - first) * 8;
            let at = entry_offset(control.header.area, first);
            if let Err(error) = self.put_sums(files, &bytes[span], at) {
                // Memory is right and the disk is not: recovery would see unfinished writes, which they are until the
                // next sync.
                control.lagging |= 1 << page;
                tracing::warn!(chunk = self.id, "after a failed write: {error}");
            }
        }
    }
}

/// Write consecutive words from block `first` on. Pages new on disk are written whole, padded with `absent`.
fn put_words(
    slot: &Slot,
    control: &mut Control,
    files: &Files,
    first: usize,
    words: &[u64],
    absent: impl Fn(usize) -> u64,
) -> Result<()> {
    let end = first + words.len();
    for page in first / PAGE_ENTRIES..=(end - 1) / PAGE_ENTRIES {
        let page_start = page * PAGE_ENTRIES;
        let mine = first.max(page_start)..end.min(page_start + PAGE_ENTRIES);
        let is_new = control.written & 1 << page == 0;
        let span = if is_new { page_start..page_start + PAGE_ENTRIES } else { mine.clone() };
        let mut bytes = Vec::with_capacity(span.len() * 8);
        for block in span.clone() {
            let word = if mine.contains(&block) { words[block - first] } else { absent(block) };
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let at = entry_offset(control.header.area, span.start);
        slot.put_sums(files, &bytes, at)?;
        control.written |= 1 << page;
    }
    Ok(())
}
