//! Requests as the kernel writes them become what they mean; whatever else the bytes are, they become an error.

mod common;

use common::{Bytes, HEADER_BYTES, INODE, UNIQUE, body, extended, request, with_true_length};
use kernel::abi::{UNIQUE_RESEND, init, opcode as op, write};
use kernel::{CopyRange, Dialect, Lock, LockRequest, Operation, Request, SetAttr, SetTime, Time};
use proptest::prelude::*;

const LONG: Dialect = Dialect { long_setxattr: true };
const SHORT: Dialect = Dialect { long_setxattr: false };

fn parsed(bytes: &[u8]) -> Operation<'_> {
    let request = Request::parse(bytes, LONG).unwrap();
    assert_eq!((request.unique, request.inode, request.uid, request.gid, request.pid), (UNIQUE, INODE, 1000, 100, 7));
    assert!(!request.is_resend);
    request.operation
}

fn refused(bytes: &[u8]) -> &'static str {
    let malformed = Request::parse(bytes, LONG).unwrap_err();
    assert_eq!(malformed.unique, Some(UNIQUE), "it can be answered");
    malformed.why
}

/// READ, READDIR, READDIRPLUS, and WRITE up to its data.
fn io(size: u32, flags: u32) -> Bytes {
    body().u64(5).u64(1 << 40).u32(size).u32(flags).u64(77).u32(0o100_000).u32(0)
}

fn create() -> Bytes {
    body().u32(0o2101).u32(0o100_644).u32(0o22).u32(1)
}

fn lock(flags: u32) -> Bytes {
    body().u64(5).u64(77).u64(0).u64(u64::MAX).u32(1).u32(99).u32(flags).u32(0)
}

/// One of each, and what it means.
fn every_kind() -> Vec<(Vec<u8>, Operation<'static>)> {
    let whole = LockRequest {
        handle: 5,
        owner: 77,
        lock: Lock { start: 0, end: u64::MAX, kind: libc::F_WRLCK, pid: 99 },
        flock: false,
    };
    let copy = CopyRange {
        handle: 1,
        offset: 2,
        target_inode: 3,
        target_handle: 4,
        target_offset: 5,
        length: 6,
        flags: 0,
        wide: false,
    };
    let copied = || body().u64(1).u64(2).u64(3).u64(4).u64(5).u64(6).u64(0);
    let (name, umask, flags) = (&b"name"[..], 0o22, 0o100_000);
    let open_flags = 0o2101;
    vec![
        (request(op::LOOKUP, body().name("name")), Operation::Lookup { name }),
        (request(op::FORGET, body().u64(3)), Operation::Forget { lookups: 3 }),
        (request(op::GETATTR, body().u32(0).u32(0).u64(5)), Operation::GetAttr { handle: None }),
        (request(op::GETATTR, body().u32(1).u32(0).u64(5)), Operation::GetAttr { handle: Some(5) }),
        (request(op::READLINK, body()), Operation::ReadLink),
        (request(op::SYMLINK, body().name("name").name("../a")), Operation::Symlink { name, target: b"../a" }),
        (
            request(op::MKNOD, body().u32(0o100_600).u32(9).u32(umask).u32(0).name("name")),
            Operation::MkNod { name, mode: 0o100_600, rdev: 9, umask },
        ),
        (request(op::MKDIR, body().u32(0o755).u32(umask).name("name")), Operation::MkDir { name, mode: 0o755, umask }),
        (request(op::UNLINK, body().name("name")), Operation::Unlink { name }),
        (request(op::RMDIR, body().name("name")), Operation::RmDir { name }),
        (
            request(op::RENAME, body().u64(8).name("name").name("new")),
            Operation::Rename { name, new_parent: 8, new_name: b"new", flags: 0 },
        ),
        (
            request(op::RENAME2, body().u64(8).u32(1).u32(0).name("name").name("new")),
            Operation::Rename { name, new_parent: 8, new_name: b"new", flags: libc::RENAME_NOREPLACE },
        ),
        (request(op::LINK, body().u64(8).name("new")), Operation::Link { inode: 8, new_name: b"new" }),
        (request(op::OPEN, body().u32(0o100_000).u32(1)), Operation::Open { flags, kill_suidgid: true }),
        (
            request(op::READ, io(4096, 2)),
            Operation::Read { handle: 5, offset: 1 << 40, size: 4096, lock_owner: Some(77), flags },
        ),
        (
            request(op::WRITE, io(3, write::CACHE).bytes(b"abc")),
            Operation::Write {
                handle: 5,
                offset: 1 << 40,
                data: b"abc",
                write_flags: write::CACHE,
                lock_owner: None,
                flags,
            },
        ),
        (request(op::STATFS, body()), Operation::StatFs),
        (
            request(op::RELEASE, body().u64(5).u32(0o100_000).u32(3).u64(77)),
            Operation::Release { handle: 5, flags, flush: true, flock_unlock: true, lock_owner: 77 },
        ),
        (request(op::FSYNC, body().u64(5).u32(1).u32(0)), Operation::Fsync { handle: 5, data_only: true }),
        (
            request(op::SETXATTR, body().u32(3).u32(1).u32(1).u32(0).name("user.a/b").bytes(b"a\0b")),
            Operation::SetXattr { name: b"user.a/b", value: b"a\0b", flags: 1, acl_kills_sgid: true },
        ),
        (request(op::GETXATTR, body().u32(9).u32(0).name("name")), Operation::GetXattr { name, size: 9 }),
        (request(op::LISTXATTR, body().u32(9).u32(0)), Operation::ListXattr { size: 9 }),
        (request(op::REMOVEXATTR, body().name("name")), Operation::RemoveXattr { name }),
        (request(op::FLUSH, body().u64(5).u64(0).u64(77)), Operation::Flush { handle: 5, lock_owner: 77 }),
        (request(op::OPENDIR, body().u32(0o100_000).u32(0)), Operation::OpenDir { flags }),
        (request(op::READDIR, io(4096, 0)), Operation::ReadDir { handle: 5, cookie: 1 << 40, size: 4096, flags }),
        (
            request(op::READDIRPLUS, io(4096, 0)),
            Operation::ReadDirPlus { handle: 5, cookie: 1 << 40, size: 4096, flags },
        ),
        (
            request(op::RELEASEDIR, body().u64(5).u32(0o100_000).u32(0).u64(0)),
            Operation::ReleaseDir { handle: 5, flags },
        ),
        (request(op::FSYNCDIR, body().u64(5).u32(0).u32(0)), Operation::FsyncDir { handle: 5, data_only: false }),
        (request(op::GETLK, lock(0)), Operation::GetLock(whole)),
        (request(op::SETLK, lock(0)), Operation::SetLock { request: whole, wait: false }),
        (
            request(op::SETLKW, lock(1)),
            Operation::SetLock { request: LockRequest { flock: true, ..whole }, wait: true },
        ),
        (request(op::ACCESS, body().u32(4).u32(0)), Operation::Access { mask: 4 }),
        (
            request(op::CREATE, create().name("name")),
            Operation::Create { name, flags: open_flags, mode: 0o100_644, umask, kill_suidgid: true },
        ),
        (request(op::INTERRUPT, body().u64(98)), Operation::Interrupt { unique: 98 }),
        (request(op::BMAP, body().u64(3).u32(512).u32(0)), Operation::Bmap { block: 3, block_bytes: 512 }),
        (request(op::DESTROY, body()), Operation::Destroy),
        (
            request(op::IOCTL, body().u64(5).u32(0).u32(0x6601).u64(1).u32(2).u32(4).bytes(b"in")),
            Operation::Ioctl { handle: 5, flags: 0, command: 0x6601, argument: 1, data: b"in", out_size: 4 },
        ),
        (
            request(op::POLL, body().u64(5).u64(6).u32(1).u32(4)),
            Operation::Poll { handle: 5, poll_handle: 6, flags: 1, events: 4 },
        ),
        (
            request(op::NOTIFY_REPLY, body().u64(0).u64(4096).u32(2).u32(0).u64(0).u64(0).bytes(b"ab")),
            Operation::NotifyReply { offset: 4096, data: b"ab" },
        ),
        (
            request(op::FALLOCATE, body().u64(5).u64(1).u64(2).u32(3).u32(0)),
            Operation::Fallocate { handle: 5, offset: 1, length: 2, mode: 3 },
        ),
        (
            request(op::LSEEK, body().u64(5).u64(9).u32(4).u32(0)),
            Operation::Lseek { handle: 5, offset: 9, whence: libc::SEEK_HOLE },
        ),
        (request(op::COPY_FILE_RANGE, copied()), Operation::CopyFileRange(copy)),
        (request(op::COPY_FILE_RANGE_64, copied()), Operation::CopyFileRange(CopyRange { wide: true, ..copy })),
        (
            request(op::SETUPMAPPING, body().u64(5).u64(1).u64(2).u64(3).u64(4)),
            Operation::SetupMapping { handle: 5, offset: 1, length: 2, flags: 3, window_offset: 4 },
        ),
        (request(op::REMOVEMAPPING, body().u32(1).bytes(&[7; 16])), Operation::RemoveMapping { ranges: &[7; 16] }),
        (request(op::SYNCFS, body().u64(0)), Operation::SyncFs),
        // A file without a name comes with the name "/".
        (
            request(op::TMPFILE, create().name("/")),
            Operation::TmpFile { flags: open_flags, mode: 0o100_644, umask, kill_suidgid: true },
        ),
        (
            request(op::STATX, body().u32(1).u32(0).u64(5).u32(0x100).u32(0xfff)),
            Operation::Statx { handle: Some(5), flags: 0x100, mask: 0xfff },
        ),
    ]
}

fn set_attr(valid: u32) -> Vec<u8> {
    let before_1970 = -2i64 as u64;
    let times = body().u32(valid).u32(0).u64(5).u64(4096).u64(77).u64(before_1970).u64(10).u64(11);
    request(op::SETATTR, times.u32(999_999_999).u32(20).u32(21).u32(0o600).u32(0).u32(1).u32(2).u32(0))
}

#[test]
fn each_operation_means_what_its_bytes_say() {
    for (bytes, meaning) in every_kind() {
        assert_eq!(parsed(&bytes), meaning);
    }
}

#[test]
fn setattr_changes_only_what_it_marks() {
    assert_eq!(parsed(&set_attr(0)), Operation::SetAttr(SetAttr::default()));
    let all = SetAttr {
        mode: Some(0o600),
        uid: Some(1),
        gid: Some(2),
        size: Some(4096),
        atime: Some(SetTime::To(Time { seconds: -2, nanoseconds: 999_999_999 })),
        mtime: Some(SetTime::To(Time { seconds: 10, nanoseconds: 20 })),
        ctime: Some(Time { seconds: 11, nanoseconds: 21 }),
        handle: Some(5),
        lock_owner: Some(77),
        kill_suidgid: true,
    };
    assert_eq!(parsed(&set_attr(0xfff & !0x180)), Operation::SetAttr(all));
    let now = SetAttr { atime: Some(SetTime::Now), mtime: Some(SetTime::Now), ..all };
    assert_eq!(parsed(&set_attr(0xfff)), Operation::SetAttr(now));
}

#[test]
fn the_short_form_of_setxattr_is_told_by_the_handshake() {
    assert!(Dialect::of(init::SETXATTR_EXT).long_setxattr);
    let bytes = request(op::SETXATTR, body().u32(1).u32(2).name("user.a").bytes(b"v"));
    let request = Request::parse(&bytes, SHORT).unwrap();
    let meaning = Operation::SetXattr { name: b"user.a", value: b"v", flags: 2, acl_kills_sgid: false };
    assert_eq!(request.operation, meaning);
    assert!(Request::parse(&bytes, LONG).is_err());
}

#[test]
fn a_batch_of_forgets_is_gone_through() {
    let two = body().u32(2).u32(0).u64(1).u64(10).u64(2).u64(20);
    let bytes = request(op::BATCH_FORGET, two.clone());
    let Operation::BatchForget(forgets) = parsed(&bytes) else { panic!("not a batch") };
    assert_eq!(forgets.collect::<Vec<_>>(), [(1, 10), (2, 20)]);
    assert_eq!(refused(&request(op::BATCH_FORGET, two.u64(3))), "counts more or less than it carries");
    assert!(Request::parse(&request(op::BATCH_FORGET, body().u32(u32::MAX).u32(0)), LONG).is_err());
}

#[test]
fn the_offer_of_a_handshake_may_be_short_or_longer_than_known() {
    for (more, flags2) in [(body(), 0), (body().u32(3), 3), (body().u32(3).bytes(&[0; 44]), 3)] {
        let bytes = request(op::INIT, body().u32(7).u32(45).u32(131_072).u32(9).bytes(&more.0));
        let Operation::Init(offer) = parsed(&bytes) else { panic!("no offer") };
        assert_eq!((offer.major, offer.minor, offer.max_readahead), (7, 45, 131_072));
        assert_eq!((offer.flags, offer.flags2), (9, flags2));
    }
}

#[test]
fn groups_come_as_an_extension_and_unknown_extensions_are_passed_over() {
    let create = || create().name("abcdefg");
    let groups = body().u32(16).u32(32).u32(1).u32(4242);
    let security = body().u32(16).u32(1).u64(5);
    let bytes = extended(op::CREATE, create(), security.bytes(&groups.0).u32(8).u32(99));
    let request = Request::parse(&bytes, LONG).unwrap();
    assert_eq!(request.extensions.groups().collect::<Vec<_>>(), [4242]);
    assert_eq!(request.extensions.security, 5u64.to_ne_bytes());
    assert!(matches!(request.operation, Operation::Create { name: b"abcdefg", .. }));
    for broken in [body().u32(24).u32(32).u64(0), body().u32(0).u32(32).u64(0), body().u32(16).u32(32).u32(3).u32(1)] {
        assert_eq!(refused(&extended(op::CREATE, create(), broken)), "has broken extensions");
    }
    let mut bytes = request_with_extension_length(9);
    assert_eq!(refused(&bytes), "has longer extensions than itself");
    bytes[36] = 0;
    assert!(Request::parse(&bytes, LONG).is_ok());
}

fn request_with_extension_length(units: u8) -> Vec<u8> {
    let mut bytes = request(op::LOOKUP, body().name("name"));
    bytes[36] = units;
    bytes
}

#[test]
fn a_request_sent_again_says_so_and_is_answered_under_the_same_number() {
    let mut bytes = request(op::STATFS, body());
    bytes[8..16].copy_from_slice(&(UNIQUE | UNIQUE_RESEND).to_ne_bytes());
    let request = Request::parse(&bytes, LONG).unwrap();
    assert!(request.is_resend);
    assert_eq!(request.unique, UNIQUE | UNIQUE_RESEND);
}

#[test]
fn operations_of_later_protocols_are_known_as_such() {
    assert_eq!(parsed(&request(54, body().bytes(b"whatever"))), Operation::Unknown(54));
    assert_eq!(parsed(&request(7, body())), Operation::Unknown(7));
}

#[test]
fn what_is_no_name_is_refused() {
    for bad in ["", "a/b", "/"] {
        for bytes in [
            request(op::LOOKUP, body().name(bad)),
            request(op::CREATE, create().name(bad)),
            request(op::RENAME2, body().u64(8).u32(1).u32(0).name("a").name(bad)),
        ] {
            assert_eq!(refused(&bytes), "has a name that is no name");
        }
    }
    assert_eq!(refused(&request(op::LOOKUP, body().bytes(b"endless"))), "has a name without an end");
    assert_eq!(refused(&request(op::GETXATTR, body().u64(0).name(""))), "has a name that is no name");
}

#[test]
fn lengths_must_agree_with_what_is_there() {
    let mut bytes = request(op::LOOKUP, body().name("name"));
    bytes[0] += 1;
    assert_eq!(refused(&bytes), "has another length than it says");
    assert_eq!(refused(&request(op::WRITE, io(4, 0).bytes(b"abc"))), "counts more or less than it carries");
    assert_eq!(refused(&request(op::STATFS, body().u32(1))), "has bytes left over");
    let short = Request::parse(&bytes[..HEADER_BYTES - 1], LONG).unwrap_err();
    assert_eq!(short.unique, None, "nobody can be answered");
}

#[test]
fn a_request_cut_anywhere_is_an_error() {
    for (bytes, meaning) in every_kind() {
        for end in 0..bytes.len() {
            assert!(Request::parse(&bytes[..end], LONG).is_err(), "{meaning:?} cut at {end}");
            if end >= HEADER_BYTES {
                let consistent = with_true_length(bytes[..end].to_vec());
                assert!(Request::parse(&consistent, LONG).is_err(), "{meaning:?} cut at {end}, its length adapted");
            }
        }
    }
}

/// Everything that reads the bytes later reads them here too.
fn look_at_all(bytes: &[u8], dialect: Dialect) {
    match Request::parse(bytes, dialect) {
        Ok(request) => {
            request.extensions.groups().for_each(drop);
            if let Operation::BatchForget(forgets) = request.operation {
                forgets.for_each(drop);
            }
            let _ = format!("{request:?}");
        }
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), long_setxattr: bool) {
        look_at_all(&bytes, Dialect { long_setxattr });
    }

    #[test]
    fn any_body_of_any_operation_is_a_request_or_an_error(
        opcode in 0u32..60, units in 0u8..4, content in prop::collection::vec(any::<u8>(), 0..200), long_setxattr: bool,
    ) {
        let mut bytes = request(opcode, body().bytes(&content));
        bytes[36] = units;
        look_at_all(&bytes, Dialect { long_setxattr });
    }

    #[test]
    fn a_request_with_changed_bytes_is_a_request_or_an_error(
        kind: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end: prop::sample::Index,
        cut: bool,
        consistent: bool,
    ) {
        let mut bytes = kind.get(&every_kind()).0.clone();
        if cut {
            bytes.truncate(end.index(bytes.len()).max(1));
        }
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        look_at_all(&if consistent { with_true_length(bytes) } else { bytes }, LONG);
    }
}
