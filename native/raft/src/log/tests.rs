//! The log against upstream's suite, against a model, and against cuts, flips and recycled files.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use proptest::prelude::*;

use super::open::{OpenError, open};
use super::progress::{Progress, ProgressFile};
use super::scan::DATA_START;
use super::segment::{Folder, file_name};
use super::store::LogStore;
use crate::consensus::{Frozen, StateMachine};
use crate::machine::Machine;
use crate::power_cut;
use crate::snapshot::Snapshots;
use crate::types::{Command, Entry, LogId, Types, Vote, log_id, term_of, vote_of};
use crate::vote::{Stored, VoteFile};

const SEGMENT_BYTES: u64 = 64 << 10;
const NODE_ID: u64 = 1;

/// Test double: a state machine without a state.
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&self, _index: u64, _term: u64, _batch: &[u8]) -> base::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(Nothing)
    }
    fn restore(&self, _input: &mut dyn std::io::Read) -> base::Result<()> {
        Ok(())
    }
}

impl Frozen for Nothing {
    fn write(&self, _out: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}

fn folder(path: &Path) -> Folder {
    std::fs::create_dir_all(path.join("log")).unwrap();
    Folder { path: path.join("log"), segment_bytes: SEGMENT_BYTES, incarnation: 77 }
}

fn try_open(path: &Path) -> Result<(LogStore, Option<Vote>), OpenError> {
    let folder = folder(path);
    let (votes, stored) = VoteFile::open(&path.join("vote"))?;
    let vote = if let Stored::Vote(vote) = stored { Some(vote) } else { None };
    let (progress, noted) = ProgressFile::open(&path.join("progress"))?;
    let opened = open(&folder, &noted)?;
    Ok((LogStore::start(NODE_ID, opened, folder, votes, vote, progress, noted)?, vote))
}

fn reopen(path: &Path) -> LogStore {
    try_open(path).unwrap().0
}

fn entry(term: u64, index: u64, bytes: &[u8]) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Command(Bytes::copy_from_slice(bytes))) }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    log.blocking_append(entries).await.unwrap();
}

async fn all(log: &mut LogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("snapshot")).unwrap();
        let snapshots = Snapshots::open(directory.path().join("snapshot"), "test").unwrap();
        let log = reopen(directory.path());
        Ok((directory, log, Machine::new(std::sync::Arc::new(Nothing), snapshots)))
    }
}

#[test]
fn the_store_keeps_upstreams_contract() {
    runtime().block_on(async { Suite::<Types, LogStore, Machine, Builder, _>::test_all(Builder).await.unwrap() });
}

fn log_file(path: &Path, sequence: u64) -> PathBuf {
    path.join("log").join(file_name(sequence))
}

/// A log of `batches` with one entry each, closed; and where each batch starts in its file.
fn written(batches: u64) -> (tempfile::TempDir, Vec<u64>) {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        log.save_vote(&crate::types::vote_of(1, 1, true)).await.unwrap();
        for index in 0..batches {
            append(&mut log, vec![entry(1, index, &[index as u8 + 1; 320])]).await;
        }
        log.close().await.unwrap();
    });
    let starts = (0..batches).map(|batch| DATA_START as u64 + 4096 * batch).collect();
    (directory, starts)
}

#[test]
fn a_torn_tail_is_cut_off_at_every_byte_of_the_last_record() {
    let (directory, starts) = written(4);
    let path = log_file(directory.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let last = *starts.last().unwrap() as usize;
    let record = 40 + 320;
    for cut in 0..record {
        let mut torn = whole.clone();
        torn[last + cut..last + 4096].fill(0);
        std::fs::write(&path, &torn).unwrap();
        runtime().block_on(async {
            let mut log = reopen(directory.path());
            assert_eq!(all(&mut log).await.len(), 3, "cut at {cut}");
            if cut % 16 == 0 {
                // What is written next is readable after one more start, and the torn record never comes back.
                append(&mut log, vec![entry(2, 3, b"new")]).await;
                log.close().await.unwrap();
                let mut log = reopen(directory.path());
                let entries = all(&mut log).await;
                assert_eq!((entries.len(), term_of(&entries[3].log_id)), (4, 2), "cut at {cut}");
                log.close().await.unwrap();
            } else {
                log.close().await.unwrap();
            }
        });
    }
}

#[test]
fn a_flipped_byte_before_what_is_durable_is_damage_at_every_byte() {
    let (directory, starts) = written(4);
    let path = log_file(directory.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        matches!(try_open(directory.path()), Err(OpenError::Damaged(_)))
    };
    let middle = starts[1] as usize;
    for at in 0..360 {
        let mut flipped = whole.clone();
        flipped[middle + at] ^= 0x40;
        assert!(refused(&flipped), "byte {at} of the second record");
    }
    let mut zeroed = whole.clone();
    zeroed[middle..middle + 4096].fill(0);
    assert!(refused(&zeroed), "a zeroed page");
    let mut head = whole.clone();
    head[20] ^= 1;
    assert!(refused(&head), "the segment's head");
    assert!(!refused(&whole));
}

#[test]
fn the_last_record_is_not_cut_off_when_it_was_noted_as_durable() {
    let (directory, starts) = written(4);
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        append(&mut log, vec![entry(1, 4, b"last")]).await;
        log.save_committed(Some(log_id(1, 4))).await.unwrap();
        log.close().await.unwrap();
    });
    let path = log_file(directory.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[starts[3] as usize + 4096 + 42] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(try_open(directory.path()), Err(OpenError::Damaged(_))));
}

#[test]
fn the_rest_of_a_torn_batch_never_continues_a_later_one() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        append(&mut log, vec![entry(1, 0, b"first")]).await;
        // One batch of many pages; then its first page is lost, as a cut may leave it.
        append(&mut log, (1..9).map(|index| entry(1, index, &[index as u8; 4056])).collect()).await;
        log.close().await.unwrap();
    });
    let path = log_file(directory.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[DATA_START + 4096..DATA_START + 8192].fill(0);
    std::fs::write(&path, bytes).unwrap();
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        assert_eq!(all(&mut log).await.len(), 1);
        append(&mut log, vec![entry(2, 1, &[9; 4056])]).await;
        log.close().await.unwrap();
        let mut log = reopen(directory.path());
        let terms: Vec<u64> = all(&mut log).await.iter().map(|entry| term_of(&entry.log_id)).collect();
        assert_eq!(terms, [1, 2]);
        log.close().await.unwrap();
    });
}

#[test]
fn old_records_of_a_recycled_file_are_never_read_as_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    runtime().block_on(async {
        let mut log = reopen(path);
        let mut index = 0;
        for round in 0..6u64 {
            // More than a file's worth, then all of it is compacted: files go round.
            for _ in 0..20 {
                append(&mut log, vec![entry(round + 1, index, &[round as u8; 4000])]).await;
                index += 1;
            }
            log.purge(log_id(round + 1, index - 2)).await.unwrap();
            // Half of the rounds end with a stop: the file was recycled and holds valid records of before its tail.
            log.close().await.unwrap();
            log = reopen(path);
            let entries = all(&mut log).await;
            assert_eq!(entries.iter().map(|entry| entry.log_id).collect::<Vec<_>>(), [log_id(round + 1, index - 1)]);
        }
        log.close().await.unwrap();
    });
    let spares = std::fs::read_dir(path.join("log")).unwrap().count();
    assert!(spares <= 5, "{spares} files: they are recycled");
}

/// Three terms, in each more than a file's worth of entries, of which all but the last are compacted then. The disk is
/// told the number of the next entry as each is acknowledged.
async fn go_round(path: &Path, disk: &power_cut::Watch) {
    let mut log = reopen(path);
    let mut index = 0;
    for term in 1..4u64 {
        log.save_vote(&vote_of(term, 1, true)).await.unwrap();
        for _ in 0..20 {
            append(&mut log, vec![entry(term, index, &[term as u8; 4000])]).await;
            index += 1;
            disk.tell(index);
        }
        log.purge(log_id(term, index - 2)).await.unwrap();
    }
    log.close().await.unwrap();
}

#[test]
fn a_power_cut_at_any_sync_or_name_leaves_every_acknowledged_entry_and_its_vote() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("log")).unwrap();
    let disk = power_cut::watch(directory.path());
    runtime().block_on(go_round(directory.path(), &disk));
    let images = disk.images();
    assert!(images.len() > 60, "{}", images.len());
    for image in images {
        let found = image.restored();
        let case = format!("with {}, after entry {}", image.what, image.told);
        let (mut log, vote) = try_open(found.path()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
        let state = runtime().block_on(log.get_log_state()).unwrap();
        assert!(state.last_log_id.map_or(0, |last| last.index + 1) >= image.told, "{case}: {state:?}");
        let term = state.last_log_id.as_ref().map_or(0, term_of);
        assert!(vote.map_or(0, |vote| vote.leader_id.term) >= term, "{case}: {vote:?} is older than {state:?}");
    }
}

#[test]
fn what_a_start_reads_is_there_after_a_power_cut_although_its_writer_was_killed_before_its_sync() {
    let (directory, _) = written(4);
    let path = log_file(directory.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let mut before = whole.clone();
    before[DATA_START + 4096..].fill(0);
    std::fs::write(&path, &before).unwrap();
    let disk = power_cut::watch(directory.path());
    std::fs::write(&path, &whole).unwrap();
    let count = |path: &Path| {
        let mut log = reopen(path);
        runtime().block_on(all(&mut log)).len()
    };
    assert_eq!(count(directory.path()), 4);
    // The last four are what a cut leaves now.
    for image in disk.images().into_iter().rev().take(4) {
        assert_eq!(count(image.restored().path()), 4, "with {}", image.what);
    }
}

#[test]
fn a_missing_file_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        for index in 0..60 {
            append(&mut log, vec![entry(1, index, &[1; 4000])]).await;
        }
        log.save_committed(Some(log_id(1, 59))).await.unwrap();
        log.close().await.unwrap();
    });
    let last = (1..).take_while(|sequence| log_file(directory.path(), *sequence).exists()).last().unwrap();
    assert!(last >= 3);
    for sequence in 1..=last {
        let path = log_file(directory.path(), sequence);
        std::fs::rename(&path, directory.path().join("away")).unwrap();
        assert!(matches!(try_open(directory.path()), Err(OpenError::Damaged(_))), "file {sequence}");
        std::fs::rename(directory.path().join("away"), &path).unwrap();
    }
    assert!(try_open(directory.path()).is_ok());
}

#[test]
fn a_failed_write_fences_the_log_for_good() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut log = reopen(directory.path());
        append(&mut log, vec![entry(1, 0, b"good")]).await;
        // The next batch needs a new file, and its folder is gone.
        std::fs::rename(directory.path().join("log"), directory.path().join("gone")).unwrap();
        let big = || entry(1, 1, &vec![1; SEGMENT_BYTES as usize]);
        assert!(log.blocking_append([big()]).await.is_err());
        std::fs::rename(directory.path().join("gone"), directory.path().join("log")).unwrap();
        assert!(log.save_vote(&crate::types::vote_of(2, 1, false)).await.is_err(), "no retry, although it would work");
        let reason = log.shared().fenced().unwrap();
        assert!(reason.contains("acknowledges nothing more"), "{reason}");
    });
}

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<usize>),
    Truncate(prop::sample::Index),
    Purge(prop::sample::Index),
    /// A snapshot that reaches beyond the log was installed.
    PurgeBeyond(u64),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => prop::collection::vec(0usize..6000, 1..12).prop_map(Action::Append),
        2 => any::<prop::sample::Index>().prop_map(Action::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Action::Purge),
        1 => (0u64..5).prop_map(Action::PurgeBeyond),
        2 => Just(Action::Reopen),
    ]
}

/// What the log must amount to.
#[derive(Default)]
struct Model {
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

impl Model {
    fn next(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1) + self.entries.len() as u64
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_log_is_as_its_model_after_any_actions_and_restarts(actions in prop::collection::vec(action(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let mut model = Model::default();
            let mut log = reopen(directory.path());
            for (term, action) in actions.into_iter().enumerate() {
                let term = term as u64 + 1;
                match action {
                    Action::Append(sizes) => {
                        let start = model.next();
                        let entries: Vec<Entry> =
                            sizes.iter().enumerate().map(|(at, size)| entry(term, start + at as u64, &vec![term as u8; *size])).collect();
                        model.entries.extend(entries.clone());
                        if start % 2 == 0 {
                            append(&mut log, entries).await;
                        } else {
                            log.append(entries, IOFlushed::noop()).await.unwrap();
                        }
                    }
                    Action::Truncate(at) => {
                        let keep = at.index(model.entries.len() + 1);
                        model.entries.truncate(keep);
                        log.truncate_after(model.last()).await.unwrap();
                    }
                    Action::Purge(at) if !model.entries.is_empty() => {
                        let upto = at.index(model.entries.len());
                        model.purged = Some(model.entries[upto].log_id);
                        model.entries.drain(..=upto);
                        log.purge(model.purged.unwrap()).await.unwrap();
                    }
                    Action::Purge(_) => {}
                    Action::PurgeBeyond(more) => {
                        model.purged = Some(log_id(term, model.next() + more));
                        model.entries.clear();
                        log.purge(model.purged.unwrap()).await.unwrap();
                    }
                    Action::Reopen => {
                        log.save_committed(model.last()).await.unwrap();
                        log.close().await.unwrap();
                        log = reopen(directory.path());
                        prop_assert_eq!(log.read_committed().await.unwrap(), model.last());
                    }
                }
                let state = log.get_log_state().await.unwrap();
                prop_assert_eq!(state.last_purged_log_id, model.purged);
                prop_assert_eq!(state.last_log_id, model.last());
                prop_assert_eq!(all(&mut log).await, model.entries.clone());
            }
            log.close().await.unwrap();
            Ok(())
        })?;
    }
}

#[test]
fn a_note_of_progress_that_is_unreadable_counts_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("progress");
    let (file, _) = ProgressFile::open(&path).unwrap();
    let note = Progress { committed: Some(log_id(3, 9)), synced_segment: 2, synced_offset: 8192 };
    file.save(&note).unwrap();
    assert_eq!(ProgressFile::open(&path).unwrap().1, note);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(ProgressFile::open(&path).unwrap().1, Progress::default());
}
