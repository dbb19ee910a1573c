//! The data is on the chunkservers: make it part of the file.

use base::limits::{CHUNK_BYTES, MAX_FILE_BYTES};
use base::{Error, Reason, Result};
use wire::proto::{CommitWrite, NameReply};

use super::{attr_reply, turn, xattr};
use crate::errors;
use crate::inode::{Body, Inode};
use crate::state::Context;
use crate::tables::Tables;

/// What was sent counts only at the version that is committed: a cut, a heal or a change of the set in between is ESTALE, and
/// the client sends again what it still holds. So is a chunk that is gone, or another one in its place.
pub(crate) fn commit_write(cx: &mut Context, op: &CommitWrite) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    if op.size > MAX_FILE_BYTES {
        return Err(errors::file_too_big(op.inode));
    }
    if op.append && cx.tables.appender(op.inode).is_none_or(|holder| holder.session != cx.session) {
        return Err(errors::turn_lost(op.inode));
    }
    if !op.append && op.size > inode.size {
        // An overdue turn is no obstacle. Whose it is finds out when it commits.
        turn::is_overdue(cx, op.inode)?;
    }
    require_in_place(cx.tables, op)?;
    let converts = require_convertible(op, inode)?;
    let size = inode.size.max(op.size);
    let changes = converts || !op.stored.is_empty() || size != inode.size;
    let mode = cx.caller.mode_after_write(inode);
    let now_ns = cx.now_ns;
    if changes {
        xattr::drop_capabilities(cx.tables, op.inode);
    }
    cx.tables.edit(op.inode, |inode| {
        if converts {
            inode.body = Body::Chunked { stored: 0 };
        }
        match &op.times {
            Some(told) if changes => inode.touch_data_at(told, now_ns),
            Some(_) => {}
            None => {
                inode.data_version += u64::from(changes);
                inode.ctime_ns = now_ns;
                inode.mtime_ns = if op.mtime_ns == 0 { now_ns } else { op.mtime_ns };
            }
        }
        if changes {
            inode.mode = mode;
        }
        inode.size = size;
    });
    for stored in &op.stored {
        cx.tables.edit_chunk(stored.chunk_id, |chunk| {
            chunk.written = true;
            chunk.stored_bytes = stored.stored_bytes;
        });
        if stored.settled {
            cx.tables.settle(stored.chunk_id, cx.session);
        }
    }
    if op.append {
        cx.tables.remove_appender(op.inode);
    }
    Ok(attr_reply(cx.tables, op.inode))
}

fn require_in_place(tables: &Tables, op: &CommitWrite) -> Result<()> {
    for stored in &op.stored {
        if stored.index >= MAX_FILE_BYTES / CHUNK_BYTES || u64::from(stored.stored_bytes) > CHUNK_BYTES {
            let message = format!("chunk index {} with {} bytes cannot be", stored.index, stored.stored_bytes);
            return Err(errors::invalid(message));
        }
        match tables.chunk_at(op.inode, stored.index as u32) {
            Some((id, chunk)) if id == stored.chunk_id => {
                if stored.version != chunk.version {
                    return Err(errors::other_version(id, stored.version, chunk.version));
                }
            }
            _ => return Err(errors::moved(op.inode, stored.index, stored.chunk_id)),
        }
    }
    Ok(())
}

/// Whether this commit moves the file from its inode into chunks; an error when it would lose bytes by doing so.
fn require_convertible(op: &CommitWrite, inode: &Inode) -> Result<bool> {
    let stale = |why: &str| {
        let message = format!("inode {}: {why}; read it again", op.inode);
        Err(Error::stale(message).because(Reason::ChunkMoved))
    };
    if op.convert_inline && op.expect_inline_version != 0 && op.expect_inline_version != inode.data_version {
        return stale("the content changed since the inline bytes were read");
    }
    let Body::Inline { data, .. } = &inode.body else { return Ok(false) };
    if !op.convert_inline {
        return if op.stored.is_empty() { Ok(false) } else { stale("its bytes lie inline and were not converted") };
    }
    if op.expect_inline_version == 0 {
        return Err(errors::invalid("converting an inline file needs the data_version that was read"));
    }
    if !data.is_empty() && !op.stored.iter().any(|stored| stored.index == 0) {
        return stale("its inline bytes were not written to chunk 0");
    }
    Ok(true)
}
