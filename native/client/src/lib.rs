//! The client engine that the FUSE adapter and the SDK stand on: finds and follows the leader, retries until a deadline,
//! applies each change once, coalesces writes, reads ahead, checks every byte against its checksum. Knows no paths and
//! no kernel.

mod backoff;
mod config;
mod core;
mod engine;
mod fetch;
mod file;
mod flush;
mod grant;
mod masters;
mod metrics;
mod pump;
mod ranges;
mod read;
mod readahead;
mod releases;
mod servers;
mod session;
mod write;
mod writer;

pub use config::ClientConfig;
pub use engine::{Engine, OpenFlags};
pub use metrics::Metric;
pub use read::ReadData;
pub use wire::proto::{Attr, Create, Credentials, NameReply, SetAttr, name_request};
