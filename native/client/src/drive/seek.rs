//! lseek(2) with SEEK_DATA and SEEK_HOLE: asks a copy which blocks it has.

use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Error, ErrorKind, Result};
use wire::Method;
use wire::backoff::Backoff;
use wire::proto::{ChunkInfo, ChunkMap, ChunkMapReply};

use super::fetch::{READ_TIMEOUT, ranked};
use super::read::{located, look_again};
use super::write::know_body;
use super::{Drive, FileRef};
use crate::file::{Blocks, Patch};
use base::time::Deadline;

/// The first byte at or behind `offset` that is data, or (not `data`) in a hole; the end of the file is one. ENXIO:
/// behind the end, or no data follows. Holes are blocks of 4 KiB that nobody wrote; a file in its inode has none.
pub async fn seek(drive: &Arc<Drive>, file: &FileRef, offset: u64, data: bool) -> Result<u64> {
    know_body(drive, file).await?;
    let mut size = drive.with(file, |inner| inner.file.size());
    if offset >= size {
        size = look_again(drive, file).await?;
    }
    if offset >= size {
        return Err(nothing(file, offset));
    }
    if drive.with(file, |inner| inner.file.is_inline()) {
        return Ok(if data { offset } else { size });
    }
    let mut at = offset;
    while at < size {
        let (index, within) = (at / CHUNK_BYTES, (at % CHUNK_BYTES) as u32);
        let blocks = blocks_of(drive, file, index).await?;
        match blocks.next(within, data) {
            Some(found) if index * CHUNK_BYTES + u64::from(found) < size => {
                return Ok(index * CHUNK_BYTES + u64::from(found));
            }
            _ => at = (index + 1) * CHUNK_BYTES,
        }
    }
    if data { Err(nothing(file, offset)) } else { Ok(size) }
}

fn nothing(file: &FileRef, offset: u64) -> Error {
    Error::namespace(libc::ENXIO, format!("inode {} has nothing at {offset} or behind it", file.inode))
}

async fn blocks_of(drive: &Arc<Drive>, file: &FileRef, index: u64) -> Result<Blocks> {
    let deadline = drive.peers.deadline();
    let (mut backoff, mut refresh) = (Backoff::default(), false);
    loop {
        let span = (0, CHUNK_BYTES as u32);
        let (info, patches) = located(drive, file, index, span, refresh).await?;
        match stored(drive, &info).await {
            Ok(mut blocks) => {
                if let Some(trim) = info.trim {
                    blocks.cut(trim);
                }
                write(&mut blocks, &patches);
                // What had to be sent again meanwhile may be missing in the answer.
                write(&mut blocks, &drive.with(file, |inner| inner.file.patches(index, span.0, span.1)));
                return Ok(blocks);
            }
            Err(error) if deadline.passed() => {
                return Err(Error::unavailable(format!(
                    "no copy of chunk {index} of inode {} says in time what it holds; start its chunkservers: {}",
                    file.inode, error.message
                )));
            }
            Err(error) => {
                tracing::debug!(%error, index, "a copy does not say what it holds");
                if refresh {
                    backoff.wait().await;
                }
                refresh = true;
            }
        }
    }
}

fn write(blocks: &mut Blocks, patches: &[Patch]) {
    for patch in patches {
        let (start, end) = patch.span();
        if patch.is_hole() { blocks.punch(start, end) } else { blocks.write(start, end) }
    }
}

/// What the first copy has that answers; none when nothing was written.
async fn stored(drive: &Arc<Drive>, info: &ChunkInfo) -> Result<Blocks> {
    if !info.written || info.chunk.is_none() {
        return Ok(Blocks::default());
    }
    let message = ChunkMap { chunk: info.chunk, fence: false };
    let mut last = Error::unavailable("the chunk has no copies");
    for replica in ranked(drive, info, 0) {
        let deadline = Deadline::after(READ_TIMEOUT);
        match drive.peers.servers.call(&replica, Method::ChunkMap, &message, None, deadline).await {
            Ok(reply) => return Ok(Blocks::of(reply.decode::<ChunkMapReply>()?.present)),
            Err(failure) => last = failure.error(),
        }
        if last.kind == ErrorKind::Stale {
            break; // the map is old
        }
    }
    Err(last)
}
