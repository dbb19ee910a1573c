//! Bytes of a chunk for a write to another one: from the copy that is here, or from a server that has one.

use std::ops::Range;
use std::sync::Arc;

use base::limits::{BLOCK_BYTES, MAX_PAYLOAD_BYTES};
use base::time::Deadline;
use base::{Buffer, Error, ErrorKind, Result};
use wire::proto::{ChunkCopy, ChunkRef, Replica};

use crate::copy::{REQUEST_TIMEOUT, forget_when_silent, read_blocks};
use crate::node::{Node, Opened};

/// The bytes that `message` names of `source`. EREMOTEIO: no copy could be read at that version.
pub async fn read(node: &Node, opened: &Opened, source: chunk::ChunkRef, message: &ChunkCopy) -> Result<Arc<Buffer>> {
    let (offset, length) = (message.source_offset, message.length);
    let store = opened.store.clone();
    let here = node.io.run(move || store.read(source, offset, length)).await;
    let mut last = match here {
        Ok(block) => {
            let start = (offset - block.offset) as usize;
            return Ok(Arc::new(Buffer::copy_of(&block.data[start..start + length as usize])));
        }
        Err(error) => error,
    };
    if last.kind == ErrorKind::Integrity {
        node.found_bad(source);
    }
    for replica in message.replicas.iter().filter(|replica| replica.server_id != node.server_id()) {
        match read_there(opened, replica, source, offset as usize..(offset + length) as usize).await {
            Ok(bytes) => return Ok(Arc::new(bytes)),
            Err(error) => last = error,
        }
        if last.kind == ErrorKind::Stale {
            break; // it is another version everywhere
        }
    }
    let sentence = format!("chunk {} could not be read for a copy of its bytes: {}", source.id, last.message);
    Err(Error::namespace(libc::EREMOTEIO, sentence))
}

/// Whole blocks in requests that fit into one answer, then the part that is wanted.
async fn read_there(
    opened: &Opened,
    replica: &Replica,
    source: chunk::ChunkRef,
    bytes: Range<usize>,
) -> Result<Buffer> {
    let chunk = ChunkRef { id: source.id, version: source.version };
    let link = opened.sources.connected(replica, 0, Deadline::after(REQUEST_TIMEOUT)).await?;
    let (first, last) = (bytes.start / BLOCK_BYTES, bytes.end.div_ceil(BLOCK_BYTES));
    let mut whole = Buffer::take((last - first) * BLOCK_BYTES);
    let most = MAX_PAYLOAD_BYTES / BLOCK_BYTES;
    for at in (first..last).step_by(most) {
        let count = most.min(last - at);
        let (data, _) = forget_when_silent(opened, replica, read_blocks(&link, chunk, at, count).await)?;
        let into = (at - first) * BLOCK_BYTES;
        whole[into..into + data.len()].copy_from_slice(&data);
    }
    let start = bytes.start - first * BLOCK_BYTES;
    Ok(Buffer::copy_of(&whole[start..start + bytes.len()]))
}
