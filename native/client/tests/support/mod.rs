//! What the tests share: a real cluster on loopback in this process, and engines for it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::time::Deadline;
use chunkserver::{ChunkServer, ChunkServerConfig};
use client::{ClientConfig, Create, Credentials, Engine, OpenFlags};
use master::{Master, MasterConfig};

pub const ROOT: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(20);

pub fn root() -> Credentials {
    Credentials::default()
}

/// Addresses that nobody listens on. Below the range from which the kernel picks ports for outgoing connections: one of
/// those could take the port before the server that it is meant for.
pub fn free_addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let candidates = std::iter::from_fn(|| {
        let step = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        Some(format!("127.0.0.1:{}", 11_000 + step % 20_000))
    });
    candidates.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect()
}

pub struct Cluster {
    pub masters: Vec<Option<Arc<Master>>>,
    pub servers: Vec<Option<Arc<ChunkServer>>>,
    master_configs: Vec<MasterConfig>,
    server_configs: Vec<ChunkServerConfig>,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(masters: usize, servers: usize) -> Cluster {
        Cluster::start_in(tempfile::tempdir().unwrap(), masters, servers).await
    }

    pub async fn start_in(dir: tempfile::TempDir, masters: usize, servers: usize) -> Cluster {
        let addresses = free_addresses(masters + servers);
        let (own, data) = addresses.split_at(masters);
        let peers: BTreeMap<String, &String> =
            own.iter().enumerate().map(|(at, address)| ((at + 1).to_string(), address)).collect();
        let master_config = |at: usize| {
            let json = serde_json::json!({
                "cluster_id": "test", "node_id": at + 1, "listen": own[at], "advertise": own[at], "peers": peers,
                "data_dir": dir.path().join(format!("m{at}")), "heartbeat_ms": 100, "election_min_ms": 500,
                "election_max_ms": 1000, "segment_bytes": 4 << 20, "server_timeout_ms": 1500,
                "session_timeout_ms": 60_000,
            });
            MasterConfig::from_json(&json.to_string()).unwrap()
        };
        let server_config = |at: usize| {
            let disk = dir.path().join(format!("c{at}"));
            std::fs::create_dir_all(&disk).unwrap();
            let json = serde_json::json!({
                "cluster_id": "test", "server_id": at + 1, "masters": own, "listen": data[at], "advertise": data[at],
                "disks": [disk], "heartbeat_ms": 300, "direct_io": "auto", "reserve_bytes": 1 << 20, "scrub_mb_s": 0,
            });
            serde_json::from_value(json).unwrap()
        };
        let mut cluster = Cluster {
            masters: vec![None; masters],
            servers: vec![None; servers],
            master_configs: (0..masters).map(master_config).collect(),
            server_configs: (0..servers).map(server_config).collect(),
            dir,
        };
        for at in 0..masters {
            cluster.start_master(at).await;
        }
        for at in 0..servers {
            cluster.start_server(at).await;
        }
        cluster.wait_for_servers().await;
        cluster
    }

    pub async fn start_master(&mut self, at: usize) {
        self.masters[at] = Some(Master::start(self.master_configs[at].clone()).await.unwrap());
    }

    pub async fn start_server(&mut self, at: usize) {
        self.servers[at] = Some(ChunkServer::start(self.server_configs[at].clone()).await.unwrap());
    }

    pub async fn stop_server(&mut self, at: usize) {
        if let Some(server) = self.servers[at].take() {
            server.stop().await;
        }
    }

    pub fn leader(&self) -> Option<usize> {
        self.masters.iter().position(|master| {
            master.as_ref().is_some_and(|master| master.status()["is_leader"] == serde_json::json!(true))
        })
    }

    pub async fn stop_leader(&mut self) -> usize {
        let at = self.leader().expect("a leader");
        self.masters[at].take().unwrap().stop().await;
        at
    }

    /// Until new chunks can be placed on every server.
    async fn wait_for_servers(&self) {
        let engine = self.engine().await;
        let deadline = Deadline::after(PATIENCE);
        loop {
            let (_, handle) = create(&engine, &format!("ready{}", deadline.left().as_nanos())).await;
            let outcome = engine.write(handle, 0, &[1; 10_000]).await;
            let flushed = engine.flush(handle).await;
            engine.release(handle).await.ok();
            let chunks = self.copies(&engine).await;
            if outcome.is_ok() && flushed.is_ok() && chunks == self.servers.len() {
                break;
            }
            assert!(!deadline.passed(), "the chunkservers did not come up: {flushed:?}, {chunks} copies");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        engine.close().await;
    }

    async fn copies(&self, engine: &Engine) -> usize {
        use client::name_request::Op;
        use wire::proto::{GetChunks, ReadDir};
        let list = Op::Readdir(ReadDir { inode: ROOT, max_entries: 1000, ..ReadDir::default() });
        let entries = engine.name(&root(), list).await.unwrap().entries;
        let Some(last) = entries.iter().map(|entry| entry.inode).max() else { return 0 };
        let map = Op::GetChunks(GetChunks { inode: last, first: 0, count: 1 });
        engine.name(&root(), map).await.unwrap().chunks.first().map_or(0, |info| info.replicas.len())
    }

    pub fn config(&self) -> ClientConfig {
        let masters = self.master_configs.iter().map(|config| config.advertise.clone()).collect();
        ClientConfig { cluster_id: "test".into(), deadline_ms: 30_000, ..ClientConfig::new(masters) }
    }

    pub async fn engine(&self) -> Arc<Engine> {
        Engine::connect(self.config()).await.unwrap()
    }

    pub async fn stop(mut self) {
        for server in self.servers.iter_mut().filter_map(Option::take) {
            server.stop().await;
        }
        for master in self.masters.iter_mut().filter_map(Option::take) {
            master.stop().await;
        }
    }
}

pub async fn create(engine: &Engine, name: &str) -> (u64, u64) {
    let message = Create {
        parent: ROOT,
        name: name.as_bytes().to_vec(),
        mode: 0o644,
        full_mode: None,
        exclusive: true,
        read: true,
        write: true,
        truncate: false,
        unnamed: false,
    };
    let (attr, handle) = engine.create(&root(), message).await.unwrap();
    (attr.inode, handle)
}

pub const RW: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, sync: false, execute: false };

pub async fn open(engine: &Engine, inode: u64) -> u64 {
    engine.open(&root(), inode, RW).await.unwrap().1
}

/// Read everything, in reads of `step` bytes.
pub async fn read_all(engine: &Engine, handle: u64, step: u32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let data = engine.read(handle, all.len() as u64, step).await.unwrap();
        if data.is_empty() {
            return all;
        }
        all.extend_from_slice(&data);
    }
}

/// Repeatable bytes: xorshift from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

pub fn metric(engine: &Engine, name: &str) -> f64 {
    engine.metrics().iter().filter(|metric| metric.0 == name).map(|metric| metric.2).sum()
}
