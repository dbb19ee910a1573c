//! Change attributes: chmod(2), chown(2), truncate(2), utimensat(2), several at once as FUSE sends them.

use base::limits::MAX_FILE_BYTES;
use base::{Error, Result};
use wire::proto::{NameReply, SetAttr};

use super::{attr_reply, content, turn, xattr};
use crate::access::{Caller, WRITE};
use crate::errors;
use crate::inode::Inode;
use crate::state::Context;
use crate::tables::Tables;

pub(crate) fn setattr(cx: &mut Context, op: &SetAttr) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    require_size(cx.tables, &cx.caller, op, inode)?;
    require_owners(&cx.caller, op, inode)?;
    require_mode(&cx.caller, op, inode)?;
    require_times(cx.tables, &cx.caller, op, inode)?;
    if let Some(size) = op.size {
        turn::take_over(cx, op.inode)?;
        content::truncate(cx, op.inode, size);
    }
    let (caller, now_ns) = (cx.caller, cx.now_ns);
    cx.tables.edit(op.inode, |inode| change(&caller, op, inode, now_ns));
    if op.mode.is_some() {
        xattr::follow_mode(cx.tables, op.inode);
    }
    let owned_anew = op.uid.is_some() || op.gid.is_some();
    if owned_anew && !cx.tables.inode(op.inode)?.is_directory() {
        xattr::drop_capabilities(cx.tables, op.inode);
    }
    Ok(attr_reply(cx.tables, op.inode))
}

fn change(caller: &Caller, op: &SetAttr, inode: &mut Inode, now_ns: i64) {
    let mut changed = false;
    if op.uid.is_some() || op.gid.is_some() {
        // As on Linux also when root does it: the new owner must not inherit a program that runs as the old one.
        if !inode.is_directory() {
            inode.mode = caller.without_set_id(inode.mode, inode.gid);
        }
        inode.uid = op.uid.unwrap_or(inode.uid);
        inode.gid = op.gid.unwrap_or(inode.gid);
        changed = true;
    }
    if let Some(mode) = op.mode {
        inode.mode = caller.settable_mode(mode & 0o7777, inode.gid);
        changed = true;
    }
    let atime = if op.atime_now { Some(now_ns) } else { op.atime_ns };
    let mtime = if op.mtime_now { Some(now_ns) } else { op.mtime_ns };
    changed |= atime.is_some() || mtime.is_some();
    inode.atime_ns = atime.unwrap_or(inode.atime_ns);
    inode.mtime_ns = mtime.unwrap_or(inode.mtime_ns);
    if changed {
        inode.ctime_ns = now_ns;
    }
}

fn require_size(tables: &Tables, caller: &Caller, op: &SetAttr, inode: &Inode) -> Result<()> {
    let Some(size) = op.size else { return Ok(()) };
    if inode.is_directory() {
        return Err(errors::is_a_directory(op.inode));
    }
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    if !op.by_handle {
        caller.require(tables, op.inode, inode, WRITE)?;
    }
    if size > MAX_FILE_BYTES { Err(errors::file_too_big(op.inode)) } else { Ok(()) }
}

/// Root may give to anybody; an owner may change the group to one of its own, and "change" to what is.
fn require_owners(caller: &Caller, op: &SetAttr, inode: &Inode) -> Result<()> {
    let owns = caller.owns(inode);
    let uid_allowed = op.uid.is_none_or(|uid| caller.is_root() || (owns && uid == inode.uid));
    let gid_allowed = op.gid.is_none_or(|gid| caller.is_root() || (owns && (gid == inode.gid || caller.in_group(gid))));
    if uid_allowed && gid_allowed { Ok(()) } else { Err(errors::not_owner(op.inode)) }
}

fn require_mode(caller: &Caller, op: &SetAttr, inode: &Inode) -> Result<()> {
    if op.mode.is_none() {
        return Ok(());
    }
    if inode.is_symlink() {
        let message = format!("inode {} is a symbolic link, whose mode cannot change", op.inode);
        return Err(Error::namespace(libc::EOPNOTSUPP, message));
    }
    caller.require_owner(op.inode, inode)
}

/// "Now" is for everybody who may write; any other time only for the owner. Source: utimensat(2).
fn require_times(tables: &Tables, caller: &Caller, op: &SetAttr, inode: &Inode) -> Result<()> {
    let explicit = (op.atime_ns.is_some() && !op.atime_now) || (op.mtime_ns.is_some() && !op.mtime_now);
    let one_of_two = op.atime_now != op.mtime_now;
    if explicit {
        return caller.require_owner(op.inode, inode);
    }
    if !op.atime_now && !op.mtime_now || caller.owns(inode) || op.by_handle && op.size.is_some() {
        return Ok(());
    }
    // Setting one and omitting the other needs the owner, except with a truncation, which sets mtime anyway.
    if one_of_two && op.size.is_none() {
        return Err(errors::not_owner(op.inode));
    }
    caller.require(tables, op.inode, inode, WRITE)
}
