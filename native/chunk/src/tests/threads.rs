//! Many threads on one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{chunk, config, get, new_folder, noise, put};
use crate::Store;

#[test]
fn threads_on_the_same_and_on_different_chunks_never_see_a_torn_block() {
    let disk = new_folder();
    // Fewer open slots than chunks in use.
    let store = Arc::new(Store::open_with(config(&[disk.path()]), 3).expect("open"));
    let stop = Arc::new(AtomicBool::new(false));
    let end = Instant::now() + Duration::from_secs(1);
    let mut threads = Vec::new();
    for worker in 0..6u64 {
        let (store, stop) = (store.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            let mut round = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let id = 1 + (worker + round) % 5;
                let data = noise(id * 1000 + round % 7, 10_000);
                put(&store, chunk(id, 1), 1000, &data).expect("a write");
                if round.is_multiple_of(5) {
                    store.sync(chunk(id, 1)).expect("a sync");
                }
                let found = get(&store, chunk(id, 1), 1000, 10_000).expect("no rot");
                let whole = (0..7).any(|seed| found == noise(id * 1000 + seed, 10_000));
                assert!(whole, "a mix of two writes");
                if round % 11 == 3 {
                    let own = 100 + worker;
                    put(&store, chunk(own, 1), 0, &data).expect("a write");
                    assert_eq!(store.delete(chunk(own, 1)), Ok(true));
                }
                round += 1;
            }
        }));
    }
    while Instant::now() < end {
        store.flush_lazy();
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(store.inventory().len(), 5);
    assert_eq!(store.counters().bad_blocks, 0);
}

#[test]
fn a_version_is_advanced_once_by_many_writers() {
    let disk = new_folder();
    let store = Arc::new(super::open(disk.path()));
    put(&store, chunk(1, 1), 0, b"start").expect("a write");
    std::thread::scope(|scope| {
        for worker in 0..8u32 {
            let store = store.clone();
            scope.spawn(move || put(&store, chunk(1, 2), worker * 5000, b"new").expect("a write"));
        }
    });
    assert_eq!(store.counters().advances, 1);
    assert_eq!(store.inventory()[0].version, 2);
}
