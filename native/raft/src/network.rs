//! The asking side between masters: appends (one at a time), heartbeats, votes, snapshots, transfers.
//! Heartbeats and votes, appends, and snapshots each have their own connection, so that none waits behind another.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, Error, crc};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Fuse, StreamExt};
use futures::{FutureExt, Stream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, alias};
use prost::Message;
use wire::{Link, LinkConfig, Links, Method, proto};

use crate::pace::Paces;
use crate::snapshot::Snapshot;
use crate::types::{
    LogId, Node, Types, Vote, entry_to_proto, log_id_from_proto, log_id_to_proto, vote_from_proto, vote_to_proto,
};

/// Bytes of a snapshot in one frame.
const PIECE_BYTES: u64 = 1 << 20;
/// How long the news that more is committed waits for entries to go along with. A follower needs it for nothing but
/// its own state, and the news alone costs as much as an append.
const NEWS_DELAY: Duration = Duration::from_millis(10);
/// For one piece of a snapshot; the last one includes checking and installing it all.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Connections to the other masters.
pub struct Peers {
    addresses: BTreeMap<u64, String>,
    control: Links,
    appends: Links,
    bulk: Links,
    append_timeout: Duration,
    next_stream: AtomicU64,
    paces: Paces,
    /// Whether the last request to a member went through, so that only changes are logged.
    reachable: BTreeMap<u64, AtomicBool>,
}

impl Peers {
    pub fn new(me: u64, addresses: BTreeMap<u64, String>, link: LinkConfig, append_timeout: Duration) -> Peers {
        let paces = Paces::new(addresses.keys().copied().filter(|id| *id != me));
        let reachable = addresses.keys().map(|id| (*id, AtomicBool::new(true))).collect();
        Peers {
            addresses,
            control: Links::new(link.clone()),
            appends: Links::new(link.clone()),
            bulk: Links::new(link),
            append_timeout,
            next_stream: AtomicU64::new(1),
            paces,
            reachable,
        }
    }

    /// The settings say where members are; the membership entry is used for one they do not know.
    pub fn address<'a>(&'a self, id: u64, node: &'a Node) -> &'a str {
        self.addresses.get(&id).unwrap_or(&node.address)
    }

    /// One request to a member on the control connection.
    pub async fn ask<A: Message, R: Message + Default>(
        &self,
        id: u64,
        method: Method,
        request: &A,
        timeout: Duration,
    ) -> base::Result<R> {
        let address = self.addresses.get(&id).ok_or_else(|| {
            Error::namespace(rustix::io::Errno::INVAL.raw_os_error(), format!("master {id} is not in the settings"))
        })?;
        self.call(&self.control, id, address, method, request, timeout).await
    }

    async fn call<A: Message, R: Message + Default>(
        &self,
        links: &Links,
        id: u64,
        address: &str,
        method: Method,
        request: &A,
        timeout: Duration,
    ) -> base::Result<R> {
        let deadline = Deadline::after(timeout);
        let outcome = async {
            let link = tokio::time::timeout(deadline.left(), member(links, id, address))
                .await
                .map_err(|_| Error::unavailable(format!("{address} could not be reached in time")))??;
            link.call(method, request, None, deadline).await?.decode()
        }
        .await;
        self.note(links, id, address, outcome)
    }

    fn note<R>(&self, links: &Links, id: u64, address: &str, outcome: base::Result<R>) -> base::Result<R> {
        let reachable = self.reachable.get(&id);
        match &outcome {
            Ok(_) => {
                if reachable.is_some_and(|reachable| !reachable.swap(true, Ordering::Relaxed)) {
                    tracing::info!("master {id} at {address} answers again");
                }
            }
            Err(error) => {
                if error.errno == rustix::io::Errno::TIMEDOUT.raw_os_error() {
                    // It may hang rather than be slow: the next request makes a new connection.
                    links.forget(address);
                }
                if reachable.is_some_and(|reachable| reachable.swap(false, Ordering::Relaxed)) {
                    tracing::warn!(%error, "master {id} at {address} does not answer");
                }
            }
        }
        outcome
    }
}

/// A connection to member `id`, and to no other master that may listen at its address.
async fn member(links: &Links, id: u64, address: &str) -> base::Result<Arc<Link>> {
    links.get_node(proto::Role::Master, id as u32, address, 0).await
}

fn rpc_error(error: Error) -> RPCError<Types> {
    let timed_out = error.errno == rustix::io::Errno::TIMEDOUT.raw_os_error();
    if timed_out {
        RPCError::Network(NetworkError::new(&error))
    } else {
        RPCError::Unreachable(Unreachable::new(&error))
    }
}

pub struct Factory(pub Arc<Peers>);

impl RaftNetworkFactory<Types> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network {
        Network { peers: self.0.clone(), target, node: node.clone(), lone: false }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Network {
        Network { peers: self.0.clone(), target, node: node.clone(), lone: true }
    }
}

/// The way to one member, as its membership entry names it.
pub struct Network {
    peers: Arc<Peers>,
    target: u64,
    node: Node,
    /// For heartbeats: requests stand alone, on the control connection.
    lone: bool,
}

impl Network {
    fn append_request(&self, rpc: AppendEntriesRequest<Types>, stream: u64, sequence: u64) -> proto::AppendRequest {
        proto::AppendRequest {
            vote: Some(vote_to_proto(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(log_id_to_proto),
            commit: rpc.leader_commit.as_ref().map(log_id_to_proto),
            entries: rpc.entries.iter().map(entry_to_proto).collect(),
            to: self.node.incarnation,
            stream,
            sequence,
        }
    }

    async fn control<A: Message, R: Message + Default>(
        &self,
        method: Method,
        request: &A,
        timeout: Duration,
    ) -> Result<R, RPCError<Types>> {
        let address = self.peers.address(self.target, &self.node);
        self.peers.call(&self.peers.control, self.target, address, method, request, timeout).await.map_err(rpc_error)
    }

    async fn send_vote(
        &self,
        rpc: VoteRequest<Types>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = proto::VoteRequest {
            vote: Some(vote_to_proto(&rpc.vote)),
            last_log: rpc.last_log_id.as_ref().map(log_id_to_proto),
            pre_vote,
            leadership_transfer: rpc.leadership_transfer,
            to: self.node.incarnation,
        };
        let reply: proto::VoteReply = self.control(Method::RaftVote, &request, option.hard_ttl()).await?;
        let vote = vote_from_proto(reply.vote).map_err(rpc_error)?;
        Ok(VoteResponse::new(vote, reply.last_log.map(log_id_from_proto), reply.granted))
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> base::Result<Vote> {
        let address = self.peers.address(self.target, &self.node).to_string();
        let id = u64::from_le_bytes(crate::files::random_bytes()?);
        let mut offset = 0;
        loop {
            let length = PIECE_BYTES.min(snapshot.bytes - offset);
            let source = snapshot.clone();
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = Buffer::take(length as usize);
                source.read_at(offset, &mut piece).map(|()| piece)
            });
            let piece = piece.await.map_err(|error| Error::unavailable(error.to_string()))??;
            let request = proto::SnapshotPiece {
                vote: Some(vote_to_proto(&vote)),
                id,
                offset,
                total: snapshot.bytes,
                crc: crc::crc32c(&piece),
                to: self.node.incarnation,
            };
            let last = offset + length == snapshot.bytes;
            let deadline = Deadline::after(if last { INSTALL_TIMEOUT } else { PIECE_TIMEOUT });
            let link = member(&self.peers.bulk, self.target, &address).await?;
            let reply = link.call(Method::RaftSnapshot, &request, Some(Arc::new(piece)), deadline).await?;
            let reply: proto::SnapshotReply = reply.decode()?;
            let theirs = vote_from_proto(reply.vote)?;
            if last || theirs > vote {
                return Ok(theirs);
            }
            if reply.next_offset != offset + length {
                return Err(Error::unavailable(format!("{address} gave the snapshot up at byte {offset}")));
            }
            offset += length;
        }
    }
}

fn read_reply(reply: proto::AppendReply) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
    Ok(match reply.outcome() {
        proto::AppendOutcome::AppendOk => AppendEntriesResponse::Success,
        proto::AppendOutcome::AppendConflict => AppendEntriesResponse::Conflict,
        proto::AppendOutcome::AppendHigherVote => {
            AppendEntriesResponse::HigherVote(vote_from_proto(reply.vote).map_err(rpc_error)?)
        }
    })
}

fn as_stream_result(
    response: AppendEntriesResponse<Types>,
    previous: Option<LogId>,
    last: Option<LogId>,
) -> StreamAppendResult<Types> {
    match (response, previous) {
        (AppendEntriesResponse::Success, _) => Ok(last),
        (AppendEntriesResponse::PartialSuccess(matched), _) => Ok(matched),
        (AppendEntriesResponse::HigherVote(vote), _) => Err(StreamAppendError::HigherVote(vote)),
        (AppendEntriesResponse::Conflict, Some(previous)) => Err(StreamAppendError::Conflict(previous)),
        // Nothing conflicts with the start of the log; a peer that says so made no progress.
        (AppendEntriesResponse::Conflict, None) => Ok(None),
    }
}

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = self.append_request(rpc, 0, 0);
        read_reply(self.control(Method::RaftAppend, &request, option.hard_ttl()).await?)
    }

    /// One request is on its way at a time: what comes up meanwhile goes into the next one, and the follower's disk takes
    /// one batch at a time anyway. It also keeps the lease exact: openraft takes the answer to an append also for that of
    /// an entry-less request made after it, so such a one must not be made before the answer is there.
    /// The connection is made for the first request and not before: openraft waits out its backoff where it makes a
    /// request, so an error ahead of it would be tried again at once.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Answer>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.lone {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        let this = &*self;
        async move {
            let address = this.peers.address(this.target, &this.node);
            let stream = this.peers.next_stream.fetch_add(1, Ordering::Relaxed);
            let link = Arc::new(tokio::sync::OnceCell::new());
            let send = move |rpc: AppendEntriesRequest<Types>, sequence: u64| {
                let previous = rpc.prev_log_id;
                let last = rpc.entries.last().map(|entry| entry.log_id).or(previous);
                let request = this.append_request(rpc, stream, sequence);
                let link = link.clone();
                async move {
                    let reply = async {
                        let link: &Arc<Link> =
                            link.get_or_try_init(|| member(&this.peers.appends, this.target, address)).await?;
                        let deadline = Deadline::after(this.peers.append_timeout);
                        link.call(Method::RaftAppend, &request, None, deadline).await?.decode()
                    };
                    this.peers.paces.asking(this.target);
                    let reply = this.peers.note(&this.peers.appends, this.target, address, reply.await);
                    this.peers.paces.answered(this.target, reply.is_ok());
                    read_reply(reply.map_err(rpc_error)?).map(|response| as_stream_result(response, previous, last))
                }
                .boxed()
            };
            let pace = |last| this.peers.paces.wait(this.target, last);
            let turns = Turns { input: input.fuse(), sequence: 0, matched: None, last: None, pace, send };
            let answers = futures::stream::unfold(Some(turns), |turns| async {
                let mut turns = turns?;
                let answer = turns.next().await?;
                let broken = !matches!(answer, Ok(Ok(_)));
                Some((answer, (!broken).then_some(turns)))
            });
            Ok(answers.boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.send_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.send_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: alias::SnapshotOf<Types, Snapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot.snapshot) => match sent {
                Ok(theirs) => Ok(SnapshotResponse::new(theirs)),
                Err(error) => {
                    tracing::warn!(%error, "sending a snapshot to master {} failed and is tried again", self.target);
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = proto::TransferRequest {
            vote: Some(vote_to_proto(rpc.from_leader())),
            to_node: *rpc.to_node_id(),
            last_log: rpc.last_log_id().map(log_id_to_proto),
            to: self.node.incarnation,
        };
        let _: proto::RaftStatusRequest = self.control(Method::RaftTransfer, &request, option.hard_ttl()).await?;
        Ok(Ok(()))
    }
}

/// Where requests come from, and how far the follower is known to be.
struct Turns<S, P, F> {
    input: Fuse<S>,
    sequence: u64,
    /// What the last answer of this stream said.
    matched: Option<Option<LogId>>,
    /// When the last request was sent.
    last: Option<Instant>,
    /// How long to wait before the next one is made, which then has all that came up.
    pace: P,
    send: F,
}

impl<'s, S, P, F> Turns<S, P, F>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    P: FnMut(Option<Instant>) -> Duration,
    F: FnMut(AppendEntriesRequest<Types>, u64) -> BoxFuture<'s, Answer>,
{
    async fn next(&mut self) -> Option<Answer> {
        let wait = (self.pace)(self.last);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let request = self.request().await?;
        self.last = Some(Instant::now());
        let answer = (self.send)(request, self.sequence).await;
        self.sequence += 1;
        self.matched = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok()).copied();
        Some(answer)
    }

    /// The next request worth sending: mere news of a commit wait a moment for one that carries them too.
    async fn request(&mut self) -> Option<AppendEntriesRequest<Types>> {
        let mut request = self.input.next().await?;
        let mut delay = std::pin::pin!(tokio::time::sleep(NEWS_DELAY));
        while request.entries.is_empty() && self.matched == Some(request.prev_log_id) {
            tokio::select! {
                biased;
                newer = self.input.next() => match newer {
                    Some(newer) => request = newer,
                    None => break,
                },
                () = &mut delay => break,
            }
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use openraft::EntryPayload;

    use super::*;
    use crate::types::{Command, Entry, log_id, vote_of};

    fn request(previous: u64, entries: u64, commit: u64) -> AppendEntriesRequest<Types> {
        let entry = |index| Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Command::default()) };
        AppendEntriesRequest {
            vote: vote_of(1, 1, true),
            prev_log_id: Some(log_id(1, previous)),
            leader_commit: Some(log_id(1, commit)),
            entries: (previous + 1..=previous + entries).map(entry).collect(),
        }
    }

    fn turns<S: Stream, F>(input: S, send: F) -> Turns<S, impl FnMut(Option<Instant>) -> Duration, F> {
        Turns { input: input.fuse(), sequence: 0, matched: None, last: None, pace: |_| Duration::ZERO, send }
    }

    /// Which requests, by (entries, commit), reach a follower that accepts all.
    async fn sent(input: impl Stream<Item = AppendEntriesRequest<Types>>) -> Vec<(usize, u64)> {
        let sent = Mutex::new(Vec::new());
        let send = |request: AppendEntriesRequest<Types>, _| {
            sent.lock().unwrap().push((request.entries.len(), request.leader_commit.unwrap().index));
            let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
            async move { Ok(Ok(last)) }.boxed()
        };
        let mut turns = turns(Box::pin(input), send);
        while turns.next().await.is_some() {}
        drop(turns);
        sent.into_inner().unwrap()
    }

    #[tokio::test]
    async fn news_of_a_commit_go_along_with_the_next_entries() {
        let input = futures::stream::iter([request(0, 1, 0), request(1, 0, 1), request(1, 2, 1), request(3, 0, 3)]);
        assert_eq!(sent(input).await, [(1, 0), (2, 1), (0, 3)]);
    }

    #[tokio::test]
    async fn news_of_a_commit_are_sent_alone_when_nothing_follows() {
        let (asked, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let send = move |request: AppendEntriesRequest<Types>, _| {
            asked.send(request.leader_commit.unwrap().index).unwrap();
            async move { Ok(Ok(request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id))) }.boxed()
        };
        let input = futures::stream::iter([request(0, 1, 0), request(1, 0, 1)]).chain(futures::stream::pending());
        let mut turns = turns(input, send);
        assert!(turns.next().await.is_some() && turns.next().await.is_some());
        assert_eq!((seen.recv().await, seen.recv().await), (Some(0), Some(1)));
    }

    #[tokio::test]
    async fn a_request_that_finds_out_where_the_follower_is_does_not_wait() {
        let input = futures::stream::iter([request(7, 0, 7), request(7, 1, 7)]);
        assert_eq!(sent(input).await, [(0, 7), (1, 7)]);
    }
}
