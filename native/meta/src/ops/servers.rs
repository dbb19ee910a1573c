//! Chunkservers as the cluster knows them. A registration's epoch fences whatever the server did under earlier ones.

use std::sync::Arc;

use base::{Error, Result};
use wire::proto::{AdminReply, ConfirmServer, ForgetServer, RegisterServer, SetServerUp, SetWeights};

use super::heal::last_copy;
use crate::errors;
use crate::state::{Context, Event};
use crate::tables::Server;

/// Until the planner has seen its disks.
const FIRST_WEIGHT: u32 = 100;
const MAX_ADDRESS_BYTES: usize = 300;

/// A server that (re)starts gets a new epoch and is up. Its weight and its place in write sets stay.
pub(crate) fn register(cx: &mut Context, op: &RegisterServer) -> Result<AdminReply> {
    if op.server_id == 0 {
        return Err(errors::invalid("a chunkserver's id must be above 0"));
    }
    if op.address.is_empty() || op.address.len() > MAX_ADDRESS_BYTES {
        return Err(errors::invalid(format!("a chunkserver's address must have 1 to {MAX_ADDRESS_BYTES} bytes")));
    }
    let epoch = cx.tables.next.epoch;
    cx.tables.next.epoch += 1;
    let known = cx.tables.server(op.server_id);
    let server = Server {
        address: Arc::from(op.address.as_str()),
        epoch,
        confirmed: known.map_or(0, |server| server.confirmed),
        remembered: known.map_or(0, |server| server.remembered),
        boot_id: op.boot_id,
        up: true,
        weight: known.map_or(FIRST_WEIGHT, |server| server.weight),
        chunks: known.map_or(0, |server| server.chunks),
    };
    cx.tables.put_server(op.server_id, server);
    Ok(AdminReply { epoch, ..AdminReply::default() })
}

/// The server's disks remember its epoch and this place of the log durably: one that does not is an older image from here
/// on.
pub(crate) fn confirm(cx: &mut Context, op: &ConfirmServer) -> Result<AdminReply> {
    let server = at_epoch(cx, op.server_id, op.epoch)?;
    (server.confirmed, server.remembered) = (op.epoch, op.remembered);
    Ok(AdminReply { epoch: op.epoch, ..AdminReply::default() })
}

pub(crate) fn set_up(cx: &mut Context, op: &SetServerUp) -> Result<AdminReply> {
    at_epoch(cx, op.server_id, op.epoch)?.up = op.up;
    Ok(AdminReply { epoch: op.epoch, ..AdminReply::default() })
}

fn at_epoch<'a>(cx: &'a mut Context, id: u32, epoch: u64) -> Result<&'a mut Server> {
    let Some(server) = cx.tables.server_mut(id) else { return Err(unknown(id)) };
    if server.epoch != epoch {
        let message = format!("chunkserver {id} is at epoch {}, not {epoch}", server.epoch);
        return Err(Error::stale(message));
    }
    Ok(server)
}

/// Servers that are not known (any more) are passed over.
pub(crate) fn set_weights(cx: &mut Context, op: &SetWeights) -> Result<AdminReply> {
    for weight in &op.weights {
        if let Some(server) = cx.tables.server_mut(weight.server_id) {
            server.weight = weight.weight;
        }
    }
    Ok(AdminReply::default())
}

pub(crate) fn forget(cx: &mut Context, op: &ForgetServer) -> Result<AdminReply> {
    let id = op.server_id;
    let server = cx.tables.server(id).ok_or_else(|| unknown(id))?;
    if server.up {
        let message = format!("chunkserver {id} is up; stop it before it is forgotten");
        return Err(Error::namespace(libc::EBUSY, message));
    }
    let mut holds = Vec::new();
    let mut heals = Vec::new();
    for (chunk_id, chunk) in cx.tables.chunks_from(0) {
        if chunk.servers.contains(id) {
            if chunk.servers.len() == 1 {
                return Err(last_copy(chunk_id, id));
            }
            holds.push(chunk_id);
        } else if chunk.heal.is_some_and(|heal| heal.target == id) {
            heals.push(chunk_id);
        }
    }
    for &chunk in &holds {
        cx.tables.edit_chunk(chunk, |chunk| chunk.advance(chunk.servers.without(&[id])));
    }
    for &chunk in &heals {
        cx.tables.edit_chunk(chunk, |chunk| chunk.heal = None);
    }
    cx.events.extend(holds.into_iter().chain(heals).map(Event::ChunkChanged));
    cx.tables.remove_server(id);
    Ok(AdminReply::default())
}

fn unknown(server: u32) -> Error {
    Error::namespace(libc::ENOENT, format!("chunkserver {server} is not registered"))
}
