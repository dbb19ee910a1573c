//! Give a file one more name. Source: link(2).

use base::limits::MAX_LINKS;
use base::{Error, Result};
use wire::proto::{Link, NameReply};

use super::{attr_reply, make};
use crate::errors;
use crate::state::{Context, Event};

pub(crate) fn link(cx: &mut Context, op: &Link) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    make::require_new(cx.tables, &cx.caller, op.parent, &op.name)?;
    if inode.is_directory() {
        let message = format!("inode {} is a directory and can have one name only", op.inode);
        return Err(Error::namespace(libc::EPERM, message));
    }
    if inode.nlink == 0 && !cx.tables.may_be_named(op.inode) {
        return Err(Error::namespace(libc::ENOENT, format!("the last name of inode {} is gone", op.inode)));
    }
    if inode.nlink >= MAX_LINKS {
        return Err(errors::too_many_links(op.inode));
    }
    let now_ns = cx.now_ns;
    if inode.nlink == 0 {
        cx.tables.remove_orphan(op.inode);
        cx.events.push(Event::Named(op.inode));
    }
    cx.tables.add_entry(op.parent, &op.name, op.inode);
    cx.tables.edit(op.inode, |inode| {
        inode.nlink += 1;
        inode.ctime_ns = now_ns;
    });
    cx.tables.edit(op.parent, |directory| directory.touch_entries(now_ns));
    Ok(attr_reply(cx.tables, op.inode))
}
