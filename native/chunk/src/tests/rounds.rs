//! Late pieces of a writer that sent them again.

use base::Reason;
use base::crc::piece_crcs;

use super::{chunk, get, new_folder, noise, open};
use crate::Store;
use crate::sim::{SimFault, SimOp};
use crate::types::{ChunkRef, Sender};

fn put(store: &Store, chunk: ChunkRef, round: u32, data: &[u8]) -> base::Result<u32> {
    store.write(chunk, Sender { writer: 5, round }, 100, data, &piece_crcs(100, data), true)
}

#[test]
fn a_piece_of_an_earlier_round_is_refused_and_changes_nothing() {
    let disk = new_folder();
    let store = open(disk.path());
    put(&store, chunk(1, 1), 0, &noise(1, 9000)).expect("the first round");
    put(&store, chunk(1, 1), 1, &noise(2, 9000)).expect("the second round");
    let counters = store.counters();
    for version in [1, 2] {
        let late = put(&store, chunk(1, version), 0, &noise(3, 20_000)).expect_err("late");
        assert_eq!((late.errno, late.reason), (libc::ESTALE, Reason::Overtaken));
    }
    assert_eq!(store.counters(), counters);
    assert_eq!((store.inventory()[0].version, store.inventory()[0].stored_bytes), (1, 12_288));
    assert!(get(&store, chunk(1, 1), 100, 9000).expect("a read") == noise(2, 9000));
    put(&store, chunk(1, 1), 1, &noise(4, 100)).expect("the round goes on");
    // Another chunk and another writer are not concerned.
    put(&store, chunk(2, 1), 0, &noise(1, 100)).expect("another chunk");
    let other = Sender { writer: 6, round: 0 };
    store.write(chunk(1, 1), other, 0, b"data", &piece_crcs(0, b"data"), true).expect("another writer");
}

#[test]
fn rounds_outlive_versions_a_closed_slot_and_a_copy_that_replaces_the_chunk() {
    let (disk, data) = (new_folder(), noise(1, 5000));
    let store = Store::open_with(super::config(&[disk.path()]), 1).expect("the store opens");
    put(&store, chunk(1, 1), 3, &data).expect("a write");
    store.fence(chunk(1, 2)).expect("a fence");
    for id in 2..6 {
        super::put(&store, chunk(id, 1), 0, &data).expect("writes that close the slot");
    }
    let late = |version: u32| put(&store, chunk(1, version), 2, &data).expect_err("late").reason;
    assert_eq!(late(2), Reason::Overtaken);
    let copy = store.begin_copy(chunk(1, 3)).expect("a copy");
    copy.write(0, &data, &piece_crcs(0, &data)).expect("a write to the copy");
    copy.finish().expect("the copy is finished");
    assert_eq!(late(3), Reason::Overtaken);
    assert_eq!(store.check_sender(1, Sender { writer: 5, round: 2 }).expect_err("late").reason, Reason::Overtaken);
    assert_eq!(store.check_sender(1, Sender { writer: 5, round: 3 }), Ok(()));
    assert_eq!(store.check_sender(99, Sender { writer: 5, round: 0 }), Ok(()));
}

#[test]
fn a_failed_write_of_a_later_round_overtakes_too() {
    let (disk, data) = (super::simulated::new_disk(), noise(1, 5000));
    let store = super::simulated::open(&disk);
    put(&store, chunk(1, 1), 0, &data).expect("a write");
    disk.inject_on(".sums", SimFault { op: SimOp::Write, after: 0, errno: libc::ENOSPC, stay: false });
    assert_eq!(put(&store, chunk(1, 1), 1, &data).expect_err("full").errno, libc::ENOSPC);
    assert_eq!(put(&store, chunk(1, 1), 0, &data).expect_err("late").reason, Reason::Overtaken);
}

#[test]
fn an_older_version_is_refused_as_a_chunk_that_moved() {
    let disk = new_folder();
    let store = open(disk.path());
    put(&store, chunk(1, 2), 0, b"data").expect("a write");
    assert_eq!(put(&store, chunk(1, 1), 0, b"data").expect_err("old").reason, Reason::ChunkMoved);
    assert_eq!(store.read(chunk(1, 1), 0, 1).expect_err("old").reason, Reason::ChunkMoved);
}
