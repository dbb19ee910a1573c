//! What a chunkserver answers on its data port. Everything is checked before anything is changed; disk work runs on
//! plain threads; a write runs to its end even when its writer went away.

use std::sync::Arc;
use std::time::Instant;

use base::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_PAYLOAD_BYTES};
use base::{Buffer, Error, ErrorKind, Reason, Result, crc};
use prost::Message;
use wire::budget::OUTSIDE;
use wire::frame::MAX_FRAME_PAYLOAD_BYTES as MAX_REPLY;
use wire::proto::{
    ChunkCopy, ChunkFill, ChunkMap, ChunkMapReply, ChunkRead, ChunkReadReply, ChunkSync, ChunkSyncReply, ChunkTrim,
    ChunkWrite, ChunkWriteReply, Fill, Hello, Replica, Role, Stamp,
};
use wire::service::Budgets;
use wire::{Handler, Method, Peer, Request, Response, Weight};

use crate::borrow;
use crate::metrics::{Op, add};
use crate::node::{Node, Opened, chunk_ref};
use crate::outcome;
use crate::turns::Turn;

/// Servers behind this one in a chain. Far above any sensible number of copies.
const MAX_CHAIN: usize = 15;
/// Reads up to this run in place (see `Pool::run_short`). At 1 MiB the copy outweighs the change of threads, and
/// running in place is a fifth slower.
const SHORT_READ_BYTES: u32 = 64 << 10;

/// The longest message of a request: checksums of 257 pieces and a chain of long addresses.
const MAX_REQUEST_BYTES: usize = 8 << 10;

/// What says how many servers are behind this one in `ChunkWrite`, without its checksums, and in `ChunkFill`.
#[derive(Clone, PartialEq, Message)]
struct ChainOnly {
    #[prost(message, repeated, tag = "6")]
    chain: Vec<Replica>,
}

/// What a request needs of the budgets; of nonsense the most, it is refused later.
fn weigh(method: u16, message: &[u8], from_chain: bool) -> Weight {
    let is = |wanted: Method| method == wanted as u16;
    let rank = match from_chain {
        // Copies are read by who holds nothing here.
        true if !is(Method::ChunkWrite) && !is(Method::ChunkFill) => 0,
        true => ChainOnly::decode(message).map_or(OUTSIDE, |only| only.chain.len().min(OUTSIDE)),
        false => OUTSIDE,
    };
    let read_bytes = |length: u32| (length as usize + 2 * BLOCK_BYTES).min(MAX_REPLY);
    let reply_bytes = match Method::try_from(method) {
        Ok(Method::ChunkRead) => ChunkRead::decode(message).map_or(0, |read| read_bytes(read.length)),
        // Not answered, but read and held here as long.
        Ok(Method::ChunkCopy) => ChunkCopy::decode(message).map_or(MAX_REPLY, |copy| read_bytes(copy.length)),
        _ => 0,
    };
    Weight { rank, reply_bytes }
}

impl Handler for Node {
    fn hello(&self) -> Hello {
        Node::hello(self)
    }

    fn budgets(&self) -> Option<&Budgets> {
        Some(&self.budgets)
    }

    fn weigh(&self, method: u16, message: &[u8], peer: &Peer) -> Weight {
        weigh(method, message, peer.hello.role == Role::Chunkserver as i32)
    }

    fn longest_message(&self) -> usize {
        MAX_REQUEST_BYTES
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        let _busy = self.enter()?;
        let opened = self.opened()?;
        require_same_cluster(&opened, &request.peer)?;
        self.first_look(&opened).await?;
        let started = Instant::now();
        let (op, outcome) = match request.method {
            Method::ChunkWrite => (Op::Write, write(&self, &opened, request).await),
            Method::ChunkFill => (Op::Fill, fill(&self, &opened, request).await),
            Method::ChunkCopy => (Op::Copy, copy(&self, &opened, request).await),
            Method::ChunkTrim => (Op::Trim, trim(&self, &opened, request).await),
            Method::ChunkSync => (Op::Sync, sync(&self, &opened, request).await),
            Method::ChunkRead => (Op::Read, read(&self, &opened, request).await),
            Method::ChunkMap => (Op::Map, map(&self, &opened, request).await),
            other => {
                let sentence = format!("a chunkserver does not answer {other:?}; ask a master");
                return Err(Error::namespace(libc::EOPNOTSUPP, sentence));
            }
        };
        self.metrics.finished(op, started, outcome.is_ok());
        outcome
    }
}

/// The hello was checked too, but possibly before this server knew its own cluster.
fn require_same_cluster(opened: &Opened, peer: &Peer) -> Result<()> {
    if peer.hello.cluster_id.is_empty() || peer.hello.cluster_id == opened.cluster_id {
        return Ok(());
    }
    Err(Error::namespace(
        libc::EREMCHG,
        format!(
            "this chunkserver belongs to cluster {:?} and not to {:?}; use that cluster's masters",
            opened.cluster_id, peer.hello.cluster_id
        ),
    ))
}

async fn write(node: &Node, opened: &Arc<Opened>, request: Request) -> Result<Response> {
    let message: ChunkWrite = request.decode()?;
    let payload_len = request.payload.as_ref().map_or(0, |payload| payload.len());
    check_write(&message, payload_len)?;
    check_chain(&message.chain, node.server_id())?;
    let chunk = chunk_ref(message.chunk)?;
    let payload = Arc::new(request.payload.unwrap_or_else(|| Buffer::take(0)));
    let (start, end) = (u64::from(message.offset), u64::from(message.offset) + u64::from(message.length));
    let _turn = turn_at_head(node, &request.peer, chunk.id, start, end).await;
    write_on(node, opened, chunk, message, payload).await
}

/// In its turn: here and on the servers behind.
async fn write_on(
    node: &Node,
    opened: &Arc<Opened>,
    chunk: chunk::ChunkRef,
    message: ChunkWrite,
    payload: Arc<Buffer>,
) -> Result<Response> {
    // What is refused here is not passed on either: a next server that was started anew knows no rounds.
    opened.store.check_sender(chunk.id, sender(&message))?;
    let own = write_here(node, opened, chunk, &message, payload.clone());
    let downstream = opened.chain.forward(Method::ChunkWrite, &message.chain, Some(payload), |chain| ChunkWrite {
        chain,
        crcs: message.crcs.clone(),
        ..message
    });
    let (own, downstream) = tokio::join!(own, downstream);
    stamped(node, own, downstream)
}

async fn write_here(
    node: &Node,
    opened: &Opened,
    chunk: chunk::ChunkRef,
    message: &ChunkWrite,
    payload: Arc<Buffer>,
) -> Result<Stamp> {
    let (store, data, crcs) = (opened.store.clone(), payload.clone(), message.crcs.clone());
    let (sender, offset, create) = (sender(message), message.offset, message.create);
    let written = node.io.run(move || store.write(chunk, sender, offset, &data, &crcs, create)).await;
    let stored_bytes = match written {
        Ok(stored_bytes) => stored_bytes,
        // The writer's bytes are wrong, or those that the write partly covers on our disk: only the latter is ours.
        Err(error) if error.kind == ErrorKind::Integrity => {
            if crc::check_pieces(offset as usize, &payload, &message.crcs).is_ok() {
                node.found_bad(chunk);
                return Err(outcome::own(error, node.server_id()));
            }
            return Err(error);
        }
        Err(error) => return Err(outcome::own(error, node.server_id())),
    };
    opened.unsynced.lock().insert(chunk.id);
    add(&node.metrics.written_bytes, payload.len() as u64);
    if message.sync {
        opened.sync(node, chunk).await.map_err(|error| outcome::own(error, node.server_id()))?;
    }
    Ok(stamp(node, stored_bytes))
}

/// A hole goes here and down the chain at once, as bytes do: the first copy lacks nothing that another shows. A promise
/// goes down first: where it is refused, the first copy, which the others are made like, is as it was.
async fn fill(node: &Node, opened: &Arc<Opened>, request: Request) -> Result<Response> {
    let message: ChunkFill = request.decode()?;
    let fill = match Fill::try_from(message.fill) {
        Ok(Fill::Hole) => chunk::Fill::Hole,
        Ok(Fill::Promise) => chunk::Fill::Promise,
        Err(_) => return Err(invalid(format!("{} is no way to fill a span", message.fill))),
    };
    let (start, end) = (u64::from(message.offset), u64::from(message.offset) + u64::from(message.length));
    if message.length == 0 || end > CHUNK_BYTES {
        return Err(invalid(format!("{} bytes at {start} are not within a chunk", message.length)));
    }
    check_chain(&message.chain, node.server_id())?;
    let chunk = chunk_ref(message.chunk)?;
    let _turn = turn_at_head(node, &request.peer, chunk.id, start, end).await;
    fill_on(node, opened, chunk, message, fill).await
}

/// In its turn: here and on the servers behind.
async fn fill_on(
    node: &Node,
    opened: &Arc<Opened>,
    chunk: chunk::ChunkRef,
    message: ChunkFill,
    fill: chunk::Fill,
) -> Result<Response> {
    let sender = chunk::Sender { writer: message.writer, round: message.round };
    opened.store.check_sender(chunk.id, sender)?;

    let (offset, length, create) = (message.offset, message.length, message.create);
    let own = async {
        let store = opened.store.clone();
        let filled = node.stable.run(move || store.fill(chunk, sender, offset, length, fill, create)).await;
        if filled.as_ref().is_err_and(|error| error.kind == ErrorKind::Integrity) {
            node.found_bad(chunk);
        }
        let stored_bytes = filled.map_err(|error| outcome::own(error, node.server_id()))?;
        opened.unsynced.lock().insert(chunk.id);
        Ok(stamp(node, stored_bytes))
    };
    let chain = message.chain.clone();
    let downstream = opened.chain.forward(Method::ChunkFill, &chain, None, |chain| ChunkFill { chain, ..message });
    let (own, downstream) = match fill {
        chunk::Fill::Hole => tokio::join!(own, downstream),
        chunk::Fill::Promise => {
            let downstream = downstream.await;
            (if downstream.is_ok() { own.await } else { Ok(stamp(node, 0)) }, downstream)
        }
    };
    stamped(node, own, downstream)
}

/// Bytes of another chunk, as if the client had read them and sent them to the first server.
async fn copy(node: &Node, opened: &Arc<Opened>, request: Request) -> Result<Response> {
    let message: ChunkCopy = request.decode()?;
    check_range(message.offset, message.length)?;
    check_range(message.source_offset, message.length)?;
    check_chain(&message.chain, node.server_id())?;
    let (chunk, source) = (chunk_ref(message.chunk)?, chunk_ref(message.source)?);
    let (start, end) = (u64::from(message.offset), u64::from(message.offset) + u64::from(message.length));
    let payload = borrow::read(node, opened, source, &message).await?;
    let _turn = turn_at_head(node, &request.peer, chunk.id, start, end).await;
    let ChunkCopy { chunk: target, offset, length, create, chain, writer, round, .. } = message;
    if payload.iter().all(|byte| *byte == 0) {
        let fill = Fill::Hole.into();
        let message = ChunkFill { chunk: target, offset, length, fill, create, chain, writer, round };
        return fill_on(node, opened, chunk, message, chunk::Fill::Hole).await;
    }
    let crcs = crc::piece_crcs(offset as usize, &payload);
    let message = ChunkWrite { chunk: target, offset, length, crcs, create, chain, sync: false, writer, round };
    write_on(node, opened, chunk, message, payload).await
}

async fn trim(node: &Node, opened: &Arc<Opened>, request: Request) -> Result<Response> {
    let message: ChunkTrim = request.decode()?;
    if u64::from(message.length) > CHUNK_BYTES {
        return Err(invalid(format!("a trim to {} bytes lies beyond the chunk", message.length)));
    }
    check_chain(&message.chain, node.server_id())?;
    let chunk = chunk_ref(message.chunk)?;
    let length = message.length;
    let _turn = turn_at_head(node, &request.peer, chunk.id, u64::from(length), CHUNK_BYTES).await;

    let own = async {
        let store = opened.store.clone();
        let trimmed = node.stable.run(move || store.trim(chunk, length)).await;
        trimmed.map(|stored_bytes| stamp(node, stored_bytes)).map_err(|error| outcome::own(error, node.server_id()))
    };
    let downstream =
        opened.chain.forward(Method::ChunkTrim, &message.chain, None, |chain| ChunkTrim { chain, ..message });
    let (own, downstream) = tokio::join!(own, downstream);
    stamped(node, own, downstream)
}

async fn sync(node: &Node, opened: &Opened, request: Request) -> Result<Response> {
    let message: ChunkSync = request.decode()?;
    let chunk = chunk_ref(message.chunk)?;
    if message.boot_id != node.boot_id {
        return Err(Error::stale(format!(
            "chunkserver {} was started anew since these writes and may have lost them; send them again",
            node.server_id()
        ))
        .with_failed(node.server_id())
        .because(Reason::Restarted));
    }
    let stored_bytes = opened.sync(node, chunk).await.map_err(|error| outcome::own(error, node.server_id()))?;
    Ok((&ChunkSyncReply { stamp: Some(stamp(node, stored_bytes)) }).into())
}

async fn read(node: &Node, opened: &Opened, request: Request) -> Result<Response> {
    let message: ChunkRead = request.decode()?;
    check_range(message.offset, message.length)?;
    let chunk = chunk_ref(message.chunk)?;
    let store = opened.store.clone();
    let (offset, length) = (message.offset, message.length);
    let work = move || store.read(chunk, offset, length);
    let outcome = if length <= SHORT_READ_BYTES { node.io.run_short(work).await } else { node.io.run(work).await };
    let block = match outcome {
        Ok(block) => block,
        Err(error) => {
            if error.kind == ErrorKind::Integrity {
                add(&node.metrics.bad_blocks_read, 1);
                node.found_bad(chunk);
            }
            return Err(outcome::own(error, node.server_id()));
        }
    };
    add(&node.metrics.read_bytes, block.data.len() as u64);
    let reply = ChunkReadReply {
        offset: block.offset,
        length: block.data.len() as u32,
        crcs: block.crcs,
        version: block.version,
        stored_bytes: block.stored_bytes,
        boot_id: node.boot_id,
    };
    Ok(Response { payload: Some(Arc::new(block.data)), ..Response::from(&reply) })
}

async fn map(node: &Node, opened: &Opened, request: Request) -> Result<Response> {
    let message: ChunkMap = request.decode()?;
    let chunk = chunk_ref(message.chunk)?;
    let (store, fence) = (opened.store.clone(), message.fence);
    let mapped = node.stable.run(move || {
        if fence {
            store.fence(chunk)?;
        }
        store.map(chunk)
    });
    let map = mapped.await.map_err(|error| outcome::own(error, node.server_id()))?;
    Ok((&ChunkMapReply { version: map.version, present: map.present, digest: map.digest }).into())
}

fn sender(message: &ChunkWrite) -> chunk::Sender {
    chunk::Sender { writer: message.writer, round: message.round }
}

/// One answer for both halves of a change.
fn stamped(node: &Node, own: Result<Stamp>, downstream: Result<Vec<Stamp>>) -> Result<Response> {
    add(&node.metrics.chain_failures, u64::from(downstream.is_err()));
    let stamps = outcome::merge(own, downstream)?;
    Ok((&ChunkWriteReply { stamps }).into())
}

fn stamp(node: &Node, stored_bytes: u32) -> Stamp {
    Stamp { server_id: node.server_id(), boot_id: node.boot_id, stored_bytes }
}

/// A client asks the head of a chain, a chunkserver those behind it.
async fn turn_at_head<'a>(node: &'a Node, peer: &Peer, chunk: u64, start: u64, end: u64) -> Option<Turn<'a>> {
    if peer.hello.role == Role::Chunkserver as i32 {
        return None;
    }
    Some(node.turns.take(chunk, start, end).await)
}

fn check_write(message: &ChunkWrite, payload_len: usize) -> Result<()> {
    check_range(message.offset, message.length)?;
    if message.length as usize != payload_len {
        return Err(invalid(format!("a write of {} bytes came with {payload_len}", message.length)));
    }
    let pieces = crc::pieces(message.offset as usize, payload_len).count();
    if message.crcs.len() != pieces * 4 {
        return Err(invalid(format!("{pieces} pieces came with {} bytes of checksums", message.crcs.len())));
    }
    Ok(())
}

fn check_range(offset: u32, length: u32) -> Result<()> {
    if length == 0 || length as usize > MAX_PAYLOAD_BYTES || u64::from(offset) + u64::from(length) > CHUNK_BYTES {
        return Err(invalid(format!(
            "{length} bytes at {offset} are not 1 to {MAX_PAYLOAD_BYTES} bytes within a chunk of {CHUNK_BYTES}"
        )));
    }
    Ok(())
}

fn check_chain(chain: &[Replica], server_id: u32) -> Result<()> {
    if chain.len() > MAX_CHAIN {
        return Err(invalid(format!("a chain of {} servers is longer than {MAX_CHAIN}", chain.len())));
    }
    let mut seen = vec![server_id];
    for replica in chain {
        if replica.server_id == 0 || replica.address.is_empty() || seen.contains(&replica.server_id) {
            return Err(invalid(format!("the chain names server {} twice, or without an address", replica.server_id)));
        }
        seen.push(replica.server_id);
    }
    Ok(())
}

fn invalid(sentence: String) -> Error {
    Error::namespace(libc::EINVAL, sentence)
}
