//! Finding the leader, registering there, and staying registered: inventory, heartbeats, reports, commands.
//! Every master is asked on its own, so that one that hangs delays nobody; the first welcome wins. A registration is
//! committed by Raft, so a deposed leader cannot give one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use wire::proto::{ChunkReport, Empty, Heartbeat, HeartbeatReply, Inventory, ServerHello, ServerWelcome};
use wire::{Link, LinkConfig, Method};

use crate::commands;
use crate::housekeeping::{inventory_of, take_stock};
use crate::memory::{disks_now, memory, remembered};
use crate::node::{Node, Opened};
use crate::reports::Finding;
use crate::standing::Standing;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A registration waits for a commit; shorter gives up on a busy leader, longer on a dead one's successor.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Unanswered for this long, the leader counts as gone. About an election: asking earlier finds no other one.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks in one part of an inventory, as the protocol says.
const INVENTORY_PART: usize = 10_000;
/// Bad copies in one heartbeat.
const REPORTS: usize = 10_000;
/// Between two questions to a master: rises up to this while it cannot be reached.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A master that answers "not the leader" is asked again this soon while an election may be on, then less often.
const ELECTION_POLL: Duration = Duration::from_millis(75);
const ELECTION: Duration = Duration::from_secs(15);
const NO_ELECTION_POLL: Duration = Duration::from_millis(250);

struct Registered {
    address: String,
    link: Arc<Link>,
    epoch: u64,
    heartbeat: Duration,
}

/// Keep this server registered until it stops.
pub async fn run(node: Arc<Node>) {
    let mut hint = None;
    loop {
        let registered = find_leader(&node, hint.take()).await;
        let (address, epoch) = (registered.address.clone(), registered.epoch);
        tracing::info!(leader = %address, epoch, "registered");
        let error = serve(&node, registered).await;
        tracing::info!(leader = %address, %error, "no longer registered; looking for the leader");
        *node.standing.lock() = Standing::Looking(error.to_string());
        hint = error.leader;
    }
}

/// Ask all masters, and those they point to, until one welcomes us.
async fn find_leader(node: &Arc<Node>, hint: Option<String>) -> Registered {
    let (hints, mut hinted) = watch::channel(String::new());
    let mut asked: Vec<String> = node.config.masters.clone();
    asked.extend(hint.filter(|hint| !node.config.masters.contains(hint)));
    let mut asking: FuturesUnordered<BoxFuture<'_, Registered>> =
        asked.iter().map(|address| ask_until_welcome(node, address.clone(), hints.clone())).collect();
    loop {
        tokio::select! {
            Some(registered) = asking.next() => return registered,
            Ok(()) = hinted.changed() => {
                let leader = hinted.borrow_and_update().clone();
                if !leader.is_empty() && !asked.contains(&leader) {
                    asking.push(ask_until_welcome(node, leader.clone(), hints.clone()));
                    asked.push(leader);
                }
            }
        }
    }
}

fn ask_until_welcome(node: &Arc<Node>, address: String, hints: watch::Sender<String>) -> BoxFuture<'_, Registered> {
    Box::pin(async move {
        let mut hinted = hints.subscribe();
        let mut open = None;
        let mut wait = Backoff::new(node.boot_id ^ address.len() as u64, Instant::now());
        let mut said = String::new();
        loop {
            let error = match ask(node, &address, &mut open).await {
                Ok(registered) => return registered,
                Err(error) => error,
            };
            tell(node, &address, &error, &mut said);
            if let Some(leader) = error.leader.clone().filter(|leader| *leader != address) {
                hints.send_if_modified(|known| std::mem::replace(known, leader.clone()) != leader);
            }
            let pause = wait.next(error.errno == libc::EAGAIN, Instant::now());
            // Another master's word that this one leads ends the pause.
            let named = async { while hinted.changed().await.is_ok() && *hinted.borrow_and_update() != address {} };
            let _ = tokio::time::timeout(pause, named).await;
        }
    })
}

/// One question to one master, over the connection of the last one where it still stands.
async fn ask(node: &Arc<Node>, address: &str, open: &mut Option<Arc<Link>>) -> Result<Registered> {
    if open.as_ref().is_none_or(|link| link.is_closed()) {
        let config = LinkConfig { hello: node.hello(), connect_timeout: CONNECT_TIMEOUT };
        *open = Some(Link::connect(address, &config).await?);
    }
    let link = open.clone().ok_or_else(|| Error::unavailable("not connected"))?;
    let opened = join_cluster(node, &link).await?;
    let hello = ServerHello {
        server_id: node.server_id(),
        boot_id: node.boot_id,
        address: node.address.clone(),
        disks: disks_now(&opened),
        version: env!("CARGO_PKG_VERSION").to_string(),
        inventory_follows: true,
        remembered: remembered(&opened.store),
        highest_chunk: opened.store.highest_chunk(),
    };
    let reply = link.call(Method::ServerHello, &hello, None, Deadline::after(REGISTER_TIMEOUT)).await;
    if reply.as_ref().is_err_and(|error| error.errno == libc::ETIMEDOUT) {
        *open = None;
    }
    if reply.as_ref().is_err_and(|error| error.kind == ErrorKind::Namespace) {
        // Refused by a leader: it has looked, and what is here may still be read.
        node.looked_at.send_replace(true);
    }
    let welcome: ServerWelcome = reply?.decode()?;
    require_cluster(&opened, &welcome.cluster_id)?;
    node.remember_welcome(&opened, &welcome).await;
    *node.named.lock() = memory(welcome.epoch, welcome.position.as_ref());
    *open = None;
    // The leader may ask for other heartbeats than configured; nonsense from it must not spin or silence us.
    let heartbeat_ms = match u64::from(welcome.heartbeat_ms) {
        0 => node.config.heartbeat_ms,
        wanted => wanted.clamp(10, 60_000),
    };
    let heartbeat = Duration::from_millis(heartbeat_ms);
    Ok(Registered { address: address.to_string(), link, epoch: welcome.epoch, heartbeat })
}

/// The open store; on new disks without a configured cluster, opened as a member of the master's.
async fn join_cluster(node: &Arc<Node>, link: &Link) -> Result<Arc<Opened>> {
    let theirs = &link.peer.cluster_id;
    match node.opened() {
        Ok(opened) => require_cluster(&opened, theirs).map(|()| opened),
        Err(_) if theirs.is_empty() => Err(Error::unavailable("the master does not know its cluster id yet")),
        Err(_) => {
            let opened = node.open(theirs).await.map_err(|error| Error { kind: ErrorKind::Namespace, ..error })?;
            tracing::info!(cluster_id = %opened.cluster_id, "joined the cluster of the masters");
            require_cluster(&opened, theirs).map(|()| opened)
        }
    }
}

fn require_cluster(opened: &Opened, theirs: &str) -> Result<()> {
    if theirs.is_empty() || theirs == opened.cluster_id {
        return Ok(());
    }
    Err(Error::namespace(
        libc::EREMCHG,
        format!(
            "the master belongs to cluster {theirs:?}, this chunkserver to {:?}; correct `masters` or use other disks",
            opened.cluster_id
        ),
    ))
}

/// Show why we are not registered, and log each new reason once. A refusal outlives "not the leader" from others.
fn tell(node: &Node, address: &str, error: &Error, said: &mut String) {
    let refused = error.kind == ErrorKind::Namespace || error.kind == ErrorKind::Stale;
    let sentence = format!("{address}: {}", error.message);
    node.standing.lock().turned_away(refused, &sentence);
    if refused && *said != sentence {
        tracing::warn!("registration was refused: {sentence}");
    } else if *said != sentence {
        tracing::debug!("not registered: {sentence}");
    }
    *said = sentence;
}

/// Stay registered; returns what ended it.
async fn serve(node: &Arc<Node>, registered: Registered) -> Error {
    let Registered { address, link, epoch, heartbeat } = registered;
    let opened = match node.opened() {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    *node.standing.lock() = Standing::Registered { leader: address, epoch };
    crate::metrics::add(&node.metrics.registrations, 1);
    node.reports.retell();
    let inventory = Notify::new();
    inventory.notify_one();
    tokio::select! {
        error = beat(node, &opened, &link, epoch, heartbeat) => error,
        error = send_inventories(node, &opened, &link, epoch, &inventory) => error,
        error = commands::run(node, &opened, &link, epoch, &inventory) => error,
        () = link.closed() => Error::unavailable("the connection was closed"),
    }
}

/// A heartbeat each `every`, and at once when a copy was found bad.
async fn beat(node: &Node, opened: &Arc<Opened>, link: &Link, epoch: u64, every: Duration) -> Error {
    loop {
        let now = Instant::now();
        let bad: Vec<ChunkReport> = node.reports.take(REPORTS, now).into_iter().map(bad_report).collect();
        let full = bad.len() == REPORTS;
        let disks = disks_now(opened);
        let counters = node.metrics.for_heartbeat().into_iter().map(|(name, value)| (name.to_string(), value));
        let message = Heartbeat { server_id: node.server_id(), epoch, disks, bad, counters: counters.collect() };
        let reply = link.call(Method::Heartbeat, &message, None, Deadline::after(HEARTBEAT_TIMEOUT)).await;
        match reply.and_then(|reply| reply.decode::<HeartbeatReply>()) {
            Ok(reply) if reply.epoch == epoch || reply.epoch == 0 => {
                if reply.position.is_some() {
                    *node.named.lock() = memory(epoch, reply.position.as_ref());
                }
            }
            Ok(reply) => {
                return Error::stale(format!("the leader has epoch {} for this server, not {epoch}", reply.epoch));
            }
            Err(error) => return error,
        }
        if !full {
            let _ = tokio::time::timeout(every, node.reports.due()).await;
        }
    }
}

fn bad_report((id, finding): (u64, Finding)) -> ChunkReport {
    match finding {
        Finding::Rotten(version) => ChunkReport { id, version, bad: true, stored_bytes: 0 },
        Finding::Lost => ChunkReport { id, ..ChunkReport::default() },
    }
}

/// Send the inventory each time it is wanted; ends only with an error.
async fn send_inventories(node: &Arc<Node>, opened: &Arc<Opened>, link: &Link, epoch: u64, wanted: &Notify) -> Error {
    loop {
        wanted.notified().await;
        if let Err(error) = send_inventory(node, opened, link, epoch).await {
            return error.context("sending the inventory");
        }
    }
}

async fn send_inventory(node: &Arc<Node>, opened: &Arc<Opened>, link: &Link, epoch: u64) -> Result<()> {
    let (shared, open) = (node.clone(), opened.clone());
    let reports = node.background.run(move || {
        take_stock(&shared, &open);
        Ok(inventory_of(&shared, &open))
    });
    for part in parts(reports.await?, INVENTORY_PART) {
        let message = Inventory { server_id: node.server_id(), epoch, ..part };
        let reply = link.call(Method::Inventory, &message, None, Deadline::after(INVENTORY_TIMEOUT)).await?;
        reply.decode::<Empty>()?;
    }
    Ok(())
}

/// Parts of at most `most` chunks; the first and the last are marked, and there is always one.
fn parts(mut chunks: Vec<ChunkReport>, most: usize) -> Vec<Inventory> {
    let mut parts = Vec::new();
    loop {
        let rest = chunks.split_off(chunks.len().min(most));
        let (first, last) = (parts.is_empty(), rest.is_empty());
        parts.push(Inventory { chunks, first, last, ..Inventory::default() });
        if last {
            return parts;
        }
        chunks = rest;
    }
}

/// How long to wait before the next question to a master.
struct Backoff {
    last: Duration,
    started: Instant,
    seed: u64,
}

impl Backoff {
    fn new(seed: u64, now: Instant) -> Backoff {
        Backoff { last: BACKOFF.0, started: now, seed: seed | 1 }
    }

    /// `electing`: the master is alive and knows no leader, or another one.
    fn next(&mut self, electing: bool, now: Instant) -> Duration {
        let base = if electing {
            self.last = BACKOFF.0;
            if now.duration_since(self.started) < ELECTION { ELECTION_POLL } else { NO_ELECTION_POLL }
        } else {
            let base = self.last;
            self.last = (self.last * 2).min(BACKOFF.1);
            base
        };
        // Three quarters to five quarters, so that servers do not ask in step.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        base.mul_f64(0.75 + (self.seed % 1000) as f64 / 2000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_polled_fast_and_a_dead_master_slowly() {
        let start = Instant::now();
        let mut wait = Backoff::new(42, start);
        for _ in 0..100 {
            assert!(wait.next(true, start) <= Duration::from_millis(100));
        }
        let pauses: Vec<Duration> = (0..10).map(|_| wait.next(false, start)).collect();
        assert!(pauses[0] < Duration::from_millis(100) && pauses[9] >= BACKOFF.1.mul_f64(0.75));
        assert!(pauses.iter().all(|pause| *pause <= BACKOFF.1.mul_f64(1.25)));
        assert!(wait.next(true, start + ELECTION) > Duration::from_millis(100));
    }

    #[test]
    fn an_inventory_has_a_first_and_a_last_part_even_when_empty() {
        let marks = |count: u64, most| {
            let chunks = (0..count).map(|id| ChunkReport { id, ..ChunkReport::default() }).collect();
            let parts = parts(chunks, most);
            parts.iter().map(|part| (part.chunks.len(), part.first, part.last)).collect::<Vec<_>>()
        };
        assert_eq!(marks(0, 3), [(0, true, true)]);
        assert_eq!(marks(3, 3), [(3, true, true)]);
        assert_eq!(marks(7, 3), [(3, true, false), (3, false, false), (1, false, true)]);
    }
}
