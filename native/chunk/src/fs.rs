//! The one door to files. The store names a file system per disk and opens handles in it; nothing else of the crate
//! touches `std::fs`, but for the two measurements (`bench`, `probe`), which only a real disk can answer.
//!
//! `Fs` and `FileHandle` are enums and not traits: without the feature `sim` each has one variant, and every call here
//! is the plain call. With it the other variant is a disk in memory that can lose power (`sim`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;

#[cfg(any(test, feature = "sim"))]
use crate::sim::{Mount, SimFile};

/// Too short, and a restart finds its own predecessor; too long, and a real conflict is reported late.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Zeros written at a time where a range of them has to be written.
const ZEROS_AT_ONCE: u64 = 1 << 20;

/// What a file system says about its room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statvfs {
    pub total_bytes: u64,
    /// What this process may still take.
    pub available_bytes: u64,
}

/// How a file is opened; always for reading too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub write: bool,
    pub create: bool,
    pub truncate: bool,
    /// Past the page cache.
    pub direct: bool,
}

impl Access {
    pub const READ: Access = Access { write: false, create: false, truncate: false, direct: false };
    pub const WRITE: Access = Access { write: true, ..Access::READ };
    pub const CREATE: Access = Access { create: true, ..Access::WRITE };
    /// A new file in place of whatever has the name.
    pub const REPLACE: Access = Access { truncate: true, ..Access::CREATE };
}

/// The file system that a store's directory lies on.
#[derive(Clone)]
pub(crate) enum Fs {
    Real,
    #[cfg(any(test, feature = "sim"))]
    Simulated(Mount),
}

impl Fs {
    pub fn open(&self, path: &Path, access: Access) -> io::Result<FileHandle> {
        match self {
            Fs::Real => {
                let mut options = OpenOptions::new();
                options.read(true).write(access.write).create(access.create).truncate(access.truncate);
                options.custom_flags(if access.direct { libc::O_DIRECT } else { 0 });
                options.open(path).map(FileHandle::Real)
            }
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.open(path, access).map(FileHandle::Simulated),
        }
    }

    pub fn open_dir(&self, path: &Path) -> io::Result<FileHandle> {
        match self {
            Fs::Real => File::open(path).map(FileHandle::Real),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.open_dir(path).map(FileHandle::Simulated),
        }
    }

    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Fs::Real => fs::create_dir(path),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.create_dir(path),
        }
    }

    /// Make the names in a directory durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.open_dir(path)?.sync_all()
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Fs::Real => fs::rename(from, to),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.rename(from, to),
        }
    }

    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        match self {
            Fs::Real => fs::remove_file(path),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.unlink(path),
        }
    }

    /// Paths of what a directory holds, in no order.
    pub fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match self {
            Fs::Real => fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect(),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.list(path),
        }
    }

    /// Whether the path is a directory; an error where nothing is.
    pub fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self {
            Fs::Real => fs::metadata(path).map(|meta| meta.is_dir()),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.is_dir(path),
        }
    }

    /// An error unless something has this name.
    pub fn check_exists(&self, path: &Path) -> io::Result<()> {
        match self {
            Fs::Real => fs::symlink_metadata(path).map(drop),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.is_dir(path).map(drop),
        }
    }

    /// The whole of a small file, cut after `max_bytes`.
    pub fn read_small(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.open(path, Access::READ)? {
            FileHandle::Real(file) => file.take(max_bytes).read_to_end(&mut bytes).map(drop)?,
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => {
                bytes.resize(file.length()?.min(max_bytes) as usize, 0);
                let count = file.pread(&mut bytes, 0)?;
                bytes.truncate(count);
            }
        }
        Ok(bytes)
    }

    /// Replace a small file atomically and durably, by way of `<name>.new` beside it.
    pub fn replace_small(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let new = path.with_file_name(name);
        let file = self.open(&new, Access::REPLACE)?;
        file.pwrite(bytes, 0)?;
        file.sync_all()?;
        self.rename(&new, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// Bytes that nobody can guess; on a simulated disk those of its seed.
    pub fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Fs::Real => File::open("/dev/urandom")?.read_exact(bytes),
            #[cfg(any(test, feature = "sim"))]
            Fs::Simulated(mount) => mount.random(bytes),
        }
    }

    /// Whether it is a disk whose speed can be measured, and whose work may run on threads.
    pub fn is_real(&self) -> bool {
        matches!(self, Fs::Real)
    }
}

/// An open file or directory.
pub(crate) enum FileHandle {
    Real(File),
    #[cfg(any(test, feature = "sim"))]
    Simulated(SimFile),
}

impl FileHandle {
    /// Read once; fewer bytes than asked for at the file's end, and now and then before.
    pub fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            FileHandle::Real(file) => file.read_at(buffer, offset),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.pread(buffer, offset),
        }
    }

    /// Write all of `bytes`.
    pub fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => file.write_all_at(bytes, offset),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.pwrite(bytes, offset),
        }
    }

    pub fn truncate(&self, length: u64) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => file.set_len(length),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.truncate(length),
        }
    }

    /// Give the space of a range back. Where the file system cannot, it stays taken.
    pub fn punch_hole(&self, from: u64, length: u64) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => {
                match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, length)
                {
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.punch_hole(from, length),
        }
    }

    /// Make a range zeros that take their space. Where the file system cannot do it by itself, they are written.
    pub fn zero_range(&self, from: u64, length: u64) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => match rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, from, length) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                done => return done.map_err(io::Error::from),
            },
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(_) => {}
        }
        let zeros = vec![0; length.min(ZEROS_AT_ONCE) as usize];
        let mut at = from;
        while at < from + length {
            let step = zeros.len().min((from + length - at) as usize);
            self.pwrite(&zeros[..step], at)?;
            at += step as u64;
        }
        Ok(())
    }

    /// fdatasync: the bytes and what is needed to read them.
    pub fn sync(&self) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => file.sync_data(),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.sync(),
        }
    }

    /// fsync; of a directory, its names.
    pub fn sync_all(&self) -> io::Result<()> {
        match self {
            FileHandle::Real(file) => file.sync_all(),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.sync(),
        }
    }

    /// Bytes that the file takes on the disk.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        match self {
            FileHandle::Real(file) => Ok(file.metadata()?.blocks() * 512),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.allocated_bytes(),
        }
    }

    /// Advice for the page cache: where it fails, reads are slower or come from memory, never wrong.
    pub fn advise(&self, from: u64, length: u64, advice: Advice) {
        match self {
            FileHandle::Real(file) => {
                let _ = rustix::fs::fadvise(file, from, std::num::NonZeroU64::new(length), advice);
            }
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(_) => {}
        }
    }

    /// The room of the file system below; asked of a directory.
    pub fn statvfs(&self) -> io::Result<Statvfs> {
        match self {
            FileHandle::Real(file) => {
                let stat = rustix::fs::fstatvfs(file)?;
                Ok(Statvfs {
                    total_bytes: stat.f_blocks * stat.f_frsize,
                    available_bytes: stat.f_bavail * stat.f_frsize,
                })
            }
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.statvfs(),
        }
    }

    /// The file system below: equal for two handles exactly when they share its room.
    pub fn device(&self) -> io::Result<u64> {
        match self {
            FileHandle::Real(file) => Ok(rustix::fs::fstat(file)?.st_dev),
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => Ok(file.device()),
        }
    }

    /// Lock the directory for this store, until the handle is dropped. A process that is just ending, or a child between
    /// fork and exec, may hold it a little longer, so a busy lock is asked for again for a moment.
    pub fn lock(&self) -> io::Result<()> {
        match self {
            FileHandle::Real(directory) => {
                let end = Instant::now() + LOCK_PATIENCE;
                loop {
                    match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
                        Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        other => return other.map_err(io::Error::from),
                    }
                }
            }
            #[cfg(any(test, feature = "sim"))]
            FileHandle::Simulated(file) => file.lock(),
        }
    }
}
