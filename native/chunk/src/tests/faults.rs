//! Failing writes and syncs, in every place of every operation.

use base::crc::piece_crcs;
use base::limits::BLOCK_BYTES;

use super::simulated::{new_disk, open};
use super::{chunk, get, noise, put};
use crate::layout::PAGE_ENTRIES;
use crate::sim::{SimDisk, SimFault, SimOp};

/// Let so many syncs be, and fail the next one.
fn fail_sync(disk: &SimDisk, after: u64) {
    disk.inject(SimFault { op: SimOp::Sync, after, errno: libc::EIO, stay: false });
}

/// Let so many writes to files with this end be, and find the disk full at the next one, or from then on.
fn fill(disk: &SimDisk, suffix: &str, after: u64, stay: bool) {
    disk.inject_on(suffix, SimFault { op: SimOp::Write, after, errno: libc::ENOSPC, stay });
}

#[test]
fn a_failed_fsync_fences_the_disk_until_the_store_is_opened_anew() {
    let disk = new_disk();
    let store = open(&disk);
    let data = noise(1, 9000);
    put(&store, chunk(1, 1), 0, &data).expect("a write");
    store.sync(chunk(1, 1)).expect("a sync");
    put(&store, chunk(1, 1), 20_000, &data).expect("a write");
    fail_sync(&disk, 0);
    assert_eq!(store.sync(chunk(1, 1)).expect_err("failed").errno, libc::EIO);
    for _ in 0..2 {
        assert_eq!(store.sync(chunk(1, 1)).expect_err("never retried").errno, libc::EIO);
        assert_eq!(put(&store, chunk(1, 1), 0, &data).expect_err("fenced").errno, libc::EIO);
        assert_eq!(put(&store, chunk(2, 1), 0, &data).expect_err("fenced").errno, libc::EIO);
    }
    assert!(store.disks()[0].state.starts_with("failed: "));
    assert_eq!((store.lost(), store.inventory().len()), (vec![1], 0));
    drop(store);
    let store = open(&disk);
    assert!(get(&store, chunk(1, 1), 0, 9000).expect("synced data is there") == data);
}

#[test]
fn a_write_that_fails_anywhere_leaves_the_chunk_readable_and_mostly_as_before() {
    // (part, writes let through, bytes of the failing write that still arrive)
    let places = [".data", ".sums"].into_iter().flat_map(|part| (0..4).map(move |after| (part, after)));
    for (part, after) in places {
        for short_bytes in [0, 100, 4096, 5000] {
            let disk = new_disk();
            let store = open(&disk);
            let (old, new) = (noise(1, 3 * BLOCK_BYTES), noise(2, 4 * BLOCK_BYTES));
            put(&store, chunk(1, 1), 0, &old).expect("a write");
            store.sync(chunk(1, 1)).expect("a sync");
            store.flush_lazy();
            let op = SimOp::ShortWrite(short_bytes);
            disk.inject_on(part, SimFault { op, after, errno: libc::ENOSPC, stay: false });
            // Stable blocks, absent ones and parts of both.
            let offset = 2 * BLOCK_BYTES + 50;
            let written = put(&store, chunk(1, 1), offset as u32, &new);
            disk.clear_faults();
            let check = |store: &crate::Store| {
                let all = get(store, chunk(1, 1), 0, 16 * BLOCK_BYTES as u32).expect("no rot");
                assert!(all[..2 * BLOCK_BYTES] == old[..2 * BLOCK_BYTES], "untouched blocks are as before");
                let wanted = |i: usize| match i.checked_sub(offset) {
                    Some(at) if at < new.len() => new[at],
                    _ => old.get(i).copied().unwrap_or(0),
                };
                let before = |i: usize| old.get(i).copied().unwrap_or(0);
                let fine = (0..all.len()).all(|i| all[i] == wanted(i) || (written.is_err() && all[i] == before(i)));
                assert!(fine, "{part} after {after}, short {short_bytes}: neither old nor new");
            };
            check(&store);
            store.sync(chunk(1, 1)).expect("a sync");
            check(&store);
            store.flush_lazy();
            drop(store);
            check(&open(&disk));
        }
    }
}

#[test]
fn a_first_write_that_fails_leaves_no_chunk() {
    let disk = new_disk();
    let store = open(&disk);
    fill(&disk, ".data", 0, false);
    assert_eq!(put(&store, chunk(1, 1), 0, b"data").expect_err("full").errno, libc::ENOSPC);
    assert!(store.inventory().is_empty());
    assert_eq!(store.disks()[0].chunks, 0);
    put(&store, chunk(1, 1), 0, b"data").expect("room again");
    assert_eq!(get(&store, chunk(1, 1), 0, 4).expect("a read"), b"data");
}

#[test]
fn a_version_advance_that_fails_is_old_or_new_after_a_restart() {
    for after in [0, 1] {
        let disk = new_disk();
        let store = open(&disk);
        let data = noise(1, 9000);
        put(&store, chunk(1, 1), 0, &data).expect("a write");
        store.sync(chunk(1, 1)).expect("a sync");
        fill(&disk, ".sums", after, false);
        assert_eq!(store.fence(chunk(1, 2)).expect_err("failed").errno, libc::ENOSPC);
        drop(store);
        let store = open(&disk);
        let version = store.inventory()[0].version;
        assert!(get(&store, chunk(1, version), 0, 9000).expect("a read") == data);
    }
}

#[test]
fn a_header_that_was_written_in_part_leaves_the_one_before_in_force() {
    for short_bytes in [100, 511] {
        let disk = new_disk();
        let store = open(&disk);
        let data = noise(1, 9000);
        put(&store, chunk(1, 1), 0, &data).expect("a write");
        store.fence(chunk(1, 2)).expect("a fence");
        // The table of version 3 is the first write, its header the second.
        let op = SimOp::ShortWrite(short_bytes);
        disk.inject_on(".sums", SimFault { op, after: 1, errno: libc::EIO, stay: false });
        assert_eq!(store.fence(chunk(1, 3)).expect_err("failed").errno, libc::EIO);
        drop(store);
        let store = open(&disk);
        assert_eq!(store.inventory()[0].version, 2, "{short_bytes} bytes of the header arrived");
        assert!(get(&store, chunk(1, 2), 0, 9000).expect("a read") == data);
    }
}

#[test]
fn a_copy_that_fails_or_is_older_replaces_nothing() {
    let disk = new_disk();
    let store = open(&disk);
    let data = noise(1, 9000);
    put(&store, chunk(1, 3), 0, &data).expect("a write");
    assert_eq!(store.begin_copy(chunk(1, 2)).err().expect("older").errno, libc::ESTALE);
    let copy = store.begin_copy(chunk(1, 4)).expect("a copy");
    assert_eq!(copy.write(0, &data, &[0; 12]).expect_err("wrong checksums").errno, libc::EBADMSG);
    store.fence(chunk(1, 5)).expect("a fence meanwhile");
    assert_eq!(copy.finish().expect_err("older by now").errno, libc::ESTALE);
    let copy = store.begin_copy(chunk(1, 6)).expect("a copy");
    copy.write(0, b"new", &piece_crcs(0, b"new")).expect("a write");
    fail_sync(&disk, 1);
    assert_eq!(copy.finish().expect_err("failed").errno, libc::EIO);
    drop(store);
    let store = open(&disk);
    assert_eq!(store.inventory()[0].version, 5);
    assert!(get(&store, chunk(1, 5), 0, 9000).expect("a read") == data);
}

#[test]
fn acknowledged_bytes_that_were_never_synced_outlive_a_failed_write_beside_them() {
    for stay in [false, true] {
        let disk = new_disk();
        let store = open(&disk);
        let (old, new) = (noise(1, 2 * BLOCK_BYTES), noise(2, 2 * BLOCK_BYTES));
        put(&store, chunk(1, 1), 0, &old).expect("a write");
        // The second half of block 1, and block 2, which was absent.
        let offset = BLOCK_BYTES + BLOCK_BYTES / 2;
        fill(&disk, ".sums", 0, stay);
        let failed = put(&store, chunk(1, 1), offset as u32, &new[..BLOCK_BYTES]);
        assert_eq!(failed.expect_err("full").errno, libc::ENOSPC);
        if stay {
            assert_eq!(store.sync(chunk(1, 1)).expect_err("still full").errno, libc::ENOSPC);
        }
        disk.clear_faults();
        let check = |store: &crate::Store| {
            let all = get(store, chunk(1, 1), 0, 4 * BLOCK_BYTES as u32).expect("a read");
            assert!(all[..offset] == old[..offset], "what was acknowledged");
            assert!(all[3 * BLOCK_BYTES..].iter().all(|&byte| byte == 0));
        };
        check(&store);
        store.sync(chunk(1, 1)).expect("a sync");
        // As a crash right now leaves it: without any later flush.
        disk.kill();
        check(&open(&disk));
    }
}

#[test]
fn what_is_shown_after_a_failed_write_and_a_sync_is_what_a_power_cut_leaves() {
    for page in [0, 1] {
        let disk = new_disk();
        let store = open(&disk);
        put(&store, chunk(1, 1), 0, &noise(1, BLOCK_BYTES)).expect("a write");
        store.sync(chunk(1, 1)).expect("a sync");
        let offset = ((page * PAGE_ENTRIES + 3) * BLOCK_BYTES) as u32;
        fill(&disk, ".sums", 0, false);
        assert!(put(&store, chunk(1, 1), offset, &noise(2, 2 * BLOCK_BYTES)).is_err());
        disk.clear_faults();
        put(&store, chunk(1, 1), offset + 4 * BLOCK_BYTES as u32, b"beside").expect("a write");
        store.sync(chunk(1, 1)).expect("a sync");
        let shown = get(&store, chunk(1, 1), offset, 5 * BLOCK_BYTES as u32).expect("a read");
        disk.power_cut(1);
        drop(store);
        let left = get(&open(&disk), chunk(1, 1), offset, 5 * BLOCK_BYTES as u32).expect("a read");
        assert!(left == shown, "in page {page} of the table");
    }
}

#[test]
fn a_version_that_no_master_gave_fences_nothing() {
    let disk = new_disk();
    let store = open(&disk);
    for id in [1, 2] {
        assert_eq!(put(&store, chunk(id, u32::MAX), 0, b"data").expect_err("nonsense").errno, libc::EINVAL);
    }
    assert_eq!(store.begin_copy(chunk(3, u32::MAX)).err().expect("nonsense").errno, libc::EINVAL);
    assert!(store.inventory().is_empty());
    put(&store, chunk(1, 5), 0, b"data").expect("a write");
    for version in [u32::MAX, 1 << 31, 20 << 20] {
        let far = chunk(1, version);
        assert_eq!(put(&store, far, 0, b"data").expect_err("far").errno, libc::EINVAL);
        assert_eq!(store.fence(far).expect_err("far").errno, libc::EINVAL);
        assert_eq!(store.trim(far, 0).expect_err("far").errno, libc::EINVAL);
    }
    put(&store, chunk(1, 5), 0, b"data").expect("not fenced");
    put(&store, chunk(1, 8 << 20), 0, b"data").expect("a jump of eight million");
    put(&store, chunk(2, (1 << 31) - 1), 0, b"data").expect("a late beginning");
}
