//! A writer has nothing under way for some chunks any more, or will never know what became of it.

use base::Result;
use wire::proto::{NameReply, ReleaseGrants};

use crate::state::Context;

/// Chunks that are gone, or were never granted to this session, are passed over.
pub(crate) fn release_grants(cx: &mut Context, op: &ReleaseGrants) -> Result<NameReply> {
    for chunk in &op.chunks {
        if op.abandoned {
            cx.tables.abandon(chunk.id, cx.session);
        } else {
            cx.tables.settle(chunk.id, cx.session);
        }
    }
    Ok(NameReply::default())
}
