//! Who may do what: owner, group and other bits, sticky directories, set-id bits. Source: path_resolution(7), inode(7).

use base::{Error, Result};
use wire::proto::Credentials;

use crate::acl;
use crate::errors;
use crate::inode::{Inode, S_ISGID, S_ISVTX};
use crate::tables::Tables;
use crate::xattrs::{Key, Space};

pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const SEARCH: u32 = 1;

/// Whoever sends no credentials is this user: in no file's group and nobody's owner.
const NOBODY: u32 = 65_534;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub uid: u32,
    pub gid: u32,
    groups: &'a [u32],
}

impl<'a> Caller<'a> {
    pub fn new(creds: Option<&'a Credentials>) -> Caller<'a> {
        match creds {
            Some(creds) => Caller { uid: creds.uid, gid: creds.gid, groups: &creds.groups },
            None => Caller { uid: NOBODY, gid: NOBODY, groups: &[] },
        }
    }

    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub fn owns(&self, inode: &Inode) -> bool {
        self.is_root() || self.uid == inode.uid
    }

    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether all of `mask` is allowed. Root may do everything but execute a file that nobody may execute. As on Linux,
    /// an access control list counts where the group's bits of the mode, which are its mask, are not all off.
    pub fn may(&self, tables: &Tables, id: u64, inode: &Inode, mask: u32) -> bool {
        if self.is_root() {
            return mask & SEARCH == 0 || inode.is_directory() || inode.mode & 0o111 != 0;
        }
        let bits = if self.uid == inode.uid {
            inode.mode >> 6
        } else if inode.mode & 0o070 != 0
            && let Some(list) = tables.xattr(id, &Key::acl(Space::AccessAcl))
        {
            return acl::allows(list, self, inode.gid, mask);
        } else if self.in_group(inode.gid) {
            inode.mode >> 3
        } else {
            inode.mode
        };
        bits & mask == mask
    }

    pub fn require(&self, tables: &Tables, id: u64, inode: &Inode, mask: u32) -> Result<()> {
        if self.may(tables, id, inode, mask) { Ok(()) } else { Err(errors::denied(id)) }
    }

    pub fn require_owner(&self, id: u64, inode: &Inode) -> Result<()> {
        if self.owns(inode) { Ok(()) } else { Err(errors::not_owner(id)) }
    }

    /// The right to take the entry of `victim` out of `directory`.
    pub fn require_removal(&self, tables: &Tables, directory_id: u64, directory: &Inode, victim: &Inode) -> Result<()> {
        self.require(tables, directory_id, directory, WRITE | SEARCH)?;
        if directory.mode & S_ISVTX != 0 && !self.owns(victim) && !self.owns(directory) {
            let message =
                format!("directory {directory_id} is sticky: only the owner of the entry or of it may do this");
            return Err(Error::namespace(libc::EPERM, message));
        }
        Ok(())
    }

    /// `mode` of a file after this caller wrote to it or cut it.
    pub fn mode_after_write(&self, inode: &Inode) -> u32 {
        if self.is_root() || inode.is_directory() { inode.mode } else { self.without_set_id(inode.mode, inode.gid) }
    }

    /// `mode` of a file of group `gid` that this caller changed without the right to keep set-id bits.
    pub fn without_set_id(&self, mode: u32, gid: u32) -> u32 {
        base::modes::without_set_id(mode, self.is_root() || self.in_group(gid))
    }

    /// `mode` as chmod(2) or creat(2) may set it on an inode of group `gid`.
    pub fn settable_mode(&self, mode: u32, gid: u32) -> u32 {
        if self.is_root() || self.in_group(gid) { mode } else { mode & !S_ISGID }
    }
}
