//! The seam: propose bytes, learn who leads, ask whether a read is safe. Everything of openraft stays behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result};
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, RaftError};
use openraft::{Instant as _, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::{LinkConfig, Method, Request, Response, proto};

use crate::compaction::{Compaction, Troubles};
use crate::config::RaftConfig;
use crate::home::{Identity, directory, open_home};
use crate::join::{Joiner, admit};
use crate::leadership::{Leadership, read_under};
use crate::log::store::LogStore;
use crate::machine::Machine;
use crate::network::{Factory, Peers};
use crate::outdated::Outdated;
use crate::receive::{Heard, Receiver};
use crate::types::{Command, Types, Watch, log_id_to_proto, members_to_proto, term_of};
use crate::{MAX_BATCH_BYTES, watcher};

pub(crate) type Raft = openraft::Raft<Types, Machine>;

/// Name, labels, value.
pub type Metric = (&'static str, Vec<(&'static str, String)>, f64);

/// Implemented by what the log is for.
pub trait StateMachine: Send + Sync + 'static {
    /// Apply one entry; in order, never twice, one caller at a time. Returns the reply bytes. An error ends this member:
    /// others may have applied what it cannot.
    fn apply(&self, index: u64, term: u64, batch: &[u8]) -> Result<Vec<u8>>;
    /// O(1): a view that does not change.
    fn freeze(&self) -> Box<dyn Frozen>;
    /// Replace everything by what `Frozen::write` wrote.
    fn restore(&self, input: &mut dyn std::io::Read) -> Result<()>;
}

/// A view of the state at one entry.
pub trait Frozen: Send {
    fn write(&self, out: &mut dyn std::io::Write) -> std::io::Result<()>;
}

#[derive(Clone, Debug)]
pub struct Proposed {
    pub index: u64,
    pub term: u64,
    pub reply: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub struct RaftStatus {
    pub node_id: u64,
    pub term: u64,
    pub role: Role,
    pub leader: Option<u64>,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
    pub purged: u64,
    /// Terms that this member saw begin since it was started.
    pub elections: u64,
    /// (node id, address, matched index as far as a leader knows, is a voter).
    pub members: Vec<(u64, String, Option<u64>, bool)>,
    /// A leader's: since the newest moment at which a majority is known to have followed it.
    pub quorum_ack_ms: Option<u64>,
    /// Why this member takes part in nothing until it is started anew: its log, its vote or its state failed.
    pub failed: Option<String>,
    /// Why the last snapshot failed; it is tried again, and everything else goes on.
    pub snapshot_trouble: Option<String>,
    /// Why it takes part in nothing until it is started anew: its directory is an older copy.
    pub outdated: Option<String>,
}

pub struct Consensus {
    pub(crate) config: RaftConfig,
    raft: Raft,
    log: LogStore,
    identity: Identity,
    receiver: Receiver,
    outdated: Outdated,
    troubles: Troubles,
    leadership: watch::Receiver<Leadership>,
    metrics: Watch<openraft::RaftMetrics<Types>>,
    /// The term in which leadership was handed on: the other may lead before this one's lease ends.
    handed_on: AtomicU64,
    admitting: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    proposals: AtomicU64,
    proposal_ns: AtomicU64,
    read_lease: Duration,
    _lock: std::fs::File,
}

impl Consensus {
    /// Open the data directory, recover the state machine, and begin to take part. Returns at once; what is missing
    /// (other members, an election) is waited for in the background.
    pub async fn start(config: RaftConfig, machine: Arc<dyn StateMachine>) -> Result<Arc<Consensus>> {
        config.check()?;
        let settings = config.clone();
        let home = tokio::task::spawn_blocking(move || open_home(&settings))
            .await
            .map_err(|error| Error::unavailable(format!("opening the log panicked: {error}")))??;
        let peers =
            Arc::new(Peers::new(config.node_id, config.peers.clone(), link_config(&config), 2 * config.lease()));
        let raft = Raft::new(
            config.node_id,
            Arc::new(config.openraft()?),
            Factory(peers.clone()),
            home.log.clone(),
            Machine::new(machine, home.snapshots.clone()),
        )
        .await
        .map_err(|error| {
            // Not mended by others, nor by trying again in this process.
            Error::integrity(format!("the log in {} is not usable: {error}", config.data_dir.display()))
        })?;
        // A vote given before a restart may have made a lease that has not ended. Alone, there is nobody to hold one.
        let promised = home.vote.is_some() && config.peers.len() > 1;
        let votes_from = promised.then(|| Instant::now() + config.lease());
        let (heard, outdated) = (Heard::default(), Outdated::default());
        let receiver = Receiver::new(
            raft.clone(),
            home.identity.incarnation,
            home.snapshots.clone(),
            votes_from,
            heard.clone(),
            outdated.clone(),
        );
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let joiner = Joiner {
            raft: raft.clone(),
            peers,
            identity: home.identity.clone(),
            addresses: config.peers.clone(),
            directory: directory(&config),
            outdated: outdated.clone(),
        };
        let troubles = Troubles::default();
        let compaction = Compaction::new(raft.clone(), home.log.clone(), home.snapshots, troubles.clone(), &config);
        let tasks = vec![
            tokio::spawn(watcher::elections(raft.clone(), votes_from)),
            tokio::spawn(watcher::leadership(raft.clone(), config.clone(), heard, leadership_sender)),
            tokio::spawn(compaction.run()),
            tokio::spawn(joiner.run()),
        ];
        Ok(Arc::new(Consensus {
            read_lease: config.read_lease(),
            metrics: raft.metrics(),
            raft,
            log: home.log,
            identity: home.identity,
            receiver,
            outdated,
            troubles,
            leadership,
            handed_on: AtomicU64::new(0),
            admitting: tokio::sync::Mutex::new(()),
            tasks: Mutex::new(tasks),
            proposals: AtomicU64::new(0),
            proposal_ns: AtomicU64::new(0),
            config,
            _lock: home.lock,
        }))
    }

    /// Have one batch agreed on and applied here. Several may be on their way; they are applied in the order proposed.
    /// `ETIMEDOUT` means unknown: it may yet be applied, so a retry must carry the same operation ids.
    pub async fn propose(&self, batch: Bytes) -> Result<Proposed> {
        if batch.len() > MAX_BATCH_BYTES {
            return Err(Error::namespace(
                rustix::io::Errno::MSGSIZE.raw_os_error(),
                format!("a batch of {} bytes is above the limit of {MAX_BATCH_BYTES}; send less at once", batch.len()),
            ));
        }
        if self.log.shared().fenced().is_some() {
            return Err(Error::not_leader(None));
        }
        let started = Instant::now();
        let timeout = 4 * self.config.lease();
        let written = tokio::time::timeout(timeout, self.raft.client_write(Command(batch))).await;
        let written = match written {
            Ok(Ok(written)) => written,
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                return Err(not_leader(&forward));
            }
            Ok(Err(RaftError::APIError(error))) => return Err(unknown(format!("leadership was lost: {error}"))),
            Ok(Err(RaftError::Fatal(error))) => return Err(unknown(format!("this master stopped: {error}"))),
            Err(_) => return Err(unknown(format!("no majority of masters answered within {timeout:?}"))),
        };
        self.proposals.fetch_add(1, Ordering::Relaxed);
        self.proposal_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(Proposed { index: written.log_id.index, term: term_of(&written.log_id), reply: written.data })
    }

    /// Whether the applied state may answer a read now. The lease starts when a request that a majority has answered
    /// was sent, and ends a tenth before a follower may elect another leader.
    pub fn may_read(&self) -> Result<()> {
        self.read_term().map(|_| ())
    }

    /// Read the applied state while it may answer: checked before, and again after what was read.
    pub fn read<T>(&self, read: impl FnOnce() -> T) -> Result<T> {
        read_under(|| self.read_term(), read)
    }

    fn read_term(&self) -> Result<u64> {
        let metrics = self.metrics.borrow_watched();
        let term = metrics.current_term;
        if metrics.state != ServerState::Leader {
            let leader = metrics.current_leader.filter(|leader| *leader != self.config.node_id);
            drop(metrics);
            return Err(Error::not_leader(leader.and_then(|leader| self.config.peers.get(&leader).cloned())));
        }
        // The vote is changed before it is given to anyone: what the core says may lag behind it.
        if self.log.shared().voted() != (term, self.config.node_id) || self.handed_on.load(Ordering::Acquire) == term {
            return Err(Error::not_leader(None));
        }
        if metrics.last_applied.as_ref().map(term_of) != Some(term) {
            return Err(Error::unavailable("this master was just elected and applies what came before; ask again"));
        }
        let mut voters = metrics.membership_config.voter_ids();
        let alone = voters.next() == Some(self.config.node_id) && voters.next().is_none();
        let held = metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < self.read_lease);
        if alone || held {
            return Ok(term);
        }
        Err(Error::unavailable("this master lost touch with the others; ask another one"))
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Answer a request of another master.
    pub async fn handle(&self, method: Method, request: Request) -> Result<Response> {
        let from = &request.peer.hello;
        let known = self.config.peers.contains_key(&u64::from(from.node_id));
        if from.role() != proto::Role::Master || !known || from.cluster_id != self.config.cluster_id {
            return Err(Error::namespace(
                rustix::io::Errno::PERM.raw_os_error(),
                format!("{} (node {}) is not one of the masters in the settings", from.name, from.node_id),
            ));
        }
        match method {
            Method::RaftAppend => self.receiver.append(&request).await,
            Method::RaftVote => self.receiver.vote(&request).await,
            Method::RaftSnapshot => self.receiver.snapshot(request).await,
            Method::RaftTransfer => self.receiver.transfer(&request).await,
            Method::RaftStatus => Ok((&self.status_reply()).into()),
            Method::RaftJoin => self.admit(&request).await,
            other => Err(Error::namespace(
                rustix::io::Errno::OPNOTSUPP.raw_os_error(),
                format!("{other:?} is not a request between masters"),
            )),
        }
    }

    /// As other masters are told.
    pub fn status_reply(&self) -> proto::RaftStatusReply {
        let metrics = self.metrics.borrow_watched();
        proto::RaftStatusReply {
            node_id: self.config.node_id,
            incarnation: self.identity.incarnation,
            initialised: metrics.last_log_index.is_some() || self.log.summary().initialised,
            lost: self.identity.lost,
            term: metrics.current_term,
            leader: self.leadership.borrow().leader.unwrap_or(0),
            members: Some(members_to_proto(metrics.membership_config.membership())),
            members_at: metrics.membership_config.log_id().as_ref().map(log_id_to_proto),
        }
    }

    async fn admit(&self, request: &Request) -> Result<Response> {
        let join: proto::JoinRequest = request.decode()?;
        if join.node_id != u64::from(request.peer.hello.node_id) {
            return Err(Error::namespace(rustix::io::Errno::PERM.raw_os_error(), "a master joins for itself alone"));
        }
        let leader = self.leadership.borrow().clone();
        if !leader.is_leader {
            return Err(leader.refusal());
        }
        let _one_at_a_time = self.admitting.lock().await;
        Ok((&admit(&self.raft, &join).await?).into())
    }

    /// Hand leadership to `target`, or to the voter that is furthest along. Returns when another leads.
    pub async fn transfer(&self, target: Option<u64>) -> Result<()> {
        let (term, target) = {
            let metrics = self.metrics.borrow_watched();
            let Some(replication) = metrics.replication.as_ref().filter(|_| metrics.state == ServerState::Leader)
            else {
                drop(metrics);
                return Err(self.leadership.borrow().refusal());
            };
            let others = metrics.membership_config.voter_ids().filter(|id| *id != self.config.node_id);
            let best = others
                .filter(|id| target.is_none_or(|target| target == *id))
                .max_by_key(|id| replication.get(id).copied().flatten().map(|matched| matched.index));
            let best = best.ok_or_else(|| {
                let message = match target {
                    Some(target) => format!("master {target} is no other voter; name one that is"),
                    None => "there is no other master to lead".to_string(),
                };
                Error::namespace(rustix::io::Errno::INVAL.raw_os_error(), message)
            })?;
            (metrics.current_term, best)
        };
        // Before the other is told: it may be elected while this lease still runs.
        self.handed_on.store(term, Ordering::Release);
        self.raft.trigger().transfer_leader(target).await.map_err(crate::receive::stopped)?;
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| now.term > term && now.leader.is_some() && !now.is_leader);
        match tokio::time::timeout(3 * self.config.lease(), moved).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::unavailable(format!("master {target} did not take over in time; ask again"))),
        }
    }

    /// Hand leadership on, make everything durable, end.
    pub async fn stop(&self) {
        let alone = self.config.peers.len() == 1;
        if !alone && self.leadership.borrow().is_leader && self.log.shared().fenced().is_none() {
            let handed_on = tokio::time::timeout(self.config.lease(), self.transfer(None)).await;
            if !matches!(handed_on, Ok(Ok(()))) {
                tracing::info!("leadership could not be handed on; the others elect one");
            }
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        if tokio::time::timeout(Duration::from_secs(5), self.raft.shutdown()).await.is_err() {
            tracing::warn!("the log's core did not end in time");
        }
        match tokio::time::timeout(Duration::from_secs(10), self.log.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log was not closed cleanly"),
            Err(_) => tracing::warn!("the last entries did not become durable in time"),
        }
    }

    /// Roles and leader are those that this member may speak of: an elected one without a majority is none.
    pub fn status(&self) -> RaftStatus {
        let leadership = self.leadership.borrow().clone();
        let metrics = self.metrics.borrow_watched().clone();
        let members = metrics.membership_config.membership();
        let voters: Vec<u64> = members.voter_ids().collect();
        let matched = |id: &u64| {
            let known = metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten());
            known.map(|matched| matched.index)
        };
        RaftStatus {
            node_id: self.config.node_id,
            term: metrics.current_term,
            role: role_of(metrics.state, &leadership),
            leader: leadership.leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.cluster_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            elections: self.log.shared().counters.elections.load(Ordering::Relaxed),
            members: members
                .nodes()
                .map(|(id, node)| (*id, node.address.clone(), matched(id), voters.contains(id)))
                .collect(),
            quorum_ack_ms: metrics.last_quorum_acked.map(|acked| acked.elapsed().as_millis() as u64),
            failed: self.log.shared().fenced().or_else(|| core_failure(&metrics.running_state)),
            snapshot_trouble: self.troubles.reason(),
            outdated: self.outdated.why(),
        }
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let status = self.status();
        let counters = &self.log.shared().counters;
        let seconds = |ns: &AtomicU64| ns.load(Ordering::Relaxed) as f64 / 1e9;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let summary = self.log.summary();
        let mut metrics = vec![
            ("mooseng_raft_term", vec![], status.term as f64),
            ("mooseng_raft_leader", vec![], f64::from(u8::from(status.role == Role::Leader))),
            ("mooseng_raft_leader_id", vec![], status.leader.unwrap_or(0) as f64),
            ("mooseng_raft_elections_total", vec![], status.elections as f64),
            ("mooseng_raft_last_log_index", vec![], status.last_log as f64),
            ("mooseng_raft_committed_index", vec![], status.committed as f64),
            ("mooseng_raft_applied_index", vec![], status.applied as f64),
            ("mooseng_raft_snapshot_index", vec![], status.snapshot as f64),
            ("mooseng_raft_log_entries", vec![], summary.entries as f64),
            ("mooseng_raft_log_bytes", vec![], summary.bytes as f64),
            ("mooseng_raft_written_bytes_total", vec![], count(&counters.written_bytes)),
            ("mooseng_raft_sync_seconds_sum", vec![], seconds(&counters.sync_ns)),
            ("mooseng_raft_sync_seconds_count", vec![], count(&counters.syncs)),
            ("mooseng_raft_propose_seconds_sum", vec![], seconds(&self.proposal_ns)),
            ("mooseng_raft_propose_seconds_count", vec![], count(&self.proposals)),
            ("mooseng_raft_fenced", vec![], f64::from(u8::from(status.failed.is_some()))),
            ("mooseng_raft_snapshot_failing", vec![], f64::from(u8::from(status.snapshot_trouble.is_some()))),
            ("mooseng_raft_snapshot_failures_total", vec![], self.troubles.total() as f64),
        ];
        if let Some(quorum_ack_ms) = status.quorum_ack_ms {
            metrics.push(("mooseng_raft_quorum_ack_age_seconds", vec![], quorum_ack_ms as f64 / 1e3));
        }
        if status.role == Role::Leader {
            for (id, _, matched, _) in &status.members {
                let lag = status.last_log.saturating_sub(matched.unwrap_or(0));
                metrics.push(("mooseng_raft_follower_lag_entries", vec![("node", id.to_string())], lag as f64));
            }
        }
        metrics
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

fn link_config(config: &RaftConfig) -> LinkConfig {
    LinkConfig {
        hello: proto::Hello {
            cluster_id: config.cluster_id.clone(),
            role: proto::Role::Master as i32,
            node_id: config.node_id as u32,
            name: format!("master {}", config.node_id),
            ..wire::link::hello()
        },
        connect_timeout: Duration::from_millis(config.election_min_ms),
    }
}

/// Why the core ended by itself. What cannot be told apart from a stop is none.
fn core_failure(running: &std::result::Result<(), Fatal<Types>>) -> Option<String> {
    match running {
        Ok(()) | Err(Fatal::Stopped) => None,
        Err(failure) => Some(format!("this master's Raft core ended: {failure}; mend what it names and restart it")),
    }
}

fn role_of(state: ServerState, leadership: &Leadership) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        // It would lead if a majority answered.
        ServerState::Leader if !leadership.is_leader => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}

pub(crate) fn not_leader(forward: &ForwardToLeader<Types>) -> Error {
    Error::not_leader(forward.leader_node.as_ref().map(|node| node.address.clone()))
}

fn unknown(why: String) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        rustix::io::Errno::TIMEDOUT.raw_os_error(),
        format!("whether the change was made is not known: {why}; ask again with the same operation ids"),
    )
}
