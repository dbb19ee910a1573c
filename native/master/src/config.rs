//! What one master is told at start, checked before anything is opened. Made by the Python side; JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MasterConfig {
    pub cluster_id: String,
    pub node_id: u32,
    /// Where frames are accepted: clients, chunkservers and the other masters.
    pub listen: String,
    /// How others reach `listen`; must be this node's entry in `peers`.
    pub advertise: String,
    /// All masters, this one included, by node id.
    pub peers: BTreeMap<u32, String>,
    pub data_dir: PathBuf,
    #[serde(default = "default::copies")]
    pub copies: u32,
    /// A write set may shrink to this many copies. 1 loses acknowledged data with one disk; `copies` stops writers at the first failure.
    #[serde(default = "default::min_copies")]
    pub min_copies: u32,
    #[serde(default = "default::inline_limit_bytes")]
    pub inline_limit_bytes: u32,
    #[serde(default = "default::heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// Too small: elections under load. Too large: a dead leader is noticed late.
    #[serde(default = "default::election_min_ms")]
    pub election_min_ms: u64,
    #[serde(default = "default::election_max_ms")]
    pub election_max_ms: u64,
    /// Raft entries between snapshots. Small: more disk work. Large: longer restarts.
    #[serde(default = "default::snapshot_every")]
    pub snapshot_every: u64,
    #[serde(default = "default::segment_bytes")]
    pub segment_bytes: u64,
    /// A silent client loses its open files after this long.
    #[serde(default = "default::session_timeout_ms")]
    pub session_timeout_ms: u64,
    /// A silent chunkserver takes no new chunks after this long.
    #[serde(default = "default::server_timeout_ms")]
    pub server_timeout_ms: u64,
    /// Entries of the log on their way at a time. More make batches smaller and each change dearer: eight mounted writers
    /// make 18 % more files with 1 than with 2, for 17 % less CPU each (docs/performance/metadata.md).
    #[serde(default = "default::commit_window")]
    pub commit_window: usize,
    /// The cluster level that this master does. Lower than its software's only to try how masters of two releases agree.
    #[serde(default = "default::level")]
    pub level: u32,
}

base::numbers! { MasterConfig,
    given { node_id: 1, 255; }
    default {
        copies = 3, 1, meta::MAX_COPIES as u64;
        min_copies = 2, 1, meta::MAX_COPIES as u64;
        inline_limit_bytes = base::limits::INLINE_LIMIT_BYTES as u64, 0, base::limits::MAX_INLINE_BYTES as u64;
        heartbeat_ms = 100, 10, 5000;
        election_min_ms = 500, 50, 60_000;
        election_max_ms = 1000, 100, 120_000;
        snapshot_every = 100_000, 100, 100_000_000;
        segment_bytes = 64 << 20, 1 << 20, 1 << 30;
        session_timeout_ms = 60_000, 1000, 3_600_000;
        server_timeout_ms = 3000, 500, 600_000;
        commit_window = 1, 1, 64;
        level = wire::level::LEVEL as u64, wire::level::FIRST as u64, wire::level::LEVEL as u64;
    }
}

impl MasterConfig {
    pub fn from_json(text: &str) -> Result<MasterConfig> {
        let config: MasterConfig =
            serde_json::from_str(text).map_err(|error| refused(format!("it cannot be read: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// Refuse what could not work, in one sentence that names the key.
    pub fn check(&self) -> Result<()> {
        if self.cluster_id.is_empty() {
            return Err(refused("cluster_id is empty; give all nodes of the cluster the same one"));
        }
        base::setting::check(NUMBERS, self).map_err(|error| refused(error.message))?;
        match self.peers.get(&self.node_id) {
            Some(address) if *address == self.advertise => {}
            Some(address) => {
                return Err(refused(format!(
                    "peers names {address:?} for node {} but advertise is {:?}; make them equal",
                    self.node_id, self.advertise
                )));
            }
            None => {
                return Err(refused(format!("peers lacks node {}; it must list every master", self.node_id)));
            }
        }
        if self.min_copies > self.copies {
            return Err(refused(format!("min_copies ({}) must be at most copies ({})", self.min_copies, self.copies)));
        }
        if self.election_min_ms < 2 * self.heartbeat_ms {
            return Err(refused(format!(
                "election_min_ms ({}) must be at least twice heartbeat_ms ({})",
                self.election_min_ms, self.heartbeat_ms
            )));
        }
        if self.election_max_ms <= self.election_min_ms {
            return Err(refused(format!(
                "election_max_ms ({}) must be above election_min_ms ({})",
                self.election_max_ms, self.election_min_ms
            )));
        }
        Ok(())
    }

    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms)
    }

    pub fn server_timeout(&self) -> Duration {
        Duration::from_millis(self.server_timeout_ms)
    }
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::namespace(libc::EINVAL, format!("the master's configuration was refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"cluster_id":"c","node_id":1,"listen":"127.0.0.1:9421","advertise":"127.0.0.1:9421",
        "peers":{"1":"127.0.0.1:9421"},"data_dir":"/d","copies":3,"min_copies":2,"inline_limit_bytes":8192,"heartbeat_ms":100,
        "election_min_ms":500,"election_max_ms":1000,"snapshot_every":100000,"segment_bytes":67108864,
        "session_timeout_ms":60000,"server_timeout_ms":3000}"#;

    #[test]
    fn the_documented_configuration_is_accepted() {
        let config = MasterConfig::from_json(GOOD).unwrap();
        assert_eq!(config.peers[&1], "127.0.0.1:9421");
    }

    #[test]
    fn a_wrong_value_is_refused_with_a_sentence_that_names_its_key() {
        for (from, to, names) in [
            (r#""node_id":1"#, r#""node_id":2"#, "node 2"),
            (r#""min_copies":2"#, r#""min_copies":4"#, "min_copies"),
            (r#""copies":3"#, r#""copies":8"#, "copies is 8; it must be 1 to 7"),
            (r#""election_max_ms":1000"#, r#""election_max_ms":500"#, "election_max_ms"),
            (r#""cluster_id":"c""#, r#""cluster_id":"""#, "cluster_id"),
            (r#""copies":3"#, r#""copies":3,"colour":1"#, "colour"),
        ] {
            let error = MasterConfig::from_json(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.message.contains(names), "{error}");
        }
    }
}
