//! Files of the log: one segment each, pre-written with zeros, recycled when purged. Knows names, headers and sizes,
//! nothing of what records mean. Every change of a name is followed by a sync of the directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::{Buffer, Error, Result, crc};
use rustix::fs::{Advice, OFlags, fadvise};

use super::record::Salt;
use super::scan::DATA_START;
use crate::files::{durable, random_bytes, rename, sync, sync_data, sync_directory};

const MAGIC: &[u8; 8] = b"MNGRLOG1";
/// Spare files kept; more would only hold space.
const SPARES: usize = 2;
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// What a segment says of itself and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub sequence: u64,
    pub salt: Salt,
    /// Of the data directory, so that a file from elsewhere is noticed.
    pub incarnation: u64,
    /// Where the segment before ends, and its last batch: all of it was durable when this one was begun.
    pub previous_end: u64,
    pub previous_batch: u64,
}

impl SegmentHead {
    fn encode(&self) -> [u8; DATA_START] {
        let mut bytes = [0u8; DATA_START];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.salt);
        bytes[32..40].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_end.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous_batch.to_le_bytes());
        let crc = crc::crc32c(&bytes[..56]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<SegmentHead> {
        let bytes = bytes.get(..60)?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if &bytes[..8] != MAGIC || crc::crc32c(&bytes[..56]).to_le_bytes() != bytes[56..60] {
            return None;
        }
        Some(SegmentHead {
            sequence: u64_at(8),
            salt: bytes[16..32].try_into().expect("16 bytes"),
            incarnation: u64_at(32),
            previous_end: u64_at(40),
            previous_batch: u64_at(48),
        })
    }
}

#[derive(Debug)]
pub struct Segment {
    pub head: SegmentHead,
    pub path: PathBuf,
    /// For reading, through the page cache.
    pub file: File,
    /// For writing past the page cache, one durable write at a time; not every file system does that.
    direct: Option<File>,
    pub size: u64,
}

impl Segment {
    pub fn new(head: SegmentHead, path: PathBuf, file: File, size: u64) -> io::Result<Segment> {
        // A reader of old records must not fill the cache with pages that are about to be written past it.
        fadvise(&file, 0, None, Advice::Random)?;
        let direct = open_direct(&path);
        Ok(Segment { head, path, file, direct, size })
    }

    /// Durable when it returns. Whole blocks, at a multiple of a block.
    pub fn write_durably(&self, bytes: &Buffer, offset: u64) -> io::Result<()> {
        match &self.direct {
            Some(direct) => direct.write_all_at(bytes, offset).map(|()| durable(&self.file)),
            None => {
                self.file.write_all_at(bytes, offset)?;
                sync_data(&self.file)
            }
        }
    }
}

/// `None` where such a file cannot be had (tmpfs, larger blocks than ours): a read tells before a write depends on it.
fn open_direct(path: &Path) -> Option<File> {
    let flags = OFlags::DIRECT | OFlags::DSYNC;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    file.read_exact_at(&mut Buffer::take(DATA_START), 0).ok()?;
    Some(file)
}

pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// The folder of segments and spares.
#[derive(Clone, Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub segment_bytes: u64,
    pub incarnation: u64,
}

impl Folder {
    /// Sequence numbers of the segments there, ascending.
    pub fn sequences(&self) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if let Some(sequence) = name.strip_suffix(".log").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
                found.push(sequence);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn spares(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "spare") {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Begin the segment after `previous` (its sequence, end and last batch), in a spare file when one is there.
    pub fn begin(&self, sequence: u64, previous_end: u64, previous_batch: u64, room: u64) -> Result<Segment> {
        let context = |error: Error| error.context(format!("beginning log file {}", self.path.display()));
        let wanted = (DATA_START as u64 + room).max(self.segment_bytes);
        let fits = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|data| data.len() >= wanted);
        let spare = match self.spares().map_err(context)?.into_iter().find(fits) {
            Some(spare) => spare,
            None => self.make_spare(wanted).map_err(context)?,
        };
        self.adopt(&spare, sequence, previous_end, previous_batch).map_err(context)
    }

    fn adopt(&self, spare: &Path, sequence: u64, previous_end: u64, previous_batch: u64) -> Result<Segment> {
        let head = SegmentHead {
            sequence,
            salt: random_bytes()?,
            incarnation: self.incarnation,
            previous_end,
            previous_batch,
        };
        let file = OpenOptions::new().read(true).write(true).open(spare)?;
        // The new salt makes every old record of the file void, before the file counts as a segment.
        file.write_all_at(&head.encode(), 0)?;
        sync(&file)?;
        let path = self.path.join(file_name(sequence));
        rename(spare, &path)?;
        sync_directory(&self.path)?;
        let size = file.metadata()?.len();
        Ok(Segment::new(head, path, file, size)?)
    }

    /// Write a file of zeros, so that later syncs need no change of the file's extents.
    pub fn make_spare(&self, bytes: u64) -> Result<PathBuf> {
        let name = u64::from_le_bytes(random_bytes()?);
        let temporary = self.path.join(format!("{name:016x}.tmp"));
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        let mut offset = 0;
        while offset < bytes {
            let piece = (bytes - offset).min(ZEROS.len() as u64);
            if let Err(error) = file.write_all_at(&ZEROS[..piece as usize], offset) {
                let _ = std::fs::remove_file(&temporary);
                return Err(error.into());
            }
            offset += piece;
        }
        sync(&file)?;
        // Written past the cache later on: pages there would only have to be thrown out one by one.
        fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)?;
        let spare = temporary.with_extension("spare");
        rename(&temporary, &spare)?;
        sync_directory(&self.path)?;
        Ok(spare)
    }

    pub fn has_spare(&self) -> bool {
        self.spares().is_ok_and(|spares| !spares.is_empty())
    }

    /// Keep a purged segment's file for later, or remove it when enough are kept.
    pub fn recycle(&self, segment: &Segment) -> Result<()> {
        if self.spares()?.len() < SPARES && segment.size == self.segment_bytes {
            rename(&segment.path, &segment.path.with_extension("spare"))?;
        } else {
            std::fs::remove_file(&segment.path)?;
        }
        Ok(sync_directory(&self.path)?)
    }

    /// Remove what a stop in the middle left behind.
    pub fn tidy(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                match std::fs::remove_file(path) {
                    // A log closed a moment ago in this process just finished the spare file it was making.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }
}
