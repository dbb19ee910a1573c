//! Entries of a directory as READDIR and READDIRPLUS are answered. What does not fit is not taken, and the kernel asks
//! again after the last one that was.

use crate::abi::answers::{Dirent, Direntplus};
use crate::abi::layout::{Field, Out};
use crate::attributes::Entry;

/// Entries begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Bits of a mode above the permissions are the kind of file.
const KIND_SHIFT: u32 = 12;

#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Listing {
    /// `size` is the request's.
    pub fn new(size: u32) -> Listing {
        Listing { bytes: Vec::new(), max_bytes: size as usize }
    }

    /// For READDIR. `cookie`: where to go on after this one. False: it did not fit and was not taken.
    #[must_use]
    pub fn add(&mut self, inode: u64, cookie: u64, mode: u32, name: &[u8]) -> bool {
        self.push(&dirent(inode, cookie, mode, name), name)
    }

    /// For READDIRPLUS. The kernel counts each entry but "." and ".." as a lookup.
    #[must_use]
    pub fn add_plus(&mut self, entry: &Entry, cookie: u64, name: &[u8]) -> bool {
        let dirent = dirent(entry.attributes.inode, cookie, entry.attributes.mode, name);
        self.push(&Direntplus { entry_out: entry.raw(), dirent }, name)
    }

    fn push(&mut self, head: &impl Field, name: &[u8]) -> bool {
        let bytes = (size_of_val(head) + name.len()).next_multiple_of(ALIGNMENT);
        let end = self.bytes.len() + bytes;
        if end > self.max_bytes {
            return false;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.max_bytes);
        }
        self.bytes.extend_from_slice(Out::empty().with(head).as_slice());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        true
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

fn dirent(ino: u64, off: u64, mode: u32, name: &[u8]) -> Dirent {
    Dirent { ino, off, namelen: name.len() as u32, kind: (mode & libc::S_IFMT) >> KIND_SHIFT }
}
