//! The master daemon's native side: starts and stops it, and answers frames. Every method has one entry point, `call`,
//! which the gRPC facade and the planners use too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use raft::{Consensus, RaftConfig};
use tokio::task::{AbortHandle, JoinHandle};
use wire::link::decode;
use wire::proto::{self, Empty, Role};
use wire::{Handler, Method, Peer, Request, Response, Server};

use crate::commands::Commands;
use crate::commit::Committer;
use crate::config::MasterConfig;
use crate::deletes::Deletes;
use crate::heal::Heals;
use crate::health::Health;
use crate::history::Refusals;
use crate::lead;
use crate::machine::Machine;
use crate::metrics::{Metric, Metrics};
use crate::moment::Moment;
use crate::node::{Node, Running};
use crate::peers;
use crate::servers::Servers;
use crate::settle::Settles;

/// A stop waits this long for requests being answered.
const DRAIN: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(1);

pub struct Master {
    node: Arc<Node>,
    address: String,
    server: wire::service::Stopper,
    /// Ends when the port is free again.
    serving: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    tasks: Vec<AbortHandle>,
}

impl Master {
    /// Open the data, join the other masters, serve. Must run inside a tokio runtime.
    pub async fn start(config: MasterConfig) -> Result<Arc<Master>> {
        config.check()?;
        let moment = Moment::new()?;
        let server = Server::bind(&config.listen).await?;
        let address = server.address()?.to_string();
        let machine = Arc::new(Machine::new(config.level, config.session_timeout()));
        let consensus = Consensus::start(raft_config(&config), machine.clone()).await?;
        let node = Arc::new(new_node(config, machine, consensus, moment));
        if let Err(error) = node.check_cluster() {
            node.consensus.stop().await;
            return Err(error);
        }
        let stopper = server.stopper();
        let hello = peers::hello(&node.config);
        let serving = tokio::spawn(server.run(Arc::new(Face(node.clone()))));
        let tasks = vec![
            tokio::spawn(lead::run(node.clone())).abort_handle(),
            tokio::spawn(peers::watch(node.config.clone(), hello, node.others.clone())).abort_handle(),
        ];
        tracing::info!(address, node_id = node.config.node_id, "master started");
        let serving = tokio::sync::Mutex::new(Some(serving));
        Ok(Arc::new(Master { node, address, server: stopper, serving, tasks }))
    }

    /// Refuse new work, finish what runs, hand leadership over, close the log. Bounded; a second call does nothing.
    pub async fn stop(&self) {
        let Some(serving) = self.serving.lock().await.take() else { return };
        self.node.stopping.store(true, Ordering::Release);
        let deadline = Deadline::after(DRAIN);
        while self.node.running.load(Ordering::Acquire) > 0 && !deadline.passed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Hands leadership on first.
        self.node.consensus.stop().await;
        self.node.committer.stop();
        self.server.stop();
        for task in &self.tasks {
            task.abort();
        }
        let _ = tokio::time::timeout(CLOSE, serving).await;
        tracing::info!(node_id = self.node.config.node_id, "master stopped");
    }

    /// Where this master listens, host:port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One request as over frames: `method` as in crate wire, an encoded message in, an encoded reply out.
    pub async fn call(&self, method: u16, message: &[u8]) -> Result<Vec<u8>> {
        let method = Method::try_from(method)?;
        let reply = self.node.clone().answer(method, Bytes::copy_from_slice(message)).await?;
        Ok(Vec::from(reply))
    }

    pub fn status(&self) -> serde_json::Value {
        let mut status = self.node.status();
        status["address"] = self.address.clone().into();
        status
    }

    pub fn metrics(&self) -> Vec<Metric> {
        self.node.metrics()
    }

    pub fn config(&self) -> &MasterConfig {
        &self.node.config
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.server.stop();
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn raft_config(config: &MasterConfig) -> RaftConfig {
    RaftConfig {
        node_id: u64::from(config.node_id),
        cluster_id: config.cluster_id.clone(),
        advertise: config.advertise.clone(),
        peers: config.peers.iter().map(|(id, address)| (u64::from(*id), address.clone())).collect(),
        data_dir: config.data_dir.clone(),
        heartbeat_ms: config.heartbeat_ms,
        election_min_ms: config.election_min_ms,
        election_max_ms: config.election_max_ms,
        snapshot_every: config.snapshot_every,
        segment_bytes: config.segment_bytes,
    }
}

fn new_node(config: MasterConfig, machine: Arc<Machine>, consensus: Arc<Consensus>, moment: Moment) -> Node {
    let metrics = Arc::new(Metrics::default());
    Node {
        leadership: consensus.leadership(),
        committer: Committer::start(consensus.clone(), machine.clone(), metrics.clone(), config.commit_window, moment),
        machine,
        consensus,
        metrics,
        servers: Mutex::new(Servers::new(Instant::now())),
        refusals: Mutex::new(Refusals::default()),
        commands: Commands::default(),
        health: Mutex::new(Health::default()),
        deletes: Mutex::new(Deletes::default()),
        heals: Heals::default(),
        policy: Mutex::default(),
        settles: Settles::default(),
        serving: tokio::sync::watch::channel(0).0,
        stopping: AtomicBool::new(false),
        running: AtomicUsize::new(0),
        others: peers::Said::default(),
        config,
    }
}

impl Node {
    /// The methods that need no connection of their own.
    async fn answer(self: Arc<Node>, method: Method, message: Bytes) -> Result<Bytes> {
        let _running = Running::new(&self);
        match method {
            Method::Name => self.name(message).await,
            Method::Renew => encoded(self.renew(&decode(&message)?).await),
            Method::View => encoded(Ok(self.view(decode(&message)?))),
            Method::FileInfo => encoded(self.file_info(&decode(&message)?)),
            Method::Admin => encoded(self.admin(decode(&message)?).await),
            Method::Intents => encoded(self.intents(decode(&message)?).await),
            Method::Transfer => encoded(self.transfer(decode(&message)?).await),
            Method::Ping => Ok(Bytes::new()),
            other => Err(Error::namespace(libc::EOPNOTSUPP, format!("a master does not answer {other:?} here"))),
        }
    }
}

fn encoded<M: Message>(reply: Result<M>) -> Result<Bytes> {
    Ok(reply?.encode_to_vec().into())
}

/// The node as frames see it.
struct Face(Arc<Node>);

impl Handler for Face {
    fn hello(&self) -> proto::Hello {
        peers::hello(&self.0.config)
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        let node = self.0.clone();
        let message = match request.method {
            Method::ServerHello => encoded(node.server_hello(&request.peer, request.decode()?).await)?,
            Method::Inventory => {
                node.inventory(&request.peer, &request.decode()?).await?;
                encoded(Ok(Empty {}))?
            }
            Method::Heartbeat => encoded(node.heartbeat(&request.peer, request.decode()?).await)?,
            Method::CommandResult => {
                node.command_result(&request.peer, request.decode()?);
                encoded(Ok(Empty {}))?
            }
            // Who may ask is consensus' to check.
            method @ (Method::RaftAppend
            | Method::RaftVote
            | Method::RaftSnapshot
            | Method::RaftTransfer
            | Method::RaftStatus
            | Method::RaftJoin) => return node.consensus.handle(method, request).await,
            method => node.answer(method, request.message).await?,
        };
        Ok(Response { message: Vec::from(message), payload: None })
    }

    fn disconnected(&self, peer: &Arc<Peer>) {
        if peer.hello.role == Role::Chunkserver as i32 {
            self.0.peer_disconnected(peer);
        }
    }
}
