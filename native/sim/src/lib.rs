//! Clients, chunkservers and the masters' state machine in one process and one thread, under one seed: the rules that ship
//! (`client::file`, `chunk::Store` on simulated disks, `chunkserver::outcome`, `meta::State`, `master::settle`) with a
//! network, clocks and faults of this crate's own. After the faults all must become whole; at every read the history rule
//! of `oracle` holds; no operation fails while the contract says none.
//!
//! What is not simulated: Raft (it has a simulation of its own), the byte streams, and the planners in Python, of which the
//! leader here has a small stand-in.

mod client_side;
mod faults;
mod leader;
pub mod oracle;
mod put_back;
mod random;
mod server_side;
mod whole;
mod world;

pub use faults::Plan;
pub use world::{Report, run};
