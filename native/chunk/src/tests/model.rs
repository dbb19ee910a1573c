//! Random operations against plain vectors of bytes.

use std::collections::BTreeMap;

use base::crc::piece_crcs;
use base::limits::BLOCK_BYTES;
use proptest::prelude::*;

use super::{chunk, config, get, new_folder, noise, put};
use crate::Store;
use crate::types::{DirectIo, ScrubCursor, Sender};

/// Positions are drawn from the first blocks and from around the first page boundary of the table.
pub const SPAN: usize = (2 << 20) + 32 * 1024;

#[derive(Clone, Debug)]
pub enum Op {
    Write { id: u64, offset: u32, length: usize, seed: u64 },
    Sync { id: u64 },
    Trim { id: u64, length: u32 },
    Fence { id: u64 },
    Delete { id: u64 },
    Copy { id: u64, keep: bool },
    Flush,
    Reopen,
}

fn offsets() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => 0u32..24_000,
        1 => (2u32 << 20) - 12_000..(2 << 20) + 12_000,
        1 => (0u32..6).prop_map(|block| block * BLOCK_BYTES as u32),
    ]
}

pub fn ops(ids: u64) -> impl Strategy<Value = Op> {
    let id = 1..=ids;
    prop_oneof![
        8 => (id.clone(), offsets(), prop_oneof![1usize..20_000, Just(4096), Just(8192)], any::<u64>())
            .prop_map(|(id, offset, length, seed)| Op::Write { id, offset, length, seed }),
        3 => id.clone().prop_map(|id| Op::Sync { id }),
        1 => (id.clone(), offsets()).prop_map(|(id, length)| Op::Trim { id, length }),
        1 => id.clone().prop_map(|id| Op::Fence { id }),
        1 => id.clone().prop_map(|id| Op::Delete { id }),
        1 => (id, any::<bool>()).prop_map(|(id, keep)| Op::Copy { id, keep }),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone)]
struct Held {
    version: u32,
    bytes: Vec<u8>,
}

fn check(store: &Store, model: &BTreeMap<u64, Held>) -> std::result::Result<(), TestCaseError> {
    let listed: Vec<(u64, u32)> = store.inventory().iter().map(|entry| (entry.id, entry.version)).collect();
    let wanted: Vec<(u64, u32)> = model.iter().map(|(&id, held)| (id, held.version)).collect();
    prop_assert_eq!(listed, wanted);
    for (&id, held) in model {
        let bytes = get(store, chunk(id, held.version), 0, SPAN as u32 + 20_000);
        prop_assert!(bytes.expect("every block verifies") == held.bytes, "chunk {} differs", id);
    }
    Ok(())
}

fn run(ops: Vec<Op>, direct_io: DirectIo) -> std::result::Result<(), TestCaseError> {
    let (folder, second) = (new_folder(), new_folder());
    let open = || {
        let config = crate::StoreConfig { direct_io, ..config(&[folder.path(), second.path()]) };
        // Two open slots for four chunks: closing and opening again is part of the test.
        Store::open_with(config, 2).expect("the store opens")
    };
    let mut store = open();
    let mut model: BTreeMap<u64, Held> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Write { id, offset, length, seed } => {
                let data = noise(seed, length);
                let held = model.entry(id).or_insert_with(|| Held { version: 1, bytes: vec![0; SPAN + 20_000] });
                put(&store, chunk(id, held.version), offset, &data).expect("a write");
                held.bytes[offset as usize..offset as usize + length].copy_from_slice(&data);
            }
            Op::Sync { id } => {
                let version = model.get(&id).map_or(1, |held| held.version);
                prop_assert_eq!(store.sync(chunk(id, version)).is_ok(), model.contains_key(&id));
            }
            Op::Trim { id, length } => {
                let Some(held) = model.get_mut(&id) else { continue };
                held.version += 1;
                store.trim(chunk(id, held.version), length).expect("a trim");
                held.bytes[length as usize..].fill(0);
            }
            Op::Fence { id } => {
                let Some(held) = model.get_mut(&id) else { continue };
                held.version += 3;
                prop_assert_eq!(store.fence(chunk(id, held.version)), Ok(held.version));
                let old = put(&store, chunk(id, held.version - 1), 0, b"old");
                prop_assert_eq!(old.expect_err("an old version").errno, libc::ESTALE);
            }
            Op::Delete { id } => {
                if let Some(held) = model.get(&id) {
                    prop_assert_eq!(store.delete(chunk(id, held.version - 1)), Ok(false));
                    prop_assert_eq!(store.delete(chunk(id, held.version)), Ok(true));
                }
                prop_assert_eq!(store.delete(chunk(id, 99)), Ok(false));
                model.remove(&id);
            }
            Op::Copy { id, keep } => {
                let version = model.get(&id).map_or(1, |held| held.version + 1);
                let copy = store.begin_copy(chunk(id, version)).expect("a copy");
                let data = noise(id, 9000);
                copy.write(4096, &data, &piece_crcs(4096, &data)).expect("a write to the copy");
                if keep {
                    copy.finish().expect("the copy is finished");
                    let mut bytes = vec![0; SPAN + 20_000];
                    bytes[4096..4096 + 9000].copy_from_slice(&data);
                    model.insert(id, Held { version, bytes });
                }
            }
            Op::Flush => store.flush_lazy(),
            Op::Reopen => {
                drop(store);
                store = open();
                check(&store, &model)?;
            }
        }
    }
    check(&store, &model)?;
    let counters = store.counters();
    prop_assert_eq!((counters.bad_blocks, counters.recovered_absent, counters.recovered_torn), (0, 0, 0));
    let mut cursor = ScrubCursor::default();
    while cursor.rounds == 0 {
        prop_assert_eq!(store.scrub_next(&mut cursor, 1 << 20), vec![]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_vectors_of_bytes(ops in prop::collection::vec(ops(4), 1..40)) {
        run(ops, DirectIo::Off)?;
    }
}

#[test]
fn long_writes_past_the_page_cache_mix_with_short_ones() {
    let folder = tempfile::tempdir().expect("a folder on a disk");
    let store = Store::open(crate::StoreConfig { direct_io: DirectIo::On, ..config(&[folder.path()]) }).expect("open");
    let mut bytes = vec![0; 4 << 20];
    for round in 0u64..30 {
        let offset = (round as usize * 777_777) % (2 << 20);
        let length = if round % 3 == 0 { 5000 } else { 600_000 + round as usize * 4096 };
        let data = noise(round, length);
        put(&store, chunk(1, 1), offset as u32, &data).expect("a write");
        bytes[offset..offset + length].copy_from_slice(&data);
        if round % 4 == 0 {
            store.sync(chunk(1, 1)).expect("a sync");
        }
        assert!(get(&store, chunk(1, 1), 0, 4 << 20).expect("a read") == bytes, "round {round}");
    }
    let direct = store.disks()[0].direct_io;
    assert_eq!(direct, store.counters().direct_bytes > 0);
    drop(store);
    assert!(get(&super::open(folder.path()), chunk(1, 1), 0, 4 << 20).expect("a read") == bytes);
}

#[test]
fn spans_outside_the_chunk_and_wrong_checksums_change_nothing() {
    let folder = new_folder();
    let store = super::open(folder.path());
    let end = base::limits::CHUNK_BYTES as u32;
    assert_eq!(put(&store, chunk(1, 1), end - 3, b"four").expect_err("beyond").errno, libc::EINVAL);
    assert_eq!(
        store.write(chunk(1, 1), Sender::default(), 0, b"data", &[0; 4], true).expect_err("wrong").errno,
        libc::EBADMSG
    );
    assert_eq!(
        store.write(chunk(1, 1), Sender::default(), 0, b"data", &[], true).expect_err("none").errno,
        libc::EBADMSG
    );
    let crcs = piece_crcs(0, b"data");
    assert_eq!(
        store.write(chunk(1, 1), Sender::default(), 0, b"data", &crcs, false).expect_err("missing").errno,
        libc::ENOENT
    );
    assert!(store.inventory().is_empty());
    put(&store, chunk(1, 1), end - 4, b"four").expect("the last bytes");
    assert_eq!(get(&store, chunk(1, 1), end - 4, 4).expect("a read"), b"four");
    assert_eq!(store.read(chunk(1, 1), end - 1, 2).expect_err("beyond").errno, libc::EINVAL);
    assert_eq!(store.trim(chunk(1, 1), end + 1).expect_err("beyond").errno, libc::EINVAL);
    assert_eq!(store.read(chunk(1, 1), 5, 0).expect("nothing asked").data.len(), 0);
}
