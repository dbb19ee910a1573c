//! The answering side between masters. Refuses what was meant for a former self of this member, puts appends of one
//! stream in order, collects snapshots, and holds votes back until promises made before a restart have expired.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result, crc};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use wire::{Request, Response, proto};

use crate::consensus::Raft;
use crate::machine::OpenSnapshot;
use crate::outdated::Outdated;
use crate::snapshot::Snapshots;
use crate::types::{
    Types, entry_from_proto, log_id_from_proto, log_id_to_proto, malformed, vote_from_proto, vote_to_proto,
};

/// Appends of one stream that may wait for one that is missing, or for the core.
const LANE_DEPTH: usize = 64;

type Waiting = (AppendEntriesRequest<Types>, oneshot::Sender<Result<StreamAppendResult<Types>>>);

/// One replication stream of one connection.
struct Lane {
    stream: u64,
    next: u64,
    early: BTreeMap<u64, Waiting>,
    feed: mpsc::Sender<Waiting>,
}

/// A snapshot on its way in.
struct Incoming {
    id: u64,
    file: File,
    path: PathBuf,
    received: u64,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already when it was accepted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// When the leader that this member follows was last heard of.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    fn now(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    pub fn ago(&self) -> Option<Duration> {
        self.0.lock().map(|at| at.elapsed())
    }
}

pub struct Receiver {
    pub raft: Raft,
    pub incarnation: u64,
    snapshots: Snapshots,
    /// Before this moment no vote is given: the last leader may still hold a lease that this member granted before it
    /// was restarted.
    votes_from: Option<Instant>,
    heard: Heard,
    outdated: Outdated,
    lanes: Mutex<HashMap<u64, Lane>>,
    incoming: Arc<tokio::sync::Mutex<Option<Incoming>>>,
}

impl Receiver {
    pub fn new(
        raft: Raft,
        incarnation: u64,
        snapshots: Snapshots,
        votes_from: Option<Instant>,
        heard: Heard,
        outdated: Outdated,
    ) -> Receiver {
        let (lanes, incoming) = (Mutex::default(), Arc::default());
        Receiver { raft, incarnation, snapshots, votes_from, heard, outdated, lanes, incoming }
    }

    fn meant_for_us(&self, to: u64) -> Result<()> {
        self.outdated.check()?;
        if to == self.incarnation {
            return Ok(());
        }
        Err(Error::stale(
            "this master has another data directory and waits to be taken in again; what its former one promised is void",
        ))
    }

    pub async fn append(&self, request: &Request) -> Result<Response> {
        let message: proto::AppendRequest = request.decode()?;
        self.meant_for_us(message.to)?;
        let rpc = AppendEntriesRequest {
            vote: vote_from_proto(message.vote)?,
            prev_log_id: message.previous.map(log_id_from_proto),
            leader_commit: message.commit.map(log_id_from_proto),
            entries: message.entries.into_iter().map(entry_from_proto).collect::<Result<_>>()?,
        };
        let result = if message.stream == 0 {
            use openraft::raft::AppendEntriesResponse as Response;
            match self.raft.append_entries(rpc).await.map_err(failed)? {
                Response::Success | Response::PartialSuccess(_) => Ok(None),
                Response::Conflict => Err(StreamAppendError::Conflict(crate::types::log_id(0, 0))),
                Response::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
            }
        } else {
            let answer = self.enqueue(request, message.stream, message.sequence, rpc)?;
            answer.await.map_err(|_| Error::unavailable("the stream of appends has ended"))??
        };
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.heard.now();
        }
        let (outcome, vote) = match result {
            Ok(_) => (proto::AppendOutcome::AppendOk, None),
            Err(StreamAppendError::Conflict(_)) => (proto::AppendOutcome::AppendConflict, None),
            Err(StreamAppendError::HigherVote(vote)) => {
                (proto::AppendOutcome::AppendHigherVote, Some(vote_to_proto(&vote)))
            }
        };
        Ok((&proto::AppendReply { outcome: outcome as i32, vote }).into())
    }

    /// Hand the request to its stream's lane when all before it are there; keep it back until then.
    fn enqueue(
        &self,
        request: &Request,
        stream: u64,
        sequence: u64,
        rpc: AppendEntriesRequest<Types>,
    ) -> Result<oneshot::Receiver<Result<StreamAppendResult<Types>>>> {
        let (answer, receiver) = oneshot::channel();
        let mut lanes = self.lanes.lock();
        if lanes.len() > 16 {
            // Lanes of connections that are over: their feeds have no use any more.
            lanes.retain(|_, lane| !lane.feed.is_closed());
        }
        let lane = lanes.entry(request.peer.id).or_insert_with(|| self.lane(stream));
        if lane.stream < stream {
            *lane = self.lane(stream);
        }
        if lane.stream > stream || sequence < lane.next || lane.early.len() >= LANE_DEPTH {
            return Err(Error::unavailable("an append of a stream that is over"));
        }
        lane.early.insert(sequence, (rpc, answer));
        while let Some(waiting) = lane.early.remove(&lane.next) {
            lane.next += 1;
            lane.feed.try_send(waiting).map_err(|_| Error::unavailable("the stream of appends has ended"))?;
        }
        Ok(receiver)
    }

    fn lane(&self, stream: u64) -> Lane {
        let (feed, waiting) = mpsc::channel(LANE_DEPTH);
        tokio::spawn(run_lane(self.raft.clone(), waiting));
        Lane { stream, next: 0, early: BTreeMap::new(), feed }
    }

    pub async fn vote(&self, request: &Request) -> Result<Response> {
        let message: proto::VoteRequest = request.decode()?;
        self.meant_for_us(message.to)?;
        if !message.leadership_transfer && self.votes_from.is_some_and(|from| Instant::now() < from) {
            return Err(Error::unavailable(
                "this master was just started and gives no vote until what it promised before has expired",
            ));
        }
        let rpc = VoteRequest {
            vote: vote_from_proto(message.vote)?,
            last_log_id: message.last_log.map(log_id_from_proto),
            leadership_transfer: message.leadership_transfer,
        };
        let reply = if message.pre_vote { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
        let reply = reply.map_err(failed)?;
        let reply = proto::VoteReply {
            vote: Some(vote_to_proto(&reply.vote)),
            granted: reply.vote_granted,
            last_log: reply.last_log_id.as_ref().map(log_id_to_proto),
        };
        Ok((&reply).into())
    }

    pub async fn transfer(&self, request: &Request) -> Result<Response> {
        let message: proto::TransferRequest = request.decode()?;
        self.meant_for_us(message.to)?;
        let last = message.last_log.map(log_id_from_proto);
        let rpc = TransferLeaderRequest::new(vote_from_proto(message.vote)?, message.to_node, last);
        let outcome = self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        outcome.map_err(|error| Error::unavailable(error.to_string()))?;
        Ok((&proto::RaftStatusRequest {}).into())
    }

    pub async fn snapshot(&self, request: Request) -> Result<Response> {
        let message: proto::SnapshotPiece = request.decode()?;
        self.meant_for_us(message.to)?;
        let vote = vote_from_proto(message.vote)?;
        let Some(piece) = request.payload else { return Err(malformed("a piece of a snapshot without bytes")) };
        if crc::crc32c(&piece) != message.crc {
            return Err(Error::integrity("a piece of a snapshot arrived damaged; it is sent again"));
        }
        let mut incoming = self.incoming.clone().lock_owned().await;
        if message.offset == 0 {
            let (file, path) = self.snapshots.receive()?;
            *incoming = Some(Incoming { id: message.id, file, path, received: 0 });
        }
        let expected = incoming.as_ref().filter(|incoming| incoming.id == message.id).map(|incoming| incoming.received);
        if expected != Some(message.offset) {
            let reply = proto::SnapshotReply { vote: message.vote, next_offset: expected.unwrap_or(0) };
            return Ok((&reply).into());
        }
        self.heard.now();
        let written = message.offset + piece.len() as u64;
        let is_last = written == message.total;
        let snapshots = self.snapshots.clone();
        // Disk work off the runtime's threads; the guard goes along, so that pieces stay in order.
        let complete = tokio::task::spawn_blocking(move || {
            let Some(current) = incoming.as_mut() else { return Ok::<_, Error>(None) };
            current.file.write_all_at(&piece, message.offset)?;
            current.received = written;
            if !is_last {
                return Ok(None);
            }
            // Its file goes with it, unless it was installed.
            let whole = incoming.take();
            let snapshot = whole.as_ref().map(|whole| snapshots.check(&whole.path)).transpose()?;
            Ok(snapshot.zip(whole))
        })
        .await
        .map_err(|error| Error::unavailable(error.to_string()))??;
        let vote = match complete {
            None => vote,
            Some((snapshot, _file)) => {
                tracing::info!(bytes = snapshot.bytes, "a snapshot arrived whole and is installed");
                let open = OpenSnapshot { meta: snapshot.meta.clone(), snapshot };
                self.raft.install_full_snapshot(vote, open).await.map_err(stopped)?.vote
            }
        };
        Ok((&proto::SnapshotReply { vote: Some(vote_to_proto(&vote)), next_offset: written }).into())
    }
}

/// Feed one stream to the core and hand its answers back, both in order.
async fn run_lane(raft: Raft, waiting: mpsc::Receiver<Waiting>) {
    let (asked, mut askers) = mpsc::unbounded_channel();
    let requests = futures::stream::unfold((waiting, asked), |(mut waiting, asked)| async move {
        let (rpc, asker) = waiting.recv().await?;
        // Bounded by the lane's depth and the core's own pipeline.
        let _ = asked.send(asker);
        Some((rpc, (waiting, asked)))
    });
    let mut answers = std::pin::pin!(raft.stream_append(requests));
    while let Some(answer) = futures::StreamExt::next(&mut answers).await {
        let Some(asker) = askers.recv().await else { return };
        let _ = asker.send(answer.map_err(stopped));
    }
}

fn failed(error: openraft::errors::RaftError<Types>) -> Error {
    stopped(error.unwrap_fatal())
}

pub fn stopped(error: openraft::errors::Fatal<Types>) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        rustix::io::Errno::TIMEDOUT.raw_os_error(),
        format!("this master's log has stopped: {error}; see its log and restart it"),
    )
}
