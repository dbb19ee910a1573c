//! Each action of a file as one exchange with a master or a chunkserver, and its outcome as an event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind};
use wire::Method;
use wire::proto::name_request::Op;
use wire::proto::{
    AppendBegin, ChunkInfo, ChunkRef, ChunkSync, ChunkSyncReply, ChunkTrim, ChunkWriteReply, NameReply, ReleaseGrants,
    Replica, WriteInline,
};

use super::{Drive, FileRef, append};
use crate::file::{
    Action, Blame, Event, Piece, PieceRequest, Refusal, Synced, blamed, chain, not_synced, piece_request, stamped,
    synced,
};
use crate::metrics::add;
use crate::peers::Failure;
use wire::backoff::jittered;

/// How long a chain of living servers may take for one piece; each hop gives up a little earlier and names the next.
/// Below what a stalled disk needs now and then, healthy copies would be dropped.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(16);
/// How long a disk may take to make a chunk stable. fdatasync on a busy disk takes seconds, rarely.
const SYNC_TIMEOUT: Duration = Duration::from_secs(16);

/// `None`: nobody waits for an outcome.
pub async fn perform(drive: &Arc<Drive>, file: &FileRef, action: Action) -> Option<Event> {
    match action {
        Action::Grant { index, request } => {
            drive.returning.ended(file.inode).await;
            let outcome = ask(drive, file, Op::GrantWrite(request)).await;
            Some(Event::Granted { index, outcome })
        }
        Action::Send { index, round, info, piece, create } => {
            let (seq, offset) = (piece.seq, piece.offset);
            let outcome = send(drive, &info, &piece, round, create).await;
            Some(Event::Sent { index, round, seq, offset, outcome })
        }
        Action::Trim { index, info } => Some(Event::Trimmed { index, outcome: trim(drive, &info).await }),
        Action::TellTrim { index, request } => {
            let outcome = ask(drive, file, Op::TrimDone(request)).await;
            Some(Event::TrimTold { index, outcome })
        }
        Action::Sync { cycle, index, chunk, replica, boot_id } => {
            let outcome = sync(drive, &replica, chunk, boot_id).await;
            Some(Event::Synced { cycle, index, server: replica.server_id, outcome })
        }
        Action::WriteInline { offset, data, times } => {
            let times = Some(times.into());
            let message = WriteInline { inode: file.inode, offset, data: data.into(), append: false, times };
            Some(Event::InlineWritten { outcome: ask(drive, file, Op::WriteInline(message)).await })
        }
        Action::Commit { cycle, request } => {
            let outcome = ask(drive, file, Op::CommitWrite(request)).await;
            Some(Event::Committed { cycle, outcome })
        }
        Action::AskTurn => {
            let outcome = ask(drive, file, Op::AppendBegin(AppendBegin { inode: file.inode })).await;
            Some(Event::Turn { outcome })
        }
        Action::Wait { timer, after_ms } => {
            tokio::time::sleep(jittered(Duration::from_millis(after_ms))).await;
            Some(Event::Fired(timer))
        }
        Action::Release { chunks, abandoned } => {
            let _ends = drive.returning.ends(file.inode);
            let op = Op::ReleaseGrants(ReleaseGrants { inode: file.inode, chunks, abandoned });
            if let Err(error) = ask(drive, file, op).await {
                // The leader finds out when the session ends.
                tracing::debug!(inode = file.inode, %error, "grants were not given back");
            }
            None
        }
        Action::Reappend => {
            append::reappend(drive, file).await;
            None
        }
        // Done under the file's lock.
        Action::Forget { .. } | Action::Progress | Action::GaveUp(_) | Action::LeftOut(_) => None,
    }
}

async fn ask(drive: &Drive, file: &FileRef, op: Op) -> Result<Box<NameReply>, Error> {
    let creds = drive.with(file, |inner| inner.file.creds().clone());
    drive.peers.name(&creds, op).await.map(Box::new)
}

async fn send(
    drive: &Drive,
    info: &ChunkInfo,
    piece: &Piece,
    round: u32,
    create: bool,
) -> Result<ChunkWriteReply, Refusal> {
    let Some((head, rest)) = chain(info) else {
        let error = Error::unavailable("a chunk without copies was granted; start its chunkservers");
        return Err(Refusal { error, blamed: Blame::new() });
    };
    let (peers, start) = (&drive.peers, Instant::now());
    let (servers, deadline) = (&peers.servers, Deadline::after(CHAIN_TIMEOUT));
    let answer = match piece_request(info, piece, rest, (peers.writer, round), create) {
        PieceRequest::Write(message, data) => {
            servers.call_patiently(&head, Method::ChunkWrite, &message, Some(data), deadline).await
        }
        PieceRequest::Fill(message) => servers.call_patiently(&head, Method::ChunkFill, &message, None, deadline).await,
        PieceRequest::Copy(message) => servers.call_patiently(&head, Method::ChunkCopy, &message, None, deadline).await,
    };
    let outcome = match answer {
        Ok(reply) => match reply.decode::<ChunkWriteReply>() {
            Ok(reply) => stamped(info, reply),
            Err(error) => Err(Refusal { error, blamed: vec![head.server_id] }),
        },
        Err(failure) => Err(refusal(drive, failure, info)),
    };
    if outcome.is_ok() {
        peers.metrics.chunk_write.since(start);
        add(&peers.metrics.counters.sent_bytes, piece.bytes().len() as u64);
    } else {
        add(&peers.metrics.counters.data_retries, 1);
    }
    outcome
}

/// A failed request to the chain: who is to blame, and whom to keep away from for a while.
fn refusal(drive: &Drive, failure: Failure, info: &ChunkInfo) -> Refusal {
    let answered = matches!(failure, Failure::Answered(_));
    let error = failure.error();
    let blamed = blamed(info, &error, answered);
    if answered && error.kind != ErrorKind::Stale {
        error.failed_servers.iter().for_each(|id| drive.peers.servers.avoid(*id));
    }
    Refusal { error, blamed }
}

async fn trim(drive: &Drive, info: &ChunkInfo) -> Result<(), Refusal> {
    let (Some(length), Some(chunk), Some((head, rest))) = (info.trim, info.chunk, chain(info)) else { return Ok(()) };
    if !info.written {
        return Ok(());
    }
    let message = ChunkTrim { chunk: Some(chunk), length, chain: rest };
    let deadline = Deadline::after(CHAIN_TIMEOUT);
    match drive.peers.servers.call_patiently(&head, Method::ChunkTrim, &message, None, deadline).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(refusal(drive, failure, info)),
    }
}

async fn sync(drive: &Drive, replica: &Replica, chunk: ChunkRef, boot_id: u64) -> Synced {
    let message = ChunkSync { chunk: Some(chunk), boot_id };
    let (peers, start) = (&drive.peers, Instant::now());
    let deadline = Deadline::after(SYNC_TIMEOUT);
    match peers.servers.call_patiently(replica, Method::ChunkSync, &message, None, deadline).await {
        Ok(reply) => match reply.decode::<ChunkSyncReply>() {
            Ok(reply) => {
                let outcome = synced(&reply, boot_id);
                if matches!(outcome, Synced::Stable(_)) {
                    peers.metrics.chunk_sync.since(start);
                }
                outcome
            }
            Err(error) => Synced::Failed(error),
        },
        Err(failure) => {
            let answered = matches!(failure, Failure::Answered(_));
            let outcome = not_synced(failure.error(), answered);
            if matches!(outcome, Synced::Failed(_)) {
                peers.servers.avoid(replica.server_id);
            }
            outcome
        }
    }
}
