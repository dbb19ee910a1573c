//! What runs beside the core: telling who leads, letting elections begin, compacting a log that grew by bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::consensus::{Leadership, Raft};
use crate::log::store::LogStore;
use crate::types::term_of;

/// Log files above this are compacted even when few entries came.
const LOG_SEGMENTS: u64 = 16;

/// Let this member stand for election once what it promised before a restart has expired.
pub async fn elections(raft: Raft, from: Option<Instant>) {
    if let Some(from) = from {
        tokio::time::sleep_until(from.into()).await;
    }
    raft.runtime_config().elect(true);
}

/// Publish who leads. Follows the server's changes, and applied entries only between an election and readiness.
pub async fn leadership(raft: Raft, addresses: BTreeMap<u64, String>, sender: watch::Sender<Leadership>) {
    let (mut server, mut data) = (raft.server_metrics(), raft.data_metrics());
    loop {
        let applied = data.borrow_and_update().last_applied.as_ref().map(term_of);
        let now = {
            let server = server.borrow_and_update();
            let term = server.vote.leader_id.term;
            let is_leader = server.state == ServerState::Leader;
            Leadership {
                term,
                leader: server.current_leader,
                leader_address: server.current_leader.and_then(|leader| addresses.get(&leader).cloned()),
                is_leader,
                ready: is_leader && applied == Some(term),
            }
        };
        let settled = now.ready == now.is_leader;
        sender.send_if_modified(|before| {
            if (before.term, before.leader) != (now.term, now.leader) {
                tracing::info!(
                    term = now.term,
                    leader = now.leader,
                    is_leader = now.is_leader,
                    "raft leadership changed"
                );
            }
            let changed = *before != now;
            before.clone_from(&now);
            changed
        });
        let changed = tokio::select! {
            changed = server.changed() => changed,
            changed = data.changed(), if !settled => changed,
        };
        if changed.is_err() {
            let failed = raft.metrics().borrow_watched().running_state.clone().err();
            tracing::info!(reason = failed.map(|failed| failed.to_string()), "raft has ended");
            sender.send_replace(Leadership { term: now.term, ..Leadership::default() });
            return;
        }
    }
}

/// Snapshots follow the number of entries; large entries need them by bytes too.
pub async fn compaction(raft: Raft, log: LogStore, segment_bytes: u64) {
    let limit = segment_bytes.saturating_mul(LOG_SEGMENTS);
    let mut last_tried = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if log.summary().bytes <= limit {
            continue;
        }
        let (applied, snapshot, purged) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
            (index(&metrics.last_applied), index(&metrics.snapshot), index(&metrics.purged))
        };
        let outcome = if snapshot > purged {
            raft.trigger().purge_log(snapshot).await
        } else if applied > last_tried.max(snapshot) {
            last_tried = applied;
            raft.trigger().snapshot().await
        } else {
            Ok(())
        };
        if outcome.is_err() {
            return;
        }
    }
}
