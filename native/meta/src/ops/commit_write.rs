//! The data is on the chunkservers: make it part of the file.

use base::limits::{CHUNK_BYTES, MAX_FILE_BYTES};
use base::{Error, Result};
use wire::proto::{ChunkStored, CommitWrite, NameReply};

use super::attr_reply;
use crate::errors;
use crate::inode::{Body, Inode};
use crate::state::Context;
use crate::tables::Tables;

/// A chunk that is gone from the file was cut off after it was written: its part is passed over, as if the cut had come
/// last. Another chunk in its place, or a version not yet committed, is ESTALE.
pub(crate) fn commit_write(cx: &mut Context, op: &CommitWrite) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    if op.size > MAX_FILE_BYTES {
        return Err(errors::file_too_big(op.inode));
    }
    let present = present_chunks(cx.tables, op)?;
    let converts = require_convertible(op, inode, &present)?;
    if !op.stored.is_empty() && present.is_empty() && !converts && op.append_bytes == 0 {
        return Ok(attr_reply(cx.tables, op.inode));
    }
    let offset = inode.size.max(if end_was_cut_off(op, &present) { 0 } else { op.size });
    let size = offset.checked_add(op.append_bytes).filter(|size| *size <= MAX_FILE_BYTES);
    let size = size.ok_or_else(|| errors::file_too_big(op.inode))?;
    let changes = converts || !present.is_empty() || size != inode.size;
    let mode = cx.caller.mode_after_write(inode);
    let now_ns = cx.now_ns;
    cx.tables.edit(op.inode, |inode| {
        if converts {
            inode.body = Body::Chunked { stored: 0 };
        }
        if changes {
            inode.touch_data(now_ns);
            inode.mode = mode;
        }
        inode.size = size;
        inode.ctime_ns = now_ns;
        inode.mtime_ns = if op.mtime_ns == 0 { now_ns } else { op.mtime_ns };
    });
    for stored in present {
        cx.tables.edit_chunk(stored.chunk_id, |chunk| {
            chunk.written = true;
            chunk.stored_bytes = stored.stored_bytes;
        });
    }
    Ok(NameReply { offset, ..attr_reply(cx.tables, op.inode) })
}

fn present_chunks<'a>(tables: &Tables, op: &'a CommitWrite) -> Result<Vec<&'a ChunkStored>> {
    let mut present = Vec::with_capacity(op.stored.len());
    for stored in &op.stored {
        if stored.index >= MAX_FILE_BYTES / CHUNK_BYTES || u64::from(stored.stored_bytes) > CHUNK_BYTES {
            let message = format!("chunk index {} with {} bytes cannot be", stored.index, stored.stored_bytes);
            return Err(errors::invalid(message));
        }
        let Some((id, chunk)) = tables.chunk_at(op.inode, stored.index as u32) else { continue };
        if id != stored.chunk_id {
            return Err(errors::no_chunk(stored.chunk_id));
        }
        if stored.version > chunk.version {
            return Err(errors::other_version(id, stored.version, chunk.version));
        }
        present.push(stored);
    }
    Ok(present)
}

/// Whether this commit moves the file from its inode into chunks; an error when it would lose bytes by doing so.
fn require_convertible(op: &CommitWrite, inode: &Inode, present: &[&ChunkStored]) -> Result<bool> {
    let stale = |why: &str| Err(Error::stale(format!("inode {}: {why}; read it again", op.inode)));
    if op.convert_inline && op.expect_inline_version != 0 && op.expect_inline_version != inode.data_version {
        return stale("the content changed since the inline bytes were read");
    }
    let Body::Inline { data, .. } = &inode.body else { return Ok(false) };
    if !op.convert_inline {
        return if present.is_empty() { Ok(false) } else { stale("its bytes lie inline and were not converted") };
    }
    if op.expect_inline_version == 0 {
        return Err(errors::invalid("converting an inline file needs the data_version that was read"));
    }
    if !data.is_empty() && !present.iter().any(|stored| stored.index == 0) {
        return stale("its inline bytes were not written to chunk 0");
    }
    Ok(true)
}

fn end_was_cut_off(op: &CommitWrite, present: &[&ChunkStored]) -> bool {
    let Some(last) = op.size.checked_sub(1).map(|byte| byte / CHUNK_BYTES) else { return false };
    let names = |stored: &ChunkStored| stored.index == last;
    op.stored.iter().any(names) && !present.iter().any(|stored| names(stored))
}
