//! The simulated disk by itself.

use std::path::{Path, PathBuf};

use super::*;
use crate::fs::{Access, FileHandle, Fs};

const ROOT: &str = "/disk";

fn at(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn mounted(disk: &SimDisk) -> Fs {
    Fs::Simulated(disk.mount(Path::new(ROOT)))
}

fn create(fs: &Fs, name: &str, bytes: &[u8]) -> FileHandle {
    let file = fs.open(&at(name), Access::CREATE).expect("a file");
    file.pwrite(bytes, 0).expect("a write");
    file
}

#[test]
fn synced_bytes_under_synced_names_survive_every_power_cut() {
    for seed in 0..200 {
        let disk = SimDisk::new(1 << 20, 1);
        let fs = mounted(&disk);
        let file = create(&fs, "a", &[1; 6000]);
        file.sync().expect("a sync");
        fs.sync_dir(Path::new(ROOT)).expect("a sync");
        file.pwrite(&[2; 6000], 3000).expect("a write");
        disk.power_cut(seed);
        assert!(file.pread(&mut [0], 0).is_err(), "its handle is dead");
        let bytes = disk.read("a").expect("the name is durable");
        assert!(bytes[..3000].iter().all(|&byte| byte == 1));
        assert!(bytes[3000..6000].iter().all(|&byte| byte == 1 || byte == 2));
        assert!(bytes[6000..].iter().all(|&byte| byte == 0 || byte == 2));
    }
}

#[test]
fn what_was_not_synced_is_sometimes_there_sometimes_not_and_sometimes_torn() {
    let mut seen = [0; 4];
    for seed in 0..200 {
        let disk = SimDisk::new(1 << 20, 1);
        let fs = mounted(&disk);
        create(&fs, "a", &[1; 8192]);
        disk.power_cut(seed);
        seen[match disk.read("a") {
            Err(_) => 0,
            Ok(bytes) if bytes.is_empty() => 1,
            Ok(bytes) if bytes == [1; 8192] => 2,
            Ok(_) => 3,
        }] += 1;
    }
    assert!(seen.iter().all(|&times| times > 5), "{seen:?}");
}

#[test]
fn a_rename_without_a_sync_is_old_or_new_and_a_replaced_file_never_torn() {
    let mut seen = [0, 0];
    for seed in 0..100 {
        let disk = SimDisk::new(1 << 20, 1);
        let fs = mounted(&disk);
        fs.replace_small(&at("a"), b"old").expect("replaced");
        let file = create(&fs, "a.new", b"new");
        file.sync_all().expect("a sync");
        fs.rename(&at("a.new"), &at("a")).expect("a rename");
        disk.power_cut(seed);
        let bytes = disk.read("a").expect("one of them");
        assert!(bytes == b"old" || bytes == b"new");
        seen[usize::from(bytes == b"new")] += 1;
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

#[test]
fn a_kill_keeps_what_was_written_and_ends_handles_and_lock() {
    let disk = SimDisk::new(1 << 20, 1);
    let fs = mounted(&disk);
    let root = fs.open_dir(Path::new(ROOT)).expect("the root");
    root.lock().expect("free");
    assert_eq!(fs.open_dir(Path::new(ROOT)).expect("the root").lock().expect_err("held").raw_os_error(), Some(11));
    let file = create(&fs, "a", b"written");
    disk.kill();
    assert_eq!(file.pwrite(b"late", 0).expect_err("dead").raw_os_error(), Some(libc::EIO));
    assert_eq!(fs.open(&at("a"), Access::READ).err().expect("dead").raw_os_error(), Some(libc::EIO));
    let again = mounted(&disk);
    again.open_dir(Path::new(ROOT)).expect("the root").lock().expect("free again");
    assert_eq!(again.read_small(&at("a"), 100).expect("there"), b"written");
}

#[test]
fn faults_come_when_they_were_told_and_a_failed_sync_loses_what_it_was_for() {
    let disk = SimDisk::new(8192, 1);
    let fs = mounted(&disk);
    let (file, other) = (create(&fs, "a.sums", b"1"), create(&fs, "b", b"1"));
    fs.sync_dir(Path::new(ROOT)).expect("a sync");
    disk.inject_on(".sums", SimFault { op: SimOp::ShortWrite(2), after: 1, errno: libc::ENOSPC, stay: false });
    other.pwrite(b"x", 0).expect("not this file");
    file.pwrite(b"first", 0).expect("not yet");
    assert_eq!(file.pwrite(b"second", 0).expect_err("now").raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(disk.read("a.sums").expect("there"), b"serst");
    file.pwrite(b"third", 0).expect("only once");
    assert_eq!(file.pwrite(&[0; 5000], 0).expect_err("full").raw_os_error(), Some(libc::ENOSPC));
    disk.inject(SimFault { op: SimOp::Sync, after: 0, errno: libc::EIO, stay: true });
    assert!(file.sync().is_err() && file.sync().is_err());
    disk.clear_faults();
    file.sync().expect("as if nothing had been");
    assert_eq!(disk.read("a.sums").expect("there"), b"third");
    let image = disk.snapshot();
    let lost = (0..50).filter(|&seed| {
        disk.restore(&image);
        disk.power_cut(seed);
        disk.read("a.sums").expect("there") != b"third"
    });
    assert!(matches!(lost.count(), 0 | 50), "the medium has it or not since the first failure");
}

#[test]
fn a_snapshot_brings_the_cache_back_and_a_stop_comes_at_its_operation() {
    let disk = SimDisk::new(1 << 20, 1);
    let fs = mounted(&disk);
    let file = create(&fs, "a", &[1; 100]);
    let (before, image, digest) = (disk.operations(), disk.snapshot(), disk.digest());
    disk.stop_after(1);
    file.sync().expect("one more");
    assert!(!disk.is_stopped() && disk.operations() == before + 1 && disk.digest() != digest);
    assert!(file.pwrite(b"x", 0).is_err() && disk.is_stopped());
    disk.restore(&image);
    assert_eq!(disk.digest(), digest);
    assert!(disk.flip(at("a"), 99) && !disk.flip("a", 100));
    assert_eq!(disk.read("a").expect("there")[98..], [1, 0x11]);
}

#[test]
fn pages_are_sparse_and_holes_give_them_back() {
    let disk = SimDisk::new(1 << 20, 1);
    let fs = mounted(&disk);
    let file = create(&fs, "a", b"x");
    file.pwrite(b"y", 1 << 30).expect("a write");
    assert_eq!((disk.used_bytes(), file.allocated_bytes().expect("known")), (8192, 8192));
    file.punch_hole(0, 1 << 20).expect("a hole");
    assert_eq!(disk.used_bytes(), 4096);
    file.truncate(10).expect("a cut");
    assert_eq!((disk.used_bytes(), disk.read("a").expect("there")), (0, vec![0; 10]));
}
