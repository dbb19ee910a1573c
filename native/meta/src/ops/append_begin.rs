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
    if let Some(holder) = cx.tables.appender(op.inode).filter(|holder| holder.session != cx.session) {
        let in_time = cx.now_ns.saturating_sub(holder.since_ns) < TURN_NS;
        if in_time && cx.tables.session(holder.session).is_ok() {
            return Err(errors::appending(op.inode, holder.session));
        }
        content::void_behind_end(cx, op.inode);
    }
    let (session, since_ns) = (cx.session, cx.now_ns);
    cx.tables.put_appender(op.inode, Appender { session, since_ns });
    let mut reply = NameReply { offset, ..attr_reply(cx.tables, op.inode) };
    content::fill(cx.tables, op.inode, offset / CHUNK_BYTES, 1, &mut reply);
    Ok(reply)
}
