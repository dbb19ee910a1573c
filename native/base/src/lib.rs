//! What every native crate stands on: aligned buffers, CRC-32C, errors, limits, bounds of settings. No I/O, no threads, no clock but `time`.

pub mod buffer;
pub mod crc;
pub mod error;
pub mod limits;
pub mod modes;
pub mod random;
pub mod setting;
pub mod time;

pub use buffer::{Buffer, BufferPool};
pub use error::{Error, ErrorKind, Reason, Result};
