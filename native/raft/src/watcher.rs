//! What runs beside the core: telling who leads, letting elections begin.

use std::time::Instant;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::RaftConfig;
use crate::consensus::Raft;
use crate::leadership::{Leadership, Seen, judge};
use crate::receive::Heard;
use crate::types::{Types, term_of};

/// Let this member stand for election once what it promised before a restart has expired.
pub async fn elections(raft: Raft, from: Option<Instant>) {
    if let Some(from) = from {
        tokio::time::sleep_until(from.into()).await;
    }
    raft.runtime_config().elect(true);
}

/// Publish who leads. Follows the server's changes, applied entries only between an election and readiness, and the
/// time: a leader that nobody hears of, or that hears of nobody, is one no more.
pub async fn leadership(raft: Raft, config: RaftConfig, heard: Heard, sender: watch::Sender<Leadership>) {
    let lease = config.lease();
    let (mut server, mut data) = (raft.server_metrics(), raft.data_metrics());
    let mut elected = (0, None);
    let mut since = Instant::now();
    loop {
        let seen = {
            let (data, server) = (data.borrow_and_update(), server.borrow_and_update());
            let current = (server.vote.leader_id.term, server.current_leader);
            if current != elected {
                (elected, since) = (current, Instant::now());
            }
            see(&data, &server, since, &heard)
        };
        let now = judge(&seen, lease, &config.peers);
        let settled = now.ready == now.is_leader;
        sender.send_if_modified(|before| {
            tell(before, &now);
            let changed = *before != now;
            before.clone_from(&now);
            changed
        });
        let changed = tokio::select! {
            changed = server.changed() => changed,
            changed = data.changed(), if !settled => changed,
            () = tokio::time::sleep(lease / 8) => Ok(()),
        };
        if changed.is_err() {
            let failed = raft.metrics().borrow_watched().running_state.clone().err();
            tracing::info!(reason = failed.map(|failed| failed.to_string()), "raft has ended");
            sender.send_replace(Leadership { term: now.term, ..Leadership::default() });
            return;
        }
    }
}

fn see(data: &RaftDataMetrics<Types>, server: &RaftServerMetrics<Types>, since: Instant, heard: &Heard) -> Seen {
    let (term, leads) = (server.vote.leader_id.term, server.state == ServerState::Leader);
    let answered = data.heartbeat.iter().flatten();
    Seen {
        us: server.id,
        term,
        // After a restart the vote may still name this member.
        elected: server.current_leader.filter(|leader| leads || *leader != server.id),
        applied: data.last_applied.as_ref().map(term_of) == Some(term),
        voters: server.membership_config.voter_ids().collect(),
        known_for: since.elapsed(),
        confirmed: if leads { data.last_quorum_acked.map(|acked| acked.elapsed()) } else { heard.ago() },
        answered: answered.filter_map(|(id, at)| Some((*id, at.as_ref()?.elapsed()))).collect(),
    }
}

/// One line for each change that somebody may look for.
fn tell(before: &Leadership, now: &Leadership) {
    if let Some(missing) = now.missing.as_ref().filter(|_| before.missing.is_none()) {
        tracing::warn!(term = now.term, "{missing}");
    } else if (before.term, before.leader) != (now.term, now.leader) {
        tracing::info!(term = now.term, leader = now.leader, is_leader = now.is_leader, "raft leadership changed");
    }
}
