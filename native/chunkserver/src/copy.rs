//! Making a copy of a chunk here from another server, as the leader commands it. The source is fenced first, so that
//! what is read stays what it is; every block is verified on receipt; nothing half-done stays behind.

use std::sync::Arc;
use std::time::Duration;

use base::limits::{BLOCK_BYTES, BLOCKS_PER_CHUNK, CHUNK_BYTES, MAX_PAYLOAD_BYTES};
use base::time::Deadline;
use base::{Buffer, Error, Result, crc};
use futures::{StreamExt, stream};
use wire::proto::{ChunkMap, ChunkMapReply, ChunkRead, ChunkReadReply, ChunkRef, CopyChunk, Replica};
use wire::{Link, Method};

use crate::metrics::add;
use crate::node::{Node, Opened, chunk_ref};

/// Reads on the way from the source. One waits for a round trip each time, many push clients' reads aside.
const WINDOW: usize = 4;
/// For one request to the source. Longer than a stall of a busy disk, shorter than anybody's patience.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole chunk: above 64 MiB at the speed of a very busy disk. Writers of the chunk wait meanwhile.
const COPY_TIMEOUT: Duration = Duration::from_secs(60);

/// Replace what is here of the chunk by the source's copy, durably. -> stored bytes
pub async fn copy(node: &Node, opened: &Opened, command: CopyChunk) -> Result<u32> {
    let chunk = chunk_ref(command.chunk)?;
    let source = command.source.ok_or_else(|| Error::namespace(libc::EINVAL, "the command names no source"))?;
    if source.server_id == node.server_id() {
        return Err(Error::namespace(libc::EINVAL, "a chunkserver cannot copy a chunk from itself"));
    }
    let outcome = tokio::time::timeout(COPY_TIMEOUT, fetch(node, opened, chunk, &source)).await.unwrap_or_else(|_| {
        Err(Error::unavailable(format!("the copy took longer than {COPY_TIMEOUT:?}; it is tried again later")))
    });
    match &outcome {
        Ok(stored_bytes) => {
            add(&node.metrics.copies_done, 1);
            add(&node.metrics.copied_bytes, u64::from(*stored_bytes));
            node.reports.forget(chunk.id);
        }
        Err(_) => add(&node.metrics.copies_failed, 1),
    }
    outcome.map_err(|error| {
        error.context(format!(
            "copying chunk {} version {} from chunkserver {}",
            chunk.id, chunk.version, source.server_id
        ))
    })
}

async fn fetch(node: &Node, opened: &Opened, chunk: chunk::ChunkRef, source: &Replica) -> Result<u32> {
    let link = opened.sources.connected(source, 0, Deadline::after(REQUEST_TIMEOUT)).await?;
    let wanted = ChunkRef { id: chunk.id, version: chunk.version };
    let request = ChunkMap { chunk: Some(wanted), fence: true };
    let reply = link.call(Method::ChunkMap, &request, None, Deadline::after(REQUEST_TIMEOUT)).await;
    let map: ChunkMapReply = forget_when_silent(opened, source, reply)?.decode()?;
    if map.version != chunk.version {
        return Err(Error::stale(format!("the source holds version {}", map.version)));
    }
    if map.present.len() > BLOCKS_PER_CHUNK / 8 {
        return Err(Error::integrity(format!("the source's map has {} bytes", map.present.len())));
    }

    let _turn = node.copying.take(chunk.id, 0, CHUNK_BYTES).await;
    let store = opened.store.clone();
    let mut target = node.background.run(move || store.begin_copy(chunk)).await?;
    let runs = runs(&map.present, MAX_PAYLOAD_BYTES / BLOCK_BYTES);
    let asked = runs.into_iter().map(|run| read_run(link.clone(), wanted, run));
    let mut arriving = stream::iter(asked).buffered(WINDOW);
    let mut listed = Vec::new();
    while let Some(arrived) = arriving.next().await {
        let (run, data, crcs) = forget_when_silent(opened, source, arrived)?;
        list(&mut listed, run, &crcs);
        target = node
            .background
            .run(move || {
                target.write((run.first * BLOCK_BYTES) as u32, &data, &crcs)?;
                Ok(target)
            })
            .await?;
    }
    if crc::crc32c(&listed) != map.digest {
        return Err(Error::stale("the source changed while it was read"));
    }
    node.background.run(move || target.finish()).await
}

async fn read_run(link: Arc<Link>, chunk: ChunkRef, run: Run) -> Result<(Run, Buffer, Vec<u8>)> {
    let (data, crcs) = read_blocks(&link, chunk, run.first, run.count).await?;
    Ok((run, data, crcs))
}

/// `count` blocks from `first` on, checked in every way that the reply allows, and their checksums.
pub async fn read_blocks(link: &Link, chunk: ChunkRef, first: usize, count: usize) -> Result<(Buffer, Vec<u8>)> {
    let offset = (first * BLOCK_BYTES) as u32;
    let length = (count * BLOCK_BYTES) as u32;
    let request = ChunkRead { chunk: Some(chunk), offset, length };
    let answer = link.call(Method::ChunkRead, &request, None, Deadline::after(REQUEST_TIMEOUT)).await?;
    let reply: ChunkReadReply = answer.decode()?;
    let data = answer.payload.unwrap_or_else(|| Buffer::take(0));
    if reply.version != chunk.version {
        return Err(Error::stale(format!("the source moved to version {}", reply.version)));
    }
    if (reply.offset, reply.length as usize, data.len()) != (offset, length as usize, length as usize) {
        return Err(Error::integrity(format!("the source answered {} bytes at {offset} with others", length)));
    }
    if let Err(at) = crc::check_pieces(offset as usize, &data, &reply.crcs) {
        return Err(Error::integrity(format!("bytes at {} were damaged on the way", offset as usize + at)));
    }
    Ok((data, reply.crcs))
}

pub fn forget_when_silent<T>(opened: &Opened, source: &Replica, outcome: Result<T>) -> Result<T> {
    if outcome.as_ref().is_err_and(|error| error.errno == libc::ETIMEDOUT) {
        opened.sources.forget(source);
    }
    outcome
}

/// Present blocks next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: usize,
    count: usize,
}

/// Runs of set bits, in order, each at most `longest` blocks.
fn runs(present: &[u8], longest: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for block in (0..present.len() * 8).filter(|block| present[block / 8] >> (block % 8) & 1 == 1) {
        match runs.last_mut() {
            Some(run) if run.first + run.count == block && run.count < longest => run.count += 1,
            _ => runs.push(Run { first: block, count: 1 }),
        }
    }
    runs
}

/// What the digest of `ChunkMapReply` covers: block index and block CRC of each present block, in order.
fn list(listed: &mut Vec<u8>, run: Run, crcs: &[u8]) {
    for (block, crc) in (run.first..).zip(crcs.chunks_exact(4)) {
        listed.extend_from_slice(&(block as u32).to_le_bytes());
        listed.extend_from_slice(crc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_exactly_the_present_blocks_in_order(present in prop::collection::vec(any::<u8>(), 0..64), longest in 1usize..20) {
            let runs = runs(&present, longest);
            let covered: Vec<usize> = runs.iter().flat_map(|run| run.first..run.first + run.count).collect();
            let expected: Vec<usize> = (0..present.len() * 8).filter(|at| present[at / 8] >> (at % 8) & 1 == 1).collect();
            prop_assert_eq!(covered, expected);
            prop_assert!(runs.iter().all(|run| (1..=longest).contains(&run.count)));
        }
    }
}
