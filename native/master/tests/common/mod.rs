//! What the tests of whole masters share: clusters on loopback, a client that follows the leader, and a double of a
//! chunkserver that keeps no bytes: it registers, reports what the test says, and answers orders.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use base::time::Deadline;
use base::{Error, Result};
use master::{Master, MasterConfig};
use prost::Message;
use wire::proto::server_command::Command;
use wire::proto::{
    self, ChunkReport, ClusterView, CommandResult, Credentials, Heartbeat, HeartbeatReply, Hello, Inventory, NameReply,
    NameRequest, RenewReply, RenewSession, Role, ServerCommand, ServerHello, ServerWelcome, ViewRequest,
    name_request::Op,
};
use wire::{Link, LinkConfig, Method};

pub const PATIENCE: Duration = Duration::from_secs(15);

/// Ports that were free a moment ago, below those that outgoing connections take.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 19_000) as u16;
    let next = || 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 19_000;
    std::iter::repeat_with(next).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

pub struct Cluster {
    pub configs: Vec<MasterConfig>,
    pub masters: Vec<Option<Arc<Master>>>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(count: usize, change: impl Fn(&mut MasterConfig)) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = free_ports(count).iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let peers: BTreeMap<u32, String> =
            addresses.iter().enumerate().map(|(at, address)| (at as u32 + 1, address.clone())).collect();
        let mut configs = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let json = serde_json::json!({
                "cluster_id": "test", "node_id": at + 1, "listen": address, "advertise": address, "peers": peers,
                "data_dir": dir.path().join(format!("m{at}")), "heartbeat_ms": 50, "election_min_ms": 250,
                "election_max_ms": 500, "segment_bytes": 4 << 20, "server_timeout_ms": 600, "session_timeout_ms": 60_000,
            });
            let mut config = MasterConfig::from_json(&json.to_string()).unwrap();
            change(&mut config);
            configs.push(config);
        }
        let mut cluster = Cluster { masters: configs.iter().map(|_| None).collect(), configs, _dir: dir };
        for at in 0..count {
            cluster.start_master(at).await;
        }
        cluster.leader().await;
        cluster
    }

    pub async fn single() -> Cluster {
        Cluster::start(1, |_| {}).await
    }

    pub async fn start_master(&mut self, at: usize) {
        self.masters[at] = Some(Master::start(self.configs[at].clone()).await.unwrap());
    }

    pub async fn stop_master(&mut self, at: usize) {
        self.masters[at].take().unwrap().stop().await;
    }

    pub fn master(&self, at: usize) -> &Master {
        self.masters[at].as_ref().unwrap()
    }

    /// The place of the master that serves as leader.
    pub async fn leader(&self) -> usize {
        eventually("a leader", || async {
            self.masters.iter().position(|master| {
                master.as_ref().is_some_and(|master| master.status()["is_leader"] == serde_json::json!(true))
            })
        })
        .await
    }

    pub async fn view(&self) -> ClusterView {
        let at = self.leader().await;
        let request = ViewRequest { with_chunks: true, with_sessions: true };
        let reply = self.master(at).call(Method::View as u16, &request.encode_to_vec()).await.unwrap();
        ClusterView::decode(&reply[..]).unwrap()
    }

    pub async fn call<A: Message, R: Message + Default>(&self, method: Method, request: &A) -> Result<R> {
        let at = self.leader().await;
        let reply = self.master(at).call(method as u16, &request.encode_to_vec()).await?;
        Ok(R::decode(&reply[..]).unwrap())
    }

    pub async fn stop(mut self) {
        for at in 0..self.masters.len() {
            if let Some(master) = self.masters[at].take() {
                master.stop().await;
            }
        }
    }
}

/// Ask until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(!deadline.passed(), "{what} did not come within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn hello(role: Role, node_id: u32) -> Hello {
    Hello { cluster_id: "test".into(), role: role as i32, node_id, name: "test".into(), ..wire::link::hello() }
}

pub async fn connect(address: &str, role: Role, node_id: u32) -> Result<Arc<Link>> {
    let config = LinkConfig { hello: hello(role, node_id), connect_timeout: Duration::from_secs(2) };
    Link::connect(address, &config).await
}

/// A client session that finds the leader anew for each request that fails.
pub struct Client {
    addresses: Vec<String>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    pub session: u64,
    next_op: std::sync::atomic::AtomicU64,
}

impl Client {
    pub async fn register(cluster: &Cluster) -> Client {
        let mut client = Client {
            addresses: cluster.configs.iter().map(|config| config.advertise.clone()).collect(),
            link: tokio::sync::Mutex::new(None),
            session: 0,
            next_op: 1.into(),
        };
        let op = Op::RegisterSession(proto::RegisterSession { name: "test".into(), ..Default::default() });
        client.session = client.try_op(0, op).await.unwrap().session;
        client
    }

    pub fn op_id(&self) -> u64 {
        self.next_op.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    async fn link(&self) -> Result<Arc<Link>> {
        let mut held = self.link.lock().await;
        if let Some(link) = held.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        for address in &self.addresses {
            let Ok(link) = connect(address, Role::Client, 0).await else { continue };
            let deadline = Deadline::after(Duration::from_secs(2));
            let Ok(reply) = link.call(Method::View, &ViewRequest::default(), None, deadline).await else { continue };
            if reply.decode::<ClusterView>()?.is_leader {
                *held = Some(link.clone());
                return Ok(link);
            }
        }
        Err(Error::unavailable("no leader found"))
    }

    /// Send until a leader answers; an error in the reply is an error here.
    async fn send<A: Message, R: Message + Default>(&self, method: Method, request: &A) -> R {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let outcome = async {
                let link = self.link().await?;
                link.call(method, request, None, Deadline::after(Duration::from_secs(5))).await
            }
            .await;
            match outcome {
                Ok(reply) => return reply.decode().unwrap(),
                Err(error) => {
                    assert!(!deadline.passed(), "no answer to {method:?}: {error}");
                    *self.link.lock().await = None;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    pub async fn try_op(&self, op_id: u64, op: Op) -> Result<NameReply> {
        let creds = Some(Credentials::default());
        let request = NameRequest { session: self.session, op_id, creds, op: Some(op), ..NameRequest::default() };
        let reply: NameReply = self.send(Method::Name, &request).await;
        match reply.error {
            Some(error) => Err(error.into()),
            None => Ok(reply),
        }
    }

    pub async fn change(&self, op: Op) -> Result<NameReply> {
        self.try_op(self.op_id(), op).await
    }

    pub async fn mkdir(&self, op_id: u64, name: &str) -> Result<NameReply> {
        self.try_op(op_id, Op::Mkdir(proto::MkDir { parent: 1, name: name.into(), mode: 0o755, full_mode: None })).await
    }

    pub async fn lookup(&self, name: &str) -> Result<NameReply> {
        self.try_op(0, Op::Lookup(proto::Lookup { parent: 1, name: name.into() })).await
    }

    /// Create and open. -> inode
    pub async fn create(&self, name: &str) -> u64 {
        let op = proto::Create { parent: 1, name: name.into(), mode: 0o644, write: true, ..Default::default() };
        self.change(Op::Create(op)).await.unwrap().attr.unwrap().inode
    }

    pub async fn open(&self, inode: u64) -> Result<NameReply> {
        self.try_op(0, Op::Open(proto::Open { inode, read: true, write: false })).await
    }

    pub async fn release(&self, inode: u64) {
        self.change(Op::Release(proto::Release { inodes: vec![inode] })).await.unwrap();
    }

    pub async fn unlink(&self, name: &str) {
        self.change(Op::Unlink(proto::Unlink { parent: 1, name: name.into() })).await.unwrap();
    }

    pub async fn exists(&self, inode: u64) -> bool {
        self.try_op(0, Op::Getattr(proto::GetAttr { inode })).await.is_ok()
    }

    pub async fn renew(&self, open_inodes: &[u64]) -> RenewReply {
        let renewal = RenewSession { session: self.session, open_inodes: open_inodes.to_vec(), alive: false };
        self.send(Method::Renew, &renewal).await
    }

    /// A file with one written chunk. -> (inode, chunk id, version, servers)
    pub async fn written_file(&self, name: &str) -> (u64, proto::ChunkInfo) {
        let inode = self.create(name).await;
        let grant = proto::GrantWrite { inode, ..Default::default() };
        let reply = self.change(Op::GrantWrite(grant)).await.unwrap();
        let info = reply.chunks[0].clone();
        let chunk = info.chunk.unwrap();
        let stored = proto::ChunkStored {
            index: 0,
            chunk_id: chunk.id,
            stored_bytes: 4096,
            version: chunk.version,
            settled: true,
        };
        let expect_inline_version = reply.attr.unwrap().data_version;
        let commit = proto::CommitWrite {
            inode,
            size: 100_000,
            mtime_ns: 0,
            stored: vec![stored],
            expect_inline_version,
            convert_inline: true,
            append: false,
            times: None,
        };
        self.change(Op::CommitWrite(commit)).await.unwrap();
        (inode, info)
    }
}

/// A double of a chunkserver: it keeps no bytes.
pub struct ServerDouble {
    pub id: u32,
    pub link: Arc<Link>,
    pub epoch: u64,
}

impl ServerDouble {
    pub async fn register(address: &str, id: u32, boot_id: u64) -> Result<ServerDouble> {
        let link = connect(address, Role::Chunkserver, id).await?;
        let disk = proto::DiskStatus {
            total_bytes: 3000,
            free_bytes: 1500,
            condition: proto::DiskCondition::DiskOk as i32,
            ..proto::DiskStatus::default()
        };
        let request = ServerHello {
            server_id: id,
            boot_id,
            address: format!("127.0.0.1:{}", 20_000 + id),
            disks: vec![disk],
            version: "double".into(),
            inventory_follows: true,
            ..ServerHello::default()
        };
        let welcome: ServerWelcome = ask(&link, Method::ServerHello, &request).await?;
        Ok(ServerDouble { id, link, epoch: welcome.epoch })
    }

    pub async fn at(cluster: &Cluster, id: u32) -> ServerDouble {
        let leader = cluster.leader().await;
        ServerDouble::register(cluster.master(leader).address(), id, u64::from(id)).await.unwrap()
    }

    /// Registered with an inventory of these (chunk, version).
    pub async fn with(cluster: &Cluster, id: u32, chunks: &[(u64, u32)]) -> ServerDouble {
        let server = ServerDouble::at(cluster, id).await;
        server.inventory(chunks).await;
        server
    }

    pub async fn inventory(&self, chunks: &[(u64, u32)]) {
        let chunks = chunks.iter().map(|(id, version)| report(*id, *version, false)).collect();
        let part = Inventory { server_id: self.id, epoch: self.epoch, chunks, first: true, last: true };
        ask::<_, proto::Empty>(&self.link, Method::Inventory, &part).await.unwrap();
    }

    pub async fn beat(&self, bad: Vec<ChunkReport>) -> Result<HeartbeatReply> {
        let beat = Heartbeat { server_id: self.id, epoch: self.epoch, bad, ..Heartbeat::default() };
        ask(&self.link, Method::Heartbeat, &beat).await
    }

    /// Heartbeats until dropped.
    pub fn keep_alive(&self) -> tokio::task::JoinHandle<()> {
        let (link, server_id, epoch) = (self.link.clone(), self.id, self.epoch);
        tokio::spawn(async move {
            loop {
                let beat = Heartbeat { server_id, epoch, ..Heartbeat::default() };
                let _ = ask::<_, HeartbeatReply>(&link, Method::Heartbeat, &beat).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }

    pub async fn next_order(&mut self) -> ServerCommand {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.link.pushed()).await.expect("an order").unwrap();
            let order = ServerCommand::decode(frame.message).unwrap();
            let Some(Command::Digest(_)) = &order.command else { return order };
            // Whether it is there, before writers are made to wait for it.
            self.answer(&order, Ok(0)).await;
        }
    }

    pub async fn answer(&self, command: &ServerCommand, outcome: Result<u32>) {
        let (stored_bytes, error) = match outcome {
            Ok(stored_bytes) => (stored_bytes, None),
            Err(error) => (0, Some(error.into())),
        };
        let result = CommandResult {
            server_id: self.id,
            command_id: command.command_id,
            error,
            stored_bytes,
            ..CommandResult::default()
        };
        ask::<_, proto::Empty>(&self.link, Method::CommandResult, &result).await.unwrap();
    }
}

pub fn report(id: u64, version: u32, bad: bool) -> ChunkReport {
    ChunkReport { id, version, bad, stored_bytes: 0 }
}

pub async fn ask<A: Message, R: Message + Default>(link: &Link, method: Method, request: &A) -> Result<R> {
    link.call(method, request, None, Deadline::after(Duration::from_secs(5))).await?.decode()
}
