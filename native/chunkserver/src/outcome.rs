//! Who failed, and what the caller of a chain gets told: pure functions over outcomes.

use base::{Error, ErrorKind, Result};
use wire::proto::Stamp;

/// An error of our own store: add our id where it means that this copy cannot be used as it is.
/// ENOENT: the copy is lost; EBADMSG: it is rotten; everything else unavailable: the disk failed, is full or read-only.
pub fn own(error: Error, server_id: u32) -> Error {
    match error.kind {
        ErrorKind::Unavailable | ErrorKind::Integrity => error.with_failed(server_id),
        ErrorKind::Namespace if error.errno == libc::ENOENT => error.with_failed(server_id),
        ErrorKind::Stale | ErrorKind::Namespace => error,
    }
}

/// An error from the next server of the chain: names that server unless the error names deeper ones already, or is no
/// fault of a server. A checksum that we found right and it found wrong was damaged between us: the hop is unusable.
pub fn next(error: Error, next: u32) -> Error {
    if !error.failed_servers.is_empty() {
        return error;
    }
    match error.kind {
        ErrorKind::Unavailable | ErrorKind::Integrity => error.with_failed(next),
        ErrorKind::Stale | ErrorKind::Namespace => error,
    }
}

/// One answer for both halves of a write. Of two errors the one that tells the caller more wins: wrong bytes from the
/// caller, then an old view, then ours; all failed servers are named in any case.
pub fn merge(own: Result<Stamp>, downstream: Result<Vec<Stamp>>) -> Result<Vec<Stamp>> {
    match (own, downstream) {
        (Ok(stamp), Ok(mut stamps)) => {
            stamps.insert(0, stamp);
            Ok(stamps)
        }
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        // The payload itself is wrong: what the others said of it counts for nothing.
        (Err(own), Err(_)) if own.kind == ErrorKind::Integrity && own.failed_servers.is_empty() => Err(own),
        (Err(own), Err(downstream)) => {
            let (mut first, second) = if downstream.kind == ErrorKind::Stale && own.kind != ErrorKind::Stale {
                (downstream, own)
            } else {
                (own, downstream)
            };
            for server in second.failed_servers {
                first = first.with_failed(server);
            }
            Err(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(server_id: u32) -> Stamp {
        Stamp { server_id, boot_id: 1, stored_bytes: 4096 }
    }

    fn disk(errno: i32) -> Error {
        Error::new(ErrorKind::Unavailable, errno, "disk")
    }

    #[test]
    fn stamps_come_in_the_order_of_the_chain() {
        let stamps = merge(Ok(stamp(1)), Ok(vec![stamp(2), stamp(3)])).unwrap();
        assert_eq!(stamps.iter().map(|stamp| stamp.server_id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_failed_disk_and_a_missing_copy_name_their_server() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EROFS] {
            let error = own(disk(errno), 4);
            assert_eq!((error.errno, error.failed_servers), (errno, vec![4]));
        }
        assert_eq!(own(Error::namespace(libc::ENOENT, "gone"), 4).failed_servers, [4]);
        assert!(own(Error::stale("old"), 4).failed_servers.is_empty());
        assert!(own(Error::namespace(libc::EINVAL, "bad"), 4).failed_servers.is_empty());
    }

    #[test]
    fn the_deepest_failure_is_named_and_not_the_messenger() {
        assert_eq!(next(disk(libc::EIO).with_failed(3), 2).failed_servers, [3]);
        assert_eq!(next(disk(libc::EIO), 2).failed_servers, [2]);
        assert!(next(Error::stale("old"), 2).failed_servers.is_empty());
    }

    #[test]
    fn a_failure_of_either_half_fails_the_write() {
        let ours = merge(Err(disk(libc::EIO).with_failed(1)), Ok(vec![stamp(2)])).unwrap_err();
        assert_eq!(ours.failed_servers, [1]);
        let theirs = merge(Ok(stamp(1)), Err(disk(libc::EIO).with_failed(2))).unwrap_err();
        assert_eq!(theirs.failed_servers, [2]);
    }

    #[test]
    fn two_failures_are_both_named_and_an_old_view_is_told_first() {
        let both = merge(Err(disk(libc::ENOSPC).with_failed(1)), Err(disk(libc::EIO).with_failed(3))).unwrap_err();
        assert_eq!((both.errno, both.failed_servers), (libc::ENOSPC, vec![1, 3]));
        let stale = merge(Err(disk(libc::ENOSPC).with_failed(1)), Err(Error::stale("old"))).unwrap_err();
        assert_eq!((stale.kind, stale.failed_servers), (ErrorKind::Stale, vec![1]));
    }

    #[test]
    fn wrong_bytes_from_the_writer_blame_no_server() {
        let error = merge(Err(Error::integrity("payload")), Err(Error::integrity("payload").with_failed(2)));
        assert!(error.unwrap_err().failed_servers.is_empty());
    }
}
