//! What is told about files, and how it becomes structures of the protocol. Pure.

use std::time::Duration;

use crate::abi::answers::{Attr, EntryOut, OpenOut, StatfsOut, StatxBody, StatxOut, SxTime};

/// Since 1970; before it the seconds are negative and the nanoseconds still count up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Time {
    fn statx(self) -> SxTime {
        SxTime { tv_sec: self.seconds, tv_nsec: self.nanoseconds, reserved: 0 }
    }
}

/// What stat(2) shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub inode: u64,
    pub size: u64,
    /// Of 512 bytes.
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// The kind of file included.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub block_bytes: u32,
}

impl Attributes {
    pub(crate) fn raw(&self) -> Attr {
        Attr {
            ino: self.inode,
            size: self.size,
            blocks: self.blocks,
            atime: self.atime.seconds,
            mtime: self.mtime.seconds,
            ctime: self.ctime.seconds,
            atimensec: self.atime.nanoseconds,
            mtimensec: self.mtime.nanoseconds,
            ctimensec: self.ctime.nanoseconds,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            blksize: self.block_bytes,
            flags: 0,
        }
    }
}

/// A name's inode. Inode 0 with a validity: there is no such name, and the kernel may remember that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub inode: u64,
    /// Tells an inode number used again from the one before.
    pub generation: u64,
    /// How long the name may be believed without asking.
    pub entry_valid: Duration,
    /// How long the attributes may be.
    pub attr_valid: Duration,
    pub attributes: Attributes,
}

impl Entry {
    pub(crate) fn raw(&self) -> EntryOut {
        EntryOut {
            nodeid: self.inode,
            generation: self.generation,
            entry_valid: self.entry_valid.as_secs(),
            attr_valid: self.attr_valid.as_secs(),
            entry_valid_nsec: self.entry_valid.subsec_nanos(),
            attr_valid_nsec: self.attr_valid.subsec_nanos(),
            attr: self.attributes.raw(),
        }
    }
}

/// An open file or directory. `flags`: of `abi::fopen`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    pub handle: u64,
    pub flags: u32,
}

impl Opened {
    pub(crate) fn raw(self) -> OpenOut {
        OpenOut { fh: self.handle, open_flags: self.flags, backing_id: 0 }
    }
}

/// What statfs(2) shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    pub blocks: u64,
    pub free_blocks: u64,
    /// Of the free ones those that are not reserved.
    pub available_blocks: u64,
    pub files: u64,
    pub free_files: u64,
    pub block_bytes: u32,
    pub fragment_bytes: u32,
    pub max_name_bytes: u32,
}

impl StatFs {
    pub(crate) fn raw(&self) -> StatfsOut {
        StatfsOut {
            blocks: self.blocks,
            bfree: self.free_blocks,
            bavail: self.available_blocks,
            files: self.files,
            ffree: self.free_files,
            bsize: self.block_bytes,
            namelen: self.max_name_bytes,
            frsize: self.fragment_bytes,
            ..StatfsOut::default()
        }
    }
}

/// What statx(2) shows beyond the attributes. `mask`: which fields count, as of statx(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statx {
    pub mask: u32,
    pub attributes: Attributes,
    pub birth: Time,
    /// STATX_ATTR_*: those that are set, and those that could be.
    pub file_attributes: u64,
    pub file_attributes_mask: u64,
}

impl Statx {
    pub(crate) fn raw(&self, valid: Duration) -> StatxOut {
        let attr = &self.attributes;
        let rdev = u64::from(attr.rdev);
        let stat = StatxBody {
            mask: self.mask,
            blksize: attr.block_bytes,
            attributes: self.file_attributes,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            mode: attr.mode as u16,
            ino: attr.inode,
            size: attr.size,
            blocks: attr.blocks,
            attributes_mask: self.file_attributes_mask,
            atime: attr.atime.statx(),
            btime: self.birth.statx(),
            ctime: attr.ctime.statx(),
            mtime: attr.mtime.statx(),
            rdev_major: rustix::fs::major(rdev),
            rdev_minor: rustix::fs::minor(rdev),
            ..StatxBody::default()
        };
        let (attr_valid, attr_valid_nsec) = (valid.as_secs(), valid.subsec_nanos());
        StatxOut { attr_valid, attr_valid_nsec, stat, ..StatxOut::default() }
    }
}

/// A lock on bytes `start` to `end`, both included. `kind`: F_RDLCK, F_WRLCK, F_UNLCK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pub start: u64,
    pub end: u64,
    pub kind: i32,
    /// Who holds it, for F_GETLK.
    pub pid: u32,
}
