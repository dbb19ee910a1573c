//! Between the schema's attributes, times and errors and those of the FUSE protocol. Pure.

use std::time::Duration;

use base::time::{file_time, parts_of_file_time};
use base::{Error, ErrorKind};
use kernel::{Attributes, Entry, SetTime, Statx, Time};
use wire::proto::{Attr, FileKind};

/// What stat(2) names as the efficient I/O size: large enough that copying tools ask for few requests, small enough
/// that programs which allocate it per open file do not notice.
const PREFERRED_IO_BYTES: u32 = 256 << 10;

pub fn attributes(attr: &Attr) -> Attributes {
    Attributes {
        inode: attr.inode,
        size: attr.size,
        blocks: attr.blocks,
        atime: time_of(attr.atime_ns),
        mtime: time_of(attr.mtime_ns),
        ctime: time_of(attr.ctime_ns),
        mode: file_mode(attr.kind()) | attr.mode & 0o7777,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        block_bytes: PREFERRED_IO_BYTES,
    }
}

fn time_of(ns: i64) -> Time {
    let (seconds, nanoseconds) = parts_of_file_time(ns);
    Time { seconds, nanoseconds }
}

/// As `attributes`, with the time of birth where it is known.
pub fn statx_of(attr: &Attr) -> Statx {
    let born = if attr.btime_ns == 0 { 0 } else { libc::STATX_BTIME };
    Statx {
        mask: libc::STATX_BASIC_STATS | born,
        attributes: attributes(attr),
        birth: time_of(attr.btime_ns),
        ..Statx::default()
    }
}

/// A name's inode, to be believed for `valid`.
pub fn entry_of(attr: &Attr, valid: Duration) -> Entry {
    Entry {
        inode: attr.inode,
        generation: attr.generation,
        entry_valid: valid,
        attr_valid: valid,
        attributes: attributes(attr),
    }
}

/// The bits of a mode that say what kind of file it is.
pub fn file_mode(kind: FileKind) -> u32 {
    match kind {
        FileKind::FileRegular => libc::S_IFREG,
        FileKind::FileDirectory => libc::S_IFDIR,
        FileKind::FileSymlink => libc::S_IFLNK,
        FileKind::FileFifo => libc::S_IFIFO,
        FileKind::FileSocket => libc::S_IFSOCK,
        FileKind::FileCharacterDevice => libc::S_IFCHR,
        FileKind::FileBlockDevice => libc::S_IFBLK,
    }
}

/// (value in ns since 1970, now) of one time field of setattr.
pub fn wanted_time(time: Option<SetTime>) -> (Option<i64>, bool) {
    match time {
        Some(SetTime::To(time)) => (Some(file_time(time.seconds, time.nanoseconds)), false),
        Some(SetTime::Now) => (None, true),
        None => (None, false),
    }
}

/// What the application sees. "Try again" and "bad message" are between nodes; to a program that reads a file both
/// would be a lie about its own call.
pub fn errno(error: &Error) -> i32 {
    match (error.kind, error.errno) {
        (ErrorKind::Integrity, _) => libc::EIO,
        (ErrorKind::Unavailable, libc::EAGAIN | libc::EINPROGRESS) => libc::EIO,
        (_, number) if (1..4096).contains(&number) => number,
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_setattr_is_one_or_now_or_left_alone() {
        let before_1970 = Time { seconds: -2, nanoseconds: 999_999_999 };
        assert_eq!(wanted_time(Some(SetTime::To(before_1970))), (Some(-1_000_000_001), false));
        assert_eq!(wanted_time(Some(SetTime::Now)), (None, true));
        assert_eq!(wanted_time(None), (None, false));
    }

    #[test]
    fn an_entry_shows_kind_permissions_and_times_as_they_are_stored() {
        let attr = Attr {
            inode: 7,
            kind: FileKind::FileDirectory as i32,
            mode: 0o41755,
            mtime_ns: -1,
            generation: 3,
            ..Attr::default()
        };
        let entry = entry_of(&attr, Duration::ZERO);
        assert_eq!((entry.inode, entry.generation), (7, 3));
        assert_eq!(entry.attributes.mode, libc::S_IFDIR | 0o1755);
        assert_eq!(entry.attributes.mtime, Time { seconds: -1, nanoseconds: 999_999_999 });
    }

    #[test]
    fn what_is_between_nodes_reaches_the_application_as_an_io_error() {
        assert_eq!(errno(&Error::not_leader(None)), libc::EIO);
        assert_eq!(errno(&Error::integrity("bad block")), libc::EIO);
        assert_eq!(errno(&Error::namespace(libc::ENOENT, "no such name")), libc::ENOENT);
        assert_eq!(errno(&Error::namespace(0, "no errno")), libc::EIO);
        assert_eq!(errno(&Error::stale("old")), libc::ESTALE);
    }
}
