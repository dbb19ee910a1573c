//! Consensus among masters: openraft behind a narrow seam, with our own durable log, vote, snapshots and network.
//! Knows nothing of what an entry means: it orders bytes, and hands them to a `StateMachine` in that order.

mod compaction;
mod config;
mod consensus;
mod files;
mod home;
mod join;
mod leadership;
mod log;
mod machine;
mod network;
mod outdated;
mod pace;
#[cfg(test)]
mod power_cut;
mod receive;
mod snapshot;
mod types;
mod vote;
mod watcher;

pub use config::RaftConfig;
pub use consensus::{Consensus, Frozen, Metric, Proposed, RaftStatus, Role, StateMachine};
pub use leadership::Leadership;

/// Largest batch that `propose` takes: with its frame it fits one message of the wire.
pub const MAX_BATCH_BYTES: usize = 3 << 20;
