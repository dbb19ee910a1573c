//! What each disk remembers of the masters: the last registration, the last position that a leader named, and up to
//! where its copies are of an older image. The file `mooseng-history` has two slots that are written in turn, in place,
//! so that a full disk can remember too. Source: FORMAT.md, "Chunkserver directory".
//!
//! Invariants: a slot is overwritten only while the other one is durable; what was remembered once is not remembered
//! less later, except where a leader of a later registration says so.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::Error;
use base::crc::crc32c;
use parking_lot::Mutex;

use crate::disk::Disk;
use crate::fs::{Access, FileHandle, Fs};
use crate::slot::Slot;
use crate::store::{Inner, Store};

pub(crate) const FILE_NAME: &str = "mooseng-history";
const MAGIC: [u8; 8] = *b"MNGHIST\0";
const FORMAT: u64 = 1;
/// A slot is a page of its own: what tears one write leaves the other slot whole.
const SLOT_BYTES: u64 = 4096;
/// Magic, ten numbers, CRC-32C.
const RECORD_BYTES: usize = 8 + 10 * 8 + 4;

/// A registration, and the position that its leader named last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// 0: never registered.
    pub epoch: u64,
    pub index: u64,
    pub mark: u64,
    pub next_chunk: u64,
    pub next_inode: u64,
    pub next_session: u64,
    pub next_epoch: u64,
}

impl Memory {
    /// Of two memories the one with the higher rank is the later one.
    pub(crate) fn rank(&self) -> (u64, u64) {
        (self.epoch, self.index)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    sequence: u64,
    memory: Memory,
    /// Copies with incarnations up to this one are of an older image of the disk; 0: none.
    outdated_until: u64,
}

/// Why something was not remembered.
pub(crate) enum Failure {
    /// As before: the disk has no room, or takes no writes.
    Write(io::Error),
    /// Nobody knows what the disk has now.
    Sync(io::Error),
}

/// The memory of one disk.
pub(crate) struct DiskHistory {
    /// Open for good: below a lost mount point nothing is made anew. None: the disk takes no writes.
    file: Option<FileHandle>,
    record: Mutex<Record>,
    outdated_until: AtomicU64,
}

impl DiskHistory {
    /// What the disk remembers; nothing, where it has no whole record. Makes room for a memory where there is none.
    pub fn load(fs: &Fs, directory: &Path) -> DiskHistory {
        let path = directory.join(FILE_NAME);
        let file = open(fs, directory, &path).map_err(|error| {
            tracing::warn!(path = %path.display(), %error, "this disk cannot remember what it learns of the masters");
        });
        let record = read(fs, &path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "what this disk knows of the masters cannot be read; its copies may be made anew");
            Record::default()
        });
        DiskHistory {
            file: file.ok(),
            record: Mutex::new(record),
            outdated_until: AtomicU64::new(record.outdated_until),
        }
    }

    pub fn memory(&self) -> Memory {
        self.record.lock().memory
    }

    /// Whether a copy of this incarnation is of an older image of the disk.
    pub fn is_outdated(&self, incarnation: u64) -> bool {
        incarnation <= self.outdated_until.load(Ordering::Acquire)
    }

    pub fn has_outdated(&self) -> bool {
        self.outdated_until.load(Ordering::Acquire) > 0
    }

    /// Remember durably; nothing is written when the disk does already. `outdated_until`: see `Record`.
    pub fn remember(&self, memory: Memory, outdated_until: u64) -> Result<(), Failure> {
        let mut record = self.record.lock();
        let next = Record {
            sequence: record.sequence + 1,
            memory: if memory.rank() > record.memory.rank() { memory } else { record.memory },
            outdated_until: outdated_until.max(record.outdated_until),
        };
        if (next.memory, next.outdated_until) == (record.memory, record.outdated_until) {
            return Ok(());
        }
        let file = self.file.as_ref().ok_or_else(|| Failure::Write(io::Error::from_raw_os_error(libc::EROFS)))?;
        let offset = next.sequence % 2 * SLOT_BYTES;
        file.pwrite(&encode(&next), offset).map_err(Failure::Write)?;
        file.sync().map_err(Failure::Sync)?;
        *record = next;
        self.outdated_until.store(next.outdated_until, Ordering::Release);
        Ok(())
    }
}

fn read(fs: &Fs, path: &Path) -> io::Result<Record> {
    let bytes = match fs.read_small(path, 2 * SLOT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(error),
    };
    let slots = [slot(&bytes, 0), slot(&bytes, SLOT_BYTES as usize)];
    let whole = slots.iter().flatten().max_by_key(|record| record.sequence).copied();
    let is_blank = bytes.iter().all(|byte| *byte == 0); // made, and never written since
    if whole.is_none() && !is_blank {
        return Err(io::Error::other("both records are damaged"));
    }
    Ok(whole.unwrap_or_default())
}

fn slot(bytes: &[u8], offset: usize) -> Option<Record> {
    decode(bytes.get(offset..offset + RECORD_BYTES)?.try_into().ok()?)
}

/// The file, with room for both records from its first day on.
fn open(fs: &Fs, directory: &Path, path: &Path) -> io::Result<FileHandle> {
    let file = fs.open(path, Access::CREATE)?;
    if (fs.read_small(path, 2 * SLOT_BYTES)?.len() as u64) < 2 * SLOT_BYTES {
        file.pwrite(&[0; SLOT_BYTES as usize], SLOT_BYTES)?;
        file.sync_all()?;
        fs.sync_dir(directory)?;
    }
    Ok(file)
}

fn encode(record: &Record) -> Vec<u8> {
    let memory = &record.memory;
    let numbers = [
        FORMAT,
        record.sequence,
        memory.epoch,
        memory.index,
        memory.mark,
        memory.next_chunk,
        memory.next_inode,
        memory.next_session,
        memory.next_epoch,
        record.outdated_until,
    ];
    let mut bytes = Vec::from(MAGIC);
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Record> {
    let (body, crc) = bytes.split_at(RECORD_BYTES - 4);
    if body[..8] != MAGIC || crc32c(body).to_le_bytes() != crc {
        return None;
    }
    let mut numbers = body[8..].chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    if next() != FORMAT {
        return None;
    }
    Some(Record {
        sequence: next(),
        memory: Memory {
            epoch: next(),
            index: next(),
            mark: next(),
            next_chunk: next(),
            next_inode: next(),
            next_session: next(),
            next_epoch: next(),
        },
        outdated_until: next(),
    })
}

impl Slot {
    pub fn is_outdated(&self) -> bool {
        self.disk.history.is_outdated(self.incarnation)
    }

    /// Refuse to use a copy of an older image of its disk.
    pub fn check_current(&self) -> base::Result<()> {
        if !self.is_outdated() {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "the copy of chunk {} is of an older image of disk {}; it is kept, and made anew from another server",
            self.id,
            self.disk.path.display()
        )))
    }
}

impl Store {
    /// What this server knows of the masters: the latest memory of its disks.
    pub fn memory(&self) -> Memory {
        self.inner.open_disks().map(|disk| disk.history.memory()).max_by_key(Memory::rank).unwrap_or_default()
    }

    /// What each open disk knows by itself.
    pub fn memories(&self) -> Vec<(PathBuf, Memory)> {
        self.inner.open_disks().map(|disk| (disk.path.clone(), disk.history.memory())).collect()
    }

    /// The highest id of a chunk here; 0: none.
    pub fn highest_chunk(&self) -> u64 {
        self.inner.index.read().last_key_value().map_or(0, |(id, _)| *id)
    }

    /// Remember durably, on every disk that takes writes. What `outdated` disks hold now counts as of an older image from
    /// here on. An error: no disk remembers it.
    pub fn remember(&self, memory: Memory, outdated: &[PathBuf]) -> base::Result<()> {
        let newest = self.inner.shared.incarnation();
        let mut failed = None;
        let mut remembered = 0;
        for disk in self.inner.open_disks() {
            let until = if outdated.contains(&disk.path) { newest } else { 0 };
            let outcome = disk
                .check_writable()
                .and_then(|()| disk.history.remember(memory, until).map_err(|failure| disk.forgetful(&failure)));
            match outcome {
                Ok(()) => remembered += 1,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if remembered == 0 => Err(error),
            _ => Ok(()),
        }
    }
}

impl Disk {
    /// What a failure to remember says about the disk.
    fn forgetful(&self, failure: &Failure) -> Error {
        let doing = "remembering the masters' position";
        match failure {
            Failure::Write(error) => self.error(doing, error),
            Failure::Sync(error) => {
                self.fence(format!(
                    "{doing}: fsync failed ({error}) on disk {}; check it, then restart the chunkserver",
                    self.path.display()
                ));
                self.error(doing, error)
            }
        }
    }
}

impl Inner {
    /// Copies of older images, by disk.
    pub(crate) fn outdated(&self) -> HashMap<usize, u64> {
        let mut counts = HashMap::new();
        if self.open_disks().any(|disk| disk.history.has_outdated()) {
            for slot in self.index.read().values().filter(|slot| slot.is_outdated()) {
                *counts.entry(slot.disk.index).or_default() += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(epoch: u64, index: u64) -> Memory {
        Memory { epoch, index, mark: 7, next_chunk: 8, next_inode: 9, next_session: 10, next_epoch: 11 }
    }

    fn remember(history: &DiskHistory, memory: Memory, outdated_until: u64) {
        assert!(history.remember(memory, outdated_until).is_ok());
    }

    #[test]
    fn what_was_remembered_is_there_after_a_restart_and_never_less() {
        let disk = tempfile::tempdir().unwrap();
        let history = DiskHistory::load(&Fs::Real, disk.path());
        assert_eq!(history.memory(), Memory::default());
        remember(&history, memory(3, 50), 0);
        remember(&history, memory(3, 60), 0);
        remember(&history, memory(3, 55), 0);
        remember(&history, memory(2, 99), 0);
        let again = DiskHistory::load(&Fs::Real, disk.path());
        assert_eq!(again.memory(), memory(3, 60));
        remember(&again, memory(4, 10), 0);
        assert_eq!(
            DiskHistory::load(&Fs::Real, disk.path()).memory(),
            memory(4, 10),
            "a later registration has its own positions"
        );
    }

    #[test]
    fn copies_up_to_a_mark_are_outdated_and_stay_so() {
        let disk = tempfile::tempdir().unwrap();
        let history = DiskHistory::load(&Fs::Real, disk.path());
        assert!(!history.is_outdated(1));
        remember(&history, memory(3, 50), 1000);
        remember(&history, memory(4, 50), 0);
        let again = DiskHistory::load(&Fs::Real, disk.path());
        assert!(again.is_outdated(1000) && !again.is_outdated(1001));
    }

    #[test]
    fn a_write_cut_anywhere_leaves_the_record_before_it() {
        let disk = tempfile::tempdir().unwrap();
        let history = DiskHistory::load(&Fs::Real, disk.path());
        (1..=4).for_each(|index| remember(&history, memory(1, index), 0));
        let path = disk.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..RECORD_BYTES {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(DiskHistory::load(&Fs::Real, disk.path()).memory(), memory(1, 3), "byte {at}");
        }
    }

    #[test]
    fn a_file_without_a_whole_record_is_as_none() {
        let disk = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], &[0; 100], &[0xFF; 8192]] {
            std::fs::write(disk.path().join(FILE_NAME), bytes).unwrap();
            assert_eq!(DiskHistory::load(&Fs::Real, disk.path()).memory(), Memory::default());
        }
    }
}
