//! CRC-32C (Castagnoli), hardware where the CPU has it, combinable. Source: RFC 3720, appendix B.4.

use crc_fast::{CrcAlgorithm, Digest, checksum, checksum_combine};

use crate::limits::BLOCK_BYTES;

/// CRC-32C of `data`.
pub fn crc32c(data: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, data) as u32
}

/// CRC-32C of the parts one after the other.
pub fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// CRC-32C of `a` followed by `b`, from the CRCs of both and the length of `b` in bytes.
pub fn combine(crc_a: u32, crc_b: u32, length_b: u64) -> u32 {
    checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(crc_a), u64::from(crc_b), length_b) as u32
}

/// The pieces that 4 KiB block boundaries cut `length` bytes at chunk offset `offset` into, as (start, end) in the
/// span. The first and the last may be partial.
pub fn pieces(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= length {
            return None;
        }
        let end = length.min(start + BLOCK_BYTES - (offset + start) % BLOCK_BYTES);
        let piece = (start, end);
        start = end;
        Some(piece)
    })
}

/// CRCs of every piece of `data` at chunk offset `offset`, 4 bytes little endian each, as `data.proto` wants them.
pub fn piece_crcs(offset: usize, data: &[u8]) -> Vec<u8> {
    let mut crcs = Vec::with_capacity((data.len() / BLOCK_BYTES + 2) * 4);
    for (start, end) in pieces(offset, data.len()) {
        crcs.extend_from_slice(&crc32c(&data[start..end]).to_le_bytes());
    }
    crcs
}

/// Check `data` against what `piece_crcs` made; the error is the span offset of the first wrong piece, or the
/// data's length when the number of CRCs is wrong.
pub fn check_pieces(offset: usize, data: &[u8], crcs: &[u8]) -> Result<(), usize> {
    if crcs.len() != pieces(offset, data.len()).count() * 4 {
        return Err(data.len());
    }
    for ((start, end), crc) in pieces(offset, data.len()).zip(crcs.chunks_exact(4)) {
        if crc32c(&data[start..end]).to_le_bytes() != crc {
            return Err(start);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn combining_two_crcs_gives_the_crc_of_both(a: Vec<u8>, b: Vec<u8>) {
            let whole = [a.clone(), b.clone()].concat();
            prop_assert_eq!(combine(crc32c(&a), crc32c(&b), b.len() as u64), crc32c(&whole));
            prop_assert_eq!(crc32c_of(&[&a, &b]), crc32c(&whole));
        }

        #[test]
        fn a_flipped_bit_is_found_in_its_piece(offset in 0usize..9000, data in prop::collection::vec(any::<u8>(), 1..10_000), at: prop::sample::Index, bit in 0u8..8) {
            let crcs = piece_crcs(offset, &data);
            prop_assert_eq!(check_pieces(offset, &data, &crcs), Ok(()));
            let mut flipped = data.clone();
            let at = at.index(data.len());
            flipped[at] ^= 1 << bit;
            let (start, _) = pieces(offset, data.len()).find(|(s, e)| (*s..*e).contains(&at)).unwrap();
            prop_assert_eq!(check_pieces(offset, &flipped, &crcs), Err(start));
        }
    }
}
