//! The vote on disk: two copies, each in its own page, written and synced one after the other. A cut in the first write
//! leaves the former vote in the second; after both, damage to either leaves the other. What is read at a start is made
//! durable in both copies before it counts, so that a save never overwrites the only good one. Layout: FORMAT.md,
//! "Raft log".

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::crc;

use crate::files::{forget_cached, sync, sync_data, sync_directory};
use crate::types::{Vote, vote_of};

const MAGIC: &[u8; 8] = b"MNGRVOT1";
const SLOT_BYTES: usize = 4096;
const USED_BYTES: usize = 44;
const FILE_BYTES: usize = 2 * SLOT_BYTES;

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
    /// What it tells is durable, in both copies: the process that wrote it may have been killed before its sync.
    pub fn open(path: &Path) -> io::Result<(VoteFile, Stored)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < FILE_BYTES as u64 {
            file.set_len(FILE_BYTES as u64)?;
        }
        sync(&file)?;
        forget_cached(&file)?;
        sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        let mut bytes = [0u8; FILE_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let copies = [decode(&bytes[..SLOT_BYTES]), decode(&bytes[SLOT_BYTES..])];
        let (sequence, stored) = match copies.iter().flatten().max_by_key(|copy| copy.0) {
            Some((sequence, vote)) => (*sequence, Stored::Vote(*vote)),
            // The first vote ever may have been cut while its first copy was written: then the second is all zeros.
            None if bytes[SLOT_BYTES..].iter().all(|byte| *byte == 0) => (0, Stored::Never),
            None => (0, Stored::Damaged),
        };
        let votes = VoteFile { file, sequence };
        if let Stored::Vote(vote) = &stored {
            votes.repair(copies.map(|copy| copy == Some((sequence, *vote))), vote)?;
        }
        Ok((votes, stored))
    }

    /// Write the newest vote where it is not, beside the durable one that was read.
    fn repair(&self, current: [bool; 2], vote: &Vote) -> io::Result<()> {
        for copy in (0..2).filter(|copy| !current[*copy]) {
            tracing::info!(copy, "a copy of the vote was old or unreadable and is written again");
            self.write_copy(copy, &encode(self.sequence, vote))?;
        }
        Ok(())
    }

    fn write_copy(&self, copy: usize, slot: &[u8; SLOT_BYTES]) -> io::Result<()> {
        self.file.write_all_at(slot, (copy * SLOT_BYTES) as u64)?;
        sync_data(&self.file)
    }

    /// Durable in both copies when it returns.
    pub fn save(&mut self, vote: &Vote) -> io::Result<()> {
        self.sequence += 1;
        let slot = encode(self.sequence, vote);
        self.write_copy(0, &slot)?;
        self.write_copy(1, &slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_cut;

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

    /// As a kill or a cut between the two writes of a save leaves the file.
    fn second_copy_left_behind(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[SLOT_BYTES..].copy_from_slice(&encode(1, &vote_of(3, 1, false)));
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_save_torn_after_a_start_never_takes_the_only_copy_of_the_vote_before_it() {
        let next = encode(3, &vote_of(9, 3, false));
        for cut in 1..USED_BYTES {
            let (_directory, path) = saved();
            second_copy_left_behind(&path);
            VoteFile::open(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[..cut].copy_from_slice(&next[..cut]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Vote(vote_of(4, 2, true)), "cut at {cut}");
        }
    }

    #[test]
    fn a_start_leaves_both_copies_alike_whichever_was_old_or_damaged() {
        for offset in [20, SLOT_BYTES + 20] {
            let (_directory, path) = saved();
            damage(&path, offset);
            VoteFile::open(&path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes[..SLOT_BYTES], bytes[SLOT_BYTES..]);
            assert_eq!(decode(&bytes), Some((2, vote_of(4, 2, true))));
        }
    }

    #[test]
    fn a_file_cut_short_before_its_first_vote_takes_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vote");
        std::fs::write(&path, [0u8; 100]).unwrap();
        let (mut file, stored) = VoteFile::open(&path).unwrap();
        assert_eq!(stored, Stored::Never);
        file.save(&vote_of(1, 1, false)).unwrap();
        assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Vote(vote_of(1, 1, false)));
    }

    #[test]
    fn a_power_cut_at_any_sync_leaves_the_last_vote_that_was_given_or_the_next() {
        let (directory, path) = saved();
        let disk = power_cut::watch(directory.path());
        let mut file = VoteFile::open(&path).unwrap().0;
        for term in 5..8 {
            disk.tell(term - 1);
            file.save(&vote_of(term, 1, false)).unwrap();
        }
        disk.tell(7);
        for image in disk.images() {
            let found = VoteFile::open(&image.restored().path().join("vote")).unwrap().1;
            let Stored::Vote(vote) = found else { panic!("with {}: {found:?}", image.what) };
            assert!(vote.leader_id.term >= image.told, "with {}: {vote:?}", image.what);
        }
    }

    #[test]
    fn a_vote_that_a_start_read_is_there_after_a_power_cut_although_its_writer_was_killed_before_its_sync() {
        let (directory, path) = saved();
        let disk = power_cut::watch(directory.path());
        let next = encode(3, &vote_of(9, 3, false));
        std::fs::write(&path, [next, next].concat()).unwrap();
        assert_eq!(VoteFile::open(&path).unwrap().1, Stored::Vote(vote_of(9, 3, false)));
        // The last four are what a cut leaves now.
        for image in disk.images().into_iter().rev().take(4) {
            let found = VoteFile::open(&image.restored().path().join("vote")).unwrap().1;
            assert_eq!(found, Stored::Vote(vote_of(9, 3, false)), "with {}", image.what);
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
