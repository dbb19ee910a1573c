//! The log as openraft sees it: entries are readable as soon as `append` returns, and reported once they are durable.
//! Reads come from memory for what is recent, else from the segments, checked.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::sync::{Semaphore, oneshot};

use super::index::{Index, Place};
use super::open::Opened;
use super::progress::{Progress, ProgressFile};
use super::record::{Kind, decode};
use super::segment::{Folder, Segment};
use super::writer::{self, Task, Writer};
use crate::types::{Command, Entry, LogId, Types, Vote, log_id, members_from_proto};
use crate::vote::VoteFile;

/// Entries handed over and not durable yet: more than a slow disk should have before it.
const QUEUE_BYTES: usize = 64 << 20;
/// Bytes of entries read at once for a follower: they must fit one message.
const READ_BYTES: usize = 1 << 20;
/// A follower writes up to so many bytes itself while its disk takes less than this for a batch: handing them to the
/// thread and back costs two of a commit's eight wake-ups. A leader never does: it sends to its followers meanwhile.
const INLINE_BYTES: usize = 64 << 10;
const INLINE_NS: u64 = 1_000_000;

#[derive(Debug, Default)]
struct State {
    index: Index,
    segments: BTreeMap<u64, Arc<Segment>>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    synced: (u64, u64),
    fenced: Option<String>,
}

/// Counters of the log, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub syncs: AtomicU64,
    pub sync_ns: AtomicU64,
    pub written_bytes: AtomicU64,
    /// Terms that began while this member ran.
    pub elections: AtomicU64,
}

#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    progress: ProgressFile,
    queue: Semaphore,
    /// Term and node of the newest vote, readable without a lock; set before the vote is given.
    voted_term: AtomicU64,
    voted_node: AtomicU64,
    /// Tasks handed to the thread and not done.
    queued: AtomicUsize,
    /// What the last batch took.
    last_batch_ns: AtomicU64,
    pub counters: Counters,
}

impl Shared {
    pub fn fenced(&self) -> Option<String> {
        self.state.lock().fenced.clone()
    }

    pub fn fence(&self, reason: String) {
        self.state.lock().fenced.get_or_insert(reason);
    }

    pub fn release(&self, bytes: usize) {
        self.queue.add_permits(bytes);
    }

    /// The thread has done so many tasks.
    pub fn done(&self, tasks: usize) {
        self.queued.fetch_sub(tasks, Ordering::AcqRel);
    }

    pub fn add_segment(&self, segment: Arc<Segment>) {
        self.state.lock().segments.insert(segment.head.sequence, segment);
    }

    /// A batch is durable.
    pub fn written(&self, places: &[(LogId, Place)], segment: u64, end: u64, bytes: usize, took: Duration) {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.sync_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.last_batch_ns.store(took.as_nanos() as u64, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        for (id, place) in places {
            state.index.placed(*id, *place);
        }
        state.synced = (segment, end);
    }

    /// The oldest segment that an entry after `upto` lies in; entries not written yet go to the newest.
    pub fn first_needed_segment(&self, upto: LogId) -> u64 {
        let state = self.state.lock();
        let next = state.index.get(upto.index + 1).and_then(|slot| slot.place);
        next.map_or(u64::MAX, |place| place.segment)
    }

    pub fn take_segments_before(&self, sequence: u64) -> BTreeMap<u64, Arc<Segment>> {
        let mut state = self.state.lock();
        let kept = state.segments.split_off(&sequence);
        std::mem::replace(&mut state.segments, kept)
    }

    /// Term and node of the newest vote given.
    pub fn voted(&self) -> (u64, u64) {
        // The term is written last and read first: a torn pair shows an old term with a new node, never the reverse.
        let term = self.voted_term.load(Ordering::Acquire);
        (term, self.voted_node.load(Ordering::Acquire))
    }

    fn set_voted(&self, vote: &Vote) {
        self.voted_node.store(vote.leader_id.voted_for, Ordering::Release);
        self.voted_term.store(vote.leader_id.term, Ordering::Release);
    }
}

/// What a member knows of its log without asking the core.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSummary {
    pub entries: u64,
    pub bytes: u64,
    pub initialised: bool,
}

#[derive(Clone)]
pub struct LogStore {
    node_id: u64,
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    tasks: Sender<Task>,
}

impl LogStore {
    /// Take an opened log over and start its thread.
    pub fn start(
        node_id: u64,
        opened: Opened,
        folder: Folder,
        votes: VoteFile,
        vote: Option<Vote>,
        progress: ProgressFile,
        noted: Progress,
    ) -> base::Result<LogStore> {
        let current = opened.segments.last_key_value().map(|(_, segment)| segment.clone());
        let synced = (current.as_ref().map_or(0, |segment| segment.head.sequence), opened.end);
        // What was committed but lost with an unsynced tail comes back from the leader.
        let committed = noted.committed.min(opened.index.last());
        let state = State { index: opened.index, segments: opened.segments, vote, committed, synced, fenced: None };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            progress,
            queue: Semaphore::new(QUEUE_BYTES),
            voted_term: AtomicU64::new(0),
            voted_node: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            // Not known yet.
            last_batch_ns: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
        });
        if let Some(vote) = &vote {
            shared.set_voted(vote);
        }
        let (tasks, receiver) = channel();
        let writer = Writer {
            shared: shared.clone(),
            folder,
            votes,
            current,
            end: opened.end,
            last_batch: opened.last_batch,
            life: u32::from_le_bytes(crate::files::random_bytes()?),
            stopped: false,
        };
        let writer = Arc::new(Mutex::new(writer));
        let mine = writer.clone();
        std::thread::Builder::new().name("raft-log".to_string()).spawn(move || writer::run(&mine, &receiver))?;
        Ok(LogStore { node_id, shared, writer, tasks })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn summary(&self) -> LogSummary {
        let state = self.shared.state.lock();
        LogSummary {
            entries: state.index.len() as u64,
            bytes: state.segments.values().map(|segment| segment.size).sum(),
            initialised: state.index.last().is_some(),
        }
    }

    /// Wait until everything handed over is durable, and end the thread.
    pub async fn close(&self) -> io::Result<()> {
        self.ask(|done| Task::Stop { done }).await
    }

    async fn ask(&self, task: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Task) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.hand_over(task(done))?;
        finished.await.map_err(|_| ended())?
    }

    fn hand_over(&self, task: Task) -> io::Result<()> {
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        self.tasks.send(task).map_err(|_| ended())
    }

    /// The writer, when what comes next may be written in the caller's thread: everything before is written, and the
    /// disk is quick.
    fn inline(&self, bytes: usize) -> Option<MutexGuard<'_, Writer>> {
        let quick = self.shared.last_batch_ns.load(Ordering::Relaxed) < INLINE_NS;
        if self.shared.voted().1 == self.node_id || !quick || bytes > INLINE_BYTES {
            return None;
        }
        let writer = self.writer.try_lock()?;
        (self.shared.queued.load(Ordering::Acquire) == 0 && !writer.stopped).then_some(writer)
    }

    fn read(&self, start: u64, end: u64, most_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let (slot, segment) = {
                let state = self.shared.state.lock();
                let Some(slot) = state.index.get(index).cloned() else {
                    // Purged meanwhile at the start of the range, or not there yet at its end.
                    if index < state.index.first() && entries.is_empty() {
                        continue;
                    }
                    break;
                };
                let segment = slot.place.and_then(|place| state.segments.get(&place.segment).cloned());
                (slot, segment)
            };
            let entry = match (slot.entry, slot.place, segment) {
                (Some(entry), ..) => entry,
                (None, Some(place), Some(segment)) => match read_record(&segment, place, slot.term, index) {
                    Ok(entry) => entry,
                    // Purged and its file recycled while it was read.
                    Err(_) if index < self.shared.state.lock().index.first() && entries.is_empty() => continue,
                    Err(error) => {
                        self.shared.fence(error.to_string());
                        return Err(error);
                    }
                },
                _ => return Err(io::Error::other(format!("log entry {index} has no place; this is a defect"))),
            };
            bytes += size_of_entry(&entry);
            if bytes > most_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn ended() -> io::Error {
    io::Error::other("the log's thread has ended")
}

fn size_of_entry(entry: &Entry) -> usize {
    64 + match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank => 0,
        EntryPayload::Membership(members) => members.nodes().count() * 64,
    }
}

fn read_record(segment: &Segment, place: Place, term: u64, index: u64) -> io::Result<Entry> {
    let damaged = || {
        io::Error::other(format!(
            "log entry {index} in {} is damaged on disk; restart this master to fetch it from its peers",
            segment.path.display()
        ))
    };
    let mut bytes = vec![0u8; place.size as usize];
    segment.file.read_exact_at(&mut bytes, place.offset)?;
    let (head, payload) = decode(&bytes, &segment.head.salt).ok_or_else(damaged)?;
    if (head.term, head.index) != (term, index) {
        return Err(damaged());
    }
    let payload = match head.kind {
        Kind::Batch => EntryPayload::Normal(Command(Bytes::copy_from_slice(payload))),
        Kind::Blank => EntryPayload::Blank,
        Kind::Members => {
            let members = wire::proto::Members::decode(payload).map_err(|_| damaged())?;
            EntryPayload::Membership(members_from_proto(members).map_err(|_| damaged())?)
        }
        Kind::Truncate | Kind::Purge => return Err(damaged()),
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}

fn bounds(range: impl RangeBounds<u64>, next: u64) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => next,
    };
    (start, end.min(next))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (first, next) = {
            let state = self.shared.state.lock();
            (state.index.first(), state.index.next())
        };
        let (start, end) = bounds(range, next);
        self.read(start.max(first), end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.index.purged(), last_log_id: state.index.last() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        // Before anything is promised: from here on no read is answered under an older term.
        if vote.leader_id.term > self.shared.voted().0 {
            self.shared.counters.elections.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.set_voted(vote);
        let saved = *vote;
        self.ask(|done| Task::Vote { vote: saved, done }).await?;
        self.shared.state.lock().vote = Some(saved);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let progress = {
            let mut state = self.shared.state.lock();
            state.committed = committed;
            Progress { committed, synced_segment: state.synced.0, synced_offset: state.synced.1 }
        };
        self.shared.progress.save(&progress)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes = entries.iter().map(size_of_entry).sum::<usize>().min(QUEUE_BYTES);
        self.shared.queue.acquire_many(bytes as u32).await.map_err(|_| ended())?.forget();
        {
            let mut state = self.shared.state.lock();
            for entry in &entries {
                let index = entry.log_id.index;
                if !state.index.append(entry.clone(), size_of_entry(entry)) {
                    return Err(io::Error::other(format!("appending entry {index} would leave a hole in the log")));
                }
            }
        }
        let task = Task::Append { entries, bytes, flushed: callback };
        match self.inline(bytes) {
            Some(mut writer) => writer.work(task, || None),
            None => self.hand_over(task)?,
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.shared.state.lock().index.truncate(last.map(|id| id.index));
        self.ask(|done| Task::Truncate { after: last, done }).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.shared.state.lock().index.purge(upto);
        self.ask(|done| Task::Purge { upto, done }).await
    }
}
