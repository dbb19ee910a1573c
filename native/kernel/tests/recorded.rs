//! Requests recorded from Linux 6.18 (protocol 7.45) while it ran the file system of `mounted.rs`. What they mean was
//! known: the calls that led to them are named.

use kernel::abi::init;
use kernel::{Dialect, Lock, LockRequest, Operation, Request, SetTime, Time};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter(u8::is_ascii_hexdigit).map(|d| (d as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn check(hex: &str, expected: impl FnOnce(Request<'_>)) {
    let bytes = bytes(hex);
    expected(Request::parse(&bytes, Dialect { long_setxattr: false }).unwrap());
}

#[test]
fn the_first_request_after_mounting() {
    let offer = "
        68000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 00000000
        07000000 2d000000 00000200 fbffff73 fd050000
        0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    check(offer, |request| {
        let Operation::Init(offer) = request.operation else { panic!("{request:?}") };
        assert_eq!((offer.major, offer.minor, offer.max_readahead), (7, 45, 128 << 10));
        let flags = u64::from(offer.flags) | u64::from(offer.flags2) << 32;
        for offered in
            [init::POSIX_LOCKS, init::FLOCK_LOCKS, init::INIT_EXT, init::HAS_RESEND, init::DIRECT_IO_ALLOW_MMAP]
        {
            assert_ne!(flags & offered, 0);
        }
        assert_eq!(flags & init::OVER_IO_URING, 0, "switched off in this kernel");
    });
}

#[test]
fn stat_of_a_name_in_the_root() {
    let lookup = "
        2d000000 01000000 0400000000000000 0100000000000000 00000000 00000000 b5470000 00000000 66696c6500";
    check(lookup, |request| {
        assert_eq!((request.unique, request.inode, request.uid, request.pid), (4, 1, 0, 0x47b5));
        assert_eq!(request.operation, Operation::Lookup { name: b"file" });
    });
    let statx = "
        40000000 34000000 0600000000000000 0200000000000000 00000000 00000000 bd470000 00000000
        00000000 00000000 0000000000000000 00000000 ff0f0000";
    check(statx, |request| assert_eq!(request.operation, Operation::Statx { handle: None, flags: 0, mask: 0xfff }));
}

#[test]
fn cat_of_a_file() {
    let open = "
        30000000 0e000000 0600000000000000 0200000000000000 00000000 00000000 b5470000 00000000 00800000 00000000";
    check(open, |request| {
        assert_eq!(request.operation, Operation::Open { flags: 0x8000, kill_suidgid: false });
    });
    let read = "
        50000000 0f000000 0a00000000000000 0200000000000000 00000000 00000000 c3470000 00000000
        0900000000000000 0000000000000000 00100000 00000000 0000000000000000 00800000 00000000";
    check(read, |request| {
        let read = Operation::Read { handle: 9, offset: 0, size: 4096, lock_owner: None, flags: 0x8000 };
        assert_eq!(request.operation, read);
    });
    let flush = "
        40000000 19000000 0800000000000000 0200000000000000 00000000 00000000 b5470000 00000000
        0900000000000000 00000000 00000000 f58ec5bcce2fad7c";
    check(flush, |request| {
        assert_eq!(request.operation, Operation::Flush { handle: 9, lock_owner: 0x7cad_2fce_bcc5_8ef5 });
    });
    let release = "
        40000000 12000000 0a00000000000000 0200000000000000 00000000 00000000 00000000 00000000
        0900000000000000 00800000 00000000 0000000000000000";
    check(release, |request| {
        assert_eq!(request.pid, 0, "nobody's: the last one closed it");
        let Operation::Release { handle: 9, flush: false, flock_unlock: false, .. } = request.operation else {
            panic!("{request:?}")
        };
    });
}

#[test]
fn a_direct_read_that_was_sent_again() {
    let read = "
        50000000 0f000000 0a00000000000080 0300000000000000 00000000 00000000 d8470000 00000000
        0900000000000000 0000000000000000 00000200 02000000 fb381f301d075695 00800000 00000000";
    check(read, |request| {
        assert!(request.is_resend);
        let Operation::Read { size: 0x2_0000, lock_owner: Some(_), .. } = request.operation else {
            panic!("{request:?}")
        };
    });
}

#[test]
fn futimens_to_a_time_before_1970() {
    let setattr = "
        80000000 04000000 0a00000000000000 0200000000000000 00000000 00000000 cf470000 00000000
        20000000 00000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 feffffffffffffff
        0000000000000000 00000000 ff64cd1d 00000000 00000000 00000000 00000000 00000000 00000000";
    check(setattr, |request| {
        let Operation::SetAttr(set) = request.operation else { panic!("{request:?}") };
        assert_eq!(set.mtime, Some(SetTime::To(Time { seconds: -2, nanoseconds: 499_999_999 })));
        assert_eq!((set.atime, set.handle, set.mode), (None, None, None));
    });
}

#[test]
fn flock_and_fcntl() {
    let whole = |owner, flock| LockRequest {
        handle: 9,
        owner,
        lock: Lock { start: 0, end: i64::MAX as u64, kind: libc::F_WRLCK, pid: 0x47b3 },
        flock,
    };
    let fcntl = "
        58000000 20000000 0a00000000000000 0200000000000000 00000000 00000000 c9470000 00000000
        0900000000000000 ba59dfe03baa73cd 0000000000000000 ffffffffffffff7f 01000000 b3470000 00000000 00000000";
    check(fcntl, |request| {
        let request_of_lock = whole(0xcd73_aa3b_e0df_59ba, false);
        assert_eq!(request.operation, Operation::SetLock { request: request_of_lock, wait: false });
    });
    let flock = "
        58000000 21000000 0800000000000000 0200000000000000 00000000 00000000 c9470000 00000000
        0900000000000000 8b1c13139d91f971 0000000000000000 ffffffffffffff7f 01000000 b3470000 01000000 00000000";
    check(flock, |request| {
        let request_of_lock = whole(0x71f9_919d_1313_1c8b, true);
        assert_eq!(request.operation, Operation::SetLock { request: request_of_lock, wait: true });
    });
}

#[test]
fn a_signal_for_who_waits() {
    let interrupt = "
        30000000 24000000 0b00000000000000 0000000000000000 00000000 00000000 00000000 00000000 0a00000000000000";
    check(interrupt, |request| assert_eq!(request.operation, Operation::Interrupt { unique: 10 }));
}

#[test]
fn a_file_without_a_name() {
    let tmpfile = "
        3a000000 33000000 0400000000000000 0100000000000000 00000000 00000000 c6470000 00000000
        01804100 80810000 12000000 00000000 2f00";
    check(tmpfile, |request| {
        let Operation::TmpFile { flags, mode: 0o100_600, umask: 0o22, .. } = request.operation else {
            panic!("{request:?}")
        };
        assert_eq!(flags & libc::O_TMPFILE, libc::O_TMPFILE);
    });
}

#[test]
fn ls_of_a_directory() {
    let list = "
        50000000 2c000000 1800000000000000 0100000000000000 00000000 00000000 c3470000 00000000
        0900000000000000 0000000000000000 00800000 00000000 0000000000000000 00880100 00000000";
    check(list, |request| {
        let Operation::ReadDirPlus { handle: 9, cookie: 0, size: 0x8000, .. } = request.operation else {
            panic!("{request:?}")
        };
    });
    let forget = "
        30000000 02000000 0c00000000000000 0200000000000000 00000000 00000000 00000000 00000000 0100000000000000";
    check(forget, |request| assert_eq!(request.operation, Operation::Forget { lookups: 1 }));
}
