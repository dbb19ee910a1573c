//! The vote on disk: two copies, each in its own page, written and synced one after the other. A cut in the first write
//! leaves the former vote in the second; after both, damage to either leaves the other. Layout: FORMAT.md, "Raft log".

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::crc;

use crate::files::sync_directory;
use crate::types::{Vote, vote_of};

const MAGIC: &[u8; 8] = b"MNGRVOT1";
const SLOT_BYTES: usize = 4096;
const USED_BYTES: usize = 44;

#[derive(Debug)]
pub struct VoteFile {
    file: File,
    sequence: u64,
}

fn encode(sequence: u64, vote: &Vote) -> [u8; SLOT_BYTES] {
    let mut slot = [0u8; SLOT_BYTES];
    slot[0..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&sequence.to_le_bytes());
    slot[16..24].copy_from_slice(&vote.leader_id.term.to_le_bytes());
    slot[24..32].copy_from_slice(&vote.leader_id.voted_for.to_le_bytes());
    slot[32..40].copy_from_slice(&u64::from(vote.committed).to_le_bytes());
    let crc = crc::crc32c(&slot[..40]);
    slot[40..USED_BYTES].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, Vote)> {
    let slot = slot.get(..USED_BYTES)?;
    let u64_at = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
    if &slot[..8] != MAGIC || crc::crc32c(&slot[..40]).to_le_bytes() != slot[40..USED_BYTES] {
        return None;
    }
    Some((u64_at(8), vote_of(u64_at(16), u64_at(24), u64_at(32) != 0)))
}

/// What the file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    Never,
    Vote(Vote),
    /// Something was written, and neither copy is readable: whom this member voted for is not known.
    Damaged,
}

impl VoteFile {
    pub fn open(path: &Path) -> io::Result<(VoteFile, Stored)> {
        let created = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if created {
            file.set_len(2 * SLOT_BYTES as u64)?;
            file.sync_all()?;
            sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        }
        let mut bytes = [0u8; 2 * SLOT_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        let newest =
            [&bytes[..SLOT_BYTES], &bytes[SLOT_BYTES..]].into_iter().filter_map(decode).max_by_key(|slot| slot.0);
        let (sequence, stored) = match newest {
            Some((sequence, vote)) => (sequence, Stored::Vote(vote)),
            // The first vote ever may have been cut while its first copy was written: then the second is all zeros.
            None if bytes[SLOT_BYTES..].iter().all(|byte| *byte == 0) => (0, Stored::Never),
            None => (0, Stored::Damaged),
        };
        Ok((VoteFile { file, sequence }, stored))
    }

    /// Durable in both copies when it returns.
    pub fn save(&mut self, vote: &Vote) -> io::Result<()> {
        self.sequence += 1;
        let slot = encode(self.sequence, vote);
        for copy in 0..2 {
            self.file.write_all_at(&slot, copy * SLOT_BYTES as u64)?;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vote");
        let (mut file, stored) = VoteFile::open(&path).unwrap();
        assert_eq!(stored, Stored::Never);
        file.save(&vote_of(3, 1, false)).unwrap();
        file.save(&vote_of(4, 2, true)).unwrap();
        (directory, path)
    }

    fn damage(path: &Path, offset: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_newest_vote_survives_damage_to_either_copy() {
        for copy in 0..2 {
            for offset in 0..USED_BYTES {
                let (_directory, path) = saved();
                damage(&path, copy * SLOT_BYTES + offset);
                assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Vote(vote_of(4, 2, true)));
            }
        }
    }

    #[test]
    fn a_cut_while_the_first_copy_is_written_leaves_the_former_vote() {
        let (_directory, path) = saved();
        let next = encode(3, &vote_of(9, 3, false));
        for cut in 0..USED_BYTES {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[..cut].copy_from_slice(&next[..cut]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Vote(vote_of(4, 2, true)), "cut at {cut}");
        }
    }

    #[test]
    fn damage_to_both_copies_is_told_from_never() {
        let (_directory, path) = saved();
        damage(&path, 20);
        damage(&path, SLOT_BYTES + 20);
        assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Damaged);
    }
}
