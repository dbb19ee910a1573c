//! One directory: its lock, health and room; `free` has its slots without a chunk. It decides nothing about chunks.
//!
//! Invariants: a failed fsync or write fences the disk until the store is opened anew; a slot number is either free or
//! owned by one `Slot`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Error, Result};
use parking_lot::{Mutex, RwLock};

use crate::free::FreeSlots;
use crate::fs::{Access, FileHandle, Fs};
use crate::history::DiskHistory;
use crate::identity;
use crate::layout::slot_path;
use crate::probe::Probe;
use crate::slot::Shared;
use crate::types::DiskCondition;

/// Slots of one folder, as a shift.
pub(crate) const FOLDER_SHIFT: u32 = 8;

/// Why a disk takes no writes.
#[derive(Clone, Debug)]
enum Health {
    Fine,
    ReadOnly(String),
    Failed(String),
}

pub(crate) struct Disk {
    pub index: usize,
    pub path: PathBuf,
    pub uuid: [u8; 16],
    pub probe: Probe,
    pub chunks: AtomicU64,
    pub history: DiskHistory,
    pub shared: Arc<Shared>,
    pub fs: Fs,
    /// Holds the exclusive lock of the directory.
    directory: FileHandle,
    reserve_bytes: u64,
    /// Room that chunks made lately may still take.
    promised_bytes: AtomicU64,
    health: RwLock<Health>,
    /// Room that writes under way are about to take.
    claimed_bytes: AtomicU64,
    pub(crate) free: FreeSlots,
    /// Folders with names that may not be durable yet, and a number that is new with each name.
    new_names: Mutex<HashMap<u64, u64>>,
    names_made: AtomicU64,
}

/// Room promised to one write, given back when it is dropped.
pub(crate) struct Claim<'a> {
    disk: &'a Disk,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.disk.claimed_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

impl Disk {
    pub fn new(
        index: usize,
        path: &Path,
        directory: FileHandle,
        uuid: [u8; 16],
        probe: Probe,
        reserve_bytes: u64,
        shared: Arc<Shared>,
    ) -> Disk {
        Disk {
            index,
            path: path.to_path_buf(),
            uuid,
            probe,
            chunks: AtomicU64::new(0),
            history: DiskHistory::load(&shared.env.fs(index), path),
            fs: shared.env.fs(index),
            shared,
            directory,
            reserve_bytes,
            promised_bytes: AtomicU64::new(0),
            health: RwLock::new(Health::Fine),
            claimed_bytes: AtomicU64::new(0),
            free: FreeSlots::default(),
            new_names: Mutex::default(),
            names_made: AtomicU64::new(0),
        }
    }

    pub fn set_read_only(&self, why: String) {
        let mut health = self.health.write();
        if matches!(*health, Health::Fine) {
            tracing::warn!(disk = %self.path.display(), "{why}");
            *health = Health::ReadOnly(why);
        }
    }

    /// Take no more writes until the store is opened anew.
    pub fn fence(&self, why: String) {
        let mut health = self.health.write();
        if !matches!(*health, Health::Failed(_)) {
            tracing::error!(disk = %self.path.display(), "{why}");
            *health = Health::Failed(why);
        }
    }

    pub fn failed(&self) -> bool {
        matches!(*self.health.read(), Health::Failed(_))
    }

    pub fn writable(&self) -> bool {
        matches!(*self.health.read(), Health::Fine)
    }

    /// Refuse what must write when the disk takes no writes.
    pub fn check_writable(&self) -> Result<()> {
        match &*self.health.read() {
            Health::Fine => Ok(()),
            Health::ReadOnly(why) => Err(Error::new(base::ErrorKind::Unavailable, libc::EROFS, why.clone())),
            Health::Failed(why) => Err(Error::unavailable(why.clone())),
        }
    }

    /// The condition, and the same in words.
    pub fn condition(&self) -> (DiskCondition, String) {
        match &*self.health.read() {
            Health::Fine => match self.room() {
                Ok(room) if room.free_bytes == 0 => (DiskCondition::Full, "full".to_string()),
                _ => (DiskCondition::Ok, "ok".to_string()),
            },
            Health::ReadOnly(why) => (DiskCondition::ReadOnly, format!("read-only: {why}")),
            Health::Failed(why) => (DiskCondition::Failed, format!("failed: {why}")),
        }
    }

    /// Turn an I/O error into the sentence the caller gets, and remember what it says about the disk.
    pub fn error(&self, doing: &str, error: &io::Error) -> Error {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let disk = self.path.display();
        let sentence = match errno {
            libc::ENOSPC | libc::EDQUOT => format!("{doing}: disk {disk} is full; delete files or add a disk"),
            libc::EROFS => {
                format!("{doing}: disk {disk} became read-only; check its file system, then restart the chunkserver")
            }
            libc::EMFILE | libc::ENFILE => format!("{doing}: too many open files; raise the limit (ulimit -n)"),
            _ => format!("{doing}: {error} on disk {disk}; look at the kernel log, replace the disk if it is broken"),
        };
        match errno {
            libc::EROFS => self.set_read_only(sentence.clone()),
            libc::EIO | libc::ENODEV | libc::ENXIO => self.fence(sentence.clone()),
            libc::ENOENT | libc::ESTALE | libc::ENOTDIR => self.check_present(),
            _ => {}
        }
        Error::new(base::ErrorKind::Unavailable, errno, sentence)
    }

    /// Fence the disk when its directory went away under the store.
    pub fn check_present(&self) {
        let file = self.path.join(identity::FILE_NAME);
        if let Err(error) = self.fs.check_exists(&file)
            && matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::EIO | libc::ESTALE | libc::ENODEV)
            )
        {
            self.fence(format!(
                "disk {} vanished ({error}); mount it again, then restart the chunkserver",
                self.path.display()
            ));
        }
    }

    /// fdatasync. A failure fences the disk for good: the kernel may call the next one a success.
    pub fn sync(&self, file: &FileHandle, doing: &str) -> Result<()> {
        self.check_writable()?;
        file.sync().map_err(|error| self.sync_error(doing, &error))
    }

    fn sync_error(&self, doing: &str, error: &io::Error) -> Error {
        self.fence(format!(
            "{doing}: fsync failed ({error}) on disk {}; its unsynced data is lost, check it, then restart the chunkserver",
            self.path.display()
        ));
        self.error(doing, error)
    }

    /// Note that a slot's folder got a name, or may have.
    pub fn note_name(&self, slot: u64) {
        let made = self.names_made.fetch_add(1, Ordering::Relaxed);
        self.new_names.lock().insert(slot >> FOLDER_SHIFT, made);
    }

    /// Make the names in a slot's folder durable, if any is new.
    pub fn sync_names(&self, slot: u64) -> Result<()> {
        let folder = slot >> FOLDER_SHIFT;
        let Some(seen) = self.new_names.lock().get(&folder).copied() else { return Ok(()) };
        self.sync_folder(slot)?;
        // Only now, so that nobody takes a name for durable before it is; and not when one was made meanwhile.
        let mut names = self.new_names.lock();
        if names.get(&folder) == Some(&seen) {
            names.remove(&folder);
        }
        Ok(())
    }

    fn sync_folder(&self, slot: u64) -> Result<()> {
        let folder = self.folder(slot);
        let file = self.fs.open_dir(&folder).map_err(|error| self.error("opening a slot folder", &error))?;
        self.check_writable()?;
        file.sync_all().map_err(|error| self.sync_error("syncing a slot folder", &error))
    }

    fn folder(&self, slot: u64) -> PathBuf {
        let mut path = self.path.join(slot_path(slot));
        path.pop();
        path
    }

    pub fn data_path(&self, slot: u64) -> PathBuf {
        self.path.join(format!("{}.data", slot_path(slot)))
    }

    pub fn sums_path(&self, slot: u64) -> PathBuf {
        self.path.join(format!("{}.sums", slot_path(slot)))
    }

    /// The file system that the directory lies on.
    pub fn device(&self) -> Option<u64> {
        self.directory.device().ok()
    }

    /// What new data may use, warm slots included.
    pub fn room(&self) -> io::Result<Room> {
        let stat = self.directory.statvfs()?;
        let total_bytes = stat.total_bytes;
        let warm_bytes = self.free.warm_bytes();
        let free_bytes = (stat.available_bytes + warm_bytes).saturating_sub(self.reserve(total_bytes));
        Ok(Room { total_bytes, free_bytes })
    }

    /// Room, less what chunks made lately will take: a burst of creates must not all go to one disk.
    pub fn expected_room(&self) -> u64 {
        let free_bytes = self.room().map_or(0, |room| room.free_bytes);
        free_bytes.saturating_sub(self.promised_bytes.load(Ordering::Relaxed))
    }

    pub fn promise(&self, bytes: u64) {
        self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Lately is over: what was written counts as used by now.
    pub fn keep_promises(&self) {
        self.promised_bytes.store(0, Ordering::Relaxed);
    }

    fn reserve(&self, total_bytes: u64) -> u64 {
        self.reserve_bytes.min(total_bytes / 20)
    }

    /// Room for `bytes` more, to be held until they are written. Refused when that would touch the reserve together
    /// with what other writers hold: the file system does not know yet of what they are about to allocate.
    pub fn claim(&self, bytes: u64) -> Result<Claim<'_>> {
        self.claimed_bytes.fetch_add(bytes, Ordering::AcqRel);
        let claim = Claim { disk: self, bytes };
        if self.has_room_for_claims()? {
            return Ok(claim);
        }
        self.release_warm();
        if self.has_room_for_claims()? {
            return Ok(claim);
        }
        Err(self.error("writing a chunk", &io::Error::from_raw_os_error(libc::ENOSPC)))
    }

    fn has_room_for_claims(&self) -> Result<bool> {
        let stat = self.directory.statvfs().map_err(|error| self.error("reading a disk's free space", &error))?;
        let wanted = self.claimed_bytes.load(Ordering::Acquire) + self.reserve(stat.total_bytes);
        Ok(stat.available_bytes >= wanted)
    }

    /// Well away from being full: what is free may stay allocated for later.
    pub fn is_roomy(&self) -> bool {
        self.directory.statvfs().is_ok_and(|stat| {
            stat.available_bytes > stat.total_bytes / 10 && stat.available_bytes > 2 * self.reserve_bytes
        })
    }

    /// Open a slot's file, creating it and its folder when `create`.
    pub fn open_file(&self, slot: u64, path: &Path, create: bool, direct: bool) -> io::Result<FileHandle> {
        let writable = self.writable();
        let access = Access { write: writable, direct, ..Access::READ };
        match self.fs.open(path, access) {
            Err(error) if create && writable && error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let access = Access { create: true, ..access };
        let made = match self.fs.open(path, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(&self.path);
                // Only below a directory that is still there: never grow a tree under a lost mount point.
                self.fs.create_dir(folder)?;
                self.fs.sync_dir(&self.path.join("chunks"))?;
                self.fs.open(path, access)
            }
            other => other,
        };
        self.note_name(slot);
        made
    }

    pub fn add_chunks(&self, by: i64) {
        self.chunks.fetch_add(by as u64, Ordering::Relaxed);
    }
}
