//! Structures that the kernel sends.

use super::layout::layouts;

layouts! {
    InHeader 40 {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        /// Of the extensions, in units of 8 bytes.
        total_extlen: u16,
        padding: u16,
    }
    /// Up to 7.35 it ended with `flags`.
    InitIn 20 { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32 }
    ForgetIn 8 { nlookup: u64 }
    ForgetOne 16 { nodeid: u64, nlookup: u64 }
    BatchForgetIn 8 { count: u32, dummy: u32 }
    GetattrIn 16 { getattr_flags: u32, dummy: u32, fh: u64 }
    SetattrIn 88 {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: i64, mtime: i64, ctime: i64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    MknodIn 16 { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn 8 { mode: u32, umask: u32 }
    RenameIn 8 { newdir: u64 }
    Rename2In 16 { newdir: u64, flags: u32, padding: u32 }
    LinkIn 8 { oldnodeid: u64 }
    OpenIn 8 { flags: i32, open_flags: u32 }
    CreateIn 16 { flags: i32, mode: u32, umask: u32, open_flags: u32 }
    ReleaseIn 24 { fh: u64, flags: i32, release_flags: u32, lock_owner: u64 }
    FlushIn 24 { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    ReadIn 40 { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: i32, padding: u32 }
    WriteIn 40 { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: i32, padding: u32 }
    FsyncIn 16 { fh: u64, fsync_flags: u32, padding: u32 }
    /// Where SETXATTR_EXT was not agreed on, it ends with `flags`.
    SetxattrIn 16 { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    ShortSetxattrIn 8 { size: u32, flags: u32 }
    GetxattrIn 8 { size: u32, padding: u32 }
    FileLock 24 { start: u64, end: u64, kind: u32, pid: u32 }
    LkIn 48 { fh: u64, owner: u64, lk: FileLock, lk_flags: u32, padding: u32 }
    AccessIn 8 { mask: u32, padding: u32 }
    InterruptIn 8 { unique: u64 }
    BmapIn 16 { block: u64, blocksize: u32, padding: u32 }
    IoctlIn 32 { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32 }
    PollIn 24 { fh: u64, kh: u64, flags: u32, events: u32 }
    /// The answer to a RETRIEVE, with the bytes behind it.
    RetrieveIn 40 { dummy1: u64, offset: u64, size: u32, dummy2: u32, dummy3: u64, dummy4: u64 }
    FallocateIn 32 { fh: u64, offset: u64, length: u64, mode: i32, padding: u32 }
    LseekIn 24 { fh: u64, offset: i64, whence: i32, padding: u32 }
    CopyFileRangeIn 56 { fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64 }
    SetupMappingIn 40 { fh: u64, foffset: u64, len: u64, flags: u64, moffset: u64 }
    RemoveMappingIn 4 { count: u32 }
    RemoveMappingOne 16 { moffset: u64, len: u64 }
    SyncfsIn 8 { padding: u64 }
    StatxIn 24 { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    ExtHeader 8 { size: u32, kind: u32 }
}
