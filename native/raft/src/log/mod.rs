//! The durable log: records in segments, one thread that writes them in order, an index in memory.

pub mod index;
pub mod open;
pub mod progress;
pub mod record;
pub mod scan;
pub mod segment;
pub mod store;
pub mod writer;

#[cfg(test)]
mod tests;
