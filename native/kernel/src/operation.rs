//! What the kernel can ask for, through protocol 7.45. Names are without their NUL, never empty and without a slash.

use crate::abi::layout::Reader;
use crate::abi::questions::{ForgetOne, InitIn};
use crate::attributes::{Lock, Time};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation<'a> {
    Lookup {
        name: &'a [u8],
    },
    /// No reply.
    Forget {
        lookups: u64,
    },
    /// No reply.
    BatchForget(Forgets<'a>),
    GetAttr {
        handle: Option<u64>,
    },
    SetAttr(SetAttr),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MkNod {
        name: &'a [u8],
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    /// RENAME2 too; `flags` are those of renameat2(2).
    Rename {
        name: &'a [u8],
        new_parent: u64,
        new_name: &'a [u8],
        flags: u32,
    },
    /// `inode` gets one more name; the request's own inode is the directory.
    Link {
        inode: u64,
        new_name: &'a [u8],
    },
    /// `flags` as of open(2).
    Open {
        flags: i32,
        kill_suidgid: bool,
    },
    Read {
        handle: u64,
        offset: u64,
        size: u32,
        lock_owner: Option<u64>,
        flags: i32,
    },
    Write {
        handle: u64,
        offset: u64,
        data: &'a [u8],
        write_flags: u32,
        lock_owner: Option<u64>,
        flags: i32,
    },
    StatFs,
    Release {
        handle: u64,
        flags: i32,
        flush: bool,
        flock_unlock: bool,
        lock_owner: u64,
    },
    Fsync {
        handle: u64,
        data_only: bool,
    },
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        acl_kills_sgid: bool,
    },
    /// Size 0 asks how long the value is.
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    Flush {
        handle: u64,
        lock_owner: u64,
    },
    Init(InitIn),
    OpenDir {
        flags: i32,
    },
    /// `cookie`: of the entry after which it goes on, 0 at the start.
    ReadDir {
        handle: u64,
        cookie: u64,
        size: u32,
        flags: i32,
    },
    ReadDirPlus {
        handle: u64,
        cookie: u64,
        size: u32,
        flags: i32,
    },
    ReleaseDir {
        handle: u64,
        flags: i32,
    },
    FsyncDir {
        handle: u64,
        data_only: bool,
    },
    GetLock(LockRequest),
    /// `wait`: SETLKW.
    SetLock {
        request: LockRequest,
        wait: bool,
    },
    Access {
        mask: u32,
    },
    Create {
        name: &'a [u8],
        flags: i32,
        mode: u32,
        umask: u32,
        kill_suidgid: bool,
    },
    /// Somebody who waits for request `unique` got a signal. No reply.
    Interrupt {
        unique: u64,
    },
    Bmap {
        block: u64,
        block_bytes: u32,
    },
    Destroy,
    Ioctl {
        handle: u64,
        flags: u32,
        command: u32,
        argument: u64,
        data: &'a [u8],
        out_size: u32,
    },
    Poll {
        handle: u64,
        poll_handle: u64,
        flags: u32,
        events: u32,
    },
    /// The bytes that a RETRIEVE asked for. No reply.
    NotifyReply {
        offset: u64,
        data: &'a [u8],
    },
    /// `mode` as of fallocate(2).
    Fallocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: i32,
    },
    Lseek {
        handle: u64,
        offset: i64,
        whence: i32,
    },
    CopyFileRange(CopyRange),
    SetupMapping {
        handle: u64,
        offset: u64,
        length: u64,
        flags: u64,
        window_offset: u64,
    },
    /// Pairs of u64: offset in the window, length.
    RemoveMapping {
        ranges: &'a [u8],
    },
    SyncFs,
    TmpFile {
        flags: i32,
        mode: u32,
        umask: u32,
        kill_suidgid: bool,
    },
    /// `flags`, `mask` as of statx(2).
    Statx {
        handle: Option<u64>,
        flags: u32,
        mask: u32,
    },
    Unknown(u32),
}

/// What SETATTR changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    pub ctime: Option<Time>,
    pub handle: Option<u64>,
    pub lock_owner: Option<u64>,
    pub kill_suidgid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Now,
    To(Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    pub handle: u64,
    pub owner: u64,
    pub lock: Lock,
    /// flock(2)'s, not fcntl(2)'s.
    pub flock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    pub handle: u64,
    pub offset: u64,
    pub target_inode: u64,
    pub target_handle: u64,
    pub target_offset: u64,
    pub length: u64,
    pub flags: u64,
    /// COPY_FILE_RANGE_64: answered with `copied`; the older one with `written`.
    pub wide: bool,
}

/// Inodes, each with the number of lookups that the kernel gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(pub(crate) &'a [u8]);

impl Iterator for Forgets<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let mut reader = Reader(self.0);
        let one: ForgetOne = reader.get()?;
        self.0 = reader.0;
        Some((one.nodeid, one.nlookup))
    }
}
