//! The directories that the kernel knows, as they were told last. One that was removed, by whichever client, goes on for
//! those who stand in it or have it open: it has its attributes, no links and no entries, until the kernel forgets it.

use std::collections::HashMap;

use base::{Error, Result};
use parking_lot::Mutex;
use wire::proto::{Attr, FileKind};

#[derive(Default)]
pub struct KnownDirectories(Mutex<HashMap<u64, Attr>>);

impl KnownDirectories {
    /// The kernel is about to hear of it.
    pub fn tell(&self, attr: &Attr) {
        if attr.kind() == FileKind::FileDirectory {
            self.0.lock().insert(attr.inode, *attr);
        }
    }

    pub fn get(&self, inode: u64) -> Option<Attr> {
        self.0.lock().get(&inode).copied()
    }

    pub fn forget(&self, inode: u64) {
        self.0.lock().remove(&inode);
    }

    /// What is left of a directory about which the masters say `error`; the error where that is no removed directory.
    pub fn removed(&self, inode: u64, error: Error) -> Result<Attr> {
        let known = if error.errno == libc::ESTALE { self.0.lock().get(&inode).copied() } else { None };
        known.map(|attr| Attr { nlink: 0, ..attr }).ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_gone_has_no_links_until_the_kernel_forgets_it() {
        let known = KnownDirectories::default();
        let stale = || Error::stale("gone");
        known.tell(&Attr { inode: 7, kind: FileKind::FileDirectory as i32, nlink: 2, mode: 0o755, ..Attr::default() });
        known.tell(&Attr { inode: 8, kind: FileKind::FileRegular as i32, ..Attr::default() });
        let left = known.removed(7, stale()).unwrap();
        assert_eq!((left.nlink, left.mode), (0, 0o755));
        assert!(known.removed(8, stale()).is_err(), "a file's content is gone");
        assert_eq!(known.removed(7, Error::unavailable("nobody answers")).unwrap_err().errno, libc::EIO);
        known.forget(7);
        assert!(known.removed(7, stale()).is_err());
    }
}
