//! What open handles need of a file's content: inline bytes or the chunk map. And cutting it.

use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use bytes::Bytes;
use wire::proto::{ChunkInfo, ChunkRef, NameReply, Replica};

use super::xattr;
use crate::chunk::Chunk;
use crate::inode::{Body, Inode};
use crate::state::{Context, Event};
use crate::tables::Tables;

/// The place of the bytes of `inode` in a reply: inline bytes (zeros filled in up to the size or the inline limit), or
/// up to `count` chunks with indexes from `first` on. Chunks that an inline file was granted are nobody's content yet.
pub(crate) fn fill(tables: &Tables, id: u64, first: u64, count: u32, reply: &mut NameReply) {
    let Ok(inode) = tables.inode(id) else { return };
    match &inode.body {
        Body::Inline { data, .. } => {
            reply.is_inline = true;
            reply.inline_data = inline_bytes(tables, inode, data);
        }
        Body::Chunked { .. } => {
            let Ok(first) = u32::try_from(first) else { return };
            let end = u64::from(first) + u64::from(count);
            let chunks = tables.chunks_of(id, first).take_while(|(_, chunk)| u64::from(chunk.index) < end);
            reply.chunks = chunks.map(|(id, chunk)| chunk_info(tables, id, chunk)).collect();
        }
        Body::Directory { .. } | Body::Symlink(_) | Body::Special { .. } => {}
    }
}

pub(crate) fn inline_bytes(tables: &Tables, inode: &Inode, data: &[u8]) -> Bytes {
    let limit = tables.config.as_ref().map_or(0, |config| u64::from(config.inline_limit));
    let length = (inode.size.min(limit) as usize).max(data.len());
    if length == data.len() {
        return Bytes::copy_from_slice(data);
    }
    let mut padded = Vec::with_capacity(length);
    padded.extend_from_slice(data);
    padded.resize(length, 0);
    padded.into()
}

pub(crate) fn chunk_info(tables: &Tables, id: u64, chunk: &Chunk) -> ChunkInfo {
    let replica = |&server_id: &u32| {
        let server = tables.server(server_id)?;
        Some(Replica { server_id, address: server.address.to_string() })
    };
    ChunkInfo {
        index: u64::from(chunk.index),
        chunk: Some(ChunkRef { id, version: chunk.version }),
        replicas: chunk.servers.as_slice().iter().filter_map(replica).collect(),
        written: chunk.written,
        trim: chunk.trim,
        healing: chunk.heal.is_some(),
        stored_bytes: chunk.stored_bytes,
        granted: !tables.writers(id).is_empty(),
    }
}

/// Free the chunks of a file from index `first` on.
pub(crate) fn free_chunks(cx: &mut Context, inode: u64, first: u32) {
    let ids: Vec<u64> = cx.tables.chunks_of(inode, first).map(|(id, _)| id).collect();
    let freed: Vec<_> = ids.into_iter().filter_map(|id| cx.tables.remove_chunk(id)).collect();
    if !freed.is_empty() {
        cx.events.push(Event::ChunksFreed(freed));
    }
}

/// Set the size of a regular file whose new size was checked: chunks behind it are freed, and the one cut in the
/// middle gets a new version whose bytes from the cut on read as zeros. A file that grows is cut at its old end where
/// somebody may have sent bytes beyond: they must not come up as part of it. A turn to append ends.
pub(crate) fn truncate(cx: &mut Context, id: u64, size: u64) {
    let Ok(inode) = cx.tables.inode(id) else { return };
    let mode = cx.caller.mode_after_write(inode);
    let inline = match &inode.body {
        Body::Inline { data, .. } => Some(data.clone()),
        _ => None,
    };
    let body = match inline {
        Some(data) => {
            free_chunks(cx, id, 0);
            let kept = size.min(data.len() as u64) as usize;
            let data = if kept == data.len() { data } else { Arc::from(&data[..kept]) };
            Some(Body::Inline { data, converter: 0 })
        }
        None if size == 0 => {
            free_chunks(cx, id, 0);
            Some(Inode::empty_file())
        }
        None if size < inode.size => {
            cut_chunks(cx, id, size);
            None
        }
        None => {
            // By this session too, which may have given bytes up.
            let (end, first) = (inode.size, (inode.size / CHUNK_BYTES) as u32);
            if cx.tables.chunks_of(id, first).any(|(chunk, _)| !cx.tables.writers(chunk).is_empty()) {
                cut_chunks(cx, id, end);
            }
            None
        }
    };
    cx.tables.remove_appender(id);
    xattr::drop_capabilities(cx.tables, id);
    let now_ns = cx.now_ns;
    cx.tables.edit(id, |inode| {
        if let Some(body) = body {
            inode.body = body;
        }
        inode.size = size;
        inode.mode = mode;
        inode.touch_data(now_ns);
    });
}

/// Bytes that were sent for places behind the end and not committed are void: versions that took them are over.
pub(crate) fn void_behind_end(cx: &mut Context, id: u64) {
    let Ok(inode) = cx.tables.inode(id) else { return };
    let size = inode.size;
    if let Body::Inline { .. } = inode.body {
        free_chunks(cx, id, 0);
        cx.tables.edit(id, |inode| {
            if let Body::Inline { converter, .. } = &mut inode.body {
                *converter = 0;
            }
        });
    } else {
        cut_chunks(cx, id, size);
    }
}

fn cut_chunks(cx: &mut Context, inode: u64, size: u64) {
    let offset = (size % CHUNK_BYTES) as u32;
    free_chunks(cx, inode, size.div_ceil(CHUNK_BYTES) as u32);
    if offset == 0 {
        return;
    }
    let index = (size / CHUNK_BYTES) as u32;
    let Some((id, written)) = cx.tables.chunk_at(inode, index).map(|(id, chunk)| (id, chunk.written)) else { return };
    if !written {
        free_chunks(cx, inode, index);
        return;
    }
    cx.tables.edit_chunk(id, |chunk| {
        chunk.advance(chunk.servers);
        chunk.trim = Some(chunk.trim.map_or(offset, |trim| trim.min(offset)));
        chunk.stored_bytes = chunk.stored_bytes.min(offset.next_multiple_of(base::limits::BLOCK_BYTES as u32));
    });
    cx.events.push(Event::ChunkChanged(id));
}
