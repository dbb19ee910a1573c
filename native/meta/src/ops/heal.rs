//! Copies come and go: begin and end of adding one, dropping a bad one. Each change of the set is a new version, but for
//! the arrival of the healed copy, which was made at the version of the running heal.

use base::{Error, ErrorKind, Result};
use wire::proto::{AdminReply, BeginHeal, DropReplica, EndHeal};

use crate::chunk::{Chunk, Heal, MAX_COPIES};
use crate::errors;
use crate::state::{Context, Event};

pub(crate) fn begin(cx: &mut Context, op: &BeginHeal) -> Result<AdminReply> {
    let chunk = at_version(cx, op.chunk_id, op.version)?;
    let target = cx.tables.server(op.target);
    if !target.is_some_and(|server| server.up) {
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
    let heal = Heal { id: cx.tables.next.heal, target: op.target };
    cx.tables.next.heal += 1;
    cx.tables.edit_chunk(op.chunk_id, |chunk| {
        chunk.advance(servers);
        chunk.heal = Some(heal);
    });
    Ok(changed(cx, op.chunk_id))
}

pub(crate) fn end(cx: &mut Context, op: &EndHeal) -> Result<AdminReply> {
    let chunk = cx.tables.chunk(op.chunk_id)?;
    let Some(heal) = chunk.heal.filter(|heal| heal.id == op.heal_id) else {
        let message = format!("heal {} of chunk {} does not run any more; start another", op.heal_id, op.chunk_id);
        return Err(Error::stale(message));
    };
    cx.tables.edit_chunk(op.chunk_id, |chunk| {
        chunk.heal = None;
        if op.ok {
            chunk.servers.push(heal.target);
        }
    });
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
    Ok(AdminReply { chunk: Some(chunk.state(op.chunk_id)), ..AdminReply::default() })
}

fn at_version<'a>(cx: &'a Context, id: u64, version: u32) -> Result<&'a Chunk> {
    let chunk = cx.tables.chunk(id)?;
    if chunk.version == version { Ok(chunk) } else { Err(errors::other_version(id, version, chunk.version)) }
}

fn changed(cx: &mut Context, id: u64) -> AdminReply {
    cx.events.push(Event::ChunkChanged(id));
    AdminReply { chunk: cx.tables.chunk(id).ok().map(|chunk| chunk.state(id)), ..AdminReply::default() }
}

pub(crate) fn last_copy(chunk: u64, server: u32) -> Error {
    Error::namespace(libc::EBUSY, format!("chunkserver {server} holds the last copy of chunk {chunk}; heal it first"))
}
