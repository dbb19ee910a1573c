//! What survives a power cut. One draw decides its kind, as an average over sectors would never show a whole file old
//! beside a whole file new:
//!
//! - nothing unsynced, or all of it;
//! - everything up to one moment, the write at it torn;
//! - whole files, by draw;
//! - each sector of 512 bytes, each page of 4 KiB or each operation by itself, by draw.

use base::random::SplitMix;

/// Draws; the same seed gives the same ones.
#[derive(Clone)]
pub(crate) struct Luck {
    random: SplitMix,
    mood: Mood,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Nothing,
    All,
    /// What has a lower number.
    Until(u64),
    /// The file looked at now survives, or not.
    Files(bool),
    /// Pieces of so many bytes.
    Pieces(usize),
}

const WHOLE: usize = usize::MAX;

impl Luck {
    pub fn new(seed: u64) -> Luck {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        Luck { random: SplitMix(state), mood: Mood::Pieces(512) }
    }

    pub fn draw(&mut self) -> u64 {
        self.random.draw()
    }

    fn coin(&mut self) -> bool {
        self.draw().is_multiple_of(2)
    }

    /// Draw the kind of the cut. Unsynced changes have numbers in this range.
    pub fn choose_mood(&mut self, numbers: std::ops::Range<u64>) {
        self.mood = match self.draw() % 8 {
            0 => Mood::Nothing,
            1 => Mood::All,
            2 => Mood::Until(numbers.start + self.draw() % (numbers.end - numbers.start).max(1)),
            3 => Mood::Files(false),
            4 | 5 => Mood::Pieces(512),
            6 => Mood::Pieces(4096),
            _ => Mood::Pieces(WHOLE),
        };
    }

    /// The changes asked about from here on are of another file.
    pub fn next_file(&mut self) {
        if let Mood::Files(_) = self.mood {
            self.mood = Mood::Files(self.coin());
        }
    }

    /// Whether this change, or the next piece of it, survives.
    pub fn keeps(&mut self, number: u64) -> bool {
        match self.mood {
            Mood::Nothing => false,
            Mood::All => true,
            Mood::Until(limit) => number < limit || (number == limit && self.coin()),
            Mood::Files(keeps) => keeps,
            Mood::Pieces(_) => self.coin(),
        }
    }

    /// Bytes up to the next place where a write at `offset` may tear.
    pub fn piece_bytes(&self, offset: u64) -> usize {
        match self.mood {
            Mood::Until(_) => 512 - (offset % 512) as usize,
            Mood::Pieces(WHOLE) | Mood::Nothing | Mood::All | Mood::Files(_) => WHOLE,
            Mood::Pieces(bytes) => bytes - (offset % bytes as u64) as usize,
        }
    }
}
