//! Make a symbolic link. Source: symlink(2).

use base::limits::MAX_PATH_BYTES;
use base::{Error, Result};
use wire::proto::{NameReply, Symlink};

use super::make::Mode;
use super::{attr_reply, make};
use crate::errors;
use crate::inode::Body;
use crate::state::Context;

pub(crate) fn symlink(cx: &mut Context, op: &Symlink) -> Result<NameReply> {
    if op.target.is_empty() {
        return Err(Error::namespace(libc::ENOENT, "a symbolic link needs a target"));
    }
    if op.target.len() > MAX_PATH_BYTES {
        let message = format!("a target of {} bytes is longer than {MAX_PATH_BYTES}", op.target.len());
        return Err(Error::namespace(libc::ENAMETOOLONG, message));
    }
    if op.target.contains(&0) {
        return Err(errors::invalid("the target of a symbolic link contains NUL"));
    }
    make::require_new(cx.tables, &cx.caller, op.parent, &op.name)?;
    let inode =
        make::make(cx, op.parent, &op.name, Body::Symlink(op.target.as_slice().into()), Mode::new(0o777, None))?;
    Ok(attr_reply(cx.tables, inode))
}
