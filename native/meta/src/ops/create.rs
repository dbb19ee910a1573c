//! Create a regular file and open it, or open the one that is there. Source: open(2) with O_CREAT.

use base::Result;
use wire::proto::{Create, NameReply};

use super::make::Mode;
use super::open::{self, handle_reply};
use super::{content, make, remove, turn};
use crate::access::WRITE;
use crate::errors;
use crate::inode::Inode;
use crate::name;
use crate::state::Context;

pub(crate) fn create(cx: &mut Context, op: &Create) -> Result<NameReply> {
    if op.unnamed {
        return create_unnamed(cx, op);
    }
    let (directory, found) = make::find(cx.tables, &cx.caller, op.parent, &op.name)?;
    match found {
        _ if name::is_dots(&op.name) && !op.exclusive => Err(errors::is_a_directory(op.parent)),
        _ if name::is_dots(&op.name) => Err(errors::exists(op.parent, &op.name)),
        Some(_) if op.exclusive => Err(errors::exists(op.parent, &op.name)),
        Some(entry) => open_existing(cx, op, entry.inode),
        None => {
            make::require_writable(cx.tables, &cx.caller, op.parent, directory)?;
            let inode = make::make(cx, op.parent, &op.name, Inode::empty_file(), Mode::new(op.mode, op.full_mode))?;
            Ok(NameReply { created: true, ..handle_reply(cx.tables, inode) })
        }
    }
}

/// It lives as long as somebody has it open, unless it is given a name.
fn create_unnamed(cx: &mut Context, op: &Create) -> Result<NameReply> {
    let directory = cx.tables.directory(op.parent)?;
    make::require_writable(cx.tables, &cx.caller, op.parent, directory)?;
    let inode = make::make_inode(cx, op.parent, Inode::empty_file(), Mode::new(op.mode, op.full_mode))?;
    cx.tables.edit(inode, |inode| inode.nlink = 0);
    remove::orphan(cx, inode);
    if !op.exclusive {
        cx.tables.put_unnamed(inode);
    }
    Ok(NameReply { created: true, ..handle_reply(cx.tables, inode) })
}

fn open_existing(cx: &mut Context, op: &Create, id: u64) -> Result<NameReply> {
    let inode = cx.tables.inode(id)?;
    if inode.is_directory() {
        return Err(errors::is_a_directory(id));
    }
    open::check(cx.tables, &cx.caller, id, inode, op.read, op.write)?;
    if op.truncate {
        cx.caller.require(cx.tables, id, inode, WRITE)?;
        turn::take_over(cx, id)?;
        content::truncate(cx, id, 0);
    }
    Ok(handle_reply(cx.tables, id))
}
