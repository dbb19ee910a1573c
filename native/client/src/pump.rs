//! Drives one chunk's queued pieces to all of its copies: pipelined, resent after a failure at the new version, given up
//! at the deadline. One pump runs per chunk with queued bytes; it ends when there are none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::limits::CHUNK_BYTES;
use base::time::Deadline;
use base::{Error, ErrorKind};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use wire::Method;
use wire::proto::{ChunkInfo, ChunkWrite, ChunkWriteReply};

use crate::backoff::Backoff;
use crate::core::Core;
use crate::file::{FileRef, State};
use crate::grant::{chain, finish_trim, grant};
use crate::metrics::add;
use crate::servers::Failure;
use crate::writer::Piece;

/// How long a chain of living servers may take for one piece; each hop gives up a little earlier and names the next.
/// Below what a stalled disk needs now and then, healthy copies would be dropped.
pub const CHAIN_TIMEOUT: Duration = Duration::from_secs(16);
/// Rounds of "your map is old" or "damaged on the way" without any progress before the first server is blamed.
const PATIENT_ROUNDS: u32 = 2;

/// Servers to leave out; none: nobody is to blame, only the map was old or the bytes were damaged on their way.
pub type Blame = Vec<u32>;

/// What is wrong since the last progress.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    pending: bool,
    failed: BTreeSet<u32>,
    last: Option<Error>,
    rounds: u32,
    backoff: Backoff,
}

struct Flight {
    piece: Arc<Piece>,
    info: Arc<ChunkInfo>,
    outcome: Result<ChunkWriteReply, (Error, Blame)>,
}

/// Start a pump for every chunk that has something queued and none yet.
pub fn kick(core: &Arc<Core>, file: &FileRef, state: &mut State) {
    for (index, writer) in &mut state.writers {
        if !writer.running && !writer.queue.is_empty() {
            writer.running = true;
            tokio::spawn(pump(core.clone(), file.clone(), *index));
        }
    }
}

async fn pump(core: Arc<Core>, file: FileRef, index: u64) {
    let wake = file.state.lock().writers.entry(index).or_default().wake.clone();
    let (mut flights, mut trouble) = (FuturesUnordered::new(), Trouble::default());
    loop {
        let unready = trouble.pending || file.state.lock().granted(index).is_none();
        if flights.is_empty()
            && unready
            && let Err(error) = recover(&core, &file, index, &mut trouble).await
        {
            give_up(&core, &file, index, error);
            return;
        }
        if !trouble.pending {
            let mut state = file.state.lock();
            if let Some(info) = state.granted(index).map(Arc::new)
                && let Some(writer) = state.writers.get_mut(&index)
            {
                let create = writer.create;
                while let Some(piece) = writer.launch() {
                    flights.push(send(core.clone(), info.clone(), piece, create));
                }
            }
        }
        if flights.is_empty() {
            let mut state = file.state.lock();
            let Some(writer) = state.writers.get_mut(&index) else { return };
            if writer.queue.is_empty() {
                writer.running = false;
                return;
            }
            continue;
        }
        tokio::select! {
            Some(flight) = flights.next() => land(&core, &file, index, flight, &mut trouble),
            () = wake.notified() => {}
        }
    }
}

async fn send(core: Arc<Core>, info: Arc<ChunkInfo>, piece: Arc<Piece>, create: bool) -> Flight {
    let Some((head, rest)) = chain(&info) else {
        let error = Error::unavailable("a chunk without copies was granted; start its chunkservers");
        return Flight { piece, info, outcome: Err((error, Blame::new())) };
    };
    let message = ChunkWrite {
        chunk: info.chunk,
        offset: piece.offset,
        length: piece.data.len() as u32,
        crcs: piece.crcs().to_vec(),
        create,
        chain: rest,
        sync: false,
        writer: 0,
        round: 0,
    };
    let start = Instant::now();
    let deadline = Deadline::after(CHAIN_TIMEOUT);
    let answer =
        core.servers.call_patiently(&head, Method::ChunkWrite, &message, Some(piece.data.clone()), deadline).await;
    let outcome = match answer {
        Ok(reply) => match reply.decode::<ChunkWriteReply>() {
            Ok(reply) => missing(&info, reply),
            Err(error) => Err((error, vec![head.server_id])),
        },
        Err(failure) => {
            let blamed = blame(&core, &failure, &info);
            Err((failure.error(), blamed))
        }
    };
    if outcome.is_ok() {
        core.metrics.chunk_write.since(start);
        add(&core.metrics.counters.sent_bytes, piece.data.len() as u64);
    }
    Flight { piece, info, outcome }
}

/// A reply counts only when every copy stamped it.
fn missing(info: &ChunkInfo, reply: ChunkWriteReply) -> Result<ChunkWriteReply, (Error, Blame)> {
    let stamped = |id: u32| reply.stamps.iter().any(|stamp| stamp.server_id == id);
    let failed: Vec<u32> = info.replicas.iter().map(|replica| replica.server_id).filter(|id| !stamped(*id)).collect();
    if failed.is_empty() {
        return Ok(reply);
    }
    Err((Error::unavailable(format!("chunkservers {failed:?} did not confirm a write")), failed))
}

/// Who of the chain is to blame for a failure.
pub fn blame(core: &Core, failure: &Failure, info: &ChunkInfo) -> Blame {
    let head = chain(info).map(|(head, _)| head.server_id);
    match failure {
        Failure::Answered(error) if error.kind == ErrorKind::Stale => Blame::new(),
        Failure::Answered(error) if !error.failed_servers.is_empty() => {
            error.failed_servers.iter().for_each(|id| core.servers.avoid(*id));
            error.failed_servers.clone()
        }
        // Damaged on the way: the copy is fine, send again.
        Failure::Answered(error) if error.kind == ErrorKind::Integrity => Blame::new(),
        Failure::Answered(_) | Failure::Silent(_) => head.into_iter().collect(),
    }
}

fn land(core: &Core, file: &FileRef, index: u64, flight: Flight, trouble: &mut Trouble) {
    let Flight { piece, info, outcome } = flight;
    let mut state = file.state.lock();
    match outcome.and_then(|reply| state.still_ours(index, &info).map(|()| reply)) {
        Ok(reply) => {
            state.acknowledge(index, &piece, &reply);
            drop(state);
            if !trouble.pending {
                *trouble = Trouble::default();
            }
            file.progress.notify_waiters();
        }
        Err((error, blamed)) => {
            drop(state);
            add(&core.metrics.counters.data_retries, 1);
            trouble.note(error, blamed, chain(&info).map(|(head, _)| head.server_id));
        }
    }
}

impl Trouble {
    fn note(&mut self, error: Error, blamed: Blame, head: Option<u32>) {
        self.since.get_or_insert_with(Instant::now);
        self.rounds += u32::from(!self.pending);
        self.pending = true;
        if blamed.is_empty() && self.rounds > PATIENT_ROUNDS {
            self.failed.extend(head);
        }
        self.failed.extend(blamed);
        self.last = Some(error);
    }

    /// Full or read-only disks do not mend themselves while a writer waits.
    fn is_final(&self) -> bool {
        self.last.as_ref().is_some_and(|error| matches!(error.errno, libc::ENOSPC | libc::EROFS | libc::EDQUOT))
    }
}

/// Nothing flies: get a grant without the failed servers and make the chunk ready; then everything is sent again.
async fn recover(core: &Arc<Core>, file: &FileRef, index: u64, trouble: &mut Trouble) -> Result<(), Error> {
    file.state.lock().writers.entry(index).or_default().recall();
    let deadline = Duration::from_millis(core.config.deadline_ms);
    loop {
        let seen = {
            let mut state = file.state.lock();
            let seen = state.granted(index).and_then(|info| info.chunk).unwrap_or_default();
            if trouble.pending && trouble.failed.is_empty() {
                // Only the map was old: what we have is not a grant any more.
                state.writers.entry(index).or_default().granted = false;
            }
            seen
        };
        let failed: Vec<u32> = trouble.failed.iter().copied().collect();
        let error = match grant(core, file, index, seen, &failed).await {
            Ok(info) if info.healing => {
                trouble.failed.clear();
                Error::unavailable("a copy is being added to the chunk; its writers wait")
            }
            Ok(info) => match finish_trim(core, file, &info).await {
                Ok(()) => {
                    trouble.pending = false;
                    trouble.failed.clear();
                    if trouble.rounds > 1 {
                        trouble.backoff.wait().await;
                    }
                    return Ok(());
                }
                Err((error, blamed)) => {
                    trouble.failed.clear();
                    trouble.note(error.clone(), blamed, chain(&info).map(|(head, _)| head.server_id));
                    error
                }
            },
            // The inode is gone, or no server has space: waiting will not help.
            Err(error) if error.kind != ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                if trouble.is_final() {
                    return Err(trouble.last.clone().unwrap_or(error));
                }
                let resend = !failed.is_empty();
                trouble.failed.clear();
                if resend && trouble.since.is_some_and(|since| since.elapsed() < deadline) {
                    // Too few copies would stay: the failed ones may have come back.
                    trouble.backoff.wait().await;
                    trouble.pending = false;
                    return Ok(());
                }
                error
            }
        };
        let since = *trouble.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= deadline {
            let last = trouble.last.clone().unwrap_or(error);
            return Err(last.context(format!("chunk {index} of inode {} could not be written in time", file.inode)));
        }
        trouble.backoff.wait().await;
    }
}

/// The bytes are lost to this mount: every handle hears of it once.
fn give_up(core: &Core, file: &FileRef, index: u64, error: Error) {
    tracing::warn!(inode = file.inode, index, %error, "written bytes were given up; the next write, fsync or close reports it");
    add(&core.metrics.counters.write_faults, 1);
    let mut state = file.state.lock();
    state.abandon(index);
    state.set_fault(error);
    drop(state);
    file.progress.notify_waiters();
}

impl State {
    /// A write that landed in a chunk that was replaced meanwhile is to be sent again, to the one that is there now.
    fn still_ours(&self, index: u64, info: &ChunkInfo) -> Result<(), (Error, Blame)> {
        let sent_to = info.chunk.as_ref().map_or(0, |chunk| chunk.id);
        let now = self.writers.get(&index).map_or(0, |writer| writer.chunk_id);
        if sent_to == now {
            return Ok(());
        }
        Err((Error::stale(format!("chunk {sent_to} was replaced by chunk {now} while it was written")), Blame::new()))
    }

    fn acknowledge(&mut self, index: u64, piece: &Piece, reply: &ChunkWriteReply) {
        let Some(writer) = self.writers.get_mut(&index) else { return };
        writer.flying.retain(|flying| flying.seq != piece.seq);
        writer.acked += 1;
        writer.acked_end = writer.acked_end.max(piece.end());
        for stamp in &reply.stamps {
            // The first start counts: one that came later may have lost what the first one took.
            writer.stamps.entry(stamp.server_id).or_insert(stamp.boot_id);
            writer.stored_bytes = writer.stored_bytes.max(stamp.stored_bytes);
        }
        self.unacked_bytes -= piece.charge;
        if let Some(info) = self.map.get_mut(&index) {
            info.written = true;
        }
        // A read that began before the acknowledgement may hold older bytes.
        let start = index * CHUNK_BYTES;
        self.drop_ahead(start + u64::from(piece.offset), start + u64::from(piece.end()));
    }

    fn abandon(&mut self, index: u64) {
        self.seal(index);
        let Some(writer) = self.writers.get_mut(&index) else { return };
        writer.recall();
        let charge: usize = writer.queue.drain(..).map(|piece| piece.charge).sum();
        writer.running = false;
        writer.granted = false;
        writer.taken_end = writer.acked_end;
        self.unacked_bytes -= charge;
        // The size must not grow over bytes that are nowhere.
        let ends = self.writers.iter().filter(|(_, writer)| writer.taken_end > 0);
        self.dirty_end =
            ends.map(|(index, writer)| index * CHUNK_BYTES + u64::from(writer.taken_end)).max().unwrap_or(0);
    }
}
