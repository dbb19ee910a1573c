//! Which blocks of one chunk exist: what a copy says, less what is behind a trim mark, and what is written here over it.
//! Pure.

use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK};

/// One bit per block, least significant first; what is not there is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks(Vec<u8>);

impl Blocks {
    /// As in `ChunkMapReply`; a peer's word for more blocks than a chunk has counts for nothing.
    pub fn of(mut present: Vec<u8>) -> Blocks {
        present.truncate(BLOCKS_PER_CHUNK / 8);
        Blocks(present)
    }

    /// What begins at byte `length` or behind it is gone.
    pub fn cut(&mut self, length: u32) {
        let kept = length.div_ceil(BLOCK_BYTES as u32) as usize;
        for block in kept..self.0.len() * 8 {
            self.0[block / 8] &= !(1 << (block % 8));
        }
    }

    /// The bytes `start..end` were written.
    pub fn write(&mut self, start: u32, end: u32) {
        let blocks = start as usize / BLOCK_BYTES..(end as usize).div_ceil(BLOCK_BYTES).min(BLOCKS_PER_CHUNK);
        self.0.resize(self.0.len().max(blocks.end.div_ceil(8)), 0);
        for block in blocks {
            self.0[block / 8] |= 1 << (block % 8);
        }
    }

    /// The bytes `start..end` became a hole.
    pub fn punch(&mut self, start: u32, end: u32) {
        let blocks = start.div_ceil(BLOCK_BYTES as u32) as usize..(end as usize / BLOCK_BYTES).min(self.0.len() * 8);
        for block in blocks {
            self.0[block / 8] &= !(1 << (block % 8));
        }
    }

    fn has(&self, block: usize) -> bool {
        self.0.get(block / 8).is_some_and(|byte| byte >> (block % 8) & 1 != 0)
    }

    /// The first byte at or behind `offset` that lies in a block which exists, or in one that does not.
    pub fn next(&self, offset: u32, exists: bool) -> Option<u32> {
        let first = offset as usize / BLOCK_BYTES;
        let found = (first..BLOCKS_PER_CHUNK).find(|block| self.has(*block) == exists)?;
        Some(if found == first { offset } else { (found * BLOCK_BYTES) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u32 = BLOCK_BYTES as u32;

    #[test]
    fn holes_and_data_begin_at_blocks_and_where_one_stands() {
        let mut blocks = Blocks::of(vec![0b0000_0110]);
        assert_eq!((blocks.next(5, true), blocks.next(5, false)), (Some(BLOCK), Some(5)));
        assert_eq!((blocks.next(BLOCK + 7, true), blocks.next(BLOCK + 7, false)), (Some(BLOCK + 7), Some(3 * BLOCK)));
        assert_eq!(blocks.next(3 * BLOCK, true), None);
        blocks.write(20 * BLOCK + 1, 20 * BLOCK + 2);
        assert_eq!(blocks.next(3 * BLOCK, true), Some(20 * BLOCK));
        blocks.punch(BLOCK + 1, 3 * BLOCK + 5);
        assert_eq!((blocks.next(0, true), blocks.next(BLOCK, false)), (Some(BLOCK), Some(2 * BLOCK)));
        blocks.cut(BLOCK + 1);
        assert_eq!((blocks.next(0, true), blocks.next(2 * BLOCK, true)), (Some(BLOCK), None));
        assert_eq!(Blocks::of(vec![0xFF; 1 << 20]).next(0, false), None, "a chunk has no more than its blocks");
    }

    proptest! {
        #[test]
        fn what_was_written_is_data_and_the_rest_a_hole(
            writes in prop::collection::vec((0u32..60, 1u32..9), 0..8),
            cut in prop::option::of(0u32..70),
            at in 0u32..64,
        ) {
            let mut blocks = Blocks::default();
            let mut model = [false; 70];
            for (start, count) in writes {
                blocks.write(start * BLOCK + 3, (start + count) * BLOCK - 3);
                (start..start + count).for_each(|block| model[block as usize] = true);
            }
            if let Some(cut) = cut {
                blocks.cut(cut * BLOCK);
                (cut..70).for_each(|block| model[block as usize] = false);
            }
            let data = (at..70).find(|block| model[*block as usize]).map(|block| block * BLOCK);
            let hole = (at..).find(|block| !model.get(*block as usize).copied().unwrap_or(false)).map(|block| block * BLOCK);
            prop_assert_eq!((blocks.next(at * BLOCK, true), blocks.next(at * BLOCK, false)), (data, hole));
        }
    }
}
