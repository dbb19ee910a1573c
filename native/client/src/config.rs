//! What a client is told at start. Values are checked once, here; nothing later guesses.

use base::{Error, Result};
use libc::EINVAL;
use serde::{Deserialize, Serialize};

use crate::drive::accessed::AccessTimes;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Empty: take the masters' own.
    #[serde(default)]
    pub cluster_id: String,
    /// Every master's client address, host:port, in any order.
    pub masters: Vec<String>,
    /// For logs and the session list.
    #[serde(default = "default_name")]
    pub name: String,
    /// How long an operation is tried before it fails with EIO. Shorter than a fail-over (2-3 s) shows errors that
    /// need not be seen; very long keeps applications hanging while the cluster is down.
    #[serde(default = "default::deadline_ms")]
    pub deadline_ms: u64,
    /// Most bytes fetched ahead of a sequential reader, per handle.
    #[serde(default = "default::read_ahead_bytes")]
    pub read_ahead_bytes: u64,
    /// Most bytes of one file that may be uncommitted; at half of it a commit begins, beyond it a writer waits.
    #[serde(default = "default::write_window_bytes")]
    pub write_window_bytes: u64,
    #[serde(default)]
    pub mount_point: String,
    /// When reading moves the time of access.
    #[serde(default)]
    pub atime: AccessTimes,
}

fn default_name() -> String {
    "client".to_string()
}

base::numbers! { ClientConfig,
    given {}
    default {
        deadline_ms = 60_000, 100, 3_600_000;
        read_ahead_bytes = 16 << 20, 0, 64 << 20;
        // Measured: a stream with 16 MiB is a seventh slower than before it was kept until committed, with 32 MiB a fifth
        // faster; 64 MiB give no more.
        write_window_bytes = 32 << 20, 2 << 20, 128 << 20;
    }
}

impl ClientConfig {
    /// Everything at its default but the masters.
    pub fn new(masters: Vec<String>) -> ClientConfig {
        ClientConfig {
            cluster_id: String::new(),
            masters,
            name: default_name(),
            deadline_ms: default::deadline_ms(),
            read_ahead_bytes: default::read_ahead_bytes(),
            write_window_bytes: default::write_window_bytes(),
            mount_point: String::new(),
            atime: AccessTimes::default(),
        }
    }

    pub fn check(&self) -> Result<()> {
        let refuse = |sentence: String| Err(Error::namespace(EINVAL, sentence));
        if self.masters.is_empty() || self.masters.iter().any(|address| !address.contains(':')) {
            return refuse(format!("masters {:?} must name at least one host:port", self.masters));
        }
        base::setting::check(NUMBERS, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_config_takes_the_defaults_and_a_wrong_key_is_named() {
        let config: ClientConfig = serde_json::from_str(r#"{"masters":["a:1"]}"#).unwrap();
        assert_eq!((config.deadline_ms, config.write_window_bytes), (60_000, 32 << 20));
        let error = serde_json::from_str::<ClientConfig>(r#"{"masters":["a:1"],"mastres":1}"#).unwrap_err();
        assert!(error.to_string().contains("mastres"));
    }

    #[test]
    fn a_config_without_masters_is_refused() {
        assert!(ClientConfig::new(Vec::new()).check().unwrap_err().message.contains("host:port"));
    }
}
