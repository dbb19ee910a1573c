//! Open files: reading, writing, and what makes bytes safe. The engine holds the data; here is only which handle the
//! kernel means and how it may cache.

use std::collections::HashMap;

use base::{Buffer, Error, Result};
use client::{Allocate, ReadData};
use kernel::abi::fopen;
use parking_lot::Mutex;
use wire::proto::{Attr, Create, Credentials, FileKind};

use crate::core::Core;
use crate::names::Mode;

/// The kernel opens with this flag what execve(2) is about to run. Source: __FMODE_EXEC in include/linux/fs.h.
const OPENED_TO_EXECUTE: i32 = 0x20;

/// One open file as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    inode: u64,
    /// The engine's handle.
    handle: u64,
    writes: bool,
}

#[derive(Default)]
pub struct Files {
    open: Mutex<HashMap<u64, OpenFile>>,
}

impl Files {
    fn get(&self, handle: u64) -> Result<OpenFile> {
        let file = self.open.lock().get(&handle).copied();
        file.ok_or_else(|| Error::namespace(libc::EBADF, "this file is not open"))
    }

    pub fn may_write(&self, handle: u64) -> bool {
        self.get(handle).is_ok_and(|file| file.writes)
    }

    pub fn count(&self) -> usize {
        self.open.lock().len()
    }
}

/// An answer to open or create.
pub struct Opened {
    pub handle: u64,
    /// Of `kernel::abi::fopen`.
    pub flags: u32,
    pub attr: Attr,
}

impl Core {
    pub async fn open(&self, creds: Credentials, inode: u64, flags: i32) -> Result<Opened> {
        if flags & OPENED_TO_EXECUTE != 0 {
            self.access(creds.clone(), inode, libc::X_OK as u32).await?;
        }
        let (attr, handle) = self.engine.open(&creds, inode, open_flags(flags)).await?;
        Ok(self.opened(handle, attr, flags))
    }

    pub async fn create(
        &self,
        creds: Credentials,
        parent: u64,
        name: Vec<u8>,
        mode: Mode,
        flags: i32,
    ) -> Result<Opened> {
        let (attr, handle) = self.engine.create(&creds, create_message(parent, name, mode, flags)).await?;
        Ok(self.opened(handle, attr, flags))
    }

    /// open(2) with O_TMPFILE in directory `parent`.
    pub async fn create_unnamed(&self, creds: Credentials, parent: u64, mode: Mode, flags: i32) -> Result<Opened> {
        let message = Create { unnamed: true, ..create_message(parent, Vec::new(), mode, flags) };
        let (attr, handle) = self.engine.create(&creds, message).await?;
        Ok(self.opened(handle, attr, flags))
    }

    /// mknod(2): what has no content by an operation of its own, a regular file as open(2) makes it.
    pub async fn mknod(&self, creds: Credentials, parent: u64, name: Vec<u8>, mode: Mode, rdev: u32) -> Result<Attr> {
        if let Some(kind) = special_kind(mode.full) {
            return self.make_node(creds, parent, name, mode, kind, rdev).await;
        }
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
        let (attr, handle) = self.engine.create(&creds, create_message(parent, name, mode, flags)).await?;
        self.engine.release(handle).await?;
        Ok(attr)
    }

    fn opened(&self, engine_handle: u64, attr: Attr, flags: i32) -> Opened {
        let writes = writes(flags);
        let keep = self.pages.opened(attr.inode, attr.data_version, self.engine.foreign_changes(attr.inode), writes);
        if keep && reads(flags) && attr.size > 0 {
            // The kernel may answer the reads from its own memory, and nobody hears of them.
            self.engine.accessed(&attr);
        }
        let handle = self.next_handle();
        let file = OpenFile { inode: attr.inode, handle: engine_handle, writes };
        self.files.open.lock().insert(handle, file);
        Opened { handle, flags: cache_flags(flags, keep), attr }
    }

    pub async fn read(&self, handle: u64, offset: u64, size: u32) -> Result<ReadData> {
        let file = self.files.get(handle)?;
        let data = self.engine.read(file.handle, offset, size).await?;
        if data.len() < size as usize {
            self.pages.ended_at(file.inode, offset + data.len() as u64);
        }
        self.counters.read(data.len());
        Ok(data)
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE; the kernel does the others by itself.
    pub async fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64> {
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            other => {
                return Err(Error::namespace(libc::EINVAL, format!("lseek with whence {other} is not asked here")));
            }
        };
        let Ok(offset) = u64::try_from(offset) else {
            return Err(Error::namespace(libc::ENXIO, format!("{offset} is in no file")));
        };
        let found = self.engine.seek(self.files.get(handle)?.handle, offset, data).await?;
        Ok(found.cast_signed())
    }

    /// fallocate(2). `mode`: of that call.
    pub async fn allocate(
        &self,
        creds: Credentials,
        handle: u64,
        (offset, length): (u64, u64),
        mode: i32,
    ) -> Result<()> {
        let file = self.files.get(handle)?;
        let what = allocation(mode)?;
        self.engine.written_by(file.handle, &creds)?;
        self.engine.allocate(file.handle, offset, length, what).await?;
        if let Allocate::Promise { grows: true } | Allocate::Zeros { grows: true } = what {
            self.pages.wrote(file.inode, offset + length);
        }
        Ok(())
    }

    /// copy_file_range(2) between two files of this mount.
    pub async fn copy_range(&self, creds: Credentials, copy: kernel::CopyRange) -> Result<u64> {
        if copy.flags != 0 {
            let sentence = format!("copy_file_range with flags {:#x} is not known", copy.flags);
            return Err(Error::namespace(libc::EINVAL, sentence));
        }
        let (source, target) = (self.files.get(copy.handle)?, self.files.get(copy.target_handle)?);
        self.engine.written_by(target.handle, &creds)?;
        let (from, to) = ((source.handle, copy.offset), (target.handle, copy.target_offset));
        let copied = self.engine.copy_range(from, to, copy.length).await?;
        self.pages.wrote(target.inode, copy.target_offset + copied);
        Ok(copied)
    }

    /// Writes all of `data`. `flags` are the open file's as of now: O_APPEND and O_SYNC can be changed by fcntl(2). Without a
    /// writer it is a page of a mapping: that has its place, and its handle, with its flags, is only a guess of the kernel.
    pub async fn write(
        &self,
        handle: u64,
        offset: u64,
        data: Buffer,
        flags: i32,
        writer: Option<Credentials>,
    ) -> Result<u32> {
        let file = self.files.get(handle)?;
        let size = data.len();
        let from_mapping = writer.is_none();
        if let Some(writer) = writer {
            self.engine.written_by(file.handle, &writer)?;
        }
        if flags & libc::O_APPEND != 0 && !from_mapping {
            let written_at = self.engine.append(file.handle, &data).await?;
            if written_at != offset {
                // The kernel took the end from what it last saw and cached the bytes there.
                self.pages.misplaced(file.inode);
                self.notices.drop_pages(file.inode);
            }
        } else {
            self.engine.write(file.handle, offset, &data).await?;
        }
        self.pages.wrote(file.inode, offset + size as u64);
        if flags & (libc::O_SYNC | libc::O_DSYNC) != 0 && !from_mapping {
            self.engine.fsync(file.handle, true).await?;
        }
        self.counters.written(size);
        Ok(size as u32)
    }

    /// close(2): what was written is safe, or the error is told.
    pub async fn flush(&self, handle: u64) -> Result<()> {
        let file = self.files.get(handle)?;
        if file.writes { self.engine.flush(file.handle).await } else { Ok(()) }
    }

    pub async fn fsync(&self, handle: u64, data_only: bool) -> Result<()> {
        self.engine.fsync(self.files.get(handle)?.handle, data_only).await
    }

    pub async fn release(&self, handle: u64) -> Result<()> {
        let file = self.files.open.lock().remove(&handle);
        let Some(file) = file else { return Ok(()) };
        let outcome = self.engine.release(file.handle).await;
        self.pages.closed(file.inode);
        outcome
    }
}

/// Of a fifo, socket or device; every other mode asks for a regular file.
fn special_kind(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(FileKind::FileFifo),
        libc::S_IFSOCK => Some(FileKind::FileSocket),
        libc::S_IFCHR => Some(FileKind::FileCharacterDevice),
        libc::S_IFBLK => Some(FileKind::FileBlockDevice),
        _ => None,
    }
}

/// Of the flags of open(2) the engine is told only what does not change: O_APPEND and O_SYNC come with each write.
fn open_flags(flags: i32) -> client::OpenFlags {
    client::OpenFlags {
        read: reads(flags),
        write: writes(flags),
        truncate: flags & libc::O_TRUNC != 0,
        execute: flags & OPENED_TO_EXECUTE != 0,
        ..client::OpenFlags::default()
    }
}

fn create_message(parent: u64, name: Vec<u8>, mode: Mode, flags: i32) -> Create {
    Create {
        parent,
        name,
        mode: mode.masked(),
        full_mode: mode.full(),
        exclusive: flags & libc::O_EXCL != 0,
        read: reads(flags),
        write: writes(flags),
        truncate: flags & libc::O_TRUNC != 0,
        unnamed: false,
    }
}

/// EOPNOTSUPP: collapsing and inserting ranges, which would move bytes between chunks, and whatever came later.
fn allocation(mode: i32) -> Result<Allocate> {
    let grows = mode & libc::FALLOC_FL_KEEP_SIZE == 0;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Ok(Allocate::Promise { grows }),
        libc::FALLOC_FL_PUNCH_HOLE if !grows => Ok(Allocate::Hole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::Zeros { grows }),
        _ => Err(Error::namespace(libc::EOPNOTSUPP, format!("fallocate with mode {mode:#x} is not supported"))),
    }
}

fn reads(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_WRONLY
}

fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// How the kernel may cache this handle's data.
fn cache_flags(flags: i32, keep: bool) -> u32 {
    let mut answer = 0;
    if keep {
        answer |= fopen::KEEP_CACHE;
    }
    if !writes(flags) {
        // Nothing can be dirty: close needs no round trip.
        answer |= fopen::NOFLUSH;
    }
    if flags & libc::O_APPEND != 0 && !reads(flags) {
        // Its offsets are guesses; past the page cache they do no harm.
        answer |= fopen::DIRECT_IO;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_fallocate_that_move_bytes_or_that_nobody_knows_are_refused() {
        let (keep, hole, zero) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE);
        assert_eq!(allocation(0), Ok(Allocate::Promise { grows: true }));
        assert_eq!(allocation(keep), Ok(Allocate::Promise { grows: false }));
        assert_eq!(allocation(keep | hole), Ok(Allocate::Hole));
        assert_eq!(allocation(zero), Ok(Allocate::Zeros { grows: true }));
        assert_eq!(allocation(zero | keep), Ok(Allocate::Zeros { grows: false }));
        for mode in [hole, hole | zero | keep, libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE, 1 << 20] {
            assert_eq!(allocation(mode).map_err(|error| error.errno), Err(libc::EOPNOTSUPP), "{mode:#x}");
        }
    }

    #[test]
    fn only_handles_that_cannot_write_skip_the_flush() {
        assert_ne!(cache_flags(libc::O_RDONLY, true) & fopen::NOFLUSH, 0);
        assert_eq!(cache_flags(libc::O_RDWR, false) & fopen::NOFLUSH, 0);
    }

    #[test]
    fn appending_goes_past_the_page_cache_but_mappable_handles_do_not() {
        assert_eq!(cache_flags(libc::O_APPEND | libc::O_WRONLY, false), fopen::DIRECT_IO);
        assert_eq!(cache_flags(libc::O_APPEND | libc::O_RDWR, false), 0);
    }
}
