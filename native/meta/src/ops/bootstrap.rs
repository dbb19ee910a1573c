//! The first entry of a cluster: its name, its goals and its root directory.

use std::sync::Arc;

use base::Result;
use base::limits::MAX_INLINE_BYTES;
use wire::proto::{AdminReply, Bootstrap};

use crate::chunk::MAX_COPIES;
use crate::errors;
use crate::inode::{Body, Inode, ROOT};
use crate::state::{ClusterConfig, Context};

const MAX_CLUSTER_ID_BYTES: usize = 255;

/// No effect on a cluster that has its configuration.
pub(crate) fn bootstrap(cx: &mut Context, op: &Bootstrap) -> Result<AdminReply> {
    if cx.tables.config.is_some() {
        return Ok(AdminReply::default());
    }
    if op.cluster_id.is_empty() || op.cluster_id.len() > MAX_CLUSTER_ID_BYTES {
        return Err(errors::invalid(format!("cluster_id must have 1 to {MAX_CLUSTER_ID_BYTES} bytes")));
    }
    if !(1..=MAX_COPIES).contains(&(op.copies as usize)) {
        return Err(errors::invalid(format!("copies must be 1 to {MAX_COPIES}, not {}", op.copies)));
    }
    if !(1..=op.copies).contains(&op.min_copies) {
        return Err(errors::invalid(format!("min_copies must be 1 to copies ({}), not {}", op.copies, op.min_copies)));
    }
    if op.inline_limit > MAX_INLINE_BYTES {
        let given = op.inline_limit;
        return Err(errors::invalid(format!("inline_limit must be at most {MAX_INLINE_BYTES} bytes, not {given}")));
    }
    cx.tables.config = Some(Arc::new(ClusterConfig {
        cluster_id: op.cluster_id.clone(),
        copies: op.copies,
        min_copies: op.min_copies,
        inline_limit: op.inline_limit,
    }));
    cx.tables.put_inode(ROOT, Inode::new(Body::Directory { parent: ROOT }, 0o755, 0, 0, cx.now_ns));
    Ok(AdminReply::default())
}
