//! Random operations against plain vectors of bytes.

use std::collections::BTreeMap;

use base::crc::piece_crcs;
use base::limits::BLOCK_BYTES;
use proptest::prelude::*;

use super::{chunk, config, get, new_folder, noise, put};
use crate::Store;
use crate::types::{DirectIo, Fill, ScrubCursor, Sender};
use crate::write::blocks_of;

/// Positions are drawn from the first blocks and from around the first page boundary of the table.
pub const SPAN: usize = (2 << 20) + 32 * 1024;

#[derive(Clone, Debug)]
pub enum Op {
    Write { id: u64, offset: u32, length: usize, seed: u64 },
    Sync { id: u64 },
    Trim { id: u64, length: u32 },
    Fill { id: u64, offset: u32, length: u32, fill: Fill },
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
        2 => (id.clone(), offsets(), 1u32..20_000, prop_oneof![Just(Fill::Hole), Just(Fill::Promise)])
            .prop_map(|(id, offset, length, fill)| Op::Fill { id, offset, length, fill }),
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
            Op::Fill { id, offset, length, fill } => {
                let held = model.entry(id).or_insert_with(|| Held { version: 1, bytes: vec![0; SPAN + 20_000] });
                let stored = store.fill(chunk(id, held.version), Sender::default(), offset, length, fill, true);
                let stored = stored.expect("a fill") as usize;
                let span = offset as usize..(offset + length) as usize;
                if fill == Fill::Hole {
                    held.bytes[span].fill(0);
                } else {
                    prop_assert!(stored >= blocks_of(offset, length as usize).len() * BLOCK_BYTES);
                }
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

#[test]
fn a_hole_gives_space_back_and_a_promise_takes_it_without_touching_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder on a disk");
    let store = super::open(folder.path());
    let data = noise(1, 1 << 20);
    put(&store, chunk(1, 1), 0, &data).expect("a write");
    let fill = |offset, length, fill| store.fill(chunk(1, 1), Sender::default(), offset, length, fill, false);
    assert_eq!(fill(1000, 512 << 10, Fill::Hole), Ok((1 << 20) - (512 << 10) + BLOCK_BYTES as u32));
    let mut left = data.clone();
    left[1000..1000 + (512 << 10)].fill(0);
    assert!(get(&store, chunk(1, 1), 0, 1 << 20).expect("a read") == left);
    let whole = base::limits::CHUNK_BYTES as u32;
    assert_eq!(fill(0, whole, Fill::Promise), Ok(whole));
    assert!(get(&store, chunk(1, 1), 0, 1 << 20).expect("a read") == left);
    let path = store.locate(1).expect("a file");
    let taken = || std::os::unix::fs::MetadataExt::blocks(&path.metadata().expect("a file")) * 512;
    assert!(taken() >= u64::from(whole), "{} bytes are taken", taken());
    assert_eq!(fill(0, whole, Fill::Hole), Ok(0));
    assert!(taken() < 1 << 20, "{} bytes are taken", taken());
    store.sync(chunk(1, 1)).expect("a sync");
    drop(store);
    let store = super::open(folder.path());
    assert!(get(&store, chunk(1, 1), 0, 1 << 20).expect("a read") == vec![0; 1 << 20]);
    assert_eq!(store.inventory()[0].stored_bytes, 0);
}

#[test]
fn a_fill_of_an_older_version_or_round_is_refused_and_a_missing_chunk_is_made_only_where_it_may_be() {
    let folder = new_folder();
    let store = super::open(folder.path());
    let of = |writer, round| Sender { writer, round };
    for fill in [Fill::Hole, Fill::Promise] {
        let errno =
            |chunk, sender, create| store.fill(chunk, sender, 0, 4096, fill, create).expect_err("it is refused").errno;
        let id = 1 + fill as u64;
        assert_eq!(errno(chunk(id, 1), of(1, 1), false), libc::ENOENT);
        store.fill(chunk(id, 2), of(1, 1), 0, 4096, fill, true).expect("a new chunk");
        assert_eq!(errno(chunk(id, 1), of(1, 1), false), libc::ESTALE);
        assert_eq!(errno(chunk(id, 2), of(1, 0), false), libc::ESTALE);
        let end = base::limits::CHUNK_BYTES as u32;
        let beyond = store.fill(chunk(id, 2), of(1, 1), end - 1, 2, fill, false);
        assert_eq!(beyond.expect_err("beyond the chunk").errno, libc::EINVAL);
    }
    drop(store);
    let ids: Vec<u64> = super::open(folder.path()).inventory().iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [1, 2], "a chunk of holes is a chunk");
}
