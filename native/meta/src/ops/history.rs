//! What the masters remember of their own past, for chunkservers that remember more. See `history.rs`.

use base::Result;
use wire::proto::{AcceptHistory, AdminReply, BeginHistory, RaiseNumbers};

use crate::errors;
use crate::state::Context;

pub(crate) fn begin(cx: &mut Context, op: &BeginHistory) -> Result<AdminReply> {
    if op.mark == 0 {
        return Err(errors::invalid("a leader's mark must not be 0"));
    }
    cx.tables.history.begin(cx.index, op.mark);
    Ok(AdminReply::default())
}

pub(crate) fn raise(cx: &mut Context, op: &RaiseNumbers) -> Result<AdminReply> {
    op.known.iter().for_each(|known| cx.tables.next.raise(known));
    Ok(AdminReply::default())
}

/// From here on these positions are contained. No copy of a chunk that is not known here is deleted until `drop_unknown`.
pub(crate) fn accept(cx: &mut Context, op: &AcceptHistory) -> Result<AdminReply> {
    for known in &op.known {
        cx.tables.next.raise(known);
        if known.mark != 0 {
            cx.tables.history.accept(known.mark, known.index);
        }
    }
    cx.tables.history.keep_below = cx.tables.next.chunk;
    Ok(AdminReply::default())
}

pub(crate) fn drop_unknown(cx: &mut Context) -> Result<AdminReply> {
    cx.tables.history.keep_below = 0;
    Ok(AdminReply::default())
}
