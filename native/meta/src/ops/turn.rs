//! Whose turn it is to move the end of a file: a session that appends, until its commit says so. Nobody else moves it
//! meanwhile, so that what is appended keeps its place. What the leader looks at before it proposes is here too.

use base::Result;
use wire::proto::NameRequest;
use wire::proto::name_request::Op;

use super::content;
use crate::errors;
use crate::state::{Context, State};
use crate::tables::Appender;

/// A holder that takes longer loses the turn to whoever asks next. What it sent is void: it takes a new place.
const TURN_NS: i64 = 3_000_000_000;

/// Whether another session's turn may be taken: it took too long, or its holder ended. An error while it is in time.
pub(crate) fn is_overdue(cx: &Context, inode: u64) -> Result<bool> {
    let Some(holder) = cx.tables.appender(inode).filter(|holder| holder.session != cx.session) else {
        return Ok(false);
    };
    if is_in_time(holder, cx.now_ns) && cx.tables.session(holder.session).is_ok() {
        return Err(errors::appending(inode, holder.session));
    }
    Ok(true)
}

/// End another session's turn, if there is one that may be taken. An error while it is in time.
pub(crate) fn take_over(cx: &mut Context, inode: u64) -> Result<()> {
    if is_overdue(cx, inode)? {
        end_turn(cx, inode);
    }
    Ok(())
}

fn is_in_time(holder: Appender, now_ns: i64) -> bool {
    now_ns.saturating_sub(holder.since_ns) < TURN_NS
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

    /// The session that has the turn and is in time.
    pub fn appender(&self, inode: u64, now_ns: i64) -> Option<u64> {
        let holder = self.tables.appender(inode).filter(|holder| is_in_time(*holder, now_ns))?;
        self.has_session(holder.session).then_some(holder.session)
    }
}
