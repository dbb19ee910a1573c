//! Messages and framed transport between all MooseNG processes. Knows nothing of what the messages mean.

pub mod backoff;
pub mod budget;
pub mod convert;
pub mod frame;
pub mod leader;
pub mod level;
pub mod link;
pub mod method;
pub mod op;
mod outbox;
mod peer;
mod pulse;
mod pushes;
pub mod service;
mod stream;

/// The generated messages of `mooseng_py/proto/*.proto`.
#[allow(clippy::all, missing_docs)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/mooseng.v1.rs"));
}

pub use budget::Budget;
pub use frame::{Frame, Kind};
pub use leader::Leader;
pub use link::{Link, LinkConfig, Links, Reply};
pub use method::Method;
pub use peer::Peers;
pub use service::{Handler, Peer, Request, Response, Server, Weight};
