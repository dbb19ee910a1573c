//! Whose turn it is to move the end of a file: a session that appends, until its commit says so. Nobody else moves it
//! meanwhile, so that what is appended keeps its place. What the leader looks at before it proposes is here too.

use base::Result;
use wire::proto::NameRequest;
use wire::proto::name_request::Op;

use super::content;
use crate::errors;
use crate::state::{Context, State};
use crate::tables::Tables;

/// A holder that takes longer loses the turn to whoever asks next. What it sent is void: it takes a new place.
const TURN_NS: i64 = 3_000_000_000;

/// Whether another session's turn may be taken: it took too long, or its holder ended. An error while it is in time.
pub(crate) fn is_overdue(cx: &Context, inode: u64) -> Result<bool> {
    match in_turn(cx.tables, inode, cx.now_ns).filter(|session| *session != cx.session) {
        Some(session) => Err(errors::appending(inode, session)),
        None => Ok(cx.tables.appender(inode).is_some_and(|holder| holder.session != cx.session)),
    }
}

/// End another session's turn, if there is one that may be taken. An error while it is in time.
pub(crate) fn take_over(cx: &mut Context, inode: u64) -> Result<()> {
    if is_overdue(cx, inode)? {
        end_turn(cx, inode);
    }
    Ok(())
}

/// The session that has the turn, lives and is in time.
fn in_turn(tables: &Tables, inode: u64, now_ns: i64) -> Option<u64> {
    let holder = tables.appender(inode).filter(|holder| now_ns.saturating_sub(holder.since_ns) < TURN_NS)?;
    tables.session(holder.session).is_ok().then_some(holder.session)
}

pub(crate) fn end_turn(cx: &mut Context, inode: u64) {
    content::void_behind_end(cx, inode);
    cx.tables.remove_appender(inode);
}

impl State {
    /// The file whose end this request moves, or may move, without having the turn.
    pub fn moved_end(&self, request: &NameRequest) -> Option<u64> {
        let tables = &self.tables;
        let (inode, always, end) = match request.op.as_ref()? {
            Op::AppendBegin(op) => (op.inode, true, 0),
            Op::Setattr(op) => (op.inode, op.size.is_some(), 0),
            Op::Create(op) if op.truncate => (tables.entry(op.parent, &op.name)?.inode, true, 0),
            Op::WriteInline(op) => (op.inode, op.append, op.offset.saturating_add(op.data.len() as u64)),
            Op::CommitWrite(op) if !op.append => (op.inode, false, op.size),
            _ => return None,
        };
        (always || tables.inode(inode).is_ok_and(|inode| end > inode.size)).then_some(inode)
    }

    /// The session that has the turn, lives and is in time.
    pub fn appender(&self, inode: u64, now_ns: i64) -> Option<u64> {
        in_turn(&self.tables, inode, now_ns)
    }
}
