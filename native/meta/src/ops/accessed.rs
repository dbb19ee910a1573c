//! Times of access, many at a time, some time after the reads. Source: the relatime option of mount(8).

use base::Result;
use base::limits::MAX_ACCESSED;
use base::time::later;
use wire::proto::{Accessed, NameReply};

use crate::errors;
use crate::inode::MOST_AHEAD_NS;
use crate::state::Context;

/// Nothing else changes, ctime neither. Rights are not asked for: the time only grows, to about now at most.
pub(crate) fn accessed(cx: &mut Context, op: &Accessed) -> Result<NameReply> {
    if op.inodes.len() != op.atimes_ns.len() || op.inodes.len() > MAX_ACCESSED {
        let counts = (op.inodes.len(), op.atimes_ns.len());
        return Err(errors::invalid(format!("{counts:?} inodes and times are not as many, or above {MAX_ACCESSED}")));
    }
    let latest = cx.now_ns.saturating_add(MOST_AHEAD_NS);
    for (id, atime_ns) in op.inodes.iter().zip(&op.atimes_ns) {
        cx.tables.edit(*id, |inode| inode.atime_ns = later(inode.atime_ns, latest.min(*atime_ns)));
    }
    Ok(NameReply::default())
}
