//! The edge to the kernel: speaks the protocol of /dev/fuse, versions 7.31 to 7.45, for any file system. Parses
//! requests, builds replies, mounts, reads and writes the device. Knows nothing of what is mounted, and never keeps a
//! request waiting by itself: a `Replier` may be answered at once or later, from any thread.

pub mod abi;
mod attributes;
mod device;
pub mod init;
mod listing;
mod mount;
mod notify;
mod operation;
mod parse;
mod reply;
mod request;
mod serve;
mod unmount;

pub use attributes::{Attributes, Entry, Lock, Opened, StatFs, Statx, Time};
pub use device::Device;
pub use init::{Granted, Wanted};
pub use listing::Listing;
pub use mount::{MountOptions, Mounted, mount};
pub use notify::Notifier;
pub use operation::{CopyRange, Forgets, LockRequest, Operation, SetAttr, SetTime};
pub use reply::{Replier, Waiter};
pub use request::{Dialect, Extensions, Malformed, Request};
pub use serve::{FileSystem, Session};
pub use unmount::{Way, unmount};
