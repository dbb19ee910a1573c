//! Directories that are foreign, missing, read-only or full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::limits::BLOCK_BYTES;

use super::{chunk, config, get, new_folder, noise, open, put};
use crate::types::StoreConfig;
use crate::{DirectIo, Store};

/// A file system of its own in memory; unmounted when dropped.
struct Mount(PathBuf, #[expect(dead_code, reason = "removes the mount point")] tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Mount {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mount");
        fs::create_dir(&path).expect("a mount point");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&path));
        Mount(path, folder)
    }

    fn remount(&self, option: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("mount and umount are there").success(), "{command:?}: these tests need root");
}

fn refused(config: StoreConfig) -> base::Error {
    Store::open(config).err().expect("it is refused")
}

#[test]
fn a_foreign_directory_is_refused_by_name() {
    let disk = new_folder();
    assert_eq!(Store::read_cluster_id(&[disk.path().into()]), Ok(None));
    drop(open(disk.path()));
    assert_eq!(Store::read_cluster_id(&[disk.path().into()]), Ok(Some("test".to_string())));
    let other_cluster = refused(StoreConfig { cluster_id: "other".to_string(), ..config(&[disk.path()]) });
    assert_eq!(other_cluster.errno, libc::EPERM);
    assert!(other_cluster.message.contains("belongs to cluster test, not to other"), "{other_cluster}");
    let other_server = refused(StoreConfig { server_id: 8, ..config(&[disk.path()]) });
    assert!(other_server.message.contains("belongs to server 7, not to 8"), "{other_server}");
    let strange = new_folder();
    fs::write(strange.path().join("thesis.txt"), "precious").expect("a file");
    assert_eq!(refused(config(&[strange.path()])).errno, libc::ENOTEMPTY);
    assert_eq!(fs::read_dir(strange.path()).expect("listed").count(), 1, "nothing was added");
    let identity = disk.path().join("mooseng-disk.json");
    let text = fs::read_to_string(&identity).expect("text").replace("\"test\"", "\"tesu\"");
    fs::write(&identity, text).expect("a flip");
    assert!(refused(config(&[disk.path()])).message.contains("damaged"));
}

#[test]
fn one_directory_serves_one_store_at_a_time() {
    let disk = new_folder();
    let first = open(disk.path());
    assert_eq!(refused(config(&[disk.path()])).errno, libc::EBUSY);
    drop(first);
    open(disk.path());
}

#[test]
fn a_missing_disk_is_left_out_and_not_formatted_anew() {
    let (one, two) = (new_folder(), new_folder());
    let store = Store::open(config(&[one.path(), two.path()])).expect("both are new");
    for id in 1..5 {
        put(&store, chunk(id, 1), 0, b"data").expect("a write");
        store.sync(chunk(id, 1)).expect("a sync");
    }
    assert_eq!(store.disks().iter().map(|disk| disk.chunks).collect::<Vec<_>>(), [2, 2], "spread over both");
    drop(store);
    // As if the second disk were not mounted.
    let away =
        one.path().join("../").join(format!("{}-away", two.path().file_name().expect("a name").to_string_lossy()));
    fs::rename(two.path(), &away).expect("away");
    let open_both = || Store::open(config(&[one.path(), two.path()]));
    let store = open_both().expect("one disk is enough");
    assert!(store.disks()[1].state.starts_with("failed: "), "{}", store.disks()[1].state);
    assert_eq!(store.inventory().len(), 2);
    drop(store);
    fs::create_dir(two.path()).expect("an empty mount point");
    let store = open_both().expect("one disk is enough");
    assert!(store.disks()[1].state.contains("mount it"), "{}", store.disks()[1].state);
    assert_eq!(fs::read_dir(two.path()).expect("listed").count(), 0);
    drop(store);
    fs::remove_dir(two.path()).expect("removed");
    fs::rename(&away, two.path()).expect("back");
    assert_eq!(open_both().expect("all is well").inventory().len(), 4);
    assert_eq!(refused(config(&[Path::new("/nonexistent/disk")])).errno, libc::EIO);
}

#[test]
fn a_disk_that_vanishes_under_the_store_is_fenced() {
    let (one, two) = (new_folder(), new_folder());
    let store = Store::open(config(&[one.path(), two.path()])).expect("open");
    for id in 1..5 {
        put(&store, chunk(id, 1), 0, b"data").expect("a write");
    }
    fs::remove_file(two.path().join("mooseng-disk.json")).expect("gone");
    store.flush_lazy();
    assert_eq!((store.lost().len(), store.inventory().len()), (2, 2));
    for id in 10..14 {
        put(&store, chunk(id, 1), 0, b"data").expect("the other disk takes new chunks");
    }
    let lost = store.lost()[0];
    assert_eq!(put(&store, chunk(lost, 1), 0, b"data").expect_err("fenced").errno, libc::EIO);
}

#[test]
fn a_full_disk_says_so_keeps_its_chunks_and_serves_again_after_a_delete() {
    let mount = Mount::new("16m");
    let store = Store::open(StoreConfig { reserve_bytes: 1 << 20, ..config(&[&mount.0]) }).expect("open");
    let data = noise(1, 1 << 20);
    let mut stored = 0;
    let error = loop {
        match put(&store, chunk(1 + stored / 4, 1), (stored % 4) as u32 * (1 << 20), &data) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno, libc::ENOSPC, "{error}");
    assert!((12..16).contains(&stored), "{stored} MiB stored");
    assert_eq!(store.disks()[0].free_bytes >> 20, 0);
    for i in 0..stored {
        let at = (i % 4) as u32 * (1 << 20);
        assert!(get(&store, chunk(1 + i / 4, 1), at, 1 << 20).expect("all is there") == data);
    }
    store.sync(chunk(1, 1)).expect("a sync");
    // In place goes on, deletes work, and room comes back.
    put(&store, chunk(1, 1), 0, &data).expect("an overwrite needs no room");
    assert_eq!(store.delete(chunk(2, 1)), Ok(true));
    put(&store, chunk(99, 1), 0, &data).expect("room again");
    store.sync(chunk(99, 1)).expect("a sync");
}

#[test]
fn a_file_system_full_below_the_reserve_is_no_rot() {
    let mount = Mount::new("8m");
    let store = Store::open(StoreConfig { reserve_bytes: 0, ..config(&[&mount.0]) }).expect("open");
    let data = noise(2, 1 << 20);
    let error = (0..9).find_map(|i| put(&store, chunk(1, 1), i << 20, &data).err()).expect("full");
    assert_eq!(error.errno, libc::ENOSPC);
    let all = get(&store, chunk(1, 1), 0, 9 << 20).expect("no rot");
    assert!(all.chunks(1 << 20).all(|part| part == data || part.iter().all(|&byte| byte == 0)));
}

#[test]
fn a_read_only_disk_serves_reads() {
    let mount = Mount::new("16m");
    let data = noise(3, 3 * BLOCK_BYTES);
    let store = open(&mount.0);
    put(&store, chunk(1, 1), 0, &data).expect("a write");
    drop(store);
    mount.remount("ro");
    let store = open(&mount.0);
    assert!(store.disks()[0].state.starts_with("read-only: "), "{}", store.disks()[0].state);
    assert!(get(&store, chunk(1, 1), 0, data.len() as u32).expect("a read") == data);
    assert_eq!(put(&store, chunk(1, 1), 0, &data).expect_err("read-only").errno, libc::EROFS);
    assert_eq!(put(&store, chunk(2, 1), 0, &data).expect_err("read-only").errno, libc::EROFS);
    assert_eq!(store.sync(chunk(1, 1)).expect_err("read-only").errno, libc::EROFS);
    drop(store);
    mount.remount("rw");
    put(&open(&mount.0), chunk(2, 1), 0, &data).expect("writable again");
}

#[test]
fn direct_io_is_probed_and_can_be_switched_off() {
    let disk = tempfile::tempdir().expect("a folder on a disk");
    for (wish, may) in [(DirectIo::Off, false), (DirectIo::On, true), (DirectIo::Auto, true)] {
        let store = Store::open(StoreConfig { direct_io: wish, ..config(&[disk.path()]) }).expect("open");
        assert!(may || !store.disks()[0].direct_io);
        assert!(!disk.path().join("mooseng-probe").exists());
    }
}

#[test]
fn writers_at_the_same_time_leave_the_reserve_alone() {
    let mount = Mount::new("64m");
    // A twentieth of the disk at most.
    let reserve = (64 << 20) / 20;
    let store = Store::open(StoreConfig { reserve_bytes: 1 << 30, ..config(&[&mount.0]) }).expect("open");
    let data = noise(4, 1 << 20);
    // Each has its chunk before the race: a thread that starts late may find the disk full.
    for id in 1..=8 {
        put(&store, chunk(id, 1), 0, &data).expect("a write");
    }
    std::thread::scope(|scope| {
        for id in 1..=8 {
            let (store, data) = (&store, &data);
            scope.spawn(move || {
                let error = (0..64).find_map(|i| put(store, chunk(id, 1), i << 20, data).err()).expect("full");
                assert_eq!(error.errno, libc::ENOSPC, "{error}");
            });
        }
    });
    let left = rustix::fs::statvfs(&mount.0).expect("its room");
    let left = left.f_bavail * left.f_frsize;
    // Tables are not counted.
    assert!(left + ((8 * 32) << 10) >= reserve, "{left} bytes left of {reserve}");
    assert!(left < reserve + (9 << 20), "{left} bytes are kept for nobody");
    for id in 1..=8 {
        store.sync(chunk(id, 1)).expect("a sync");
        put(&store, chunk(id, 1), 0, &data).expect("in place goes on");
    }
    assert_eq!(store.delete(chunk(1, 1)), Ok(true));
    put(&store, chunk(2, 1), 60 << 20, &data).expect("room again");
}

#[test]
fn copies_of_an_older_image_are_kept_and_not_used_until_a_copy_replaces_them() {
    let folders = [new_folder(), new_folder()];
    let [old, other] = [folders[0].path(), folders[1].path()];
    let memory = |epoch| crate::Memory { epoch, index: 9, mark: 5, ..crate::Memory::default() };
    let store = Store::open(config(&[old, other])).unwrap();
    for id in 1..=8 {
        put(&store, chunk(id, 1), 0, &noise(id, 5000)).unwrap();
        store.sync(chunk(id, 1)).unwrap();
    }
    store.remember(memory(3), &[old.to_path_buf()]).unwrap();
    drop(store);

    let store = Store::open(config(&[old, other])).unwrap();
    assert_eq!((store.memory().epoch, store.highest_chunk()), (3, 8));
    let entries = store.inventory();
    let outdated: Vec<u64> = entries.iter().filter(|entry| entry.outdated).map(|entry| entry.id).collect();
    assert!(!outdated.is_empty() && outdated.len() < 8, "by disk, not by server: {outdated:?}");
    assert_eq!(store.disks()[0].outdated, outdated.len() as u64);
    for id in 1..=8 {
        let is_outdated = outdated.contains(&id);
        assert_eq!(get(&store, chunk(id, 1), 0, 100).is_err(), is_outdated);
        assert_eq!(put(&store, chunk(id, 1), 0, &[1]).is_err(), is_outdated);
        assert_eq!(store.map(chunk(id, 1)).is_err(), is_outdated);
        assert_eq!(store.fence(chunk(id, 2)).is_err(), is_outdated);
    }
    let copy = store.begin_copy(chunk(outdated[0], 3)).unwrap();
    copy.write(0, &noise(77, 4096), &base::crc::piece_crcs(0, &noise(77, 4096))).unwrap();
    copy.finish().unwrap();
    assert_eq!(get(&store, chunk(outdated[0], 3), 0, 4096).unwrap(), noise(77, 4096));
    assert_eq!(store.disks()[0].outdated, outdated.len() as u64 - 1);
}
