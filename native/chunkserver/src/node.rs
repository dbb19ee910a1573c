//! What all parts of one chunkserver share: the open store, the threads for disk work, the standing with the masters.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::{Error, Result};
use chunk::Store;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use wire::proto::{ChunkRef, DiskCondition, DiskStatus, Hello, Role};
use wire::service::Budgets;
use wire::{Budget, LinkConfig, Peers};

use crate::chain::Chain;
use crate::config::{ChunkServerConfig, DirectIo};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::reports::{Finding, Reports};
use crate::standing::Standing;
use crate::turns::Turns;

/// Threads that read and write for clients, for each disk and in all. More only queue inside the kernel.
const IO_THREADS_PER_DISK: usize = 4;
const IO_THREADS: usize = 16;
/// Jobs that may wait for those threads; then connections are no longer read.
const IO_WAITING: usize = 512;
/// Threads for what waits for stable storage: apart, so that an fdatasync never stands before a read.
const STABLE_THREADS: usize = 8;
/// Threads for copies, deletes, scrubbing and inventories.
const BACKGROUND_THREADS: usize = 4;
const COPY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What exists once the cluster id is known.
pub struct Opened {
    pub store: Arc<Store>,
    pub cluster_id: String,
    pub chain: Chain,
    /// Connections to the sources of copies, apart from those of writes.
    pub sources: Peers,
    /// As of the last look, so that a heartbeat never waits for a disk.
    pub disks: Mutex<Vec<DiskStatus>>,
    /// Chunks written to since they were last synced, for stopping.
    pub unsynced: Mutex<HashSet<u64>>,
}

pub struct Node {
    pub config: ChunkServerConfig,
    /// Random, new at each start: unsynced writes stamped with another one may be lost.
    pub boot_id: u64,
    /// The data port as others reach it.
    pub address: String,
    pub metrics: Metrics,
    pub reports: Reports,
    pub budgets: Budgets,
    pub turns: Turns,
    /// One copy of a chunk is made at a time.
    pub copying: Turns,
    pub io: Pool,
    pub stable: Pool,
    pub background: Pool,
    pub standing: Mutex<Standing>,
    /// A leader has answered a registration of this start.
    pub looked_at: watch::Sender<bool>,
    /// The registration, and the last position that its leader named.
    pub named: Mutex<chunk::Memory>,
    pub stopping: watch::Sender<bool>,
    opened: RwLock<Option<Arc<Opened>>>,
    opening: tokio::sync::Mutex<()>,
    busy: AtomicUsize,
    idle: Notify,
}

impl Opened {
    /// Make the chunk stable. -> stored bytes
    pub async fn sync(&self, node: &Node, chunk: chunk::ChunkRef) -> Result<u32> {
        // Before the sync, so that a write during it counts as unsynced again.
        self.unsynced.lock().remove(&chunk.id);
        let store = self.store.clone();
        let outcome = node.stable.run(move || store.sync(chunk)).await;
        if outcome.is_err() {
            self.unsynced.lock().insert(chunk.id);
        }
        outcome
    }
}

impl Node {
    pub fn new(config: ChunkServerConfig, address: String) -> Result<Node> {
        let name = |what: &str| format!("chunk{}-{what}", config.server_id);
        let io_threads = (config.disks.len() * IO_THREADS_PER_DISK).min(IO_THREADS);
        Ok(Node {
            boot_id: random_u64()?,
            metrics: Metrics::default(),
            reports: Reports::default(),
            budgets: Budgets {
                requests: Budget::new(config.payload_budget_bytes / 2),
                replies: Budget::new(config.payload_budget_bytes / 2),
            },
            turns: Turns::default(),
            copying: Turns::default(),
            io: Pool::start(&name("io"), io_threads, IO_WAITING)?,
            stable: Pool::start(&name("sync"), STABLE_THREADS, IO_WAITING)?,
            background: Pool::start(&name("back"), BACKGROUND_THREADS, IO_WAITING)?,
            standing: Mutex::default(),
            looked_at: watch::channel(false).0,
            named: Mutex::default(),
            stopping: watch::channel(false).0,
            opened: RwLock::new(None),
            opening: tokio::sync::Mutex::new(()),
            busy: AtomicUsize::new(0),
            idle: Notify::new(),
            address,
            config,
        })
    }

    pub fn server_id(&self) -> u32 {
        self.config.server_id
    }

    /// Another copy must replace this one; the leader is told.
    pub fn found_bad(&self, chunk: chunk::ChunkRef) {
        tracing::warn!(
            chunk = chunk.id,
            version = chunk.version,
            "a stored block does not match its checksum; another copy must replace it"
        );
        self.reports.note(chunk.id, Finding::Rotten(chunk.version), Instant::now());
    }

    pub fn hello(&self) -> Hello {
        self.hello_for(self.opened.read().as_ref().map_or("", |opened| &opened.cluster_id))
    }

    fn hello_for(&self, cluster_id: &str) -> Hello {
        Hello {
            cluster_id: cluster_id.to_string(),
            role: Role::Chunkserver as i32,
            node_id: self.config.server_id,
            name: format!("chunkserver-{}", self.config.server_id),
            ..wire::link::hello()
        }
    }

    pub fn opened(&self) -> Result<Arc<Opened>> {
        self.opened.read().clone().ok_or_else(|| {
            let sentence = if *self.stopping.borrow() {
                "this chunkserver is stopping; use another copy"
            } else {
                "this chunkserver waits for a master to tell its cluster id; start the masters"
            };
            Error::unavailable(sentence).with_failed(self.config.server_id)
        })
    }

    /// Open the store as a member of `cluster_id`, once; disks without an owner become this cluster's.
    pub async fn open(&self, cluster_id: &str) -> Result<Arc<Opened>> {
        let _one = self.opening.lock().await;
        if let Some(opened) = self.opened.read().clone() {
            return Ok(opened);
        }
        let config = chunk::StoreConfig {
            disks: self.config.disks.clone(),
            server_id: self.config.server_id,
            cluster_id: cluster_id.to_string(),
            direct_io: direct_io(self.config.direct_io),
            reserve_bytes: self.config.reserve_bytes,
        };
        let (store, disks) = self
            .background
            .run(move || {
                let store = Arc::new(Store::open(config)?);
                let disks = disk_statuses(&store);
                Ok((store, disks))
            })
            .await?;
        let hello = self.hello_for(cluster_id);
        let opened = Arc::new(Opened {
            store,
            cluster_id: cluster_id.to_string(),
            chain: Chain::new(hello.clone()),
            sources: Peers::new(LinkConfig { hello, connect_timeout: COPY_CONNECT_TIMEOUT }),
            disks: Mutex::new(disks),
            unsynced: Mutex::default(),
        });
        *self.opened.write() = Some(opened.clone());
        Ok(opened)
    }

    /// Give the store up; its directories are free once the last user is done.
    pub fn close(&self) -> Option<Arc<Opened>> {
        self.opened.write().take()
    }

    /// Count one request in; refused while stopping.
    pub fn enter(&self) -> Result<Busy<'_>> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let busy = Busy(self);
        if *self.stopping.borrow() {
            let sentence = "this chunkserver is stopping; use another copy";
            return Err(Error::unavailable(sentence).with_failed(self.config.server_id));
        }
        Ok(busy)
    }

    /// Wait for the last request in flight.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.busy.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// One request in flight.
pub struct Busy<'a>(&'a Node);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// The message's chunk as the store names it; 0 is no chunk.
pub fn chunk_ref(chunk: Option<ChunkRef>) -> Result<chunk::ChunkRef> {
    match chunk {
        Some(ChunkRef { id, version }) if id != 0 && version != 0 => Ok(chunk::ChunkRef { id, version }),
        _ => Err(Error::namespace(libc::EINVAL, "the request names no chunk id and version")),
    }
}

pub fn disk_statuses(store: &Store) -> Vec<DiskStatus> {
    store.disks().into_iter().map(disk_status).collect()
}

fn disk_status(disk: chunk::DiskInfo) -> DiskStatus {
    let condition = match disk.condition {
        chunk::DiskCondition::Ok => DiskCondition::DiskOk,
        chunk::DiskCondition::Full => DiskCondition::DiskFull,
        chunk::DiskCondition::ReadOnly => DiskCondition::DiskReadOnly,
        chunk::DiskCondition::Failed => DiskCondition::DiskFailed,
    };
    DiskStatus {
        path: disk.path.display().to_string(),
        total_bytes: disk.total_bytes,
        free_bytes: disk.free_bytes,
        chunks: disk.chunks,
        state: disk.state,
        condition: condition as i32,
        direct_io: disk.direct_io,
        outdated: disk.outdated,
        ..DiskStatus::default()
    }
}

fn direct_io(setting: DirectIo) -> chunk::DirectIo {
    match setting {
        DirectIo::Auto => chunk::DirectIo::Auto,
        DirectIo::On => chunk::DirectIo::On,
        DirectIo::Off => chunk::DirectIo::Off,
    }
}

fn random_u64() -> Result<u64> {
    let mut bytes = [0u8; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Error::from(error).context("reading /dev/urandom for the boot id"))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}
