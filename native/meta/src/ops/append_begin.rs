//! O_APPEND: one session at a time adds to the end of a file, so that no place is given out twice and no size shows over
//! bytes that are nowhere. The size itself moves with the commit that ends the turn.

use base::Result;
use base::limits::CHUNK_BYTES;
use wire::proto::{AppendBegin, NameReply};

use super::{attr_reply, content, turn};
use crate::errors;
use crate::state::Context;
use crate::tables::Appender;

pub(crate) fn append_begin(cx: &mut Context, op: &AppendBegin) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    let offset = inode.size;
    turn::take_over(cx, op.inode)?;
    let (session, since_ns) = (cx.session, cx.now_ns);
    cx.tables.put_appender(op.inode, Appender { session, since_ns });
    let mut reply = NameReply { offset, ..attr_reply(cx.tables, op.inode) };
    content::fill(cx.tables, op.inode, offset / CHUNK_BYTES, 1, &mut reply);
    Ok(reply)
}
