//! The asking side between masters: appends (pipelined, in order), heartbeats, votes, snapshots, transfers.
//! Heartbeats and votes, appends, and snapshots each have their own connection, so that none waits behind another.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::time::Deadline;
use base::{Buffer, Error, crc};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered, StreamExt};
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

use crate::snapshot::Snapshot;
use crate::types::{
    LogId, Node, Types, Vote, entry_to_proto, log_id_from_proto, log_id_to_proto, vote_from_proto, vote_to_proto,
};

/// Bytes of a snapshot in one frame.
const PIECE_BYTES: u64 = 1 << 20;
/// Appends of one stream that wait for their answer. More would only queue in the follower.
const PIPELINE: usize = 16;
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
    /// Whether the last request to a member went through, so that only changes are logged.
    reachable: BTreeMap<u64, AtomicBool>,
}

impl Peers {
    pub fn new(addresses: BTreeMap<u64, String>, link: LinkConfig, append_timeout: Duration) -> Peers {
        let reachable = addresses.keys().map(|id| (*id, AtomicBool::new(true))).collect();
        Peers {
            addresses,
            control: Links::new(link.clone()),
            appends: Links::new(link.clone()),
            bulk: Links::new(link),
            append_timeout,
            next_stream: AtomicU64::new(1),
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
            let link = tokio::time::timeout(deadline.left(), links.get(address))
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
            let link = self.peers.bulk.get(&address).await?;
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

    /// Up to `PIPELINE` requests are on their way at a time; answers come back in order. The receiver puts requests of
    /// one stream in order by their sequence number. The connection is made for the first request and not before:
    /// openraft waits out its backoff where it makes a request, so an error ahead of it would be tried again at once.
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
                        let link: &Arc<Link> = link.get_or_try_init(|| this.peers.appends.get(address)).await?;
                        let deadline = Deadline::after(this.peers.append_timeout);
                        link.call(Method::RaftAppend, &request, None, deadline).await?.decode()
                    };
                    let reply = this.peers.note(&this.peers.appends, this.target, address, reply.await);
                    read_reply(reply.map_err(rpc_error)?).map(|response| as_stream_result(response, previous, last))
                }
                .boxed()
            };
            let pipeline = Pipeline { input: Some(input), waiting: FuturesOrdered::new(), sequence: 0, send };
            let answers = futures::stream::unfold(Some(pipeline), |pipeline| async {
                let mut pipeline = pipeline?;
                let answer = pipeline.next().await?;
                let broken = !matches!(answer, Ok(Ok(_)));
                Some((answer, (!broken).then_some(pipeline)))
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

/// Requests on their way, and where the next ones come from.
struct Pipeline<'s, S, F> {
    input: Option<S>,
    waiting: FuturesOrdered<BoxFuture<'s, Answer>>,
    sequence: u64,
    send: F,
}

impl<'s, S, F> Pipeline<'s, S, F>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    F: FnMut(AppendEntriesRequest<Types>, u64) -> BoxFuture<'s, Answer>,
{
    async fn next(&mut self) -> Option<Answer> {
        loop {
            let room = self.waiting.len() < PIPELINE;
            let input = self.input.as_mut().filter(|_| room);
            let Some(input) = input else { return self.waiting.next().await };
            tokio::select! {
                biased;
                Some(answer) = self.waiting.next(), if !self.waiting.is_empty() => return Some(answer),
                request = input.next() => match request {
                    Some(request) => {
                        self.waiting.push_back((self.send)(request, self.sequence));
                        self.sequence += 1;
                    }
                    None => self.input = None,
                },
            }
        }
    }
}
