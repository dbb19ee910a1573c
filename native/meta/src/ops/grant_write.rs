//! Where to write: make the chunk when it is missing, go on without failed servers, let go of nothing acknowledged.
//!
//! A chunk id stays with its place in the file from the first commit on. Before, a chunk with too few servers left is made
//! anew elsewhere: whoever wrote to it keeps the bytes until they are committed, and sends them again. In an inline file
//! chunk 0 belongs to one converter at a time, others wait. A converter that has ended, or takes too long, is replaced by
//! the next one that asks, which gets a fresh chunk: two converters in one chunk would overwrite each other with old inline
//! bytes. So is one that meets the turn to append.

use base::limits::{CHUNK_BYTES, MAX_FILE_BYTES};
use base::{Error, Result};
use wire::proto::{ChunkRef, GrantWrite, NameReply};

use super::{attr_reply, content, xattr};
use crate::chunk::{Chunk, ServerSet};
use crate::errors;
use crate::inode::Body;
use crate::place;
use crate::state::{ClusterConfig, Context, Event};
use crate::tables::{ENDED, Tables};

enum Plan {
    Keep(u64),
    Advance(u64, ServerSet),
    Make { servers: ServerSet, instead_of: Option<u64> },
}

pub(crate) fn grant_write(cx: &mut Context, op: &GrantWrite) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    if !inode.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    if op.index >= MAX_FILE_BYTES / CHUNK_BYTES {
        return Err(errors::file_too_big(op.inode));
    }
    if op.append && cx.tables.appender(op.inode).is_none_or(|holder| holder.session != cx.session) {
        // The place of those bytes may be somebody else's by now.
        return Err(errors::turn_lost(op.inode));
    }
    let index = op.index as u32;
    let plan = plan(cx, op, index)?;
    let mode = cx.caller.mode_after_write(inode);
    let was = inode.mode;
    if xattr::drop_capabilities(cx.tables, op.inode) || mode != was {
        let now_ns = cx.now_ns;
        cx.tables.edit(op.inode, |inode| {
            inode.mode = mode;
            inode.ctime_ns = now_ns;
        });
    }
    prepare_inode(cx, op.inode, index);
    let id = carry_out(cx, plan, op.inode, index);
    if cx.tables.chunk(id)?.heal.is_none() {
        cx.tables.grant(id, cx.session);
    }
    let mut reply = attr_reply(cx.tables, op.inode);
    content::fill(cx.tables, op.inode, 0, 0, &mut reply);
    reply.chunks = vec![content::chunk_info(cx.tables, id, cx.tables.chunk(id)?)];
    Ok(reply)
}

fn plan(cx: &Context, op: &GrantWrite, index: u32) -> Result<Plan> {
    let tables = &*cx.tables;
    let config = tables.config.as_deref().ok_or_else(errors::no_cluster)?;
    let Some((id, chunk)) = tables.chunk_at(op.inode, index) else {
        // Whoever failed with a chunk that is gone is no worse a place for a new one.
        let had_none = op.chunk.is_none_or(|chunk| chunk.id == 0);
        let avoided: &[u32] = if had_none { &op.failed } else { &[] };
        return Ok(Plan::Make { servers: place(cx, config, avoided)?, instead_of: None });
    };
    let only_ended = tables.writers(id) == [ENDED];
    if !chunk.written && only_ended {
        // Bytes that a client sent and never committed must not come up under another's.
        return Ok(Plan::Make { servers: place(cx, config, &[])?, instead_of: Some(id) });
    }
    if index == 0
        && let Some(converter) = converter_of(tables, op.inode)
        && converter != cx.session
    {
        // Who has the turn to append goes first: the converter's commit waits for it, if it moves the end.
        if tables.session(converter).is_ok() && !op.take_over && !op.append {
            return Err(errors::converting(op.inode, converter));
        }
        return Ok(Plan::Make { servers: place(cx, config, &[])?, instead_of: Some(id) });
    }
    let survivors = match op.chunk == Some(ChunkRef { id, version: chunk.version }) {
        true => chunk.servers.without(&op.failed),
        false => chunk.servers,
    };
    if survivors.len() < config.min_copies as usize {
        if !chunk.written {
            // Nothing of it is committed, so every writer still has its bytes: they go where they can be taken.
            let elsewhere = place(cx, config, &op.failed).or_else(|_| place(cx, config, &[]))?;
            return Ok(Plan::Make { servers: elsewhere, instead_of: Some(id) });
        }
        let message = format!(
            "chunk {id} has {} of the {} copies that a write needs; wait until it is healed or its servers are back",
            survivors.len(),
            config.min_copies
        );
        return Err(Error::unavailable(message));
    }
    Ok(if survivors.len() == chunk.servers.len() { Plan::Keep(id) } else { Plan::Advance(id, survivors) })
}

/// The session that moves the bytes of this inline file into chunks; none when there are no bytes to move.
fn converter_of(tables: &Tables, inode: u64) -> Option<u64> {
    match &tables.inode(inode).ok()?.body {
        Body::Inline { data, converter } if !data.is_empty() => Some(*converter),
        _ => None,
    }
}

/// Without inline bytes there is nothing to convert: the file lies in chunks from here on. Otherwise chunk 0 is this
/// session's to fill.
fn prepare_inode(cx: &mut Context, inode: u64, index: u32) {
    let session = cx.session;
    cx.tables.edit(inode, |inode| match &mut inode.body {
        Body::Inline { data, .. } if data.is_empty() => inode.body = Body::Chunked { stored: 0 },
        Body::Inline { converter, .. } if index == 0 => *converter = session,
        _ => {}
    });
}

fn carry_out(cx: &mut Context, plan: Plan, inode: u64, index: u32) -> u64 {
    match plan {
        Plan::Keep(id) => id,
        Plan::Advance(id, servers) => {
            cx.tables.edit_chunk(id, |chunk| chunk.advance(servers));
            cx.events.push(Event::ChunkChanged(id));
            id
        }
        Plan::Make { servers, instead_of } => {
            if let Some(freed) = instead_of.and_then(|id| cx.tables.remove_chunk(id)) {
                cx.events.push(Event::ChunksFreed(vec![freed]));
            }
            let id = cx.tables.next.chunk;
            cx.tables.next.chunk += 1;
            let chunk =
                Chunk { version: 1, inode, index, servers, written: false, heal: None, stored_bytes: 0, trim: None };
            cx.tables.put_chunk(id, chunk);
            cx.events.push(Event::ChunkChanged(id));
            id
        }
    }
}

/// Servers for the next new chunk. Fewer than `copies` will do, down to `min_copies`.
fn place(cx: &Context, config: &ClusterConfig, avoided: &[u32]) -> Result<ServerSet> {
    let need = config.min_copies as usize;
    let usable = cx.tables.servers().filter(|(id, server)| server.up && server.weight > 0 && !avoided.contains(id));
    let candidates: Vec<(u32, u32)> = usable.map(|(id, server)| (id, server.weight)).collect();
    if candidates.len() >= need {
        return Ok(place::draw(candidates, config.copies as usize, cx.tables.next.chunk, cx.seed));
    }
    // Servers enough, but too few with space: waiting would not help. Otherwise the missing ones may come (back).
    let known = cx.tables.servers().count();
    let with_space = cx.tables.servers().filter(|(_, server)| server.weight > 0).count();
    if known >= need && with_space < need {
        let message =
            format!("{with_space} of {known} chunkservers have space, {need} are needed; delete or add disks");
        return Err(Error::namespace(libc::ENOSPC, message));
    }
    let found = candidates.len();
    Err(Error::unavailable(format!("{found} chunkservers can take a new chunk, {need} are needed; start the others")))
}
