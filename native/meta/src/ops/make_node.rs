//! Make a fifo, a socket or a device. Source: mknod(2).

use base::{Error, Result};
use wire::proto::{FileKind, MakeNode, NameReply};

use super::make::Mode;
use super::{attr_reply, make};
use crate::errors;
use crate::inode::{Body, is_special};
use crate::state::Context;

pub(crate) fn make_node(cx: &mut Context, op: &MakeNode) -> Result<NameReply> {
    let kind = FileKind::try_from(op.kind).ok().filter(|kind| is_special(*kind));
    let kind =
        kind.ok_or_else(|| errors::invalid("what is neither fifo, socket nor device is made by other operations"))?;
    make::require_new(cx.tables, &cx.caller, op.parent, &op.name)?;
    let is_device = matches!(kind, FileKind::FileCharacterDevice | FileKind::FileBlockDevice);
    // An overlay marks with it what is gone: it opens nothing.
    let is_whiteout = kind == FileKind::FileCharacterDevice && op.rdev == 0;
    if is_device && !is_whiteout && cx.caller.uid != 0 {
        return Err(Error::namespace(libc::EPERM, "only root may make a device"));
    }
    let rdev = if is_device { op.rdev } else { 0 };
    let inode = make::make(cx, op.parent, &op.name, Body::Special { kind, rdev }, Mode::new(op.mode, op.full_mode))?;
    Ok(attr_reply(cx.tables, inode))
}
