//! Take a name away: unlink(2), rmdir(2). An inode without a name stays as an orphan until it is purged.

use base::{Error, Result};
use wire::proto::{NameReply, RmDir, Unlink};

use super::{attr_reply, make};
use crate::errors;
use crate::name;
use crate::state::{Context, Event};

pub(crate) fn unlink(cx: &mut Context, op: &Unlink) -> Result<NameReply> {
    let (directory, found) = make::find(cx.tables, &cx.caller, op.parent, &op.name)?;
    if name::is_dots(&op.name) {
        return Err(errors::is_a_directory(op.parent));
    }
    let id = found.ok_or_else(|| errors::no_entry(op.parent, &op.name))?.inode;
    let victim = cx.tables.inode(id)?;
    cx.caller.require_removal(cx.tables, op.parent, directory, victim)?;
    if victim.is_directory() {
        return Err(errors::is_a_directory(id));
    }
    take_name(cx, op.parent, &op.name);
    drop_link(cx, id);
    Ok(attr_reply(cx.tables, id))
}

pub(crate) fn rmdir(cx: &mut Context, op: &RmDir) -> Result<NameReply> {
    let (directory, found) = make::find(cx.tables, &cx.caller, op.parent, &op.name)?;
    match &op.name[..] {
        b"." => return Err(errors::invalid("the directory . cannot be removed; name it from its parent")),
        b".." => return Err(Error::namespace(libc::ENOTEMPTY, "the directory .. is not empty")),
        _ => {}
    }
    let id = found.ok_or_else(|| errors::no_entry(op.parent, &op.name))?.inode;
    let victim = cx.tables.inode(id)?;
    cx.caller.require_removal(cx.tables, op.parent, directory, victim)?;
    if !victim.is_directory() {
        return Err(errors::not_a_directory(id));
    }
    if cx.tables.has_entries(id) {
        return Err(errors::not_empty(id));
    }
    take_name(cx, op.parent, &op.name);
    cx.tables.edit(op.parent, |directory| directory.nlink -= 1);
    drop_directory(cx, id);
    Ok(attr_reply(cx.tables, id))
}

fn take_name(cx: &mut Context, parent: u64, name: &[u8]) {
    let now_ns = cx.now_ns;
    cx.tables.remove_entry(parent, name);
    cx.tables.edit(parent, |directory| directory.touch_entries(now_ns));
}

/// One name of a file less; without any it becomes an orphan.
pub(crate) fn drop_link(cx: &mut Context, id: u64) {
    let now_ns = cx.now_ns;
    let mut left = 0;
    cx.tables.edit(id, |inode| {
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.ctime_ns = now_ns;
        left = inode.nlink;
    });
    if left == 0 {
        orphan(cx, id);
    }
}

/// An empty directory lost its name.
pub(crate) fn drop_directory(cx: &mut Context, id: u64) {
    let now_ns = cx.now_ns;
    cx.tables.edit(id, |inode| {
        inode.nlink = 0;
        inode.ctime_ns = now_ns;
    });
    orphan(cx, id);
}

pub(crate) fn orphan(cx: &mut Context, id: u64) {
    cx.tables.put_orphan(id);
    cx.events.push(Event::Orphaned(id));
}
