//! The master daemon's native side: the name space under Raft, and what its leader does for sessions, chunkservers and
//! the health of chunks. Policies (what to heal, where to place) are the planners'; bytes are the chunkservers'.

mod adopt;
mod commands;
mod commit;
mod config;
pub mod copies;
pub mod deletes;
mod fleet;
mod heal;
pub mod health;
pub mod history;
mod intents;
mod lead;
mod level;
mod machine;
mod master;
mod metrics;
mod moment;
mod names;
mod node;
mod patience;
mod peers;
mod policy;
mod servers;
mod sessions;
pub mod settle;
mod stamps;
mod turns;
mod view;

pub use config::{MasterConfig, NUMBERS};
pub use master::Master;
pub use metrics::Metric;
