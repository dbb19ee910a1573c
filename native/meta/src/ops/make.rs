//! What mkdir, create, symlink and link share: the right to make a name, and the new inode behind it.

use base::{Error, Result};

use crate::access::{Caller, SEARCH, WRITE};
use crate::errors;
use crate::inode::{Body, Inode, S_ISGID};
use crate::name;
use crate::state::Context;
use crate::tables::{Entry, Tables};

/// The directory to make an entry in, and what is there under the name already.
pub(crate) fn find<'a>(
    tables: &'a Tables,
    caller: &Caller,
    parent: u64,
    name: &[u8],
) -> Result<(&'a Inode, Option<Entry>)> {
    let directory = tables.directory(parent)?;
    caller.require(parent, directory, SEARCH)?;
    name::check(name)?;
    Ok((directory, tables.entry(parent, name)))
}

/// The right to make the entry `name`, which must not exist. Source of the order of errors: `filename_create` of Linux.
pub(crate) fn require_new<'a>(tables: &'a Tables, caller: &Caller, parent: u64, name: &[u8]) -> Result<&'a Inode> {
    let (directory, found) = find(tables, caller, parent, name)?;
    if found.is_some() || name::is_dots(name) {
        return Err(errors::exists(parent, name));
    }
    require_writable(caller, parent, directory)?;
    Ok(directory)
}

pub(crate) fn require_writable(caller: &Caller, id: u64, directory: &Inode) -> Result<()> {
    if directory.nlink == 0 {
        return Err(errors::removed_directory(id));
    }
    caller.require(id, directory, WRITE | SEARCH)
}

/// Make an inode with one name. The group of a set-group-id directory is inherited, by directories with the bit.
pub(crate) fn make(cx: &mut Context, parent: u64, name: &[u8], body: Body, mode: u32) -> Result<u64> {
    let directory = cx.tables.directory(parent)?;
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
    cx.tables.put_inode(id, Inode::new(body, mode, cx.caller.uid, gid, cx.now_ns));
    cx.tables.add_entry(parent, name, id);
    let now_ns = cx.now_ns;
    cx.tables.edit(parent, |directory| {
        directory.touch_entries(now_ns);
        directory.nlink += u32::from(is_directory);
    });
    Ok(id)
}
