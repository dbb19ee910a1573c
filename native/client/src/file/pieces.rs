//! Written bytes of one chunk before and while they are sent: filled, sealed, kept until they are committed.

use std::sync::{Arc, OnceLock};

use base::limits::{BLOCK_BYTES, MAX_PAYLOAD_BYTES};
use base::{Buffer, crc};
use wire::proto::{ChunkInfo, Fill};

use super::ranges::Ranges;

/// Writes coalesce up to this, cut at its multiples.
pub const CELL_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// Writes up to this start in a small buffer.
const SMALL_WRITE_BYTES: usize = 32 << 10;
const SMALL_BYTES: usize = 64 << 10;
/// A sealed piece up to this moves to a buffer of its size: many of them are kept until they are committed.
const TINY_BYTES: usize = BLOCK_BYTES;

/// What a piece makes of its span.
#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Arc<Buffer>),
    Fill(Filled),
    Copy(Copied),
}

/// Bytes of another chunk, which its servers have.
#[derive(Clone, Debug)]
pub struct Copied {
    pub source: Arc<ChunkInfo>,
    pub offset: u32,
    pub length: u32,
}

/// A span that no bytes are sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    pub fill: Fill,
    pub length: u32,
    /// The file reaches at least to its end.
    pub grows: bool,
}

/// Sealed bytes, or a hole or a promise; kept until they are committed, so that a server that lost them gets them again.
#[derive(Debug)]
pub struct Piece {
    /// Order of writing within the file; 0: bytes of others that move out of the inode with ours.
    pub seq: u64,
    /// Within the chunk.
    pub offset: u32,
    pub content: Content,
    /// Written with O_APPEND: the place is not final before it is committed.
    pub append: bool,
    crcs: OnceLock<Vec<u8>>,
}

impl Piece {
    pub fn new(seq: u64, offset: u32, data: Buffer, append: bool) -> Piece {
        let tiny = data.len() <= TINY_BYTES && data.capacity() > TINY_BYTES;
        let data = Arc::new(if tiny { Buffer::copy_of(&data) } else { data });
        Piece { seq, offset, content: Content::Bytes(data), append, crcs: OnceLock::new() }
    }

    pub fn fill(seq: u64, offset: u32, filled: Filled) -> Piece {
        Piece { seq, offset, content: Content::Fill(filled), append: false, crcs: OnceLock::new() }
    }

    pub fn copy(seq: u64, offset: u32, copied: Copied) -> Piece {
        Piece { seq, offset, content: Content::Copy(copied), append: false, crcs: OnceLock::new() }
    }

    pub fn length(&self) -> u32 {
        match &self.content {
            Content::Bytes(data) => data.len() as u32,
            Content::Fill(filled) => filled.length,
            Content::Copy(copied) => copied.length,
        }
    }

    pub fn end(&self) -> u32 {
        self.offset + self.length()
    }

    /// Where the file ends at least, once this is committed.
    pub fn grows_to(&self) -> u32 {
        let grows = self.filled().is_none_or(|filled| filled.grows);
        if grows { self.end() } else { 0 }
    }

    pub fn filled(&self) -> Option<&Filled> {
        match &self.content {
            Content::Fill(filled) => Some(filled),
            Content::Bytes(_) | Content::Copy(_) => None,
        }
    }

    /// None of a hole, a promise or a copy.
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Bytes(data) => data,
            Content::Fill(_) | Content::Copy(_) => &[],
        }
    }

    pub fn has_bytes(&self) -> bool {
        matches!(self.content, Content::Bytes(_))
    }

    pub fn is_copy(&self) -> bool {
        matches!(self.content, Content::Copy(_))
    }

    /// What a reader gets is as before, whether it is done or not.
    pub fn is_promise(&self) -> bool {
        self.filled().is_some_and(|filled| filled.fill == Fill::Promise)
    }

    /// Memory it takes.
    pub fn charge(&self) -> usize {
        match &self.content {
            Content::Bytes(data) => data.capacity(),
            Content::Fill(_) | Content::Copy(_) => BLOCK_BYTES,
        }
    }

    /// Of bytes. Made once, before the first send, so that a resend after a long wait still tells of rot in memory.
    pub fn crcs(&self) -> &[u8] {
        self.crcs.get_or_init(|| crc::piece_crcs(self.offset as usize, self.bytes()))
    }

    /// Whether it is known here what a reader finds there.
    pub fn is_known(&self) -> bool {
        !self.is_promise() && !self.is_copy()
    }

    /// Put what it makes of `data`, which begins at `offset` of the chunk.
    pub fn lay_over(&self, data: &mut [u8], offset: u32) {
        let (from, to) = (self.offset.max(offset), self.end().min(offset + data.len() as u32));
        if from >= to || !self.is_known() {
            return;
        }
        let target = &mut data[(from - offset) as usize..(to - offset) as usize];
        match &self.content {
            Content::Bytes(bytes) => {
                target.copy_from_slice(&bytes[(from - self.offset) as usize..(to - self.offset) as usize]);
            }
            Content::Fill(_) | Content::Copy(_) => target.fill(0),
        }
    }

    /// The bytes of `span`, which is its own or a part of it, with what was written over them by `later` ones.
    fn part_under(&self, (start, end): (u32, u32), later: &[Arc<Piece>]) -> Piece {
        let mut data = Buffer::zeroed((end - start) as usize);
        self.lay_over(&mut data, start);
        later.iter().for_each(|piece| piece.lay_over(&mut data, start));
        Piece::new(self.seq, start, data, self.append)
    }

    /// A part of a hole, a promise or a copy.
    fn part(&self, start: u32, end: u32) -> Piece {
        let length = end - start;
        match &self.content {
            Content::Fill(filled) => Piece::fill(self.seq, start, Filled { length, ..*filled }),
            Content::Copy(copied) => {
                let offset = copied.offset + (start - self.offset);
                Piece::copy(self.seq, start, Copied { offset, length, ..copied.clone() })
            }
            Content::Bytes(_) => self.part_under((start, end), &[]),
        }
    }

    /// The same with what was written over it by `later` ones. Of what has no bytes only those parts get some where those
    /// have.
    pub fn under(self: &Arc<Piece>, later: &[Arc<Piece>]) -> Vec<Arc<Piece>> {
        if self.has_bytes() {
            return vec![Arc::new(self.part_under((self.offset, self.end()), later))];
        }
        let mut bytes = Ranges::default();
        for piece in later.iter().filter(|piece| piece.has_bytes()) {
            bytes.insert(u64::from(piece.offset), u64::from(piece.end()));
        }
        let (start, end) = (u64::from(self.offset), u64::from(self.end()));
        let gaps = bytes.gaps(start, end);
        if self.is_promise() || gaps == [(start, end)] {
            return vec![self.clone()];
        }
        let mut parts: Vec<Piece> = Vec::new();
        for (from, to) in bytes.iter().map(|(from, to)| (from.max(start), to.min(end))).filter(|(from, to)| from < to) {
            let cells = (from / CELL_BYTES..to.div_ceil(CELL_BYTES))
                .map(|cell| (from.max(cell * CELL_BYTES) as u32, to.min((cell + 1) * CELL_BYTES) as u32));
            parts.extend(cells.map(|span| self.part_under(span, later)));
        }
        parts.extend(gaps.into_iter().map(|(from, to)| self.part(from as u32, to as u32)));
        parts.into_iter().map(Arc::new).collect()
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
    /// In the chunk: start and end.
    pub fn span(&self) -> (u32, u32) {
        match self {
            Patch::Sealed(piece) => (piece.offset, piece.end()),
            Patch::Copied(offset, bytes) => (*offset, offset + bytes.len() as u32),
        }
    }

    pub fn is_hole(&self) -> bool {
        matches!(self, Patch::Sealed(piece) if piece.filled().is_some_and(|filled| filled.fill == Fill::Hole))
    }

    /// Put it over `target`, which begins at `offset` of the chunk.
    pub fn lay_over(&self, target: &mut [u8], offset: u32) {
        match self {
            Patch::Sealed(piece) => piece.lay_over(target, offset),
            Patch::Copied(at, bytes) => {
                let (from, to) = ((*at).max(offset), (at + bytes.len() as u32).min(offset + target.len() as u32));
                if from < to {
                    let source = &bytes[(from - at) as usize..(to - at) as usize];
                    target[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
                }
            }
        }
    }
}
