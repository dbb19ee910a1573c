//! How far the log was committed and durable, as last noted. Written without a sync: it outlives the process but may
//! lag after a power cut. Too low is harmless; too high cannot be, because only what is durable is noted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::crc;

use crate::types::{LogId, log_id, term_of};

const MAGIC: &[u8; 8] = b"MNGRPRG1";
const BYTES: usize = 52;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub committed: Option<LogId>,
    /// Everything before this offset of this segment is durable.
    pub synced_segment: u64,
    pub synced_offset: u64,
}

#[derive(Debug)]
pub struct ProgressFile(File);

impl ProgressFile {
    /// An unreadable note counts as none.
    pub fn open(path: &Path) -> io::Result<(ProgressFile, Progress)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = [0u8; BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        Ok((ProgressFile(file), decode(&bytes[..read]).unwrap_or_default()))
    }

    pub fn save(&self, progress: &Progress) -> io::Result<()> {
        let mut bytes = [0u8; BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&progress.committed.map_or(u64::MAX, |id| id.index).to_le_bytes());
        bytes[16..24].copy_from_slice(&progress.committed.map_or(0, |id| term_of(&id)).to_le_bytes());
        bytes[24..32].copy_from_slice(&progress.synced_segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&progress.synced_offset.to_le_bytes());
        let crc = crc::crc32c(&bytes[..48]);
        bytes[48..].copy_from_slice(&crc.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

fn decode(bytes: &[u8]) -> Option<Progress> {
    let bytes = bytes.get(..BYTES)?;
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if &bytes[..8] != MAGIC || crc::crc32c(&bytes[..48]).to_le_bytes() != bytes[48..] {
        return None;
    }
    let committed = (u64_at(8) != u64::MAX).then(|| log_id(u64_at(16), u64_at(8)));
    Some(Progress { committed, synced_segment: u64_at(24), synced_offset: u64_at(32) })
}
