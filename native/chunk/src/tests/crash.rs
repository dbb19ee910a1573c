//! Power cuts at every event of the journal: what was synced stays, of the rest any part may be there.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::crc::piece_crcs;
use base::limits::BLOCK_BYTES;
use proptest::prelude::*;

use super::model::{Op, SPAN, ops};
use super::{chunk, config, copy_tree, get, new_folder, noise, put};
use crate::Store;
use crate::disk::{Part, Place};
use crate::layout::slot_path;
use crate::tap::{Change, Event};

const SECTOR_BYTES: usize = 512;
const BLOCKS: usize = (SPAN + 20_000).div_ceil(BLOCK_BYTES);

type Block = Vec<u8>;

/// What a block may read as after a crash.
#[derive(Clone, Default)]
struct Allowed {
    /// At the last completed sync; None: absent.
    synced: Option<Block>,
    /// Written since, in order.
    since: Vec<Block>,
}

impl Allowed {
    fn now(&self) -> Option<&Block> {
        self.since.last().or(self.synced.as_ref())
    }

    fn accepts(&self, found: &[u8]) -> bool {
        let absent = self.synced.is_none() && found.iter().all(|&byte| byte == 0);
        // Sectors of several unsynced writes may mix: the store itself syncs when it closes a slot for room.
        let sector = |at: usize, block: &Block| block[at..at + SECTOR_BYTES] == found[at..at + SECTOR_BYTES];
        let mut ats = (0..BLOCK_BYTES).step_by(SECTOR_BYTES);
        absent || ats.all(|at| self.since.iter().chain(&self.synced).any(|block| sector(at, block)))
    }
}

#[derive(Clone, Default)]
struct Held {
    /// Versions it may be at.
    versions: Vec<u32>,
    /// Completed sync since its creation: it must be there.
    certain: bool,
    blocks: BTreeMap<usize, Allowed>,
    /// What a copy replaced: it may come back when the chunk is deleted.
    former: Option<Box<Held>>,
}

impl Held {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let (mut at, end) = (offset, offset + data.len());
        while at < end {
            let block = at / BLOCK_BYTES;
            let stop = end.min((block + 1) * BLOCK_BYTES);
            let allowed = self.blocks.entry(block).or_default();
            let mut bytes = allowed.now().cloned().unwrap_or_else(|| vec![0; BLOCK_BYTES]);
            bytes[at - block * BLOCK_BYTES..stop - block * BLOCK_BYTES]
                .copy_from_slice(&data[at - offset..stop - offset]);
            allowed.since.push(bytes);
            at = stop;
        }
    }

    fn sync(&mut self) {
        self.certain = true;
        for allowed in self.blocks.values_mut() {
            if let Some(last) = allowed.since.pop() {
                allowed.synced = Some(last);
            }
            allowed.since.clear();
        }
    }
}

type Model = BTreeMap<u64, Held>;

/// The model while an op runs (everything it may do is allowed), then the one after it is done.
fn step(model: &Model, op: &Op) -> (Model, Model) {
    let (mut during, mut after) = (model.clone(), model.clone());
    match op {
        Op::Write { id, offset, length, seed } => {
            let data = noise(*seed, *length);
            for model in [&mut during, &mut after] {
                let held = model.entry(*id).or_insert_with(|| Held { versions: vec![1], ..Held::default() });
                held.write(*offset as usize, &data);
            }
        }
        Op::Sync { id } => {
            after.entry(*id).and_modify(Held::sync);
        }
        Op::Trim { id, length } => {
            let Some(held) = after.get_mut(id) else { return (during, after) };
            let version = held.versions[0] + 1;
            held.versions = vec![version];
            let (block, within) = (*length as usize / BLOCK_BYTES, *length as usize % BLOCK_BYTES);
            if within != 0 && held.blocks.get(&block).is_some_and(|allowed| allowed.now().is_some()) {
                held.write(*length as usize, &vec![0; BLOCK_BYTES - within]);
            }
            held.sync();
            held.blocks.retain(|&block, _| block * BLOCK_BYTES < *length as usize);
            if let Some(held) = during.get_mut(id) {
                held.versions.push(version);
                // Any block may be old, cut or gone meanwhile.
                for (&at, allowed) in held.blocks.iter_mut().filter(|(at, _)| **at >= block) {
                    let mut cut = allowed.now().cloned().unwrap_or_else(|| vec![0; BLOCK_BYTES]);
                    cut[if at == block { within } else { 0 }..].fill(0);
                    allowed.since.push(cut);
                }
            }
        }
        Op::Fence { id } => {
            let Some(held) = after.get_mut(id) else { return (during, after) };
            held.versions = vec![held.versions[0] + 3];
            held.certain = true;
            let version = held.versions[0];
            during.entry(*id).and_modify(|held| held.versions.push(version));
        }
        Op::Delete { id } => {
            // It may come back, as an orphan; then it is what it was.
            for model in [&mut during, &mut after] {
                model.entry(*id).and_modify(|held| held.certain = false);
            }
        }
        Op::Copy { id, keep: true } => {
            let version = model.get(id).map_or(1, |held| held.versions[0] + 1);
            let former = model.get(id).cloned().map(Box::new);
            let mut held = Held { versions: vec![version], certain: true, former, ..Held::default() };
            held.write(4096, &noise(*id, 9000));
            held.sync();
            after.insert(*id, held);
            // Old or new as a whole is checked by `copies_replace_as_a_whole`; here either may be found.
            during.remove(id);
        }
        Op::Copy { .. } | Op::Flush | Op::Reopen => {}
    }
    (during, after)
}

fn act(store: &Store, model: &Model, op: &Op) {
    let version = |id: u64| model.get(&id).map_or(1, |held| held.versions[0]);
    match *op {
        Op::Write { id, offset, length, seed } => {
            put(store, chunk(id, version(id)), offset, &noise(seed, length)).expect("a write");
        }
        Op::Sync { id } if model.contains_key(&id) => {
            store.sync(chunk(id, version(id))).expect("a sync");
        }
        Op::Trim { id, length } if model.contains_key(&id) => {
            store.trim(chunk(id, version(id) + 1), length).expect("a trim");
        }
        Op::Fence { id } if model.contains_key(&id) => {
            store.fence(chunk(id, version(id) + 3)).expect("a fence");
        }
        Op::Delete { id } => {
            store.delete(chunk(id, version(id))).expect("a delete");
        }
        Op::Copy { id, keep } => {
            let next = if model.contains_key(&id) { version(id) + 1 } else { 1 };
            let copy = store.begin_copy(chunk(id, next)).expect("a copy");
            let data = noise(id, 9000);
            copy.write(4096, &data, &piece_crcs(4096, &data)).expect("a write to the copy");
            if keep {
                copy.finish().expect("the copy is finished");
            }
        }
        Op::Flush => store.flush_lazy(),
        _ => {}
    }
}

/// Which unsynced pieces survive.
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
}

/// Build the disk as a power cut after the first `cut` events may leave it.
fn cut_power(base: &Path, journal: &[Event], cut: usize, luck: &mut Luck, to: &Path) {
    copy_tree(base, to);
    let mut synced: BTreeMap<Place, usize> = BTreeMap::new();
    for (i, event) in journal[..cut].iter().enumerate() {
        if matches!(event.change, Change::Synced) {
            synced.insert(event.place, i);
        }
    }
    // Per state: keep nothing, keep all, or draw for each sector.
    let mood = luck.next() % 4;
    for (i, event) in journal[..cut].iter().enumerate() {
        let durable = synced.get(&event.place).is_some_and(|&last| i < last);
        let mut keep = || durable || mood == 1 || (mood >= 2 && luck.next().is_multiple_of(2));
        let extension = if event.place.1 == Part::Data { "data" } else { "sums" };
        let path = to.join(format!("{}.{extension}", slot_path(event.place.0)));
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("a slot's file");
        match &event.change {
            Change::Write(offset, bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    let stop = bytes.len().min(at + SECTOR_BYTES - (*offset as usize + at) % SECTOR_BYTES);
                    if keep() {
                        file.write_all_at(&bytes[at..stop], offset + at as u64).expect("a sector");
                    }
                    at = stop;
                }
            }
            Change::Length(length) if keep() => file.set_len(*length).expect("a length"),
            Change::Hole(from, length) if keep() => {
                let end = file.metadata().expect("a length").len().min(from + length);
                file.write_all_at(&vec![0; end.saturating_sub(*from) as usize], *from).expect("a hole");
            }
            _ => {}
        }
    }
}

fn check(store: &Store, model: &Model) -> std::result::Result<(), TestCaseError> {
    let found: BTreeMap<u64, u32> = store.inventory().iter().map(|entry| (entry.id, entry.version)).collect();
    for (&id, held) in model {
        let Some(&version) = found.get(&id) else {
            prop_assert!(!held.certain, "chunk {} is gone", id);
            continue;
        };
        let deleted = !held.certain;
        let mut possible = std::iter::successors(Some(held), |held| held.former.as_deref().filter(|_| deleted));
        let held = possible.find(|held| held.versions.contains(&version));
        prop_assert!(held.is_some(), "chunk {} at a version {} that it never had", id, version);
        let held = held.expect("checked");
        let all = get(store, chunk(id, version), 0, (BLOCKS * BLOCK_BYTES) as u32);
        let all = all.map_err(|error| TestCaseError::fail(format!("looks like rot: {error}")))?;
        for (block, bytes) in all.chunks_exact(BLOCK_BYTES).enumerate() {
            let nothing = Allowed::default();
            let allowed = held.blocks.get(&block).unwrap_or(&nothing);
            prop_assert!(allowed.accepts(bytes), "chunk {} block {}: neither old nor new", id, block);
        }
    }
    Ok(())
}

/// Chunk ids are never used again: after a delete, the same id in `ops` means another chunk.
fn with_fresh_ids(ops: Vec<Op>) -> Vec<Op> {
    let mut deleted: BTreeMap<u64, u64> = BTreeMap::new();
    let rename = |mut op: Op| {
        match &mut op {
            Op::Write { id, .. } | Op::Sync { id } | Op::Trim { id, .. } | Op::Fence { id } | Op::Copy { id, .. } => {
                *id += 10 * deleted.get(id).copied().unwrap_or(0);
            }
            Op::Delete { id } => {
                let times = deleted.entry(*id).or_default();
                *id += 10 * *times;
                *times += 1;
            }
            Op::Flush | Op::Reopen => {}
        }
        op
    };
    ops.into_iter().map(rename).collect()
}

fn run(ops: Vec<Op>, seed: u64) -> std::result::Result<(), TestCaseError> {
    let ops = with_fresh_ids(ops);
    let folder = new_folder();
    let store = Store::open_with(config(&[folder.path()]), 2).expect("the store opens");
    let base = new_folder();
    copy_tree(folder.path(), base.path());
    let disk = store.disk_for_tests(0);
    *disk.tap.journal.lock() = Some(Vec::new());
    // The journal length at which each model begins to hold.
    let mut history = vec![(0, Model::new())];
    for op in &ops {
        let model = history.last().map(|(_, model)| model.clone()).unwrap_or_default();
        let (during, after) = step(&model, op);
        let events = || disk.tap.journal.lock().as_ref().map_or(0, Vec::len);
        history.push((events(), during));
        act(&store, &model, op);
        history.push((events(), after));
    }
    drop(store);
    let journal = disk.tap.journal.lock().take().unwrap_or_default();
    let mut luck = Luck(seed | 1);
    for _ in 0..6 {
        let cut = luck.next() as usize % (journal.len() + 1);
        let state = new_folder();
        cut_power(base.path(), &journal, cut, &mut luck, state.path());
        // At the very event an op ends with, it may or may not have returned: the model before it is the looser one.
        let model = &history[history.partition_point(|(from, _)| *from < cut).saturating_sub(1)].1;
        let store = super::open(state.path());
        check(&store, model)?;
        drop(store);
        // Recovery run again finds the same, and nothing left to do.
        let store = super::open(state.path());
        check(&store, model)?;
        let again = store.counters();
        prop_assert_eq!((again.recovered_absent, again.recovered_torn), (0, 0));
        for (&id, held) in model {
            let version = held.versions.iter().max().copied().unwrap_or(1) + 1;
            put(&store, chunk(id, version), 100, b"goes on").expect("a write after recovery");
            store.sync(chunk(id, version)).expect("a sync after recovery");
            prop_assert_eq!(get(&store, chunk(id, version), 100, 7).expect("a read"), b"goes on");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_old_or_new_and_never_rot(ops in prop::collection::vec(ops(3), 1..25), seed: u64) {
        run(ops, seed)?;
    }
}

/// A store with chunk 1, durable and flushed, whose changes are noted from here on; what is on its disk now lies in the
/// second folder.
fn with_a_chunk(data: &[u8]) -> (tempfile::TempDir, Store, tempfile::TempDir) {
    let (folder, base) = (new_folder(), new_folder());
    let store = super::open(folder.path());
    put(&store, chunk(1, 1), 0, data).expect("a write");
    store.sync(chunk(1, 1)).expect("a sync");
    store.flush_lazy();
    copy_tree(folder.path(), base.path());
    *store.disk_for_tests(0).tap.journal.lock() = Some(Vec::new());
    (folder, store, base)
}

fn copy_in(store: &Store, id: u64, data: &[u8]) {
    let copy = store.begin_copy(chunk(id, 1)).expect("a copy");
    copy.write(0, data, &piece_crcs(0, data)).expect("a write to the copy");
    copy.finish().expect("the copy is finished");
}

#[test]
fn a_deleted_chunk_that_a_power_cut_brings_back_is_what_it_was() {
    let old = noise(1, 3 * BLOCK_BYTES);
    let (_folder, store, base) = with_a_chunk(&old);
    let slot = store.locate(1).expect("its file");
    assert_eq!(store.delete(chunk(1, 1)), Ok(true));
    // New chunks and copies until one of them has the slot, before and after background work.
    let mut reused = 0;
    for id in 2..20 {
        if id % 5 == 0 {
            store.flush_lazy();
        }
        if id % 2 == 0 {
            put(&store, chunk(id, 1), 0, &noise(id, 2 * BLOCK_BYTES)).expect("a write");
        } else {
            copy_in(&store, id, &noise(id, 2 * BLOCK_BYTES));
        }
        reused += u32::from(store.locate(id).as_ref() == Some(&slot));
    }
    assert_eq!(reused, 1, "one of them lies where the deleted one lay");
    let journal = store.disk_for_tests(0).tap.journal.lock().take().expect("a journal");
    let mut back = 0;
    for cut in 0..=journal.len() {
        for seed in 1..9u64 {
            let state = new_folder();
            cut_power(base.path(), &journal, cut, &mut Luck(seed * 7919 + cut as u64), state.path());
            match get(&super::open(state.path()), chunk(1, 1), 0, old.len() as u32) {
                Ok(found) => {
                    assert!(found == old, "cut at {cut}: it came back with something else in it");
                    back += 1;
                }
                Err(error) => assert_eq!(error.errno, libc::ENOENT, "cut at {cut}, seed {seed}: {error}"),
            }
        }
    }
    assert!(back > 0);
}

#[test]
fn copies_replace_as_a_whole() {
    let (old, new) = (noise(1, 30_000), noise(2, 20_000));
    let (_folder, store, base) = with_a_chunk(&old);
    copy_in(&store, 1, &new);
    let journal = store.disk_for_tests(0).tap.journal.lock().take().expect("a journal");
    let mut seen = [0, 0];
    for cut in 0..=journal.len() {
        for seed in 1..6u64 {
            let state = new_folder();
            cut_power(base.path(), &journal, cut, &mut Luck(seed * 7919 + cut as u64), state.path());
            let found = get(&super::open(state.path()), chunk(1, 1), 0, 30_000).expect("no rot");
            let is_new = found[..20_000] == new && found[20_000..].iter().all(|&byte| byte == 0);
            assert!(is_new || found == old, "cut at {cut}: neither the old nor the new chunk");
            seen[usize::from(is_new)] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0);
}

#[test]
fn a_kill_between_data_and_table_is_not_rot() {
    // Both orders: new data under the old table, and the new table over old data; fresh, and overwriting.
    for overwrite in [false, true] {
        for new_data in [false, true] {
            let folder = new_folder();
            let store = super::open(folder.path());
            let (old, new) = (noise(1, 4096), noise(2, 4096));
            if overwrite {
                put(&store, chunk(1, 1), 0, &old).expect("a write");
                store.sync(chunk(1, 1)).expect("a sync");
                store.flush_lazy();
            } else {
                put(&store, chunk(1, 1), 8192, &old).expect("a write elsewhere");
                store.sync(chunk(1, 1)).expect("a sync");
            }
            let before = new_folder();
            copy_tree(folder.path(), before.path());
            put(&store, chunk(1, 1), 0, &new).expect("a write");
            let data = store.locate(1).expect("its file");
            let sums = data.with_extension("sums");
            drop(store);
            let stale = if new_data { sums } else { data };
            std::fs::copy(before.path().join(stale.strip_prefix(folder.path()).expect("below")), &stale)
                .expect("copied");
            if overwrite && new_data {
                // The barrier makes this one impossible; it would be rot.
                continue;
            }
            let found = get(&super::open(folder.path()), chunk(1, 1), 0, 4096).expect("not rot");
            let wanted = if overwrite { old } else { vec![0; 4096] };
            assert!(found == wanted, "overwrite {overwrite}, new data {new_data}");
        }
    }
}
