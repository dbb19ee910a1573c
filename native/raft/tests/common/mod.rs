//! Members in one process over real sockets on loopback. The state machine is a test double: it keeps the batches.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Consensus, Frozen, Proposed, RaftConfig, StateMachine};
use wire::service::Stopper;
use wire::{Handler, Request, Response, Server, proto};

/// Test double of a state machine: the batches in order, as (index, bytes); replies with their number.
#[derive(Default)]
pub struct Journal(Mutex<Arc<Batches>>);

type Batches = Vec<(u64, Vec<u8>)>;

impl Journal {
    pub fn batches(&self) -> Vec<Vec<u8>> {
        self.0.lock().iter().map(|(_, batch)| batch.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl StateMachine for Journal {
    fn apply(&self, index: u64, _term: u64, batch: &[u8]) -> base::Result<Vec<u8>> {
        let mut journal = self.0.lock();
        let journal = Arc::make_mut(&mut *journal);
        assert!(journal.last().is_none_or(|(last, _)| *last < index), "entry {index} was applied out of order");
        journal.push((index, batch.to_vec()));
        Ok(journal.len().to_string().into_bytes())
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(View(self.0.lock().clone()))
    }

    fn restore(&self, input: &mut dyn Read) -> Result<()> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let mut journal = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, tail)) = rest.split_first_chunk::<16>() {
            let index = u64::from_le_bytes(head[..8].try_into().unwrap());
            let length = u64::from_le_bytes(head[8..].try_into().unwrap()) as usize;
            journal.push((index, tail[..length].to_vec()));
            rest = &tail[length..];
        }
        *self.0.lock() = Arc::new(journal);
        Ok(())
    }
}

struct View(Arc<Batches>);

impl Frozen for View {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for (index, batch) in self.0.iter() {
            out.write_all(&index.to_le_bytes())?;
            out.write_all(&(batch.len() as u64).to_le_bytes())?;
            out.write_all(batch)?;
        }
        Ok(())
    }
}

/// The server of one member; it stays while the member behind it comes and goes, so that addresses stay too.
pub struct Port {
    cluster_id: String,
    node_id: u32,
    consensus: Mutex<Option<Arc<Consensus>>>,
    /// Requests of these members vanish, as if the link were cut.
    pub deaf_to: Mutex<HashSet<u64>>,
}

impl Handler for Port {
    fn hello(&self) -> proto::Hello {
        proto::Hello {
            cluster_id: self.cluster_id.clone(),
            role: proto::Role::Master as i32,
            node_id: self.node_id,
            name: format!("port {}", self.node_id),
            ..wire::link::hello()
        }
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        if self.deaf_to.lock().contains(&u64::from(request.peer.hello.node_id)) {
            tokio::time::sleep(Duration::from_secs(10)).await;
            return Err(Error::unavailable("cut"));
        }
        let consensus = self.consensus.lock().clone();
        match consensus {
            Some(consensus) => consensus.handle(request.method, request).await,
            None => Err(Error::unavailable("this member is down")),
        }
    }
}

pub struct Member {
    pub config: RaftConfig,
    pub port: Arc<Port>,
    pub journal: Arc<Journal>,
    pub consensus: Option<Arc<Consensus>>,
    stopper: Stopper,
}

impl Member {
    pub async fn start(&mut self) -> Result<()> {
        self.journal = Arc::new(Journal::default());
        let consensus = Consensus::start(self.config.clone(), self.journal.clone()).await?;
        *self.port.consensus.lock() = Some(consensus.clone());
        self.consensus = Some(consensus);
        Ok(())
    }

    pub async fn stop(&mut self) {
        if let Some(consensus) = self.consensus.take() {
            consensus.stop().await;
        }
        *self.port.consensus.lock() = None;
    }

    pub fn raft(&self) -> &Arc<Consensus> {
        self.consensus.as_ref().expect("the member is up")
    }

    pub fn log_folder(&self) -> PathBuf {
        self.config.data_dir.join("raft/log")
    }
}

pub struct Cluster {
    pub members: BTreeMap<u64, Member>,
    pub directory: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.values() {
            member.stopper.stop();
        }
    }
}

pub struct Shape {
    pub count: u64,
    pub snapshot_every: u64,
    pub segment_bytes: u64,
    pub heartbeat_ms: u64,
    pub election_ms: (u64, u64),
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { count: 3, snapshot_every: 1_000_000, segment_bytes: 1 << 20, heartbeat_ms: 40, election_ms: (200, 400) }
    }
}

impl Cluster {
    /// Servers for all, members not started.
    pub async fn new(shape: Shape) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let mut servers = BTreeMap::new();
        let mut peers = BTreeMap::new();
        for id in 1..=shape.count {
            let server = Server::bind("127.0.0.1:0").await.unwrap();
            peers.insert(id, server.address().unwrap().to_string());
            servers.insert(id, server);
        }
        let mut members = BTreeMap::new();
        for (id, server) in servers {
            let port = Arc::new(Port {
                cluster_id: "test".to_string(),
                node_id: id as u32,
                consensus: Mutex::new(None),
                deaf_to: Mutex::default(),
            });
            let config = RaftConfig {
                node_id: id,
                cluster_id: "test".to_string(),
                advertise: peers[&id].clone(),
                peers: peers.clone(),
                data_dir: directory.path().join(id.to_string()),
                heartbeat_ms: shape.heartbeat_ms,
                election_min_ms: shape.election_ms.0,
                election_max_ms: shape.election_ms.1,
                snapshot_every: shape.snapshot_every,
                segment_bytes: shape.segment_bytes,
            };
            let stopper = server.stopper();
            tokio::spawn(server.run(port.clone()));
            members.insert(id, Member { config, port, journal: Arc::default(), consensus: None, stopper });
        }
        Cluster { members, directory }
    }

    pub async fn started(shape: Shape) -> Cluster {
        let mut cluster = Cluster::new(shape).await;
        for member in cluster.members.values_mut() {
            member.start().await.unwrap();
        }
        cluster.leader().await;
        cluster
    }

    pub async fn stop(mut self) {
        for member in self.members.values_mut() {
            member.stop().await;
        }
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    /// The member that leads and may be read, among those that are up and can be heard.
    pub async fn leader(&self) -> u64 {
        eventually("a leader", || async {
            let up = self.members.iter().filter_map(|(id, member)| Some((*id, member.consensus.as_ref()?)));
            up.filter(|(_, raft)| raft.may_read().is_ok()).map(|(id, _)| id).next()
        })
        .await
    }

    /// Cut a member off from all others, both ways; or put it back.
    pub fn isolate(&self, id: u64, cut: bool) {
        for (other, member) in &self.members {
            let from: Vec<u64> =
                if *other == id { self.members.keys().copied().filter(|o| *o != id).collect() } else { vec![id] };
            let mut deaf_to = member.port.deaf_to.lock();
            for from in from {
                if cut {
                    deaf_to.insert(from);
                } else {
                    deaf_to.remove(&from);
                }
            }
        }
    }

    /// Propose through whoever leads until it is agreed. The batch must name itself, retries may apply it twice.
    pub async fn write(&self, batch: &str) -> Proposed {
        eventually("a proposal to be agreed", || async {
            for member in self.members.values() {
                if let Some(raft) = &member.consensus
                    && let Ok(proposed) = raft.propose(Bytes::copy_from_slice(batch.as_bytes())).await
                {
                    return Some(proposed);
                }
            }
            None
        })
        .await
    }

    /// Wait until every member that is up has applied the same batches, all of `expected` among them.
    pub async fn agreed(&self, expected: &[String]) {
        eventually("all members to hold the same", || async {
            let mut held = self.members.values().filter(|m| m.consensus.is_some()).map(|m| m.journal.batches());
            let first = held.next()?;
            let whole = expected.iter().all(|batch| first.contains(&batch.as_bytes().to_vec()));
            (whole && held.all(|other| other == first)).then_some(())
        })
        .await
    }
}

/// Ask again every few milliseconds; fails with `what` after 20 s.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
