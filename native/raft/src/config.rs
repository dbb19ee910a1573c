//! Settings of one member. What would make the cluster unsafe or useless is refused in one sentence.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base::{Error, Result};

#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// 1 and up; fixed for the life of the data directory.
    pub node_id: u64,
    pub cluster_id: String,
    /// Where peers and clients reach this member.
    pub advertise: String,
    /// All voters including this one, as host:port of their client port.
    pub peers: BTreeMap<u64, String>,
    pub data_dir: PathBuf,
    /// Too small: traffic and CPU for nothing. Too large: the lease flickers.
    pub heartbeat_ms: u64,
    /// Too small: elections on a busy machine.
    pub election_min_ms: u64,
    /// Also the leader's lease: too large makes fail-over slow, which takes lease + min..max.
    pub election_max_ms: u64,
    /// Entries between snapshots. Too small: snapshots all the time. Too large: slow restarts, a long log.
    pub snapshot_every: u64,
    /// Size of one log file, pre-written with zeros.
    pub segment_bytes: u64,
}

impl RaftConfig {
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::namespace(rustix::io::Errno::INVAL.raw_os_error(), what));
        if self.cluster_id.is_empty() {
            return refuse("cluster_id is empty; give the cluster a name of its own".to_string());
        }
        match self.peers.get(&self.node_id) {
            None => return refuse(format!("peers do not name this master, node_id {}", self.node_id)),
            Some(address) if *address != self.advertise => {
                return refuse(format!(
                    "peers say {address} for node_id {}, advertise says {}",
                    self.node_id, self.advertise
                ));
            }
            Some(_) => {}
        }
        if self.node_id == 0 || self.node_id > u64::from(u32::MAX) {
            return refuse(format!("node_id {} must be from 1 to {}", self.node_id, u32::MAX));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms * 2 > self.election_min_ms {
            return refuse(format!(
                "heartbeat_ms {} must be above 0 and at most half of election_min_ms {}",
                self.heartbeat_ms, self.election_min_ms
            ));
        }
        if self.election_min_ms >= self.election_max_ms {
            return refuse(format!(
                "election_min_ms {} must be below election_max_ms {}",
                self.election_min_ms, self.election_max_ms
            ));
        }
        if self.snapshot_every == 0 || self.segment_bytes < 65_536 {
            return refuse("snapshot_every must be above 0 and segment_bytes at least 65536".to_string());
        }
        Ok(())
    }

    /// How long a follower keeps from electing another leader after it heard of one.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }

    /// How long a leader believes that: clocks may drift by a tenth.
    pub fn read_lease(&self) -> Duration {
        self.lease() * 9 / 10
    }

    pub(crate) fn openraft(&self) -> Result<openraft::Config> {
        let config = openraft::Config {
            cluster_name: self.cluster_id.clone(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            // A large state takes its time; the connection has timeouts of its own.
            install_snapshot_timeout: 600_000,
            max_payload_entries: 4096,
            // Told of each that was written: see `compaction`.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            // Above the snapshot interval, or a snapshot could leave a follower lagging.
            replication_lag_threshold: self.snapshot_every.saturating_mul(2).saturating_add(1000),
            // For followers that were away for a moment.
            max_in_snapshot_log_to_keep: (self.snapshot_every / 4).clamp(1, 20_000),
            purge_batch_size: (self.snapshot_every / 16).clamp(1, 4096),
            enable_pre_vote: Some(true),
            // A leadership is one process's: what it held in memory is gone after a restart.
            enable_leader_restore: Some(false),
            // A leader is never removed here, and stepping down early would break its lease.
            removed_leader_step_down: openraft::StepDownPolicy::Never,
            // Followers get entries while the leader's own disk still writes them.
            broadcast_submitted_on_append: Some(true),
            // Switched on when the promises made before a restart have expired.
            enable_elect: false,
            backoff: "50ms 100ms 200ms ...1s".to_string(),
            ..Default::default()
        };
        config.validate().map_err(|error| Error::namespace(rustix::io::Errno::INVAL.raw_os_error(), error.to_string()))
    }
}
