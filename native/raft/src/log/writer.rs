//! Writes log and vote in the order they were handed over: in a thread of its own, or, for a follower with a quick disk,
//! in the caller's. Whatever waits when a sync ends goes into the next batch: one write, one sync. A failed write or
//! sync is never retried: the log is fenced for good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use base::{Buffer, Error, Result};
use openraft::EntryPayload;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

use super::index::Place;
use super::record::{BATCH_ALIGN, Head, Kind, encode};
use super::scan::DATA_START;
use super::segment::{Folder, Segment};
use super::store::Shared;
use crate::types::{Entry, LogId, Types, Vote, members_to_proto, term_of};
use crate::vote::VoteFile;

/// Bytes taken into one batch; more would make the first of them wait.
const BATCH_BYTES: usize = 8 << 20;

pub type Done = oneshot::Sender<std::io::Result<()>>;

pub enum Task {
    Append { entries: Vec<Entry>, bytes: usize, flushed: IOFlushed<Types> },
    Truncate { after: Option<LogId>, done: Done },
    Purge { upto: LogId, done: Done },
    Vote { vote: Vote, done: Done },
    Stop { done: Done },
}

/// Told when what came before in the stream is durable.
enum Waiter {
    Flushed(IOFlushed<Types>),
    Done(Done),
}

pub struct Writer {
    pub shared: Arc<Shared>,
    pub folder: Folder,
    pub votes: VoteFile,
    pub current: Option<Arc<Segment>>,
    /// Where the next batch goes in `current`.
    pub end: u64,
    pub last_batch: u64,
    pub life: u32,
    pub stopped: bool,
}

/// A record to be written: its salt is known when its segment is.
struct Record {
    head: Head,
    payload: Vec<u8>,
    shared: Option<bytes::Bytes>,
}

impl Record {
    fn payload(&self) -> &[u8] {
        self.shared.as_deref().unwrap_or(&self.payload)
    }
}

#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
    queued_bytes: usize,
    waiters: Vec<Waiter>,
    purges: Vec<LogId>,
}

/// The thread: whatever is handed over, until the log is closed.
pub fn run(writer: &Mutex<Writer>, tasks: &Receiver<Task>) {
    while let Ok(first) = tasks.recv() {
        let mut writer = writer.lock();
        let mut taken = 1;
        writer.work(first, || tasks.try_recv().ok().inspect(|_| taken += 1));
        // While the writer is held: whoever finds nothing queued and takes it comes after all of these.
        writer.shared.done(taken);
        if writer.stopped {
            return;
        }
    }
}

impl Writer {
    /// Carry out `first` and what `more` has, as few batches as may be.
    pub fn work(&mut self, first: Task, mut more: impl FnMut() -> Option<Task>) {
        let mut next = Some(first);
        let mut batch = Batch::default();
        while let Some(task) = next.take() {
            match task {
                Task::Vote { vote, done } => {
                    // A term is durable before its entries, and after those of the terms before.
                    self.flush(std::mem::take(&mut batch));
                    let outcome = self.save_vote(&vote);
                    let _ = done.send(outcome);
                }
                Task::Stop { done } => {
                    self.flush(std::mem::take(&mut batch));
                    self.stopped = true;
                    let _ = done.send(self.fenced());
                    return;
                }
                task => batch.add(task, self.last_batch + 1, self.life),
            }
            if batch.bytes < BATCH_BYTES {
                next = more();
            }
        }
        self.flush(batch);
    }

    fn fenced(&self) -> std::io::Result<()> {
        match self.shared.fenced() {
            Some(reason) => Err(std::io::Error::other(reason)),
            None => Ok(()),
        }
    }

    fn save_vote(&mut self, vote: &Vote) -> std::io::Result<()> {
        self.fenced()?;
        self.votes.save(vote).map_err(|error| self.fence("writing the vote", Error::from(error)))
    }

    /// Write and sync one batch, then tell those who wait.
    fn flush(&mut self, batch: Batch) {
        if batch.waiters.is_empty() {
            return;
        }
        let outcome = match self.fenced() {
            Ok(()) if batch.records.is_empty() => Ok(()),
            Ok(()) => self.write(&batch.records).map_err(|error| self.fence("writing the log", error)),
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            for upto in &batch.purges {
                if let Err(error) = self.recycle(*upto) {
                    // Only space is held; the next purge tries again.
                    tracing::warn!(%error, "a compacted log file could not be recycled");
                }
            }
        }
        self.shared.release(batch.queued_bytes);
        tell(batch.waiters, &outcome);
    }

    fn fence(&self, what: &str, error: Error) -> std::io::Error {
        let folder = self.folder.path.display();
        let reason = format!(
            "{what} in {folder} failed ({error}); this master acknowledges nothing more: mend the disk and restart it"
        );
        tracing::error!("{reason}");
        self.shared.fence(reason.clone());
        std::io::Error::other(reason)
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let started = Instant::now();
        let size: usize = records.iter().map(|record| record.head.size()).sum::<usize>().next_multiple_of(BATCH_ALIGN);
        let segment = self.room_for(size as u64)?;
        let mut buffer = Vec::with_capacity(size);
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let offset = self.end + buffer.len() as u64;
            encode(&mut buffer, &segment.head.salt, &record.head, record.payload());
            if matches!(record.head.kind, Kind::Batch | Kind::Members | Kind::Blank) {
                let id = crate::types::log_id(record.head.term, record.head.index);
                places.push((id, Place { segment: segment.head.sequence, offset, size: record.head.size() as u32 }));
            }
        }
        buffer.resize(size, 0);
        segment.write_durably(&Buffer::copy_of(&buffer), self.end)?;
        self.end += size as u64;
        self.last_batch += 1;
        self.shared.written(&places, segment.head.sequence, self.end, size, started.elapsed());
        Ok(())
    }

    /// The current segment, or a new one when `bytes` do not fit. A spare is made ready beforehand, on the side.
    fn room_for(&mut self, bytes: u64) -> Result<Arc<Segment>> {
        if let Some(current) = &self.current
            && self.end + bytes <= current.size
        {
            let half = current.size / 2;
            if self.end < half && self.end + bytes >= half {
                self.prepare_spare();
            }
            return Ok(current.clone());
        }
        let sequence = self.current.as_ref().map_or(1, |current| current.head.sequence + 1);
        let segment = Arc::new(self.folder.begin(sequence, self.end, self.last_batch, bytes)?);
        self.end = DATA_START as u64;
        self.current = Some(segment.clone());
        self.shared.add_segment(segment.clone());
        Ok(segment)
    }

    fn prepare_spare(&self) {
        let folder = self.folder.clone();
        if folder.has_spare() {
            return;
        }
        let spawned = std::thread::Builder::new().name("raft-spare".to_string()).spawn(move || {
            if let Err(error) = folder.make_spare(folder.segment_bytes) {
                tracing::warn!(%error, "no spare log file could be made in {}; free some space", folder.path.display());
            }
        });
        drop(spawned);
    }

    /// Give back the segments that hold nothing but entries up to `upto`, oldest first.
    fn recycle(&mut self, upto: LogId) -> Result<()> {
        let keep_from =
            self.shared.first_needed_segment(upto).min(self.current.as_ref().map_or(0, |s| s.head.sequence));
        let old: BTreeMap<u64, Arc<Segment>> = self.shared.take_segments_before(keep_from);
        for segment in old.values() {
            self.folder.recycle(segment)?;
        }
        Ok(())
    }
}

fn tell(waiters: Vec<Waiter>, outcome: &std::io::Result<()>) {
    let copy = || match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(std::io::Error::other(error.to_string())),
    };
    // Completions are a watermark: the last one covers those before. Waking the core once a batch spares it work.
    let last = waiters.iter().rposition(|waiter| matches!(waiter, Waiter::Flushed(IOFlushed::Notify(_))));
    for (at, waiter) in waiters.into_iter().enumerate() {
        match waiter {
            Waiter::Flushed(IOFlushed::Notify(_)) if Some(at) != last => {}
            Waiter::Flushed(flushed) => flushed.io_completed(copy()),
            Waiter::Done(done) => drop(done.send(copy())),
        }
    }
}

impl Batch {
    fn add(&mut self, task: Task, batch: u64, life: u32) {
        match task {
            Task::Append { entries, bytes, flushed } => {
                for entry in entries {
                    let (term, index) = (term_of(&entry.log_id), entry.log_id.index);
                    let (kind, payload, shared) = match entry.payload {
                        EntryPayload::Blank => (Kind::Blank, Vec::new(), None),
                        EntryPayload::Normal(command) => (Kind::Batch, Vec::new(), Some(command.0)),
                        EntryPayload::Membership(members) => {
                            (Kind::Members, members_to_proto(&members).encode_to_vec(), None)
                        }
                    };
                    self.push(kind, (term, index), false, payload, shared, (batch, life));
                }
                self.queued_bytes += bytes;
                self.waiters.push(Waiter::Flushed(flushed));
            }
            Task::Truncate { after, done } => {
                let (term, index) = after.map_or((0, 0), |id| (term_of(&id), id.index));
                self.push(Kind::Truncate, (term, index), after.is_none(), Vec::new(), None, (batch, life));
                self.waiters.push(Waiter::Done(done));
            }
            Task::Purge { upto, done } => {
                self.push(Kind::Purge, (term_of(&upto), upto.index), false, Vec::new(), None, (batch, life));
                self.purges.push(upto);
                self.waiters.push(Waiter::Done(done));
            }
            Task::Vote { done, .. } | Task::Stop { done } => self.waiters.push(Waiter::Done(done)),
        }
    }

    fn push(
        &mut self,
        kind: Kind,
        (term, index): (u64, u64),
        nothing_kept: bool,
        payload: Vec<u8>,
        shared: Option<bytes::Bytes>,
        (batch, life): (u64, u32),
    ) {
        let length = shared.as_ref().map_or(payload.len(), |shared| shared.len()) as u32;
        let head = Head { kind, first: self.records.is_empty(), nothing_kept, length, batch, life, term, index };
        self.bytes += head.size();
        self.records.push(Record { head, payload, shared });
    }
}
