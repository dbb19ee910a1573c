//! Let go of unlinked inodes that nobody has open any more. Whether that is so is the leader's knowledge.

use base::Result;
use wire::proto::{AdminReply, Purge};

use super::content::free_chunks;
use crate::state::{Context, Event};

/// Inodes that are not orphans (purged before, or never unlinked) are passed over.
pub(crate) fn purge(cx: &mut Context, op: &Purge) -> Result<AdminReply> {
    for &id in &op.inodes {
        if cx.tables.is_orphan(id) {
            free_chunks(cx, id, 0);
            cx.tables.remove_inode(id);
            cx.events.push(Event::Purged(id));
        }
    }
    Ok(AdminReply::default())
}
