//! One master from inside: the replicated state, the log before it, and what it remembers while it leads.
//! Every entry point asks here first whether it may answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use raft::{Consensus, Leadership};
use tokio::sync::watch;

use crate::commands::Commands;
use crate::commit::Committer;
use crate::config::MasterConfig;
use crate::deletes::Deletes;
use crate::heal::Heals;
use crate::health::Health;
use crate::history::Refusals;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::peers::Said;
use crate::policy::Policy;
use crate::servers::Servers;
use crate::settle::Settles;

/// How long a request waits for a leader that was just elected to get ready, instead of being sent away.
const READY_WAIT: Duration = Duration::from_millis(1500);

pub struct Node {
    pub config: MasterConfig,
    pub machine: Arc<Machine>,
    pub consensus: Arc<Consensus>,
    pub leadership: watch::Receiver<Leadership>,
    pub committer: Committer,
    pub metrics: Arc<Metrics>,
    pub servers: Mutex<Servers>,
    pub refusals: Mutex<Refusals>,
    pub commands: Commands,
    pub health: Mutex<Health>,
    pub deletes: Mutex<Deletes>,
    pub heals: Heals,
    /// What this term's intents said.
    pub policy: Mutex<Policy>,
    pub settles: Settles,
    /// The term this master serves as leader; 0 while it does not.
    pub serving: watch::Sender<u64>,
    pub stopping: AtomicBool,
    /// What the other masters said of themselves last.
    pub others: Said,
    /// Requests being answered; a stop waits for them.
    pub running: AtomicUsize,
}

impl Node {
    /// The term this master leads and serves, or who else to ask.
    pub async fn lead(&self) -> Result<u64> {
        if self.stopping.load(Ordering::Acquire) {
            let other = Some(self.leadership.borrow().clone()).filter(|now| !now.is_leader);
            let leader = other.and_then(|now| now.leader_address);
            let message = "this master is stopping; ask another one";
            return Err(Error { leader, ..Error::new(ErrorKind::Unavailable, libc::EAGAIN, message) });
        }
        if let Some(term) = self.serving_term() {
            return Ok(term);
        }
        self.wait_until_ready().await
    }

    /// As `lead`, without waiting.
    pub fn serving_term(&self) -> Option<u64> {
        let serving = *self.serving.borrow();
        let leadership = self.leadership.borrow();
        (leadership.is_leader && leadership.ready && serving == leadership.term && serving != 0).then_some(serving)
    }

    async fn wait_until_ready(&self) -> Result<u64> {
        let mut serving = self.serving.subscribe();
        let until = tokio::time::Instant::now() + READY_WAIT;
        loop {
            let leadership = self.leadership.borrow().clone();
            if !leadership.is_leader {
                return Err(leadership.refusal());
            }
            if let Some(term) = self.serving_term() {
                return Ok(term);
            }
            if !matches!(tokio::time::timeout_at(until, serving.changed()).await, Ok(Ok(()))) {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    libc::EAGAIN,
                    "this master has just become leader and is not ready yet; ask again shortly",
                ));
            }
        }
    }

    /// A state of another cluster is never served: it was put into the data directory by mistake.
    pub fn check_cluster(&self) -> Result<()> {
        let state = self.machine.state();
        match state.cluster() {
            Some(cluster) if cluster.cluster_id != self.config.cluster_id => Err(Error::namespace(
                libc::EREMCHG,
                format!(
                    "the data in {} belong to cluster {:?}, not {:?}; give this master its own directory or the right cluster id",
                    self.config.data_dir.display(),
                    cluster.cluster_id,
                    self.config.cluster_id
                ),
            )),
            _ => Ok(()),
        }
    }

    /// How many copies a chunk should have, as committed.
    pub fn copies(&self) -> u32 {
        self.machine.state().cluster().map_or(self.config.copies, |cluster| cluster.copies)
    }

    /// Forget everything that only a leader remembers.
    pub fn reset_soft(&self, now: Instant) {
        self.machine.soft.reset(now, self.config.session_timeout());
        *self.servers.lock() = Servers::new(now);
        *self.refusals.lock() = Refusals::default();
        *self.health.lock() = Health::default();
        *self.deletes.lock() = Deletes::default();
        self.heals.reset();
        self.settles.reset();
        *self.policy.lock() = Policy::default();
    }

    pub fn policy(&self) -> Policy {
        *self.policy.lock()
    }
}

/// Counts one request being answered.
pub struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    pub fn new(node: &'a Node) -> Running<'a> {
        node.running.fetch_add(1, Ordering::AcqRel);
        Running(&node.running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
