//! Asks the leader for the right to write a chunk, once at a time per chunk, and makes the chunk ready: waits out a
//! heal, zeroes a cut tail. Sends no data.

use std::time::Duration;

use base::limits::CHUNK_BYTES;
use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use wire::Method;
use wire::proto::name_request::Op;
use wire::proto::{ChunkInfo, ChunkRef, ChunkTrim, GrantWrite, NameReply, Replica, TrimDone};

use crate::backoff::Backoff;
use crate::core::Core;
use crate::file::{Body, Convert, FileRef, State};
use crate::metrics::add;
use crate::pump::{Blame, CHAIN_TIMEOUT, blame};
use crate::ranges::Ranges;

/// How long another client may take to move a file out of its inode before this one does it.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);

/// The chunk at `index` as committed now. `seen`: what did not work (default: nothing yet); `failed`: servers to leave out.
pub async fn grant(core: &Core, file: &FileRef, index: u64, seen: ChunkRef, failed: &[u32]) -> Result<ChunkInfo> {
    let (gate, creds) = {
        let mut state = file.state.lock();
        let gate = state.writers.entry(index).or_default().granting.clone();
        (gate, state.creds.clone())
    };
    let _one = gate.lock().await;
    if let Some(info) = file.state.lock().granted(index)
        && info.chunk != Some(seen)
    {
        return Ok(info); // somebody else got it meanwhile
    }
    let (deadline, mut backoff) = (core.deadline(), Backoff::default());
    let patience = Deadline::after(TAKE_OVER_AFTER);
    let reply = loop {
        let take_over = patience.passed();
        let op = GrantWrite { inode: file.inode, index, failed: failed.to_vec(), chunk: Some(seen), take_over };
        let op = Op::GrantWrite(op);
        match core.name_until(&creds, op, deadline).await {
            Err(error) if error.errno == libc::EBUSY && !take_over => backoff.wait().await,
            // Too few chunkservers are up just now. With nobody to leave out there is nothing else to try.
            Err(error)
                if error.kind == ErrorKind::Unavailable
                    && failed.is_empty()
                    && !deadline.passed()
                    && core.check_open().is_ok() =>
            {
                backoff.wait().await;
            }
            outcome => break outcome?,
        }
    };
    let info = reply.chunks.first().cloned().ok_or_else(|| Error::integrity("a grant came without its chunk"))?;
    let gone = failed.iter().filter(|id| !info.replicas.iter().any(|replica| replica.server_id == **id)).count();
    if gone > 0 {
        add(&core.metrics.counters.failed_replicas, gone as u64);
        tracing::warn!(
            chunk = info.chunk.as_ref().map_or(0, |chunk| chunk.id),
            version = info.chunk.map_or(0, |chunk| chunk.version),
            ?failed,
            "copies that failed were left out; healing restores them"
        );
    }
    file.state.lock().accept_grant(&reply, info.clone());
    Ok(info)
}

/// First server and the rest of the chain. The start differs by chunk, so that the load spreads, but stays for one
/// chunk and version, so that its writes arrive in order.
pub fn chain(info: &ChunkInfo) -> Option<(Replica, Vec<Replica>)> {
    let turn = info.chunk.as_ref().map_or(0, |chunk| chunk.id) as usize % info.replicas.len().max(1);
    let mut order = info.replicas.clone();
    order.rotate_left(turn);
    let head = (!order.is_empty()).then(|| order.remove(0))?;
    Some((head, order))
}

/// Zero the tail behind a trim mark on every copy, then clear the mark.
pub async fn finish_trim(core: &Core, file: &FileRef, info: &ChunkInfo) -> std::result::Result<(), (Error, Blame)> {
    let (Some(trim), Some(chunk)) = (info.trim, info.chunk) else { return Ok(()) };
    let Some((head, rest)) = chain(info) else { return Ok(()) };
    if info.written {
        let message = ChunkTrim { chunk: Some(chunk), length: trim, chain: rest };
        let answer =
            core.servers.call_patiently(&head, Method::ChunkTrim, &message, None, Deadline::after(CHAIN_TIMEOUT)).await;
        if let Err(failure) = answer {
            let blamed = blame(core, &failure, info);
            return Err((failure.error(), blamed));
        }
    }
    let op = Op::TrimDone(TrimDone { inode: file.inode, index: info.index, chunk: Some(chunk), trim });
    let creds = file.state.lock().creds.clone();
    match core.name_until(&creds, op, core.deadline()).await {
        Ok(reply) => {
            let mut state = file.state.lock();
            if let Some(attr) = &reply.attr {
                state.absorb_own(attr);
            }
            if let Some(known) = state.map.get_mut(&info.index).filter(|known| known.chunk == info.chunk) {
                known.trim = None;
            }
            Ok(())
        }
        Err(error) => Err((error, Blame::new())),
    }
}

impl State {
    /// The map's entry when it is a usable grant.
    pub fn granted(&self, index: u64) -> Option<ChunkInfo> {
        self.writers.get(&index).filter(|writer| writer.granted)?;
        self.map.get(&index).filter(|info| !info.healing).cloned()
    }

    fn accept_grant(&mut self, reply: &NameReply, mut info: ChunkInfo) {
        if let Some(attr) = &reply.attr {
            self.absorb_own(attr);
        }
        let id = info.chunk.as_ref().map_or(0, |chunk| chunk.id);
        let writer = self.writers.entry(info.index).or_default();
        let replaced = writer.chunk_id != 0 && writer.chunk_id != id;
        let lost = replaced && writer.acked > writer.committed;
        if writer.chunk_id != id {
            writer.reset();
            writer.chunk_id = id;
        }
        writer.create = !info.written;
        writer.granted = !info.healing;
        writer.stamps.retain(|id, _| info.replicas.iter().any(|replica| replica.server_id == *id));
        // What we wrote is there to be read, committed or not.
        info.written |= writer.acked > 0;
        self.settle_conversion(reply, info.index == 0 && lost);
        self.map.insert(info.index, info);
    }

    /// The grant tells whether the file is still inline, and what its bytes are now: they go into chunk 0 wherever this
    /// client did not write. `lost`: another client converts the file too, and what we wrote to chunk 0 went with it.
    fn settle_conversion(&mut self, reply: &NameReply, lost: bool) {
        if reply.is_inline && !reply.inline_data.is_empty() && matches!(self.body, Body::Chunked(None)) {
            self.convert_again(reply.inline_data.len() as u32);
        }
        let Body::Chunked(Some(convert)) = &mut self.body else { return };
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        if lost {
            let kept = convert.content.len() as u64;
            let own = convert.own.iter().filter(|(start, _)| *start < kept);
            pieces.extend(
                own.map(|(start, end)| (start, convert.content[start as usize..end.min(kept) as usize].to_vec())),
            );
            if convert.own.iter().any(|(_, end)| end > kept && end <= CHUNK_BYTES) {
                self.faults += 1;
                self.fault = Some(Error::unavailable(
                    "another client moved this file out of its inode at the same time and the bytes written here were lost; write them again",
                ));
            }
        }
        if reply.is_inline && !reply.inline_data.is_empty() {
            let inline = &reply.inline_data;
            let others = convert.own.gaps(0, inline.len() as u64);
            pieces.extend(others.iter().map(|(start, end)| (*start, inline[*start as usize..*end as usize].to_vec())));
            convert.take_others(inline);
            convert.version = Some(reply.attr.as_ref().map_or(0, |attr| attr.data_version));
        } else {
            self.body = Body::Chunked(None);
        }
        for (start, bytes) in pieces {
            self.queue_small(0, start as u32, &bytes);
        }
    }
}

impl State {
    /// Another client cut the file and wrote so little that it lies in its inode again, while bytes of ours are on their
    /// way: those go over its bytes as in any conversion.
    fn convert_again(&mut self, inline_bytes: u32) {
        let mut convert = Convert { content: Vec::new(), own: Ranges::default(), version: None };
        for patch in self.patches(0, 0, inline_bytes) {
            let start = u64::from(patch.offset());
            let bytes = patch.bytes();
            convert.own.insert(start, start + bytes.len() as u64);
            let kept = bytes.len().min(u64::from(inline_bytes).saturating_sub(start) as usize);
            let end = start as usize + kept;
            if convert.content.len() < end {
                convert.content.resize(end, 0);
            }
            convert.content[start as usize..end].copy_from_slice(&bytes[..kept]);
        }
        self.body = Body::Chunked(Some(convert));
    }
}

impl Convert {
    /// Bytes of others, as committed now, where this client did not write.
    fn take_others(&mut self, inline: &[u8]) {
        if self.content.len() < inline.len() {
            self.content.resize(inline.len(), 0);
        }
        for (start, end) in self.own.gaps(0, inline.len() as u64) {
            self.content[start as usize..end as usize].copy_from_slice(&inline[start as usize..end as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_clients_inline_bytes_are_taken_only_where_this_one_did_not_write() {
        let mut own = Ranges::default();
        own.insert(2, 4);
        let mut convert = Convert { content: b"aabbaa".to_vec(), own, version: None };
        convert.take_others(b"xyzzxyz");
        assert_eq!(convert.content, b"xybbxyz");
    }
}
