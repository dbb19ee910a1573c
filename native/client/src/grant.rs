//! Asks the leader for the right to write a chunk, once at a time per chunk, and makes the chunk ready: waits out a
//! heal, zeroes a cut tail. Sends no data.

use base::time::Deadline;
use base::{Error, Result};
use wire::Method;
use wire::proto::name_request::Op;
use wire::proto::{ChunkInfo, ChunkTrim, GrantWrite, NameReply, Replica, TrimDone};

use crate::core::Core;
use crate::file::{Body, Convert, FileRef, State};
use crate::metrics::add;
use crate::pump::{Blame, CHAIN_TIMEOUT, blame};

/// The chunk at `index` as committed now. `seen`: the version that did not work (0: none yet); `failed`: servers to leave out.
pub async fn grant(core: &Core, file: &FileRef, index: u64, seen: u32, failed: &[u32]) -> Result<ChunkInfo> {
    let (gate, creds) = {
        let mut state = file.state.lock();
        let gate = state.writers.entry(index).or_default().granting.clone();
        (gate, state.creds.clone())
    };
    let _one = gate.lock().await;
    if let Some(info) = file.state.lock().granted(index)
        && version(&info) != seen
    {
        return Ok(info); // somebody else got it meanwhile
    }
    let op = Op::GrantWrite(GrantWrite { inode: file.inode, index, version: seen, failed: failed.to_vec() });
    let reply = core.name_until(&creds, op, core.deadline()).await?;
    let info = reply.chunks.first().cloned().ok_or_else(|| Error::integrity("a grant came without its chunk"))?;
    let gone = failed.iter().filter(|id| !info.replicas.iter().any(|replica| replica.server_id == **id)).count();
    if gone > 0 {
        add(&core.metrics.counters.failed_replicas, gone as u64);
        tracing::warn!(chunk = info.chunk.as_ref().map_or(0, |chunk| chunk.id), version = version(&info), ?failed, "copies that failed were left out; healing restores them");
    }
    file.state.lock().accept_grant(&reply, info.clone());
    Ok(info)
}

pub fn version(info: &ChunkInfo) -> u32 {
    info.chunk.as_ref().map_or(0, |chunk| chunk.version)
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
        let answer = core.servers.call(&head, Method::ChunkTrim, &message, None, Deadline::after(CHAIN_TIMEOUT)).await;
        if let Err(failure) = answer {
            let blamed = blame(core, &failure, info).await;
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
        self.settle_conversion(reply);
        let writer = self.writers.entry(info.index).or_default();
        let id = info.chunk.as_ref().map_or(0, |chunk| chunk.id);
        if writer.chunk_id != id {
            writer.reset();
            writer.chunk_id = id;
        }
        writer.create = !info.written;
        writer.granted = !info.healing;
        writer.stamps.retain(|id, _| info.replicas.iter().any(|replica| replica.server_id == *id));
        // What we wrote is there to be read, committed or not.
        info.written |= writer.acked > 0;
        self.map.insert(info.index, info);
    }

    /// The grant tells whether the file is still inline, and what its bytes are now.
    fn settle_conversion(&mut self, reply: &NameReply) {
        let Body::Chunked(Some(convert)) = &mut self.body else { return };
        if !reply.is_inline && reply.inline_data.is_empty() {
            self.body = Body::Chunked(None);
            return;
        }
        let version = reply.attr.as_ref().map_or(0, |attr| attr.data_version);
        let foreign = foreign_bytes(convert, &reply.inline_data);
        convert.version = Some(version);
        convert.base = reply.inline_data.to_vec();
        for (start, end) in foreign {
            self.queue_small(0, start as u32, &reply.inline_data[start as usize..end as usize]);
        }
    }
}

/// Ranges of the inline bytes `now` that another client changed since `convert.base`, and that were not written here.
fn foreign_bytes(convert: &Convert, now: &[u8]) -> Vec<(u64, u64)> {
    let differs = |start: u64, end: u64| convert.base.get(start as usize..end as usize) != Some(&now[start as usize..end as usize]);
    convert.own.gaps(0, now.len() as u64).into_iter().filter(|(start, end)| differs(*start, *end)).collect()
}


#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranges::Ranges;

    #[test]
    fn another_clients_inline_bytes_are_taken_only_where_this_one_did_not_write() {
        let mut own = Ranges::default();
        own.insert(2, 4);
        let convert = Convert { base: b"aaaaaa".to_vec(), own, version: None };
        assert_eq!(foreign_bytes(&convert, b"aaxxaa"), []);
        assert_eq!(foreign_bytes(&convert, b"abxxaay"), [(0, 2), (4, 7)]);
    }
}
