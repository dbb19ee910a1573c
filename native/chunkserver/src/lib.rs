//! The data server: answers clients' reads and writes from its chunk store, passes writes on down the chain, copies
//! and deletes chunks as the leading master says, and reports what it holds and what went bad.
//! It decides nothing about where copies belong, and touches no chunk file but through crate `chunk`.

mod borrow;
mod chain;
mod commands;
mod config;
mod copy;
mod housekeeping;
mod memory;
mod metrics;
mod node;
pub mod outcome;
mod pool;
mod registration;
mod reports;
mod requests;
mod server;
mod standing;
mod turns;

pub use config::{ChunkServerConfig, DirectIo, NUMBERS};
pub use memory::{memory, with_memories};
pub use metrics::Metric;
pub use node::disk_statuses;
pub use server::ChunkServer;
