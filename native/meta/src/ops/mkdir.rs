//! Make a directory. Source: mkdir(2).

use base::Result;
use base::limits::MAX_LINKS;
use wire::proto::{MkDir, NameReply};

use super::make::Mode;
use super::{attr_reply, make};
use crate::errors;
use crate::inode::Body;
use crate::state::Context;

pub(crate) fn mkdir(cx: &mut Context, op: &MkDir) -> Result<NameReply> {
    let parent = make::require_new(cx.tables, &cx.caller, op.parent, &op.name)?;
    if parent.nlink >= MAX_LINKS {
        return Err(errors::too_many_links(op.parent));
    }
    // As on Linux, only the sticky bit passes beside the permissions; set-group-id comes from the parent.
    let mode = Mode::new(op.mode & 0o1777, op.full_mode.map(|mode| mode & 0o1777));
    let inode = make::make(cx, op.parent, &op.name, Body::Directory { parent: op.parent }, mode)?;
    Ok(attr_reply(cx.tables, inode))
}
