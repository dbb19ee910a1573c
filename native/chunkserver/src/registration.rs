//! Registering with the leader, and staying registered: inventory, heartbeats, reports, commands. A registration is
//! committed by Raft, so a deposed leader cannot give one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use prost::Message;
use tokio::sync::Notify;
use wire::backoff::Backoff;
use wire::leader::{Answer, Found, Miss, Pace};
use wire::proto::{ChunkReport, Empty, Heartbeat, HeartbeatReply, Inventory, ServerHello, ServerWelcome};
use wire::{Leader, Link, LinkConfig, Method, Reply};

use crate::commands;
use crate::housekeeping::{inventory_of, take_stock};
use crate::memory::{disks_now, memory, remembered};
use crate::node::{Node, Opened};
use crate::reports::Finding;
use crate::standing::Standing;

/// A master that hangs keeps the others from being asked for this long.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A registration waits for a commit; shorter gives up on a busy leader, longer on a dead one's successor. While nobody
/// leads, a server that is not registered takes no new chunks: it asks often at first.
const PACE: Pace = Pace {
    first_try: Duration::from_secs(2),
    longest_try: Duration::from_secs(5),
    pause: Duration::from_millis(100),
    later: Duration::from_millis(500),
};
/// A leader that refused is asked again, up to this much later.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// Unanswered for this long, the leader counts as gone. About an election: asking earlier finds no other one.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks in one part of an inventory, as the protocol says.
const INVENTORY_PART: usize = 10_000;
/// Bad copies in one heartbeat.
const REPORTS: usize = 10_000;

struct Registered {
    link: Arc<Link>,
    epoch: u64,
    heartbeat: Duration,
}

/// Keep this server registered until it stops.
pub async fn run(node: Arc<Node>) {
    let mut left = None;
    loop {
        let registered = find_leader(&node, left.take()).await;
        let (address, epoch) = (registered.link.address().to_string(), registered.epoch);
        tracing::info!(leader = %address, epoch, "registered");
        let error = serve(&node, registered).await;
        tracing::info!(leader = %address, %error, "no longer registered; looking for the leader");
        *node.standing.lock() = Standing::Looking(error.to_string());
        left = Some((address, error));
    }
}

/// Ask the masters, and those they point to, until one welcomes us. `left`: the leader that we had, and why no longer.
async fn find_leader(node: &Arc<Node>, left: Option<(String, Error)>) -> Registered {
    let link = LinkConfig { hello: node.hello(), connect_timeout: CONNECT_TIMEOUT };
    let leader = Leader::new(link, node.config.masters.clone());
    if let Some((address, error)) = left {
        leader.lost(&address, error.leader.as_deref(), error.errno == libc::ETIMEDOUT);
    }
    let mut said = BTreeMap::new();
    let mut pause = Backoff::up_to(REFUSED_PAUSE);
    loop {
        let ask = |link, deadline| register(node.clone(), link, deadline);
        let missed = |master: &str, miss: &Miss| tell(node, master, miss.error(), &mut said);
        match leader.ask(PACE, None, ask, missed).await.found {
            Found::Answer(Ok(registered)) => return registered,
            Found::Answer(Err(refusal)) => tell(node, &leader.known().unwrap_or_default(), &refusal, &mut said),
            // Each master's word was told.
            Found::Foreign(_) | Found::Nobody(_) => {}
        }
        pause.wait().await;
    }
}

/// Ask one master to register us.
async fn register(node: Arc<Node>, link: Arc<Link>, deadline: Deadline) -> Answer<Result<Registered>> {
    let opened = match join_cluster(&node, &link).await {
        Ok(opened) => opened,
        Err(error) if error.kind == ErrorKind::Namespace => return Answer::Miss(Miss::Foreign(error)),
        Err(error) => return Answer::Miss(Miss::Elsewhere(error)),
    };
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
    match link.ask_raw(Method::ServerHello, &hello.encode_to_vec(), None, deadline).await {
        Err(error) => Answer::Miss(Miss::Silent(error)),
        Ok(Err(error)) if error.kind == ErrorKind::Unavailable => Answer::Miss(Miss::Elsewhere(error)),
        Ok(Err(error)) => {
            if error.kind == ErrorKind::Namespace {
                // Refused by a leader: it has looked, and what is here may still be read.
                node.looked_at.send_replace(true);
            }
            Answer::Final(Err(error))
        }
        Ok(Ok(reply)) => Answer::Final(welcomed(&node, &opened, link, &reply).await),
    }
}

async fn welcomed(node: &Node, opened: &Arc<Opened>, link: Arc<Link>, reply: &Reply) -> Result<Registered> {
    let welcome: ServerWelcome = reply.decode()?;
    require_cluster(opened, &welcome.cluster_id)?;
    node.remember_welcome(opened, &welcome).await;
    *node.named.lock() = memory(welcome.epoch, welcome.position.as_ref());
    // The leader may ask for other heartbeats than configured; nonsense from it must not spin or silence us.
    let heartbeat_ms = match u64::from(welcome.heartbeat_ms) {
        0 => node.config.heartbeat_ms,
        wanted => wanted.clamp(10, 60_000),
    };
    Ok(Registered { link, epoch: welcome.epoch, heartbeat: Duration::from_millis(heartbeat_ms) })
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

/// Show why we are not registered, and log each new reason of a master once.
fn tell(node: &Node, master: &str, error: &Error, said: &mut BTreeMap<String, String>) {
    let refused = error.kind == ErrorKind::Namespace || error.kind == ErrorKind::Stale;
    let sentence = format!("{master}: {}", error.message);
    node.standing.lock().turned_away(refused, &sentence);
    if said.insert(master.to_string(), sentence.clone()).as_ref() == Some(&sentence) {
        return;
    }
    if refused {
        tracing::warn!("registration was refused: {sentence}");
    } else {
        tracing::debug!("not registered: {sentence}");
    }
}

/// Stay registered; returns what ended it.
async fn serve(node: &Arc<Node>, registered: Registered) -> Error {
    let Registered { link, epoch, heartbeat } = registered;
    let opened = match node.opened() {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    *node.standing.lock() = Standing::Registered { leader: link.address().to_string(), epoch };
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

#[cfg(test)]
mod tests {
    use super::*;

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
