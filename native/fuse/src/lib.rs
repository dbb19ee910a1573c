//! Mounts MooseNG: FUSE requests in, calls of the client engine out. Takes what a request carries, sends what it
//! asks for, answers from a task of the async runtime; no FUSE thread ever waits for the network. Decides nothing about names or data itself.

mod adapter;
mod askers;
mod attributes;
mod begun;
mod core;
mod directories;
mod files;
mod groups;
mod known;
mod metrics;
mod mount;
mod mount_point;
mod names;
mod notices;
mod pages;
mod recent;
mod xattrs;

pub use metrics::Metric;
pub use mount::{Mount, MountConfig, NUMBERS, default_threads};
