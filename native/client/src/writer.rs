//! Written bytes of one chunk on their way to its copies: filled, queued, in flight. Pure bookkeeping; `pump` sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use base::limits::{BLOCK_BYTES, MAX_PAYLOAD_BYTES};
use base::{Buffer, crc};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::file::State;

/// Writes coalesce up to this, cut at its multiples.
pub const CELL_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// What a lone small write takes, and what it is counted as.
pub const SMALL_BYTES: usize = 64 << 10;
/// Writes up to this start in a small buffer.
const SMALL_WRITE_BYTES: usize = 32 << 10;

/// Sealed bytes; kept until every copy holds them.
pub struct Piece {
    pub seq: u64,
    /// Within the chunk.
    pub offset: u32,
    pub data: Arc<Buffer>,
    pub charge: usize,
    crcs: OnceLock<Vec<u8>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Piece {
    pub fn end(&self) -> u32 {
        self.offset + self.data.len() as u32
    }

    /// Made once, before the first send, so that a resend after a long wait still tells of rot in memory.
    pub fn crcs(&self) -> &[u8] {
        self.crcs.get_or_init(|| crc::piece_crcs(self.offset as usize, &self.data))
    }

    /// Whether both touch a block: those are sent one after the other.
    fn meets(&self, other: &Piece) -> bool {
        let block = BLOCK_BYTES as u32;
        self.offset / block <= (other.end() - 1) / block && other.offset / block <= (self.end() - 1) / block
    }
}

pub struct Filling {
    offset: u32,
    buffer: Buffer,
    charge: usize,
    permit: Option<OwnedSemaphorePermit>,
    pub touched: Instant,
}

impl Filling {
    fn end(&self) -> u32 {
        self.offset + self.buffer.len() as u32
    }

    fn put(&mut self, offset: u32, data: &[u8]) {
        let at = (offset - self.offset) as usize;
        let len = self.buffer.len().max(at + data.len());
        self.buffer.set_len(len);
        self.buffer[at..at + data.len()].copy_from_slice(data);
        self.touched = Instant::now();
    }
}

/// Unacknowledged bytes for a reader to lay over what the copies hold.
pub enum Patch {
    Sealed(Arc<Piece>),
    Copied(u32, Vec<u8>),
}

impl Patch {
    pub fn offset(&self) -> u32 {
        match self {
            Patch::Sealed(piece) => piece.offset,
            Patch::Copied(offset, _) => *offset,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Patch::Sealed(piece) => &piece.data,
            Patch::Copied(_, bytes) => bytes,
        }
    }
}

#[derive(Default)]
pub struct Writer {
    pub filling: Option<Filling>,
    pub queue: VecDeque<Arc<Piece>>,
    pub flying: Vec<Arc<Piece>>,
    /// A pump works on this chunk.
    pub running: bool,
    pub wake: Arc<Notify>,
    /// The map's entry is a grant at its version.
    pub granted: bool,
    /// The chunk of the last grant; 0 before.
    pub chunk_id: u64,
    /// The chunk may be new to its servers.
    pub create: bool,
    /// Held while a grant is asked for: one at a time.
    pub granting: Arc<tokio::sync::Mutex<()>>,
    /// Which start of each server took our writes.
    pub stamps: BTreeMap<u32, u64>,
    pub stored_bytes: u32,
    /// Pieces acknowledged so far, and how many of them are stable and committed.
    pub acked: u64,
    pub synced: u64,
    pub committed: u64,
    /// Ends, within the chunk, of what was taken and of what was acknowledged since the last commit.
    pub taken_end: u32,
    pub acked_end: u32,
}

/// Why bytes could not be taken yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// The file's window is full.
    Window,
    /// This many bytes of budget are needed.
    Budget(usize),
}

impl Writer {
    /// The chunk is another one now: nothing is known of it.
    pub fn reset(&mut self) {
        self.granted = false;
        self.chunk_id = 0;
        self.stamps.clear();
        (self.stored_bytes, self.acked, self.synced, self.committed) = (0, 0, 0, 0);
    }

    /// Nothing unacknowledged, nothing uncommitted.
    pub fn is_idle(&self) -> bool {
        self.filling.is_none() && self.queue.is_empty() && self.flying.is_empty() && self.acked == self.committed
    }

    pub fn patches(&self, start: u32, end: u32) -> Vec<Patch> {
        let mut sealed: Vec<&Arc<Piece>> =
            self.queue.iter().chain(&self.flying).filter(|piece| piece.offset < end && start < piece.end()).collect();
        sealed.sort_by_key(|piece| piece.seq);
        let mut patches: Vec<Patch> = sealed.into_iter().cloned().map(Patch::Sealed).collect();
        if let Some(filling) = &self.filling {
            let (from, to) = (filling.offset.max(start), filling.end().min(end));
            if from < to {
                let bytes = &filling.buffer[(from - filling.offset) as usize..(to - filling.offset) as usize];
                patches.push(Patch::Copied(from, bytes.to_vec()));
            }
        }
        patches
    }

    /// The next queued piece that touches no block in flight; it is in flight then. Order among pieces stays.
    pub fn launch(&mut self) -> Option<Arc<Piece>> {
        let next = self.queue.front()?;
        if self.flying.iter().any(|piece| piece.meets(next)) {
            return None;
        }
        let piece = self.queue.pop_front()?;
        self.flying.push(piece.clone());
        Some(piece)
    }

    /// Everything in flight goes back to the head of the queue, oldest first.
    pub fn recall(&mut self) {
        let mut flying = std::mem::take(&mut self.flying);
        flying.sort_by_key(|piece| piece.seq);
        for piece in flying.into_iter().rev() {
            self.queue.push_front(piece);
        }
    }
}

impl State {
    /// Take `data`, which lies within one cell of chunk `index`. `permit` is budget got after `Wait::Budget`.
    pub fn take(
        &mut self,
        index: u64,
        offset: u32,
        data: &[u8],
        window: usize,
        mut budget: impl FnMut(usize) -> Option<OwnedSemaphorePermit>,
    ) -> Result<(), Wait> {
        let writer = self.writers.entry(index).or_default();
        let joins = writer.filling.as_ref().is_some_and(|filling| {
            let same_cell = u64::from(filling.offset) / CELL_BYTES == u64::from(offset) / CELL_BYTES;
            same_cell && filling.offset <= offset && offset <= filling.end()
        });
        if !joins {
            self.seal(index);
        }
        let writer = self.writers.entry(index).or_default();
        if let Some(filling) = &mut writer.filling {
            let len = (offset - filling.offset) as usize + data.len();
            if len > filling.buffer.capacity() {
                // Outgrew the small buffer.
                let permit = budget(MAX_PAYLOAD_BYTES).ok_or(Wait::Budget(MAX_PAYLOAD_BYTES))?;
                let mut buffer = Buffer::take(MAX_PAYLOAD_BYTES);
                buffer[..filling.buffer.len()].copy_from_slice(&filling.buffer);
                buffer.set_len(filling.buffer.len());
                self.unacked_bytes += MAX_PAYLOAD_BYTES - filling.charge;
                (filling.buffer, filling.charge, filling.permit) = (buffer, MAX_PAYLOAD_BYTES, Some(permit));
            }
            filling.put(offset, data);
        } else {
            let charge = if data.len() <= SMALL_WRITE_BYTES { SMALL_BYTES } else { MAX_PAYLOAD_BYTES };
            if self.unacked_bytes > 0 && self.unacked_bytes + charge > window {
                return Err(Wait::Window);
            }
            let permit = Some(budget(charge).ok_or(Wait::Budget(charge))?);
            let mut buffer = Buffer::take(charge);
            buffer.set_len(0);
            let mut filling = Filling { offset, buffer, charge, permit, touched: Instant::now() };
            filling.put(offset, data);
            writer.filling = Some(filling);
            self.unacked_bytes += charge;
        }
        writer.taken_end = writer.taken_end.max(offset + data.len() as u32);
        if u64::from(offset) + data.len() as u64 == (u64::from(offset) / CELL_BYTES + 1) * CELL_BYTES {
            self.seal(index);
        }
        Ok(())
    }

    /// Queue small bytes of our own making (inline content), outside window and budget.
    pub fn queue_small(&mut self, index: u64, offset: u32, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.seal(index);
        let seq = self.next_seq;
        self.next_seq += 1;
        let data = Arc::new(Buffer::copy_of(data));
        let writer = self.writers.entry(index).or_default();
        writer.taken_end = writer.taken_end.max(offset + data.len() as u32);
        writer.queue.push_back(Arc::new(Piece { seq, offset, data, charge: 0, crcs: OnceLock::new(), _permit: None }));
        writer.wake.notify_one();
    }

    /// What fills is queued.
    pub fn seal(&mut self, index: u64) {
        let Some(writer) = self.writers.get_mut(&index) else { return };
        let Some(filling) = writer.filling.take() else { return };
        let seq = self.next_seq;
        self.next_seq += 1;
        let Filling { offset, buffer, charge, permit, .. } = filling;
        let data = Arc::new(buffer);
        writer.queue.push_back(Arc::new(Piece { seq, offset, data, charge, crcs: OnceLock::new(), _permit: permit }));
        writer.wake.notify_one();
    }

    pub fn seal_all(&mut self) {
        let filling: Vec<u64> =
            self.writers.iter().filter(|(_, writer)| writer.filling.is_some()).map(|(index, _)| *index).collect();
        filling.into_iter().for_each(|index| self.seal(index));
    }

    /// What has not been touched since `before` is queued; whether anything was.
    pub fn seal_idle(&mut self, before: Instant) -> bool {
        let idle: Vec<u64> = self
            .writers
            .iter()
            .filter(|(_, writer)| writer.filling.as_ref().is_some_and(|filling| filling.touched <= before))
            .map(|(index, _)| *index)
            .collect();
        idle.iter().for_each(|index| self.seal(*index));
        !idle.is_empty()
    }

    /// Whether a piece sealed before `seq` is not acknowledged yet.
    pub fn unacked_before(&self, seq: u64) -> bool {
        self.writers.values().any(|writer| writer.queue.iter().chain(&writer.flying).any(|piece| piece.seq < seq))
    }
}
