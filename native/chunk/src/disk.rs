//! One directory: its lock, health and room; `free` has its slots without a chunk. It decides nothing about chunks.
//!
//! Invariants: a failed fsync or write fences the disk until the store is opened anew; a slot number is either free or
//! owned by one `Slot`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Error, Result};
use parking_lot::{Mutex, RwLock};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::free::FreeSlots;
use crate::history::DiskHistory;
use crate::identity;
use crate::layout::slot_path;
use crate::probe::Probe;
use crate::slot::Shared;

/// Slots of one folder, as a shift.
pub(crate) const FOLDER_SHIFT: u32 = 8;

/// One of a slot's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Data,
    Sums,
}

/// Slot number and file: what a write or sync goes to.
pub(crate) type Place = (u64, Part);

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
    /// Holds the exclusive lock of the directory.
    directory: File,
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
    /// Sees every write and sync, and can make them fail.
    #[cfg(test)]
    pub tap: crate::tap::Tap,
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
        directory: File,
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
            history: DiskHistory::load(path),
            shared,
            directory,
            reserve_bytes,
            promised_bytes: AtomicU64::new(0),
            health: RwLock::new(Health::Fine),
            claimed_bytes: AtomicU64::new(0),
            free: FreeSlots::default(),
            new_names: Mutex::default(),
            names_made: AtomicU64::new(0),
            #[cfg(test)]
            tap: crate::tap::Tap::default(),
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

    /// The state as `DiskStatus` words it.
    pub fn state(&self) -> String {
        match &*self.health.read() {
            Health::Fine => match self.room() {
                Ok(room) if room.free_bytes == 0 => "full".to_string(),
                _ => "ok".to_string(),
            },
            Health::ReadOnly(why) => format!("read-only: {why}"),
            Health::Failed(why) => format!("failed: {why}"),
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
        if let Err(error) = fs::symlink_metadata(&file)
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

    /// Write all of `bytes` at `offset` of a slot's file.
    pub fn put(&self, place: Place, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.tap.put(place, file, bytes, offset)?;
        let _ = place;
        file.write_all_at(bytes, offset)
    }

    pub fn put_length(&self, place: Place, file: &File, length: u64) -> io::Result<()> {
        #[cfg(test)]
        self.tap.note(place, crate::tap::Change::Length(length));
        let _ = place;
        file.set_len(length)
    }

    /// Give the space of a range back. Where the file system cannot, it stays taken.
    pub fn punch(&self, place: Place, file: &File, from: u64, length: u64) -> io::Result<()> {
        #[cfg(test)]
        self.tap.note(place, crate::tap::Change::Hole(from, length));
        let _ = place;
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// fdatasync. A failure fences the disk for good: the kernel may call the next one a success.
    pub fn sync(&self, place: Place, file: &File, doing: &str) -> Result<()> {
        self.check_writable()?;
        #[cfg(test)]
        let synced = self.tap.sync(place).and_then(|()| file.sync_data());
        #[cfg(not(test))]
        let synced = file.sync_data();
        let _ = place;
        synced.map_err(|error| self.sync_error(doing, &error))?;
        #[cfg(test)]
        self.tap.note(place, crate::tap::Change::Synced);
        Ok(())
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
        let file = File::open(&folder).map_err(|error| self.error("opening a slot folder", &error))?;
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
        rustix::fs::fstat(&self.directory).ok().map(|stat| stat.st_dev)
    }

    /// What new data may use, warm slots included.
    pub fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        let total_bytes = stat.f_blocks * stat.f_frsize;
        let warm_bytes = self.free.warm_bytes();
        let free_bytes = (stat.f_bavail * stat.f_frsize + warm_bytes).saturating_sub(self.reserve(total_bytes));
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
        let stat = rustix::fs::fstatvfs(&self.directory)
            .map_err(|error| self.error("reading a disk's free space", &error.into()))?;
        let wanted = self.claimed_bytes.load(Ordering::Acquire) + self.reserve(stat.f_blocks * stat.f_frsize);
        Ok(stat.f_bavail * stat.f_frsize >= wanted)
    }

    /// Well away from being full: what is free may stay allocated for later.
    pub fn is_roomy(&self) -> bool {
        rustix::fs::fstatvfs(&self.directory).is_ok_and(|stat| {
            stat.f_bavail > stat.f_blocks / 10 && stat.f_bavail * stat.f_frsize > 2 * self.reserve_bytes
        })
    }

    /// Open a slot's file, creating it and its folder when `create`.
    pub fn open_file(&self, slot: u64, path: &Path, create: bool, extra_flags: i32) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let writable = self.writable();
        let mut options = OpenOptions::new();
        options.read(true).write(writable).custom_flags(extra_flags);
        match options.open(path) {
            Err(error) if create && writable && error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        options.create(true);
        let made = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(&self.path);
                // Only below a directory that is still there: never grow a tree under a lost mount point.
                fs::create_dir(folder)?;
                File::open(self.path.join("chunks"))?.sync_all()?;
                options.open(path)
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
