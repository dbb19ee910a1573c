//! The bytes of a checksum table file: two header copies, then two table areas. Pure: no I/O.
//! Source: FORMAT.md, "Checksum table".
//!
//! Invariants: an entry is one aligned 8-byte word, so it is never half old and half new; an entry's tag covers
//! everything else in it and where it belongs (chunk id, version, incarnation, block index), so that a flipped bit, a
//! misplaced entry and an entry of another version are all found, but for one in 2^30.

use base::crc::crc32c;
use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK, CHUNK_BYTES};
use base::random::mix;

pub const MAGIC: [u8; 8] = *b"MNGSUMS1";
pub const FORMAT: u32 = 1;
/// Space of one header copy: a whole block, so that a torn write of one never reaches the other.
pub const HEADER_SPACE: u64 = 4096;
/// Bytes of a header that count; the last four are the CRC of those before.
pub const HEADER_BYTES: usize = 512;
/// Entries per page of the table: one 4 KiB page describes 2 MiB of data.
pub const PAGE_ENTRIES: usize = 512;
pub const PAGE_BYTES: usize = PAGE_ENTRIES * 8;
pub const PAGES: usize = BLOCKS_PER_CHUNK / PAGE_ENTRIES;
pub const AREA_BYTES: u64 = (BLOCKS_PER_CHUNK * 8) as u64;

// The pages of a table fit the header's bitmap.
const _: () = assert!(PAGES == 32 && PAGE_BYTES == BLOCK_BYTES && CHUNK_BYTES <= u32::MAX as u64);

/// Byte offset of entry `index` of area `area`.
pub fn entry_offset(area: u8, index: usize) -> u64 {
    2 * HEADER_SPACE + u64::from(area) * AREA_BYTES + (index * 8) as u64
}

/// What the table says about a block. The two pending states tell recovery what a mismatch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Reads as zeros.
    Absent = 0,
    /// First write of the block, maybe not yet on disk: a mismatch after a crash is an unfinished write, so absent.
    Fresh = 1,
    /// Overwrite of a stable block, maybe not yet on disk: a mismatch after a crash is old and new sectors mixed.
    Overwrite = 2,
    /// The data is on disk: a mismatch is rot.
    Stable = 3,
}

/// A decoded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Good(BlockState, u32),
    /// The tag does not fit: rot, or an entry of another block, version or chunk.
    Wrong,
}

/// Binds entries to one version of one chunk in one life of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagKey(u64);

impl TagKey {
    pub fn new(chunk_id: u64, version: u32, incarnation: u64) -> TagKey {
        TagKey(mix(mix(mix(chunk_id) ^ u64::from(version)) ^ incarnation))
    }

    pub fn encode(self, index: usize, state: BlockState, crc: u32) -> u64 {
        self.seal(index, u64::from(crc) | (state as u64) << 32)
    }

    fn seal(self, index: usize, low: u64) -> u64 {
        let tag = mix(self.0 ^ (low | (index as u64) << 34)) >> 34;
        low | tag << 34
    }

    pub fn decode(self, index: usize, raw: u64) -> Entry {
        let low = raw & ((1 << 34) - 1);
        if self.seal(index, low) != raw {
            return Entry::Wrong;
        }
        let state = match low >> 32 {
            0 => BlockState::Absent,
            1 => BlockState::Fresh,
            2 => BlockState::Overwrite,
            _ => BlockState::Stable,
        };
        Entry::Good(state, low as u32)
    }
}

/// What a slot holds, as one header copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Grows with every header written to this file; the higher valid copy counts.
    pub generation: u64,
    pub used: bool,
    /// The table area in force.
    pub area: u8,
    /// No pending entries when it was written: nothing to compare at open.
    pub clean: bool,
    pub chunk_id: u64,
    pub version: u32,
    /// Bit i: page i of the area was on disk, so a wrong or zero entry in it is rot and not an unfinished write.
    pub pages: u32,
    /// New for every chunk put into the slot, growing over the store.
    pub incarnation: u64,
    pub slot: u64,
    pub disk_uuid: [u8; 16],
    /// Present blocks when it was written; a hint until the table is read.
    pub present: u32,
}

impl Header {
    pub fn free(slot: u64, disk_uuid: [u8; 16], generation: u64) -> Header {
        Header {
            generation,
            used: false,
            area: 0,
            clean: true,
            chunk_id: 0,
            version: 0,
            pages: 0,
            incarnation: 0,
            slot,
            disk_uuid,
            present: 0,
        }
    }

    pub fn key(&self) -> TagKey {
        TagKey::new(self.chunk_id, self.version, self.incarnation)
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12] = u8::from(self.used);
        bytes[13] = self.area;
        bytes[14] = u8::from(self.clean);
        bytes[16..24].copy_from_slice(&self.chunk_id.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.version.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.pages.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.slot.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.disk_uuid);
        bytes[72..76].copy_from_slice(&self.present.to_le_bytes());
        let crc = crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None for anything that is not a whole, valid header of this format.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let whole = bytes[0..8] == MAGIC && crc32c(&bytes[..HEADER_BYTES - 4]) == u32_at(HEADER_BYTES - 4);
        if !whole || u32_at(8) != FORMAT || bytes[12..15].iter().any(|&flag| flag > 1) {
            return None;
        }
        Some(Header {
            generation: u64_at(32),
            used: bytes[12] == 1,
            area: bytes[13],
            clean: bytes[14] == 1,
            chunk_id: u64_at(16),
            version: u32_at(24),
            pages: u32_at(28),
            incarnation: u64_at(40),
            slot: u64_at(48),
            disk_uuid: std::array::from_fn(|i| bytes[56 + i]),
            present: u32_at(72),
        })
    }
}

/// What the first 8 KiB of a checksum table file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Nothing was ever written whole: a slot whose creation did not finish.
    Blank,
    /// The header in force and which copy (0 or 1) it is.
    Found(Header, u8),
    /// Neither copy is whole, and something is there: rot.
    Damaged,
}

/// Choose the header in force. A copy of another disk or slot counts as damaged: the file was moved.
pub fn choose_header(bytes: &[u8], slot: u64, disk_uuid: &[u8; 16]) -> Headers {
    let copy = |which: usize| {
        let space = bytes.get(which * HEADER_SPACE as usize..)?;
        Header::decode(space).filter(|header| header.slot == slot && header.disk_uuid == *disk_uuid)
    };
    match (copy(0), copy(1)) {
        (Some(a), Some(b)) if b.generation > a.generation => Headers::Found(b, 1),
        (Some(a), _) => Headers::Found(a, 0),
        (None, Some(b)) => Headers::Found(b, 1),
        (None, None) if bytes.iter().all(|&byte| byte == 0) => Headers::Blank,
        (None, None) => Headers::Damaged,
    }
}

/// Path of a slot's files below the disk's directory, without the extension: 256 slots share a folder.
pub fn slot_path(slot: u64) -> String {
    format!("chunks/{:02x}/{slot:08x}", slot >> 8)
}
