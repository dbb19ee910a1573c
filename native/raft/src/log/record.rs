//! One record of the log, as bytes. Pure: no files. Layout: FORMAT.md, "Raft log".
//! A record's CRC starts with its segment's salt, so what a recycled file held before never passes for a record.

use base::crc;

pub const HEADER_BYTES: usize = 40;
/// Records start at multiples of this.
pub const RECORD_ALIGN: usize = 8;
/// Batches start at multiples of this: a page that was synced is never written again.
pub const BATCH_ALIGN: usize = 4096;
/// Larger lengths are damage. An entry is at most `MAX_BATCH_BYTES`, a membership far less.
const MAX_PAYLOAD_BYTES: usize = 4 << 20;

const FIRST: u8 = 1;
const NOTHING_KEPT: u8 = 2;

pub type Salt = [u8; 16];

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Batch = 1,
    Members = 2,
    Blank = 3,
    /// Entries after `index` are gone (all, with `nothing_kept`).
    Truncate = 4,
    /// Entries up to `index` are gone; they are in a snapshot.
    Purge = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    /// First of its batch. A batch is what one sync made durable; it was written after the batch before was durable.
    pub first: bool,
    pub nothing_kept: bool,
    pub length: u32,
    /// Rises by one with each batch.
    pub batch: u64,
    /// Drawn anew each time the log is opened: the rest of a torn batch never continues a later one.
    pub life: u32,
    pub term: u64,
    pub index: u64,
}

impl Head {
    /// Bytes of the record with its padding.
    pub fn size(&self) -> usize {
        (HEADER_BYTES + self.length as usize).next_multiple_of(RECORD_ALIGN)
    }
}

fn record_crc(salt: &Salt, header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut head = [0u8; 16 + HEADER_BYTES];
    head[..16].copy_from_slice(salt);
    head[16..].copy_from_slice(header);
    head[20..24].fill(0); // the CRC itself
    crc::crc32c_of(&[&head, payload])
}

/// Append one record to `out`, which starts on a record boundary.
pub fn encode(out: &mut Vec<u8>, salt: &Salt, head: &Head, payload: &[u8]) {
    debug_assert_eq!(head.length as usize, payload.len());
    let mut header = [0u8; HEADER_BYTES];
    header[0..4].copy_from_slice(&head.length.to_le_bytes());
    header[8..16].copy_from_slice(&head.batch.to_le_bytes());
    header[16..24].copy_from_slice(&head.term.to_le_bytes());
    header[24..32].copy_from_slice(&head.index.to_le_bytes());
    header[32] = head.kind as u8;
    header[33] = if head.first { FIRST } else { 0 } | if head.nothing_kept { NOTHING_KEPT } else { 0 };
    header[36..40].copy_from_slice(&head.life.to_le_bytes());
    let crc = record_crc(salt, &header, payload);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(RECORD_ALIGN), 0);
}

/// The record at the start of `bytes`, with its payload; `None` for anything else, whatever the bytes are.
pub fn decode<'a>(bytes: &'a [u8], salt: &Salt) -> Option<(Head, &'a [u8])> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let kind = match header[32] {
        1 => Kind::Batch,
        2 => Kind::Members,
        3 => Kind::Blank,
        4 => Kind::Truncate,
        5 => Kind::Purge,
        _ => return None,
    };
    let length = u32_at(0) as usize;
    if length > MAX_PAYLOAD_BYTES || header[33] & !(FIRST | NOTHING_KEPT) != 0 || header[34] != 0 || header[35] != 0 {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    if record_crc(salt, header, payload) != u32_at(4) {
        return None;
    }
    let head = Head {
        kind,
        first: header[33] & FIRST != 0,
        nothing_kept: header[33] & NOTHING_KEPT != 0,
        length: length as u32,
        batch: u64_at(8),
        life: u32_at(36),
        term: u64_at(16),
        index: u64_at(24),
    };
    Some((head, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(length: usize) -> Head {
        Head {
            kind: Kind::Batch,
            first: true,
            nothing_kept: false,
            length: length as u32,
            batch: 7,
            life: 3,
            term: 5,
            index: 11,
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_and_only_under_its_salt(payload in prop::collection::vec(any::<u8>(), 0..300), salt: [u8; 16], other: [u8; 16]) {
            let mut bytes = Vec::new();
            encode(&mut bytes, &salt, &head(payload.len()), &payload);
            prop_assert_eq!(bytes.len(), head(payload.len()).size());
            prop_assert_eq!(decode(&bytes, &salt), Some((head(payload.len()), &payload[..])));
            if salt != other {
                prop_assert_eq!(decode(&bytes, &other), None);
            }
        }

        #[test]
        fn a_flipped_bit_is_found(payload in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode(&mut bytes, &[9; 16], &head(payload.len()), &payload);
            let at = at.index(HEADER_BYTES + payload.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(&bytes, &[9; 16]), None);
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&bytes, &[1; 16]), None);
        }
    }
}
