//! Written bytes of one chunk before and while they are sent: filled, sealed, kept until they are committed.

use std::sync::{Arc, OnceLock};

use base::limits::{BLOCK_BYTES, MAX_PAYLOAD_BYTES};
use base::{Buffer, crc};

/// Writes coalesce up to this, cut at its multiples.
pub const CELL_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// Writes up to this start in a small buffer.
const SMALL_WRITE_BYTES: usize = 32 << 10;
const SMALL_BYTES: usize = 64 << 10;
/// A sealed piece up to this moves to a buffer of its size: many of them are kept until they are committed.
const TINY_BYTES: usize = BLOCK_BYTES;

/// Sealed bytes; kept until they are committed, so that a server that lost them gets them again.
#[derive(Debug)]
pub struct Piece {
    /// Order of writing within the file; 0: bytes of others that move out of the inode with ours.
    pub seq: u64,
    /// Within the chunk.
    pub offset: u32,
    pub data: Arc<Buffer>,
    /// Written with O_APPEND: the place is not final before it is committed.
    pub append: bool,
    crcs: OnceLock<Vec<u8>>,
}

impl Piece {
    pub fn new(seq: u64, offset: u32, data: Buffer, append: bool) -> Piece {
        let tiny = data.len() <= TINY_BYTES && data.capacity() > TINY_BYTES;
        let data = Arc::new(if tiny { Buffer::copy_of(&data) } else { data });
        Piece { seq, offset, data, append, crcs: OnceLock::new() }
    }

    pub fn end(&self) -> u32 {
        self.offset + self.data.len() as u32
    }

    /// Memory it takes.
    pub fn charge(&self) -> usize {
        self.data.capacity()
    }

    /// Made once, before the first send, so that a resend after a long wait still tells of rot in memory.
    pub fn crcs(&self) -> &[u8] {
        self.crcs.get_or_init(|| crc::piece_crcs(self.offset as usize, &self.data))
    }

    /// The same with what was written over it by `later` ones.
    pub fn under(&self, later: &[Arc<Piece>]) -> Piece {
        let mut data = Buffer::copy_of(&self.data);
        for piece in later {
            let (from, to) = (piece.offset.max(self.offset), piece.end().min(self.end()));
            if from < to {
                let bytes = &piece.data[(from - piece.offset) as usize..(to - piece.offset) as usize];
                data[(from - self.offset) as usize..(to - self.offset) as usize].copy_from_slice(bytes);
            }
        }
        Piece::new(self.seq, self.offset, data, self.append)
    }

    /// Whether both touch a block: those are sent one after the other.
    pub fn meets(&self, other: &Piece) -> bool {
        let block = BLOCK_BYTES as u32;
        self.offset / block <= (other.end() - 1) / block && other.offset / block <= (self.end() - 1) / block
    }
}

/// Bytes that may still grow by the next write.
pub struct Filling {
    pub offset: u32,
    buffer: Buffer,
    pub append: bool,
    pub touched_ms: u64,
}

impl Filling {
    pub fn start(offset: u32, data: &[u8], append: bool, now_ms: u64) -> Filling {
        let mut buffer = Buffer::take(if data.len() <= SMALL_WRITE_BYTES { SMALL_BYTES } else { MAX_PAYLOAD_BYTES });
        buffer.set_len(0);
        let mut filling = Filling { offset, buffer, append, touched_ms: now_ms };
        filling.put(offset, data, now_ms);
        filling
    }

    pub fn end(&self) -> u32 {
        self.offset + self.buffer.len() as u32
    }

    pub fn charge(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether a write at `offset` goes on here: in the same cell, without a gap.
    pub fn joins(&self, offset: u32, append: bool) -> bool {
        let same_cell = u64::from(self.offset) / CELL_BYTES == u64::from(offset) / CELL_BYTES;
        same_cell && self.append == append && self.offset <= offset && offset <= self.end()
    }

    /// A write that joins. Moves to a large buffer when it outgrows the small one.
    pub fn put(&mut self, offset: u32, data: &[u8], now_ms: u64) {
        let at = (offset - self.offset) as usize;
        let len = self.buffer.len().max(at + data.len());
        if len > self.buffer.capacity() {
            let mut larger = Buffer::take(MAX_PAYLOAD_BYTES);
            larger[..self.buffer.len()].copy_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.set_len(len);
        self.buffer[at..at + data.len()].copy_from_slice(data);
        self.touched_ms = now_ms;
    }

    pub fn is_full(&self) -> bool {
        u64::from(self.end()).is_multiple_of(CELL_BYTES)
    }

    pub fn bytes(&self, start: u32, end: u32) -> Option<(u32, &[u8])> {
        let (from, to) = (self.offset.max(start), self.end().min(end));
        (from < to).then(|| (from, &self.buffer[(from - self.offset) as usize..(to - self.offset) as usize]))
    }

    pub fn seal(self, seq: u64) -> Piece {
        Piece::new(seq, self.offset, self.buffer, self.append)
    }
}

/// Bytes of ours for a reader to lay over what the copies hold.
#[derive(Clone)]
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
