//! Replies and notices as the kernel takes them: one write each, its length right, its fields where the header has
//! them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use kernel::abi::fopen;
use kernel::{Attributes, Device, Entry, Listing, Lock, Notifier, Opened, Replier, StatFs, Statx, Time};
use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const UNIQUE: u64 = 0x8000_0000_0000_1234;

struct Kernel(OwnedFd);

fn device() -> (Arc<Device>, Kernel) {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    (Arc::new(Device::from(ours)), Kernel(theirs))
}

impl Kernel {
    /// The next write, whose length must be the one it says. -> (error, unique, body)
    fn took(&self) -> (i32, u64, Vec<u8>) {
        let mut space = vec![0; 1 << 20];
        let length = rustix::io::read(&self.0, &mut space[..]).unwrap();
        space.truncate(length);
        assert_eq!(u32_at(&space, 0) as usize, length);
        (u32_at(&space, 4) as i32, u64_at(&space, 8), space.split_off(16))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn answered(answer: impl FnOnce(Replier)) -> Vec<u8> {
    let (device, kernel) = device();
    answer(Replier::new(device, UNIQUE));
    let (error, unique, body) = kernel.took();
    assert_eq!((error, unique), (0, UNIQUE));
    body
}

fn error_of(answer: impl FnOnce(Replier)) -> i32 {
    let (device, kernel) = device();
    answer(Replier::new(device, UNIQUE));
    let (error, unique, body) = kernel.took();
    assert_eq!((unique, body.len()), (UNIQUE, 0));
    error
}

fn attributes() -> Attributes {
    Attributes {
        inode: 42,
        size: 1 << 40,
        blocks: 8,
        atime: Time { seconds: -2, nanoseconds: 999_999_999 },
        mtime: Time { seconds: 5, nanoseconds: 6 },
        ctime: Time { seconds: 7, nanoseconds: 8 },
        mode: libc::S_IFREG | 0o640,
        nlink: 2,
        uid: 1000,
        gid: 100,
        rdev: 0,
        block_bytes: 4096,
    }
}

fn entry() -> Entry {
    Entry {
        inode: 42,
        generation: 3,
        entry_valid: Duration::new(1, 2),
        attr_valid: Duration::new(4, 5),
        attributes: attributes(),
    }
}

fn assert_attributes(attr: &[u8]) {
    assert_eq!(attr.len(), 88);
    assert_eq!([u64_at(attr, 0), u64_at(attr, 8), u64_at(attr, 16)], [42, 1 << 40, 8]);
    assert_eq!([u64_at(attr, 24) as i64, u64_at(attr, 32) as i64, u64_at(attr, 40) as i64], [-2, 5, 7]);
    assert_eq!([u32_at(attr, 48), u32_at(attr, 52), u32_at(attr, 56)], [999_999_999, 6, 8]);
    assert_eq!([u32_at(attr, 60), u32_at(attr, 64)], [libc::S_IFREG | 0o640, 2]);
    assert_eq!([u32_at(attr, 68), u32_at(attr, 72), u32_at(attr, 76), u32_at(attr, 80)], [1000, 100, 0, 4096]);
}

fn assert_entry(entry: &[u8]) {
    assert_eq!([u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16), u64_at(entry, 24)], [42, 3, 1, 4]);
    assert_eq!([u32_at(entry, 32), u32_at(entry, 36)], [2, 5]);
    assert_attributes(&entry[40..]);
}

#[test]
fn entries_and_attributes_lie_where_the_header_has_them() {
    assert_entry(&answered(|reply| reply.entry(&entry())));
    let body = answered(|reply| reply.attributes(Duration::new(9, 10), &attributes()));
    assert_eq!((u64_at(&body, 0), u32_at(&body, 8)), (9, 10));
    assert_attributes(&body[16..]);
    let opened = Opened { handle: 7, flags: fopen::KEEP_CACHE };
    let body = answered(|reply| assert!(reply.created(&entry(), opened)));
    assert_eq!(body.len(), 144);
    assert_entry(&body[..128]);
    assert_eq!(body[128..], answered(|reply| assert!(reply.opened(opened))));
    assert_eq!((u64_at(&body, 128), u32_at(&body, 136), u32_at(&body, 140)), (7, 2, 0));
}

#[test]
fn numbers_lie_where_the_header_has_them() {
    assert_eq!(answered(Replier::ok), [0u8; 0]);
    assert_eq!(u32_at(&answered(|reply| reply.written(9)), 0), 9);
    assert_eq!(answered(|reply| reply.written(9)).len(), 8);
    assert_eq!(answered(|reply| reply.copied(1 << 33)), (1u64 << 33).to_ne_bytes());
    assert_eq!(answered(|reply| reply.lseek(12)), 12u64.to_ne_bytes());
    assert_eq!(answered(|reply| reply.bmap(12)), 12u64.to_ne_bytes());
    assert_eq!(answered(|reply| reply.xattr_size(5)), 5u64.to_ne_bytes());
    assert_eq!(answered(|reply| reply.poll(4)), 4u64.to_ne_bytes());
    assert_eq!(answered(|reply| reply.ioctl(1, b"out"))[16..], *b"out");
    let lock = Lock { start: 1, end: 2, kind: libc::F_WRLCK, pid: 3 };
    let body = answered(|reply| reply.lock(&lock));
    assert_eq!((u64_at(&body, 0), u64_at(&body, 8), u32_at(&body, 16), u32_at(&body, 20)), (1, 2, 1, 3));
}

#[test]
fn statfs_and_statx_lie_where_the_header_has_them() {
    let stats = StatFs {
        blocks: 1,
        free_blocks: 2,
        available_blocks: 3,
        files: 4,
        free_files: 5,
        block_bytes: 6,
        fragment_bytes: 7,
        max_name_bytes: 8,
    };
    let body = answered(|reply| reply.statfs(&stats));
    assert_eq!(body.len(), 80);
    assert_eq!([0, 8, 16, 24, 32].map(|at| u64_at(&body, at)), [1, 2, 3, 4, 5]);
    assert_eq!([40, 44, 48].map(|at| u32_at(&body, at)), [6, 8, 7]);

    let birth = Time { seconds: -1, nanoseconds: 1 };
    let statx = Statx {
        mask: 0xfff,
        attributes: Attributes { rdev: 0x1234_5678, ..attributes() },
        birth,
        file_attributes: 16,
        file_attributes_mask: 48,
    };
    let body = answered(|reply| reply.statx(Duration::new(1, 2), &statx));
    assert_eq!(body.len(), 288);
    assert_eq!((u64_at(&body, 0), u32_at(&body, 8)), (1, 2));
    let stat = &body[32..];
    assert_eq!([0, 4, 16, 20, 24].map(|at| u32_at(stat, at)), [0xfff, 4096, 2, 1000, 100]);
    assert_eq!(u32_at(stat, 28), libc::S_IFREG | 0o640);
    assert_eq!([8, 32, 40, 48, 56].map(|at| u64_at(stat, at)), [16, 42, 1 << 40, 8, 48]);
    assert_eq!([64, 80, 96, 112].map(|at| u64_at(stat, at) as i64), [-2, -1, 7, 5]);
    assert_eq!([72, 88, 104, 120].map(|at| u32_at(stat, at)), [999_999_999, 1, 8, 6]);
    assert_eq!([128, 132].map(|at| u32_at(stat, at)), [0x456, 0x0001_2378]);
}

#[test]
fn data_is_sent_from_where_it_lies() {
    assert_eq!(answered(|reply| reply.data(b"bytes")), b"bytes");
    assert_eq!(answered(|reply| reply.data(b"")), b"");
    assert_eq!(answered(|reply| reply.bytes(&[b"a", b"", b"bc"])), b"abc");
}

#[test]
fn a_request_given_up_gets_an_io_error() {
    assert_eq!(error_of(drop), -libc::EIO);
    let (device, kernel) = device();
    let reply = Replier::new(device, UNIQUE);
    std::thread::spawn(move || drop(reply)).join().unwrap();
    assert_eq!(kernel.took().0, -libc::EIO);
}

#[test]
fn an_errno_that_the_kernel_would_not_take_becomes_an_io_error() {
    assert_eq!(error_of(|reply| reply.error(libc::ENOENT)), -libc::ENOENT);
    for none in [0, -1, -libc::ENOENT, 512, 4000, i32::MAX, i32::MIN] {
        assert_eq!(error_of(|reply| reply.error(none)), -libc::EIO);
    }
}

#[test]
fn an_answer_that_nobody_takes_any_more_is_no_trouble() {
    let (device, kernel) = device();
    drop(kernel);
    Replier::new(device.clone(), UNIQUE).ok();
    drop(Replier::new(device, UNIQUE));
}

#[test]
fn every_notice_has_its_code_and_its_bytes() {
    let (device, kernel) = device();
    let notifier = Notifier::new(device);
    let took = |code: i32| {
        let (error, unique, body) = kernel.took();
        assert_eq!((error, unique), (code, 0));
        body
    };
    notifier.inval_inode(42, 4096, 5).unwrap();
    let body = took(2);
    assert_eq!([0, 8, 16].map(|at| u64_at(&body, at)), [42, 4096, 5]);
    notifier.inval_attributes(42).unwrap();
    assert_eq!(u64_at(&took(2), 8) as i64, -1);
    notifier.inval_entry(1, b"name", true).unwrap();
    let body = took(3);
    assert_eq!((u64_at(&body, 0), u32_at(&body, 8), u32_at(&body, 12), &body[16..]), (1, 4, 1, &b"name\0"[..]));
    notifier.inval_entry(1, b"name", false).unwrap();
    assert_eq!(u32_at(&took(3), 12), 0);
    notifier.store(42, 4096, b"data").unwrap();
    let body = took(4);
    assert_eq!((u64_at(&body, 0), u64_at(&body, 8), u32_at(&body, 16), &body[24..]), (42, 4096, 4, &b"data"[..]));
    notifier.delete(1, 42, b"name").unwrap();
    let body = took(6);
    assert_eq!((u64_at(&body, 0), u64_at(&body, 8), u32_at(&body, 16), &body[24..]), (1, 42, 4, &b"name\0"[..]));
    notifier.resend().unwrap();
    assert_eq!(took(7), b"");
    notifier.epoch().unwrap();
    assert_eq!(took(8), b"");
}

/// Entries as the kernel would walk over them. -> (inode, cookie, kind, name)
fn walk(mut bytes: &[u8]) -> Vec<(u64, u64, u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 16) as usize;
        found.push((u64_at(bytes, 0), u64_at(bytes, 8), u32_at(bytes, 20), bytes[24..24 + length].to_vec()));
        bytes = &bytes[(24 + length).next_multiple_of(8)..];
    }
    found
}

proptest! {
    #[test]
    fn a_listing_holds_what_fitted_and_nothing_else(
        names in prop::collection::vec(prop::collection::vec(1u8.., 1..60), 0..40), size in 0u32..2000,
    ) {
        let mut listing = Listing::new(size);
        let mut taken = Vec::new();
        for (cookie, name) in names.iter().enumerate() {
            if !listing.add(7, cookie as u64, libc::S_IFDIR | 0o755, name) {
                break;
            }
            taken.push((7, cookie as u64, u32::from(libc::DT_DIR), name.clone()));
        }
        prop_assert!(listing.as_slice().len() <= size as usize);
        if let Some(refused) = names.get(taken.len()) {
            prop_assert!(listing.as_slice().len() + (24 + refused.len()).next_multiple_of(8) > size as usize);
        }
        prop_assert_eq!(walk(listing.as_slice()), taken.clone());
        prop_assert_eq!(walk(&answered(|reply| reply.listing(&listing))), taken);
    }
}

#[test]
fn an_entry_of_a_listing_with_attributes_is_a_lookup_and_a_name() {
    let mut listing = Listing::new(400);
    assert!(listing.add_plus(&entry(), 9, b"name"));
    assert!(listing.add_plus(&entry(), 10, b"other name"));
    assert!(!listing.add_plus(&entry(), 11, b"too much"));
    let bytes = listing.as_slice();
    assert_eq!(bytes.len(), 160 + 168);
    for entry in [&bytes[..160], &bytes[160..]] {
        assert_entry(&entry[..128]);
    }
    assert_eq!(walk(&bytes[128..160]), [(42, 9, u32::from(libc::DT_REG), b"name".to_vec())]);
    assert_eq!(walk(&bytes[288..]), [(42, 10, u32::from(libc::DT_REG), b"other name".to_vec())]);
}
