//! The client engine that the FUSE adapter and the SDK stand on: finds and follows the leader, retries until a deadline,
//! applies each change once, coalesces writes, reads ahead, checks every byte against its checksum. Knows no paths and
//! no kernel. `file` decides, `drive` acts, `peers` knows masters and chunkservers.

mod config;
mod drive;
pub mod file;
mod metrics;
mod peers;

pub use config::{ClientConfig, NUMBERS};
pub use drive::ReadData;
pub use drive::accessed::AccessTimes;
pub use drive::allocate::Allocate;
pub use drive::engine::{Engine, OpenFlags};
pub use metrics::Metric;
pub use wire::proto::{Attr, Create, Credentials, NameReply, SetAttr, name_request};
