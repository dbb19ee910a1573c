//! The name space and the chunk map as one pure, deterministic state machine.
//! Invariants: the same commands give the same state on every machine; a refused operation changes nothing but the
//! memory of its reply; cloning a state is O(1). It never reads a clock, draws randomness, touches a file or a socket.

mod access;
mod acl;
mod check;
mod chunk;
mod codec;
mod errors;
mod history;
mod inode;
mod name;
mod ops;
mod place;
mod session;
mod snapshot;
mod state;
mod tables;
mod xattrs;

pub use chunk::MAX_COPIES;
pub use inode::ROOT;
pub use ops::open::OPEN_CHUNKS;
pub use ops::readdir::MAX_ENTRIES;
pub use session::MAX_REPLIES;
pub use state::{Applied, ClusterConfig, Counters, Event, FreedChunk, ServerState, SessionState, State};
