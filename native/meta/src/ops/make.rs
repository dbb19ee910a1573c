//! What mkdir, create, symlink and link share: the right to make a name, and the new inode behind it.

use std::sync::Arc;

use base::{Error, Result};

use super::xattr;
use crate::access::{Caller, SEARCH, WRITE};
use crate::errors;
use crate::inode::{Body, Inode, S_ISGID};
use crate::name;
use crate::state::Context;
use crate::tables::{Entry, Tables};
use crate::xattrs::{Key, Space};

/// Masters of a lower level write no time of birth into their snapshots, so none may know one.
const BIRTH_LEVEL: u32 = 3;

/// The directory to make an entry in, and what is there under the name already.
pub(crate) fn find<'a>(
    tables: &'a Tables,
    caller: &Caller,
    parent: u64,
    name: &[u8],
) -> Result<(&'a Inode, Option<Entry>)> {
    let directory = tables.directory(parent)?;
    caller.require(tables, parent, directory, SEARCH)?;
    name::check(name)?;
    Ok((directory, tables.entry(parent, name)))
}

/// The right to make the entry `name`, which must not exist. Source of the order of errors: `filename_create` of Linux.
pub(crate) fn require_new<'a>(tables: &'a Tables, caller: &Caller, parent: u64, name: &[u8]) -> Result<&'a Inode> {
    let (directory, found) = find(tables, caller, parent, name)?;
    if found.is_some() || name::is_dots(name) {
        return Err(errors::exists(parent, name));
    }
    require_writable(tables, caller, parent, directory)?;
    Ok(directory)
}

pub(crate) fn require_writable(tables: &Tables, caller: &Caller, id: u64, directory: &Inode) -> Result<()> {
    if directory.nlink == 0 {
        return Err(errors::removed_directory(id));
    }
    caller.require(tables, id, directory, WRITE | SEARCH)
}

/// The mode that an inode is asked for with.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    masked: u32,
    /// Before the umask.
    full: u32,
}

impl Mode {
    pub fn new(masked: u32, full: Option<u32>) -> Mode {
        Mode { masked: masked & 0o7777, full: full.unwrap_or(masked) & 0o7777 }
    }
}

/// Make an inode with one name. The group of a set-group-id directory is inherited, by directories with the bit. So is
/// a default access control list, which stands in for the umask; links have none. Source: acl(5).
pub(crate) fn make(cx: &mut Context, parent: u64, name: &[u8], body: Body, mode: Mode) -> Result<u64> {
    let is_directory = matches!(body, Body::Directory { .. });
    let id = make_inode(cx, parent, body, mode)?;
    cx.tables.add_entry(parent, name, id);
    let now_ns = cx.now_ns;
    cx.tables.edit(parent, |directory| {
        directory.touch_entries(now_ns);
        directory.nlink += u32::from(is_directory);
    });
    Ok(id)
}

/// As `make`, without the name.
pub(crate) fn make_inode(cx: &mut Context, parent: u64, body: Body, mode: Mode) -> Result<u64> {
    let directory = cx.tables.directory(parent)?;
    let lists = if matches!(body, Body::Symlink(_)) { None } else { xattr::inherited(cx.tables, parent, mode.full) };
    let mode = lists.as_ref().map_or(mode.masked, |(mode, ..)| *mode);
    let inherits = directory.mode & S_ISGID != 0;
    let gid = if inherits { directory.gid } else { cx.caller.gid };
    let is_directory = matches!(body, Body::Directory { .. });
    let mode = match is_directory {
        true => mode | if inherits { S_ISGID } else { 0 },
        false => cx.caller.settable_mode(mode, gid),
    };
    let id = cx.tables.next.inode;
    if id == u64::MAX {
        return Err(Error::namespace(libc::ENOSPC, "all inode numbers are used up"));
    }
    cx.tables.next.inode += 1;
    let mut inode = Inode::new(body, mode, cx.caller.uid, gid, cx.now_ns);
    if cx.tables.level() >= BIRTH_LEVEL {
        inode.btime_ns = cx.now_ns;
    }
    cx.tables.put_inode(id, inode);
    if let Some((_, access, default)) = lists {
        if let Some(access) = access {
            cx.tables.put_xattr(id, Key::acl(Space::AccessAcl), Arc::from(access.encode()));
        }
        if is_directory {
            cx.tables.put_xattr(id, Key::acl(Space::DefaultAcl), default);
        }
    }
    Ok(id)
}
