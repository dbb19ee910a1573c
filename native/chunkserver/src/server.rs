//! One chunkserver in this process: start, stop, and what it shows of itself.

use std::sync::Arc;
use std::time::Duration;

use base::{Error, Result};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use wire::Server;
use wire::service::Stopper;

use crate::config::ChunkServerConfig;
use crate::metrics::Metric;
use crate::node::Node;
use crate::standing::Standing;
use crate::{housekeeping, registration};

/// How long requests in flight may take to finish when stopping.
const DRAIN: Duration = Duration::from_secs(2);
/// How long stopping waits for the disks afterwards; a disk that hangs must not keep the process alive.
const CLOSE: Duration = Duration::from_secs(10);

pub struct ChunkServer {
    node: Arc<Node>,
    stopper: Stopper,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl ChunkServer {
    /// Open the disks, listen, and look for the leader. Runs inside a tokio runtime. Disks of another cluster or
    /// server, a port in use and settings that cannot work are errors; masters that cannot be reached are not.
    pub async fn start(config: ChunkServerConfig) -> Result<Arc<ChunkServer>> {
        config.check()?;
        let disks = config.disks.clone();
        let cluster_id = match config.cluster_id.as_str() {
            "" => blocking(move || chunk::Store::read_cluster_id(&disks)).await?.unwrap_or_default(),
            configured => configured.to_string(),
        };
        let server = Server::bind(&config.listen).await?;
        let bound = server.address()?.to_string();
        let address = if config.advertise.is_empty() { bound } else { config.advertise.clone() };
        let node = Arc::new(Node::new(config, address)?);
        if !cluster_id.is_empty() {
            node.open(&cluster_id).await?;
        }
        let stopper = server.stopper();
        let tasks = vec![
            tokio::spawn(server.run(node.clone())),
            tokio::spawn(registration::run(node.clone())),
            tokio::spawn(housekeeping::keep_house(node.clone())),
            tokio::spawn(housekeeping::scrub(node.clone())),
        ];
        tracing::info!(server_id = node.server_id(), address = %node.address, %cluster_id, "chunkserver started");
        Ok(Arc::new(ChunkServer { node, stopper, tasks: Mutex::new(tasks) }))
    }

    /// The data port as others reach it.
    pub fn address(&self) -> String {
        self.node.address.clone()
    }

    /// Refuse new requests, finish those in flight, make everything stable, close the disks. Returns within seconds.
    pub async fn stop(&self) {
        if self.node.stopping.send_replace(true) {
            return;
        }
        *self.node.standing.lock() = Standing::Stopped;
        if tokio::time::timeout(DRAIN, self.node.idle()).await.is_err() {
            tracing::warn!("requests were still running after {DRAIN:?}; their writers resend them elsewhere");
        }
        self.stopper.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        *self.node.standing.lock() = Standing::Stopped;
        let node = self.node.clone();
        let closing = blocking(move || {
            node.io.stop();
            node.stable.stop();
            node.background.stop();
            if let Some(opened) = node.close() {
                housekeeping::settle(&opened);
            }
            Ok(())
        });
        match tokio::time::timeout(CLOSE, closing).await {
            Ok(Ok(())) => tracing::info!("chunkserver stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "closing the disks failed; recovery at the next start mends it"),
            Err(_) => tracing::warn!("a disk did not answer within {CLOSE:?}; recovery at the next start mends it"),
        }
    }

    pub fn status(&self) -> serde_json::Value {
        let standing = self.node.standing.lock().clone();
        let opened = self.node.opened().ok();
        let disks = opened.as_ref().map(|opened| opened.disks.lock().clone()).unwrap_or_default();
        json!({
            "server_id": self.node.server_id(),
            "cluster_id": opened.as_ref().map_or("", |opened| &opened.cluster_id),
            "boot_id": self.node.boot_id,
            "address": self.node.address,
            "registered": standing.is_registered(),
            "leader": standing.leader(),
            "epoch": standing.epoch(),
            "state": standing.to_string(),
            "chunks": disks.iter().map(|disk| disk.chunks).sum::<u64>(),
            "bad_chunks": self.node.reports.count(),
            "disks": disks.iter().map(|disk| json!({
                "path": disk.path,
                "total_bytes": disk.total_bytes,
                "free_bytes": disk.free_bytes,
                "chunks": disk.chunks,
                "state": disk.state,
                "direct_io": disk.direct_io,
            })).collect::<Vec<_>>(),
        })
    }

    /// Reading resets the maxima.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut out = self.node.metrics.export();
        let budgets = &self.node.budgets;
        for (direction, budget) in [("requests", &budgets.requests), ("replies", &budgets.replies)] {
            let label = || vec![("direction", direction.to_string())];
            out.push(("mooseng_chunkserver_payload_bytes", label(), budget.in_use() as f64));
            out.push(("mooseng_chunkserver_payload_limit_bytes", label(), budget.bytes() as f64));
            out.push(("mooseng_chunkserver_payload_waits_total", label(), budget.waits() as f64));
        }
        let registered = self.node.standing.lock().is_registered();
        out.push(("mooseng_chunkserver_registered", vec![], f64::from(u8::from(registered))));
        out.push(("mooseng_chunkserver_bad_chunks", vec![], self.node.reports.count() as f64));
        let disks = self.node.opened().map(|opened| opened.disks.lock().clone()).unwrap_or_default();
        out.push(("mooseng_chunkserver_chunks", vec![], disks.iter().map(|disk| disk.chunks).sum::<u64>() as f64));
        for disk in disks {
            let label = || vec![("disk", disk.path.clone())];
            out.push(("mooseng_chunkserver_disk_total_bytes", label(), disk.total_bytes as f64));
            out.push(("mooseng_chunkserver_disk_free_bytes", label(), disk.free_bytes as f64));
            out.push(("mooseng_chunkserver_disk_ok", label(), f64::from(u8::from(disk.takes_writes()))));
        }
        out
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::unavailable(format!("blocking work did not finish: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::time::Deadline;
    use base::{Buffer, crc};
    use wire::proto::{ChunkRef, ChunkWrite, Hello, Role};
    use wire::{Link, LinkConfig, Method};

    const CLIENTS: u64 = 200;
    /// A client's window, in pieces of 1 MiB.
    const WINDOW: u32 = 16;

    fn resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn limit_of_the_example() -> u64 {
        let stack = include_str!("../../../Pulumi.prod.yaml");
        let line = stack.lines().find_map(|line| line.trim().strip_prefix("chunkserver: {memory_mb: ")).unwrap();
        line.split(',').next().unwrap().parse::<u64>().unwrap() << 20
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_hundred_clients_before_a_stalled_disk_take_no_more_than_the_budget() {
        let disk = tempfile::tempdir().unwrap();
        let config: ChunkServerConfig = serde_json::from_value(json!({
            "cluster_id": "test", "server_id": 1, "masters": ["127.0.0.1:1"], "listen": "127.0.0.1:0",
            "disks": [disk.path()], "direct_io": "off", "scrub_mb_s": 0, "reserve_bytes": 0
        }))
        .unwrap();
        let budget = config.payload_budget_bytes;
        let server = ChunkServer::start(config).await.unwrap();
        let mut gates = Vec::new();
        for _ in 0..4 {
            let (gate, stalled) = std::sync::mpsc::channel::<()>();
            gates.push(gate);
            let node = server.node.clone();
            tokio::spawn(async move { node.io.run(move || Ok(stalled.recv().is_err())).await });
        }
        let before = resident_bytes();
        let data = Arc::new(Buffer::zeroed(1 << 20));
        let crcs = crc::piece_crcs(0, &data);
        let mut writers = Vec::new();
        for client in 1..=CLIENTS {
            let hello = Hello { role: Role::Client as i32, ..wire::link::hello() };
            let config = LinkConfig { hello, connect_timeout: Duration::from_secs(5) };
            let link = Link::connect(&server.address(), &config).await.unwrap();
            for piece in 0..WINDOW {
                let message = ChunkWrite {
                    chunk: Some(ChunkRef { id: client, version: 1 }),
                    // All of a client over one place, so that the test needs little disk.
                    offset: 0,
                    length: 1 << 20,
                    crcs: crcs.clone(),
                    create: true,
                    writer: client,
                    round: piece / WINDOW,
                    ..ChunkWrite::default()
                };
                let (link, data) = (link.clone(), data.clone());
                writers.push(tokio::spawn(async move {
                    link.call(Method::ChunkWrite, &message, Some(data), Deadline::after(Duration::from_secs(120))).await
                }));
            }
        }
        // Until nothing more is taken.
        let (mut held, mut still) = (0, 0);
        while still < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = resident_bytes();
            still = if now > held + (4 << 20) { 0 } else { still + 1 };
            held = held.max(now);
        }
        let grown = held.saturating_sub(before);
        assert!(grown < budget && budget <= limit_of_the_example() / 4, "{} MiB", grown >> 20);
        let metric = |name: &str| server.metrics().into_iter().find(|metric| metric.0 == name).unwrap().2;
        assert!(metric("mooseng_chunkserver_payload_bytes") > 0.5 * budget as f64 / 2.0);
        assert!(metric("mooseng_chunkserver_payload_waits_total") > 0.0);
        drop(gates);
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(metric("mooseng_chunkserver_payload_bytes"), 0.0);
        server.stop().await;
    }
}
