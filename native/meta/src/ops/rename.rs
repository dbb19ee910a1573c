//! Move or exchange entries, replacing the target when POSIX allows it. Source: rename(2), and `do_renameat2` of Linux
//! for the order of errors.

use base::limits::MAX_LINKS;
use base::{Error, Result};
use wire::proto::{FileKind, NameReply, Rename};

use super::make::Mode;
use super::{attr_reply, make, remove};
use crate::access::WRITE;
use crate::errors;
use crate::inode::{Body, Inode, ROOT};
use crate::name;
use crate::state::Context;
use crate::tables::Tables;

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;
/// What an overlay puts in the place of what it moved: it hides what lies below.
const WHITEOUT: u32 = 4;

pub(crate) fn rename(cx: &mut Context, op: &Rename) -> Result<NameReply> {
    let (source, target) = ends(cx, op)?;
    if target == Some(source) {
        return Ok(attr_reply(cx.tables, source)); // two names of one file: nothing moves
    }
    require_rights(cx, op, source, target)?;
    match target {
        Some(target) if op.flags == EXCHANGE => exchange(cx, op, source, target),
        _ => move_entry(cx, op, source, target),
    }
    if op.flags & WHITEOUT != 0 {
        let body = Body::Special { kind: FileKind::FileCharacterDevice, rdev: 0 };
        make::make(cx, op.source_parent, &op.source_name, body, Mode::new(0, None))?;
    }
    Ok(attr_reply(cx.tables, source))
}

/// The inodes behind both names, as far as they exist and the flags allow.
fn ends(cx: &Context, op: &Rename) -> Result<(u64, Option<u64>)> {
    let moves = op.flags & !(NOREPLACE | WHITEOUT) == 0;
    if !moves && op.flags != EXCHANGE {
        let message = format!("rename flags {} are not of NOREPLACE 1 and WHITEOUT 4, or EXCHANGE 2", op.flags);
        return Err(errors::invalid(message));
    }
    let (_, source) = make::find(cx.tables, &cx.caller, op.source_parent, &op.source_name)?;
    let (_, target) = make::find(cx.tables, &cx.caller, op.target_parent, &op.target_name)?;
    if name::is_dots(&op.source_name) || name::is_dots(&op.target_name) {
        return Err(Error::namespace(libc::EBUSY, "the entries . and .. cannot be renamed"));
    }
    let source = source.ok_or_else(|| errors::no_entry(op.source_parent, &op.source_name))?.inode;
    let target = target.map(|entry| entry.inode);
    match (op.flags & !WHITEOUT, target) {
        (NOREPLACE, Some(_)) => Err(errors::exists(op.target_parent, &op.target_name)),
        (EXCHANGE, None) => Err(errors::no_entry(op.target_parent, &op.target_name)),
        _ => Ok((source, target)),
    }
}

fn require_rights(cx: &Context, op: &Rename, source: u64, target: Option<u64>) -> Result<()> {
    let (tables, caller) = (&*cx.tables, &cx.caller);
    let exchanged = op.flags == EXCHANGE;
    let crosses = op.source_parent != op.target_parent;
    let source_parent = tables.directory(op.source_parent)?;
    let target_parent = tables.directory(op.target_parent)?;
    let moved = tables.inode(source)?;
    if is_within(tables, op.target_parent, source) {
        let message = format!("directory {source} cannot be moved into itself");
        return Err(Error::namespace(libc::EINVAL, message));
    }
    if let Some(target) = target
        && is_within(tables, op.source_parent, target)
    {
        return Err(if exchanged {
            errors::invalid(format!("directory {target} cannot be moved into itself"))
        } else {
            errors::not_empty(target)
        });
    }
    caller.require_removal(tables, op.source_parent, source_parent, moved)?;
    match target {
        None => make::require_writable(tables, caller, op.target_parent, target_parent)?,
        Some(target) => {
            let replaced = tables.inode(target)?;
            caller.require_removal(tables, op.target_parent, target_parent, replaced)?;
            if !exchanged && moved.is_directory() && !replaced.is_directory() {
                return Err(errors::not_a_directory(target));
            }
            if !exchanged && !moved.is_directory() && replaced.is_directory() {
                return Err(errors::is_a_directory(target));
            }
            if exchanged && crosses {
                require_movable(cx, target, replaced)?;
            }
        }
    }
    if crosses {
        require_movable(cx, source, moved)?;
        require_room(cx, op, moved, target)?;
    }
    match target {
        Some(target) if !exchanged && tables.has_entries(target) => Err(errors::not_empty(target)),
        _ => Ok(()),
    }
}

/// A directory that changes its parent has its `..` rewritten: that needs the right to write to it.
fn require_movable(cx: &Context, id: u64, inode: &Inode) -> Result<()> {
    if inode.is_directory() { cx.caller.require(cx.tables, id, inode, WRITE) } else { Ok(()) }
}

/// Both parents stay below the link limit.
fn require_room(cx: &Context, op: &Rename, moved: &Inode, target: Option<u64>) -> Result<()> {
    let replaced = target.map(|id| cx.tables.inode(id)).transpose()?.is_some_and(Inode::is_directory);
    if moved.is_directory() && !replaced && cx.tables.directory(op.target_parent)?.nlink >= MAX_LINKS {
        return Err(errors::too_many_links(op.target_parent));
    }
    let comes_back = op.flags == EXCHANGE && replaced && !moved.is_directory();
    if comes_back && cx.tables.directory(op.source_parent)?.nlink >= MAX_LINKS {
        return Err(errors::too_many_links(op.source_parent));
    }
    Ok(())
}

/// Whether `directory` is `ancestor` or lies below it.
fn is_within(tables: &Tables, directory: u64, ancestor: u64) -> bool {
    let mut at = directory;
    loop {
        if at == ancestor {
            return true;
        }
        match tables.inode(at).map(|inode| &inode.body) {
            Ok(Body::Directory { parent }) if at != ROOT => at = *parent,
            _ => return false,
        }
    }
}

fn move_entry(cx: &mut Context, op: &Rename, source: u64, target: Option<u64>) {
    let now_ns = cx.now_ns;
    cx.tables.remove_entry(op.source_parent, &op.source_name);
    match target {
        // Repointed, so that the name keeps its cookie and a listing in progress shows it once.
        Some(_) => cx.tables.repoint_entry(op.target_parent, &op.target_name, source),
        None => cx.tables.add_entry(op.target_parent, &op.target_name, source),
    }
    cx.tables.edit(op.source_parent, |directory| directory.touch_entries(now_ns));
    cx.tables.edit(op.target_parent, |directory| directory.touch_entries(now_ns));
    settle(cx, source, op.source_parent, op.target_parent);
    if let Some(target) = target {
        if cx.tables.inode(target).is_ok_and(Inode::is_directory) {
            cx.tables.edit(op.target_parent, |directory| directory.nlink -= 1);
            remove::drop_directory(cx, target);
        } else {
            remove::drop_link(cx, target);
        }
    }
}

fn exchange(cx: &mut Context, op: &Rename, source: u64, target: u64) {
    let now_ns = cx.now_ns;
    cx.tables.repoint_entry(op.source_parent, &op.source_name, target);
    cx.tables.repoint_entry(op.target_parent, &op.target_name, source);
    cx.tables.edit(op.source_parent, |directory| directory.touch_entries(now_ns));
    cx.tables.edit(op.target_parent, |directory| directory.touch_entries(now_ns));
    settle(cx, source, op.source_parent, op.target_parent);
    settle(cx, target, op.target_parent, op.source_parent);
}

/// The inode moved between these parents: its ctime, and for a directory its `..` and the parents' link counts.
fn settle(cx: &mut Context, id: u64, from: u64, to: u64) {
    let now_ns = cx.now_ns;
    let mut is_directory = false;
    cx.tables.edit(id, |inode| {
        inode.ctime_ns = now_ns;
        if let Body::Directory { parent } = &mut inode.body {
            *parent = to;
            is_directory = true;
        }
    });
    if is_directory && from != to {
        cx.tables.edit(from, |directory| directory.nlink -= 1);
        cx.tables.edit(to, |directory| directory.nlink += 1);
    }
}
