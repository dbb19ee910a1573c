//! Between the schema's attributes, times and errors and those of the FUSE protocol. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::{Error, ErrorKind};
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use wire::proto::{Attr, FileKind};

/// What stat(2) names as the efficient I/O size: large enough that copying tools ask for few requests, small enough
/// that programs which allocate it per open file do not notice.
const PREFERRED_IO_BYTES: u32 = 256 << 10;
const NS_PER_S: i64 = 1_000_000_000;

pub fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.inode),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime_ns),
        mtime: system_time(attr.mtime_ns),
        ctime: system_time(attr.ctime_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind()),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::FileRegular => FileType::RegularFile,
        FileKind::FileDirectory => FileType::Directory,
        FileKind::FileSymlink => FileType::Symlink,
    }
}

pub fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}

/// A time that the kernel asked to set, in ns since 1970. fuser 0.18.0 subtracts the nanoseconds of a time before 1970
/// that the protocol adds; this undoes it. Times beyond what 64-bit nanoseconds hold are clamped.
pub fn wanted_ns(time: SystemTime) -> i64 {
    let parts = |distance: Duration| (i64::try_from(distance.as_secs()), i64::from(distance.subsec_nanos()));
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => match parts(after) {
            (Ok(seconds), ns) => seconds.saturating_mul(NS_PER_S).saturating_add(ns),
            (Err(_), _) => i64::MAX,
        },
        Err(before) => match parts(before.duration()) {
            (Ok(seconds), ns) => seconds.saturating_neg().saturating_mul(NS_PER_S).saturating_add(ns),
            (Err(_), _) => i64::MIN,
        },
    }
}

/// (value, now) of one time field of setattr.
pub fn wanted_time(time: Option<TimeOrNow>) -> (Option<i64>, bool) {
    match time {
        Some(TimeOrNow::SpecificTime(time)) => (Some(wanted_ns(time)), false),
        Some(TimeOrNow::Now) => (None, true),
        None => (None, false),
    }
}

/// What the application sees. "Try again" and "bad message" are between nodes; to a program that reads a file both
/// would be a lie about its own call.
pub fn errno(error: &Error) -> Errno {
    let number = match (error.kind, error.errno) {
        (ErrorKind::Integrity, _) => libc::EIO,
        (ErrorKind::Unavailable, libc::EAGAIN | libc::EINPROGRESS) => libc::EIO,
        (_, number) if (1..4096).contains(&number) => number,
        _ => libc::EIO,
    };
    Errno::from_i32(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As fuser 0.18.0 hands over what the kernel sent.
    fn as_handed_over(ns: i64) -> SystemTime {
        let (seconds, rest) = (ns.div_euclid(NS_PER_S), ns.rem_euclid(NS_PER_S) as u32);
        if seconds >= 0 {
            UNIX_EPOCH + Duration::new(seconds as u64, rest)
        } else {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), rest)
        }
    }

    proptest! {
        #[test]
        fn a_time_set_by_the_kernel_arrives_exactly_even_before_1970(ns in i64::MIN / 2..i64::MAX / 2) {
            prop_assert_eq!(wanted_ns(as_handed_over(ns)), ns);
        }

        #[test]
        fn any_stored_time_can_be_shown(ns: i64) {
            let shown = system_time(ns);
            let back = match shown.duration_since(UNIX_EPOCH) {
                Ok(after) => after.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            prop_assert_eq!(back, i128::from(ns));
        }
    }

    #[test]
    fn what_is_between_nodes_reaches_the_application_as_an_io_error() {
        assert_eq!(errno(&Error::not_leader(None)).code(), libc::EIO);
        assert_eq!(errno(&Error::integrity("bad block")).code(), libc::EIO);
        assert_eq!(errno(&Error::namespace(libc::ENOENT, "no such name")).code(), libc::ENOENT);
        assert_eq!(errno(&Error::namespace(0, "no errno")).code(), libc::EIO);
        assert_eq!(errno(&Error::stale("old")).code(), libc::ESTALE);
    }
}
