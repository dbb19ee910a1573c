//! Fetches one span of one chunk from the best copy: the next one after a failure, a second one when the first is slow,
//! all again with a fresh map until the deadline. Bytes that fail their checksum never leave this file.

use std::sync::Arc;
use std::time::Duration;

use base::limits::BLOCK_BYTES;
use base::time::Deadline;
use base::{Buffer, Error, ErrorKind, Result, crc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use wire::Method;
use wire::proto::{ChunkInfo, ChunkRead, ChunkReadReply, Replica};

use super::read::{located, place};
use super::{Drive, FileRef};
use crate::file::{Event, Fetched, Patch, chain};
use crate::metrics::add;
use crate::peers::Failure;
use wire::backoff::Backoff;

/// How long one copy may take before it counts as failed.
pub const READ_TIMEOUT: Duration = Duration::from_secs(4);
/// A second copy is asked after this, or after four times the usual time when that is longer.
const HEDGE_AFTER: Duration = Duration::from_millis(50);
const HEDGE_AT_LATEST: Duration = Duration::from_secs(1);

/// `start..end` of the file, which lie in one chunk and are at most a segment long. `turn` shifts which copy is read first:
/// with another one for each open, every copy is read now and then, so that rot is found, and many readers spread.
/// -> the bytes, and those of ours that lie over them: noted when it is known where the chunk lies, before it is read, and
/// once more afterwards, as the answer may show that a server lost what it had acknowledged. `number`: of this fetch.
pub async fn fetch(
    drive: &Arc<Drive>,
    file: &FileRef,
    (turn, number): (u64, u64),
    start: u64,
    end: u64,
) -> Result<(Fetched, Vec<Patch>)> {
    let (index, span) = place(start, end);
    let (offset, length) = (span.0, (end - start) as u32);
    let deadline = drive.peers.deadline();
    let (mut backoff, mut refresh) = (Backoff::default(), false);
    // As a server called it old.
    let mut old = None;
    loop {
        let (info, mut patches) = located(drive, file, index, span, refresh).await?;
        let readable = info.trim.map_or(length, |trim| trim.saturating_sub(offset).min(length));
        if !info.written || info.chunk.is_none() || readable == 0 {
            return Ok((zeros(length), patches));
        }
        match fetch_any(drive, file, &info, old == info.chunk, turn, (offset, length)).await {
            Ok(fetched) => {
                drive.with(file, |inner| {
                    patches.extend(inner.file.patches(index, span.0, span.1));
                    if info.granted {
                        // Whoever sees these bytes must not go back to older ones through another handle.
                        inner.readers.values_mut().for_each(|reader| reader.drop_older(start, end, number));
                    }
                });
                return Ok((cut_tail(fetched, readable), patches));
            }
            Err(error) if deadline.passed() => {
                return Err(Error::unavailable(format!(
                    "no copy of chunk {index} of inode {} could be read in time; start its chunkservers: {}",
                    file.inode, error.message
                )));
            }
            Err(error) => {
                old = info.chunk.filter(|_| error.kind == ErrorKind::Stale);
                add(&drive.peers.metrics.counters.data_retries, 1);
                if refresh {
                    backoff.wait().await;
                }
                refresh = true;
            }
        }
    }
}

fn zeros(length: u32) -> Fetched {
    Fetched { buffer: Arc::new(Buffer::zeroed(length as usize)), start: 0, end: length as usize, _permit: None }
}

/// Bytes behind a trim mark read as zeros, whatever the copies hold.
fn cut_tail(fetched: Fetched, readable: u32) -> Fetched {
    let (length, readable) = (fetched.end - fetched.start, readable as usize);
    if readable >= length {
        return fetched;
    }
    let mut buffer = Buffer::zeroed(length);
    buffer[..readable].copy_from_slice(&fetched.bytes()[..readable]);
    Fetched { buffer: Arc::new(buffer), start: 0, end: length, _permit: None }
}

/// The copies in the order in which they are to be asked.
pub fn ranked(drive: &Drive, info: &ChunkInfo, turn: u64) -> Vec<Replica> {
    let mut ranked = drive.peers.servers.rank(&info.replicas, turn as usize);
    if info.granted
        && let Some((head, _)) = chain(info)
        && let Some(at) = ranked.iter().position(|replica| replica.server_id == head.server_id)
        && !drive.peers.servers.is_avoided(head.server_id)
    {
        // Writes pass the first server of the chain before the others: who reads there never goes back.
        let head = ranked.remove(at);
        ranked.insert(0, head);
    }
    ranked
}

/// The first good answer of any copy. `is_newest`: the leader knows of no later version, whatever a server says.
async fn fetch_any(
    drive: &Arc<Drive>,
    file: &FileRef,
    info: &ChunkInfo,
    is_newest: bool,
    turn: u64,
    (offset, length): (u32, u32),
) -> Result<Fetched> {
    let ranked = ranked(drive, info, turn.wrapping_add(u64::from(offset >> 20)));
    let mut next = ranked.iter();
    let mut asked = FuturesUnordered::new();
    let mut last = Error::unavailable("the chunk has no copies");
    let Some(first) = next.next() else { return Err(last) };
    asked.push(fetch_one(drive, file, info, first, offset, length));
    let mut patience = hedge_after(drive, first);
    let (mut current, mut slow) = (first.server_id, Vec::new());
    loop {
        tokio::select! {
            answer = asked.next() => match answer {
                Some(Ok((server_id, fetched))) => {
                    // Whoever was asked before and has not answered is slow: others first, for a while.
                    slow.iter().filter(|id| **id != server_id).for_each(|id| drive.peers.servers.avoid(*id));
                    return Ok(fetched);
                }
                // The map is old. Other copies may be too: who read newer bytes would go back.
                Some(Err(error)) if error.kind == ErrorKind::Stale && !is_newest => return Err(error),
                Some(Err(error)) => {
                    last = error;
                    if let Some(replica) = next.next() {
                        patience = hedge_after(drive, replica);
                        current = replica.server_id;
                        asked.push(fetch_one(drive, file, info, replica, offset, length));
                    } else if asked.is_empty() {
                        return Err(last);
                    }
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(patience), if next.len() > 0 => {
                if let Some(replica) = next.next() {
                    add(&drive.peers.metrics.counters.hedges, 1);
                    slow.push(current);
                    current = replica.server_id;
                    patience = hedge_after(drive, replica);
                    asked.push(fetch_one(drive, file, info, replica, offset, length));
                }
            }
        }
    }
}

fn hedge_after(drive: &Drive, replica: &Replica) -> Duration {
    (drive.peers.servers.usual(replica.server_id) * 4).clamp(HEDGE_AFTER, HEDGE_AT_LATEST)
}

async fn fetch_one(
    drive: &Arc<Drive>,
    file: &FileRef,
    info: &ChunkInfo,
    replica: &Replica,
    offset: u32,
    length: u32,
) -> Result<(u32, Fetched)> {
    let pending = drive.peers.servers.reading(replica.server_id, length as usize);
    let message = ChunkRead { chunk: info.chunk, offset, length };
    let deadline = Deadline::after(READ_TIMEOUT);
    let reply = match drive.peers.servers.call(replica, Method::ChunkRead, &message, None, deadline).await {
        Ok(reply) => reply,
        Err(Failure::Silent(error)) => return Err(error),
        Err(Failure::Answered(error)) => {
            if error.kind == ErrorKind::Integrity {
                add(&drive.peers.metrics.counters.crc_errors, 1);
                tracing::warn!(%error, "a copy is bad; another one is read and the leader repairs it");
            }
            return Err(error);
        }
    };
    let header: ChunkReadReply = reply.decode()?;
    let checked = check(reply.payload, &header, offset, length);
    if let Err(error) = &checked {
        add(&drive.peers.metrics.counters.crc_errors, 1);
        drive.peers.servers.avoid(replica.server_id);
        tracing::warn!(server = replica.server_id, %error, "a read was damaged on its way; another copy is read");
    } else {
        add(&drive.peers.metrics.counters.fetched_bytes, u64::from(header.length));
        pending.succeeded();
        if drive.with(file, |inner| inner.file.took_another_start(info.index, replica.server_id, header.boot_id)) {
            let (index, server) = (info.index, replica.server_id);
            drive.tell(file, Event::ReadFrom { index, server, boot_id: header.boot_id });
        }
    }
    Ok((replica.server_id, checked?))
}

/// The payload covers the span in whole blocks and every checksum fits.
fn check(payload: Option<Buffer>, header: &ChunkReadReply, offset: u32, length: u32) -> Result<Fetched> {
    let block = BLOCK_BYTES as u32;
    let from = offset / block * block;
    let to = (offset + length).next_multiple_of(block);
    let Some(buffer) = payload.filter(|payload| payload.len() as u32 == header.length) else {
        return Err(Error::integrity("a read reply is not as long as it says"));
    };
    if header.offset != from || header.length != to - from {
        return Err(Error::integrity(format!(
            "a read of {from}..{to} was answered with {} bytes from {}",
            header.length, header.offset
        )));
    }
    crc::check_pieces(from as usize, &buffer, &header.crcs)
        .map_err(|at| Error::integrity(format!("wrong checksum at byte {} of the chunk", from as usize + at)))?;
    let start = (offset - from) as usize;
    Ok(Fetched { buffer: Arc::new(buffer), start, end: start + length as usize, _permit: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(offset: u32, data: &[u8]) -> ChunkReadReply {
        ChunkReadReply {
            offset,
            length: data.len() as u32,
            crcs: crc::piece_crcs(offset as usize, data),
            ..Default::default()
        }
    }

    #[test]
    fn only_bytes_with_the_right_checksum_and_place_pass() {
        let data = vec![7u8; 8192];
        let good = check(Some(Buffer::copy_of(&data)), &header(4096, &data), 5000, 7000).unwrap();
        assert_eq!((good.start, good.bytes().len()), (904, 7000));
        let mut bad = data.clone();
        bad[5000] ^= 1;
        assert_eq!(
            check(Some(Buffer::copy_of(&bad)), &header(4096, &data), 5000, 7000).unwrap_err().errno,
            libc::EBADMSG
        );
        assert!(check(Some(Buffer::copy_of(&data)), &header(0, &data), 5000, 7000).is_err());
        assert!(check(None, &header(4096, &data), 5000, 7000).is_err());
    }

    #[test]
    fn bytes_behind_a_trim_mark_are_zeros() {
        let fetched = Fetched { buffer: Arc::new(Buffer::copy_of(&[1; 10])), start: 2, end: 8, _permit: None };
        assert_eq!(cut_tail(fetched, 4).bytes(), [1, 1, 1, 1, 0, 0]);
    }
}
