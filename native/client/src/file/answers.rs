//! What an answer of chunkservers means for the file: who is to blame, and whether bytes are stable.

use std::sync::Arc;

use base::{Buffer, Error, ErrorKind, Reason};
use wire::proto::{ChunkCopy, ChunkFill, ChunkInfo, ChunkSyncReply, ChunkWrite, ChunkWriteReply, Replica};

use super::event::{Blame, Refusal, Synced};
use super::pieces::{Content, Piece};
use super::reading::chain;

/// What the first server of a chain is asked for one piece.
pub enum PieceRequest {
    /// With these bytes behind it.
    Write(ChunkWrite, Arc<Buffer>),
    Fill(ChunkFill),
    Copy(ChunkCopy),
}

/// The request for one piece, under a grant of this client.
pub fn piece_request(
    info: &ChunkInfo,
    piece: &Piece,
    chain: Vec<Replica>,
    (writer, round): (u64, u32),
    create: bool,
) -> PieceRequest {
    let (chunk, offset, length) = (info.chunk, piece.offset, piece.length());
    match &piece.content {
        Content::Bytes(data) => {
            let crcs = piece.crcs().to_vec();
            let write = ChunkWrite { chunk, offset, length, crcs, create, chain, sync: false, writer, round };
            PieceRequest::Write(write, data.clone())
        }
        Content::Fill(filled) => {
            let fill = filled.fill.into();
            PieceRequest::Fill(ChunkFill { chunk, offset, length, fill, create, chain, writer, round })
        }
        Content::Copy(copied) => {
            let (source, source_offset) = (copied.source.chunk, copied.offset);
            let replicas = copied.source.replicas.clone();
            PieceRequest::Copy(ChunkCopy {
                chunk,
                offset,
                length,
                create,
                chain,
                writer,
                round,
                source,
                source_offset,
                replicas,
            })
        }
    }
}

/// A reply counts only when every copy stamped it.
pub fn stamped(info: &ChunkInfo, reply: ChunkWriteReply) -> Result<ChunkWriteReply, Refusal> {
    let stamped = |id: u32| reply.stamps.iter().any(|stamp| stamp.server_id == id);
    let failed: Vec<u32> = info.replicas.iter().map(|replica| replica.server_id).filter(|id| !stamped(*id)).collect();
    if failed.is_empty() {
        return Ok(reply);
    }
    Err(Refusal {
        error: Error::unavailable(format!("chunkservers {failed:?} did not confirm a write")),
        blamed: failed,
    })
}

/// Who of the chain is to blame. `answered`: the first server said so itself; else it is silent.
pub fn blamed(info: &ChunkInfo, error: &Error, answered: bool) -> Blame {
    match error {
        error if answered && error.kind == ErrorKind::Stale => Blame::new(),
        error if answered && !error.failed_servers.is_empty() => error.failed_servers.clone(),
        // Damaged on the way: the copy is fine, send again.
        error if answered && error.kind == ErrorKind::Integrity => Blame::new(),
        _ => chain(info).map(|(head, _)| head.server_id).into_iter().collect(),
    }
}

/// What a reply to a sync says of the bytes that the start `boot_id` took.
pub fn synced(reply: &ChunkSyncReply, boot_id: u64) -> Synced {
    match reply.stamp {
        Some(stamp) if stamp.boot_id != boot_id => Synced::Restarted,
        stamp => Synced::Stable(stamp.map_or(0, |stamp| stamp.stored_bytes)),
    }
}

/// What a failed sync says of them.
pub fn not_synced(error: Error, answered: bool) -> Synced {
    match error {
        error if answered && error.reason == Reason::Restarted => Synced::Restarted,
        error if answered && error.kind == ErrorKind::Stale => Synced::Moved,
        error => Synced::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use wire::proto::Stamp;

    use super::*;

    #[test]
    fn a_reply_counts_only_with_the_stamp_of_every_copy_and_the_others_are_blamed() {
        let replicas = [1, 2, 3].map(|server_id| Replica { server_id, ..Replica::default() }).to_vec();
        let info = ChunkInfo { replicas, ..ChunkInfo::default() };
        let reply = |ids: &[u32]| {
            let stamps = ids.iter().map(|server_id| Stamp { server_id: *server_id, ..Stamp::default() });
            ChunkWriteReply { stamps: stamps.collect() }
        };
        assert!(stamped(&info, reply(&[1, 2, 3])).is_ok());
        assert_eq!(stamped(&info, reply(&[1, 3])).unwrap_err().blamed, [2]);
    }

    #[test]
    fn a_sync_counts_for_the_start_that_took_the_bytes() {
        let reply = |boot_id| ChunkSyncReply { stamp: Some(wire::proto::Stamp { boot_id, ..Default::default() }) };
        assert!(matches!(synced(&reply(5), 5), Synced::Stable(0)));
        assert!(matches!(synced(&reply(6), 5), Synced::Restarted));
    }
}
