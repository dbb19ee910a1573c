//! O_APPEND: one session at a time adds to the end of a file, so that no place is given out twice and no size shows over
//! bytes that are nowhere. The size itself moves with the commit that ends the turn.

use base::Result;
use base::limits::CHUNK_BYTES;
use wire::proto::{AppendBegin, NameReply};

use super::{attr_reply, content};
use crate::errors;
use crate::state::Context;
use crate::tables::Appender;

/// A holder that takes longer loses the turn to whoever asks next. What it sent is void: it takes a new place.
const TURN_NS: i64 = 3_000_000_000;

pub(crate) fn append_begin(cx: &mut Context, op: &AppendBegin) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    let offset = inode.size;
    if is_overdue(cx, op.inode)? {
        end_turn(cx, op.inode);
    }
    let (session, since_ns) = (cx.session, cx.now_ns);
    cx.tables.put_appender(op.inode, Appender { session, since_ns });
    let mut reply = NameReply { offset, ..attr_reply(cx.tables, op.inode) };
    content::fill(cx.tables, op.inode, offset / CHUNK_BYTES, 1, &mut reply);
    Ok(reply)
}

/// Whether another session's turn may be taken: it took too long, or its holder ended. An error while it is in time.
pub(crate) fn is_overdue(cx: &Context, inode: u64) -> Result<bool> {
    let Some(holder) = cx.tables.appender(inode).filter(|holder| holder.session != cx.session) else {
        return Ok(false);
    };
    let in_time = cx.now_ns.saturating_sub(holder.since_ns) < TURN_NS;
    if in_time && cx.tables.session(holder.session).is_ok() {
        return Err(errors::appending(inode, holder.session));
    }
    Ok(true)
}

pub(crate) fn end_turn(cx: &mut Context, inode: u64) {
    content::void_behind_end(cx, inode);
    cx.tables.remove_appender(inode);
}
