//! Copies come and go: begin and end of adding one, dropping a bad one. Each change of the set is a new version, but for
//! the arrival of the healed copy, which was made at the version of the running heal. A heal without a target adds nothing:
//! the copies are compared while writers wait, and what writers that have ended left in some of them is settled.

use base::{Error, ErrorKind, Result};
use wire::proto::{AdminReply, AdoptCopies, BeginHeal, DropReplica, EndHeal};

use base::limits::CHUNK_BYTES;

use crate::chunk::{Chunk, Heal, MAX_COPIES, SETTLING, ServerSet};
use crate::errors;
use crate::state::{Context, Event};
use crate::tables::ENDED;

pub(crate) fn begin(cx: &mut Context, op: &BeginHeal) -> Result<AdminReply> {
    let chunk = at_version(cx, op.chunk_id, op.version)?;
    let target = cx.tables.server(op.target);
    if op.target != SETTLING && !target.is_some_and(|server| server.up) {
        let message = format!("chunkserver {} is not up and cannot take a copy of chunk {}", op.target, op.chunk_id);
        return Err(Error::unavailable(message));
    }
    if let Some(heal) = chunk.heal {
        let message = format!("chunk {} is being healed to chunkserver {} already", op.chunk_id, heal.target);
        return Err(Error::new(ErrorKind::Stale, libc::EBUSY, message));
    }
    let servers = chunk.servers.without(&[op.target]);
    if servers.len() == 0 {
        return Err(last_copy(op.chunk_id, op.target));
    }
    if servers.len() == MAX_COPIES {
        return Err(errors::invalid(format!("chunk {} has {MAX_COPIES} copies already", op.chunk_id)));
    }
    if op.target == SETTLING && !chunk.written {
        return forget_unwritten(cx, op.chunk_id);
    }
    let end = cx.tables.inode(chunk.inode)?.size.saturating_sub(u64::from(chunk.index) * CHUNK_BYTES);
    let heal = Heal { id: cx.tables.next.heal, target: op.target };
    cx.tables.next.heal += 1;
    cx.tables.edit_chunk(op.chunk_id, |chunk| {
        chunk.advance(servers);
        chunk.heal = Some(heal);
        if op.target == SETTLING && end < CHUNK_BYTES {
            // Nothing that was sent for places behind the end was committed.
            chunk.trim = Some(chunk.trim.map_or(end as u32, |trim| trim.min(end as u32)));
        }
    });
    Ok(changed(cx, op.chunk_id))
}

/// A chunk without a committed byte goes with its last writer.
fn forget_unwritten(cx: &mut Context, id: u64) -> Result<AdminReply> {
    if let Some(writer) = cx.tables.writers(id).iter().find(|writer| **writer != ENDED) {
        let message = format!("session {writer} is about to write chunk {id}");
        return Err(Error::new(ErrorKind::Stale, libc::EBUSY, message));
    }
    if let Some(freed) = cx.tables.remove_chunk(id) {
        cx.events.push(Event::ChunksFreed(vec![freed]));
    }
    Ok(AdminReply::default())
}

pub(crate) fn end(cx: &mut Context, op: &EndHeal) -> Result<AdminReply> {
    let chunk = cx.tables.chunk(op.chunk_id)?;
    let Some(heal) = chunk.heal.filter(|heal| heal.id == op.heal_id) else {
        let message = format!("heal {} of chunk {} does not run any more; start another", op.heal_id, op.chunk_id);
        return Err(Error::stale(message));
    };
    cx.tables.edit_chunk(op.chunk_id, |chunk| {
        chunk.heal = None;
        if op.ok && heal.target != SETTLING {
            chunk.servers.push(heal.target);
        }
    });
    if op.ok && heal.target == SETTLING {
        // Earlier versions are fenced on every copy: nobody's bytes of them can arrive any more.
        cx.tables.settle_all(op.chunk_id);
    }
    Ok(changed(cx, op.chunk_id))
}

/// A server that is not in the set is no error: it was dropped before.
pub(crate) fn drop_replica(cx: &mut Context, op: &DropReplica) -> Result<AdminReply> {
    let chunk = at_version(cx, op.chunk_id, op.version)?;
    if chunk.servers.contains(op.server_id) {
        let servers = chunk.servers.without(&[op.server_id]);
        if servers.len() == 0 {
            return Err(last_copy(op.chunk_id, op.server_id));
        }
        cx.tables.edit_chunk(op.chunk_id, |chunk| chunk.advance(servers));
        return Ok(changed(cx, op.chunk_id));
    }
    Ok(AdminReply { chunk: Some(chunk.state(op.chunk_id, cx.tables.writers(op.chunk_id))), ..AdminReply::default() })
}

/// These masters were put back: what copies hold beyond their knowledge is taken as it is. Bytes of a chunk that nobody
/// committed here stay unread.
pub(crate) fn adopt(cx: &mut Context, op: &AdoptCopies) -> Result<AdminReply> {
    let chunk = at_version(cx, op.chunk_id, op.version)?;
    if op.held <= chunk.version || op.held == u32::MAX {
        let message =
            format!("copies of chunk {} at version {} are not ahead of {}", op.chunk_id, op.held, chunk.version);
        return Err(errors::invalid(message));
    }
    let servers: ServerSet = op.servers.iter().copied().collect();
    let unknown = op.servers.iter().find(|server| cx.tables.server(**server).is_none());
    if servers.len() == 0 || servers.len() != op.servers.len() || unknown.is_some() {
        let message = format!("chunkservers {:?} cannot be the write set of chunk {}", op.servers, op.chunk_id);
        return Err(errors::invalid(message));
    }
    cx.tables.edit_chunk(op.chunk_id, |chunk| {
        chunk.advance(servers);
        chunk.version = op.held;
        if !chunk.written {
            chunk.trim = Some(0);
        }
    });
    cx.tables.grant(op.chunk_id, ENDED);
    Ok(changed(cx, op.chunk_id))
}

fn at_version<'a>(cx: &'a Context, id: u64, version: u32) -> Result<&'a Chunk> {
    let chunk = cx.tables.chunk(id)?;
    if chunk.version == version { Ok(chunk) } else { Err(errors::other_version(id, version, chunk.version)) }
}

fn changed(cx: &mut Context, id: u64) -> AdminReply {
    cx.events.push(Event::ChunkChanged(id));
    let state = cx.tables.chunk(id).ok().map(|chunk| chunk.state(id, cx.tables.writers(id)));
    AdminReply { chunk: state, ..AdminReply::default() }
}

pub(crate) fn last_copy(chunk: u64, server: u32) -> Error {
    Error::namespace(libc::EBUSY, format!("chunkserver {server} holds the last copy of chunk {chunk}; heal it first"))
}
