//! What an operator sets on a chunkserver. Made by the Python side as JSON; checked here once more, then frozen.

use std::path::PathBuf;

use base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Whether chunk files are read and written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectIo {
    /// Where a probe of the disk shows that it works and wins.
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkServerConfig {
    /// Empty: the one on the disks, or on new disks the masters'.
    #[serde(default)]
    pub cluster_id: String,
    /// From 1, unique in the cluster, for the life of the disks.
    pub server_id: u32,
    /// Any order; one that can be reached is enough, all find the leader faster.
    pub masters: Vec<String>,
    /// host:port of the data port; port 0 takes a free one.
    pub listen: String,
    /// The data port as clients and other servers reach it; empty: as bound.
    #[serde(default)]
    pub advertise: String,
    /// One directory per disk.
    pub disks: Vec<PathBuf>,
    /// Larger than a third of the masters' server timeout and a hiccup counts as a death; smaller only costs messages.
    #[serde(default = "default::heartbeat_ms")]
    pub heartbeat_ms: u64,
    #[serde(default)]
    pub direct_io: DirectIo,
    /// Kept free on each disk for checksum tables and for deletes; too small and a full disk cannot even tidy up.
    #[serde(default = "default::reserve_bytes")]
    pub reserve_bytes: u64,
    /// Stored bytes verified in the background, MiB each second; 0 switches scrubbing off.
    #[serde(default = "default::scrub_mb_s")]
    pub scrub_mb_s: u64,
    /// Payload bytes of requests and replies in memory at a time, half for each. Too small and writers wait for each
    /// other; too large and many writers before one stalled disk take the memory of the process.
    #[serde(default = "default::payload_budget_bytes")]
    pub payload_budget_bytes: u64,
}

base::numbers! { ChunkServerConfig,
    given { server_id: 1, 65_535; }
    default {
        heartbeat_ms = 1000, 100, 60_000;
        reserve_bytes = 256 << 20, 0, 1 << 50;
        scrub_mb_s = 8, 0, 10_000;
        payload_budget_bytes = 512 << 20, 160 << 20, 1 << 40;
    }
}

impl ChunkServerConfig {
    /// One sentence about the first setting that cannot work.
    pub fn check(&self) -> Result<()> {
        let refuse = |sentence: String| Err(Error::namespace(libc::EINVAL, sentence));
        base::setting::check(NUMBERS, self)?;
        if self.masters.is_empty() {
            return refuse("masters is empty; name at least one master as host:port".to_string());
        }
        for (setting, address) in self
            .masters
            .iter()
            .map(|master| ("masters", master))
            .chain([("listen", &self.listen)])
            .chain(Some(("advertise", &self.advertise)).filter(|(_, address)| !address.is_empty()))
        {
            let port =
                address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            if port.is_none() || (port == Some(0) && setting != "listen") {
                return refuse(format!("{setting} has {address:?}; write it as host:port"));
            }
        }
        if self.disks.is_empty() {
            return refuse("disks is empty; name at least one directory for chunks".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(changes: serde_json::Value) -> std::result::Result<ChunkServerConfig, String> {
        let mut config = serde_json::json!({
            "cluster_id": "", "server_id": 1, "masters": ["127.0.0.1:9421"], "listen": "127.0.0.1:0",
            "advertise": "127.0.0.1:9420", "disks": ["/tmp/a"], "heartbeat_ms": 1000, "direct_io": "auto",
            "reserve_bytes": 268435456, "scrub_mb_s": 8
        });
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        let config: ChunkServerConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.message)?;
        Ok(config)
    }

    #[test]
    fn the_agreed_json_is_a_valid_configuration() {
        assert_eq!(parse(serde_json::json!({})).unwrap().direct_io, DirectIo::Auto);
    }

    #[test]
    fn a_wrong_setting_is_refused_by_name() {
        for (changes, named) in [
            (serde_json::json!({"server_id": 0}), "server_id"),
            (serde_json::json!({"masters": []}), "masters"),
            (serde_json::json!({"masters": ["localhost"]}), "masters"),
            (serde_json::json!({"masters": ["localhost:0"]}), "masters"),
            (serde_json::json!({"listen": "9420"}), "listen"),
            (serde_json::json!({"advertise": "host"}), "advertise"),
            (serde_json::json!({"disks": []}), "disks"),
            (serde_json::json!({"heartbeat_ms": 1}), "heartbeat_ms"),
            (serde_json::json!({"payload_budget_bytes": 1 << 20}), "payload_budget_bytes"),
            (serde_json::json!({"disk": []}), "disk"),
            (serde_json::json!({"direct_io": "maybe"}), "maybe"),
        ] {
            let sentence = parse(changes).unwrap_err();
            assert!(sentence.contains(named), "{sentence:?} should name {named}");
        }
    }
}
