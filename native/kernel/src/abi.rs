//! The protocol in numbers: opcodes, flags, and the layouts of its structures. Nothing here acts.
//! Source: include/uapi/linux/fuse.h of Linux 6.18, protocol 7.45.

pub(crate) mod answers;
pub(crate) mod layout;
pub mod questions;

pub const MAJOR: u32 = 7;
/// The newest minor version that is spoken here.
pub const MINOR: u32 = 45;
/// The oldest: Linux 5.4.
pub const OLDEST_MINOR: u32 = 31;
pub const ROOT_INODE: u64 = 1;
/// The kernel refuses to read into less.
pub const MIN_READ_BUFFER_BYTES: usize = 8192;
/// Set in a request's number when the kernel sends it again. The reply must carry it too.
pub const UNIQUE_RESEND: u64 = 1 << 63;
/// An error of a reply is below this; others are refused, and the request would wait for ever.
pub const ERRNO_END: i32 = 512;

macro_rules! constants {
    ($(#[$doc:meta])* $module:ident: $kind:ty { $($name:ident = $value:expr),* $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            $(pub const $name: $kind = $value;)*
        }
    };
}

constants! {
    /// What a request asks for.
    opcode: u32 {
        LOOKUP = 1, FORGET = 2, GETATTR = 3, SETATTR = 4, READLINK = 5, SYMLINK = 6, MKNOD = 8, MKDIR = 9, UNLINK = 10,
        RMDIR = 11, RENAME = 12, LINK = 13, OPEN = 14, READ = 15, WRITE = 16, STATFS = 17, RELEASE = 18, FSYNC = 20,
        SETXATTR = 21, GETXATTR = 22, LISTXATTR = 23, REMOVEXATTR = 24, FLUSH = 25, INIT = 26, OPENDIR = 27, READDIR = 28,
        RELEASEDIR = 29, FSYNCDIR = 30, GETLK = 31, SETLK = 32, SETLKW = 33, ACCESS = 34, CREATE = 35, INTERRUPT = 36,
        BMAP = 37, DESTROY = 38, IOCTL = 39, POLL = 40, NOTIFY_REPLY = 41, BATCH_FORGET = 42, FALLOCATE = 43,
        READDIRPLUS = 44, RENAME2 = 45, LSEEK = 46, COPY_FILE_RANGE = 47, SETUPMAPPING = 48, REMOVEMAPPING = 49,
        SYNCFS = 50, TMPFILE = 51, STATX = 52, COPY_FILE_RANGE_64 = 53,
    }
}

constants! {
    /// What INIT agrees on. Bits from 32 on travel in `flags2`.
    init: u64 {
        ASYNC_READ = 1 << 0, POSIX_LOCKS = 1 << 1, ATOMIC_O_TRUNC = 1 << 3, EXPORT_SUPPORT = 1 << 4, BIG_WRITES = 1 << 5,
        DONT_MASK = 1 << 6, SPLICE_WRITE = 1 << 7, SPLICE_MOVE = 1 << 8, SPLICE_READ = 1 << 9, FLOCK_LOCKS = 1 << 10,
        HAS_IOCTL_DIR = 1 << 11, AUTO_INVAL_DATA = 1 << 12, DO_READDIRPLUS = 1 << 13, READDIRPLUS_AUTO = 1 << 14,
        ASYNC_DIO = 1 << 15, WRITEBACK_CACHE = 1 << 16, NO_OPEN_SUPPORT = 1 << 17, PARALLEL_DIROPS = 1 << 18,
        HANDLE_KILLPRIV = 1 << 19, POSIX_ACL = 1 << 20, ABORT_ERROR = 1 << 21, MAX_PAGES = 1 << 22,
        CACHE_SYMLINKS = 1 << 23, NO_OPENDIR_SUPPORT = 1 << 24, EXPLICIT_INVAL_DATA = 1 << 25, MAP_ALIGNMENT = 1 << 26,
        SUBMOUNTS = 1 << 27, HANDLE_KILLPRIV_V2 = 1 << 28, SETXATTR_EXT = 1 << 29, INIT_EXT = 1 << 30,
        SECURITY_CTX = 1 << 32, HAS_INODE_DAX = 1 << 33, CREATE_SUPP_GROUP = 1 << 34, HAS_EXPIRE_ONLY = 1 << 35,
        DIRECT_IO_ALLOW_MMAP = 1 << 36, PASSTHROUGH = 1 << 37, NO_EXPORT_SUPPORT = 1 << 38, HAS_RESEND = 1 << 39,
        ALLOW_IDMAP = 1 << 40, OVER_IO_URING = 1 << 41, REQUEST_TIMEOUT = 1 << 42,
    }
}

constants! {
    /// How an opened file is treated.
    fopen: u32 {
        DIRECT_IO = 1 << 0, KEEP_CACHE = 1 << 1, NONSEEKABLE = 1 << 2, CACHE_DIR = 1 << 3, STREAM = 1 << 4,
        NOFLUSH = 1 << 5, PARALLEL_DIRECT_WRITES = 1 << 6, PASSTHROUGH = 1 << 7,
    }
}

constants! {
    /// WRITE. CACHE: from a mapping or a cache; handle, uid and pid are guesses.
    write: u32 { CACHE = 1 << 0, LOCKOWNER = 1 << 1, KILL_SUIDGID = 1 << 2 }
}

constants! {
    /// Which fields of SETATTR count.
    fattr: u32 {
        MODE = 1 << 0, UID = 1 << 1, GID = 1 << 2, SIZE = 1 << 3, ATIME = 1 << 4, MTIME = 1 << 5, FH = 1 << 6,
        ATIME_NOW = 1 << 7, MTIME_NOW = 1 << 8, LOCKOWNER = 1 << 9, CTIME = 1 << 10, KILL_SUIDGID = 1 << 11,
    }
}

constants! {
    /// Flags of single requests, each named after its own.
    flag: u32 {
        GETATTR_FH = 1 << 0, READ_LOCKOWNER = 1 << 1, RELEASE_FLUSH = 1 << 0, RELEASE_FLOCK_UNLOCK = 1 << 1,
        FSYNC_FDATASYNC = 1 << 0, LK_FLOCK = 1 << 0, OPEN_KILL_SUIDGID = 1 << 0, SETXATTR_ACL_KILL_SGID = 1 << 0,
        IOCTL_COMPAT = 1 << 0, IOCTL_UNRESTRICTED = 1 << 1, IOCTL_RETRY = 1 << 2, IOCTL_32BIT = 1 << 3,
        IOCTL_DIR = 1 << 4, IOCTL_COMPAT_X32 = 1 << 5, POLL_SCHEDULE_NOTIFY = 1 << 0, ATTR_SUBMOUNT = 1 << 0,
        ATTR_DAX = 1 << 1, EXPIRE_ONLY = 1 << 0,
    }
}

constants! {
    /// What is told without being asked.
    notice: i32 {
        POLL = 1, INVAL_INODE = 2, INVAL_ENTRY = 3, STORE = 4, RETRIEVE = 5, DELETE = 6, RESEND = 7, INC_EPOCH = 8, PRUNE = 9,
    }
}

constants! {
    /// Kinds of extensions behind a request. Up to MAX_SECURITY it is the number of security contexts.
    extension: u32 { MAX_SECURITY = 31, GROUPS = 32 }
}
