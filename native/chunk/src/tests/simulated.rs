//! A store on simulated disks.

use std::path::{Path, PathBuf};

use base::limits::BLOCK_BYTES;

use super::{chunk, get, noise, put};
use crate::Store;
use crate::sim::SimDisk;
use crate::types::StoreConfig;

const ROOT: &str = "/disk";

pub fn new_disk() -> SimDisk {
    SimDisk::new(1 << 30, 1)
}

pub fn open(disk: &SimDisk) -> Store {
    try_open(disk).expect("the store opens")
}

pub fn try_open(disk: &SimDisk) -> base::Result<Store> {
    Store::open_simulated(config_of_one(), std::slice::from_ref(disk), now_ns(disk))
}

/// Later at each opening, as a clock is: a chunk's incarnation tells it from those that a crash took off the disk.
fn now_ns(disk: &SimDisk) -> i64 {
    1_000_000 * (1 + disk.operations() as i64)
}

pub fn config_of_one() -> StoreConfig {
    super::config(&[Path::new(ROOT)])
}

pub fn env_of_one(disk: &SimDisk) -> crate::Env {
    crate::Env::simulated(&config_of_one().disks, std::slice::from_ref(disk), now_ns(disk))
}

/// A store on one simulated disk, with `open_slots` of its chunks open at a time.
fn open_on(disk: &SimDisk, open_slots: usize) -> Store {
    Store::open_in(config_of_one(), env_of_one(disk).with_open_slots(open_slots)).expect("the store opens")
}

fn two(disks: &[SimDisk]) -> StoreConfig {
    StoreConfig { disks: (0..disks.len()).map(|i| PathBuf::from(format!("/sim/{i}"))).collect(), ..super::config(&[]) }
}

#[test]
fn a_store_lives_on_simulated_disks_and_touches_nothing_else() {
    let disks = [SimDisk::new(1 << 30, 1), SimDisk::new(1 << 30, 2)];
    let store = Store::open_simulated(two(&disks), &disks, 1_000).expect("the store opens");
    for id in 1..=8 {
        put(&store, chunk(id, 1), 5, &noise(id, 3 * BLOCK_BYTES)).expect("a write");
        store.sync(chunk(id, 1)).expect("a sync");
    }
    store.tick(1_000_000_000);
    assert!(!Path::new("/sim").exists());
    assert_eq!(store.disks().iter().map(|disk| disk.chunks).collect::<Vec<_>>(), [4, 4]);
    for (seed, disk) in disks.iter().enumerate() {
        disk.power_cut(seed as u64);
    }
    assert!(put(&store, chunk(1, 1), 0, b"late").is_err(), "its process has ended");
    let store = Store::open_simulated(two(&disks), &disks, 2_000_000_000).expect("the store opens again");
    for id in 1..=8 {
        assert!(get(&store, chunk(id, 1), 5, 3 * BLOCK_BYTES as u32).expect("a read") == noise(id, 3 * BLOCK_BYTES));
    }
}

#[test]
fn what_a_settled_copy_told_is_what_it_holds_after_a_power_cut() {
    for seed in 0..8 {
        let disk = SimDisk::new(1 << 30, seed);
        let store = open(&disk);
        put(&store, chunk(1, 1), 0, &noise(1, 9000)).expect("a write");
        store.sync(chunk(1, 1)).expect("a sync");
        put(&store, chunk(1, 1), 4096, &noise(2, 4096)).expect("an overwrite that its writer leaves");
        let told = store.settle(chunk(1, 2)).expect("its version is new here");
        disk.power_cut(seed);
        let held = open(&disk).map(chunk(1, 2)).expect("the copy is there");
        assert_eq!((held.version, held.digest), (told.version, told.digest), "seed {seed}");
    }
}

#[test]
fn the_same_calls_leave_the_same_bytes() {
    let run = |seed: u64| {
        let disk = SimDisk::new(1 << 30, seed);
        let store = open_on(&disk, 2);
        for id in 1..6 {
            put(&store, chunk(id, 1), 7, &noise(id, 9000)).expect("a write");
            store.sync(chunk(id, 1)).expect("a sync");
            store.tick(id as i64 * 1_000_000_000);
        }
        store.delete(chunk(3, 1)).expect("a delete");
        put(&store, chunk(4, 2), 4096, &noise(9, 5000)).expect("a write");
        let before = disk.digest();
        disk.power_cut(seed);
        drop(open_on(&disk, 2));
        (before, disk.digest(), disk.operations())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0, "another seed, another disk");
}
