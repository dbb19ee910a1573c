//! Write into a file whose bytes lie in its inode. Writers merge here: each sends only its own bytes.

use std::sync::Arc;

use base::{Error, Result};
use wire::proto::{NameReply, WriteInline};

use super::turn::{end_turn, is_overdue};
use super::{attr_reply, xattr};
use crate::errors;
use crate::inode::Body;
use crate::state::Context;

pub(crate) fn write_inline(cx: &mut Context, op: &WriteInline) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    let Body::Inline { data, converter } = &inode.body else {
        return Err(if inode.is_file() { outgrown(op.inode) } else { errors::not_a_file(op.inode) });
    };
    let offset = if op.append { inode.size } else { op.offset };
    let moves_end = op.append || offset.saturating_add(op.data.len() as u64) > inode.size;
    let takes_turn = moves_end && is_overdue(cx, op.inode)?;
    if op.data.is_empty() {
        return Ok(NameReply { offset, ..attr_reply(cx.tables, op.inode) });
    }
    let limit = cx.tables.config.as_ref().map_or(0, |config| u64::from(config.inline_limit));
    let end = offset.checked_add(op.data.len() as u64).filter(|&end| end <= limit).ok_or_else(|| outgrown(op.inode))?;
    let mut bytes = Vec::with_capacity(data.len().max(end as usize));
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().max(end as usize), 0);
    bytes[offset as usize..end as usize].copy_from_slice(&op.data);
    // Whoever lost its turn moves the file no more.
    let converter = if takes_turn { 0 } else { *converter };
    let body = Body::Inline { data: Arc::from(bytes), converter };
    let (mode, now_ns) = (cx.caller.mode_after_write(inode), cx.now_ns);
    if takes_turn {
        end_turn(cx, op.inode);
    }
    xattr::drop_capabilities(cx.tables, op.inode);
    cx.tables.edit(op.inode, |inode| {
        inode.body = body;
        inode.size = inode.size.max(end);
        inode.mode = mode;
        match &op.times {
            Some(told) => inode.touch_data_at(told, now_ns),
            None => inode.touch_data(now_ns),
        }
    });
    Ok(NameReply { offset, ..attr_reply(cx.tables, op.inode) })
}

fn outgrown(inode: u64) -> Error {
    Error::namespace(libc::EFBIG, format!("inode {inode} is or becomes too big to lie inline; ask for a chunk"))
}
