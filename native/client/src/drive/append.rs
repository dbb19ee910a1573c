//! Writing at the end of a file that others append to as well.

use std::sync::Arc;

use base::{Error, Result};
use wire::proto::WriteInline;
use wire::proto::name_request::Op;

use super::write::know_body;
use super::{Drive, FileRef};
use crate::file::{CELL_BYTES, Taken};

/// Write `data` at the end, as committed and as written here; appends of several clients never overwrite each other.
/// -> where it begins.
pub async fn append(drive: &Arc<Drive>, file: &FileRef, data: &[u8]) -> Result<u64> {
    let _order = file.order.lock().await;
    if data.is_empty() {
        return Ok(drive.with(file, |inner| inner.file.size()));
    }
    know_body(drive, file).await?;
    if drive.with(file, |inner| inner.file.stays_inline(data.len() as u64)) {
        drive.flush(file, false).await;
        if let Some(offset) = append_inline(drive, file, data).await? {
            return Ok(offset);
        }
        know_body(drive, file).await?;
    }
    let outcome = append_parts(drive, file, data).await;
    if outcome.is_err() {
        drive.act(file, |state| ((), state.record_ended()));
    }
    outcome
}

async fn append_parts(drive: &Arc<Drive>, file: &FileRef, data: &[u8]) -> Result<u64> {
    let deadline = drive.peers.deadline();
    let mut begin = None;
    let mut parts = data.chunks(CELL_BYTES as usize).peekable();
    while let Some(part) = parts.next() {
        let ends = parts.peek().is_none();
        let offset = loop {
            drive.budget().await?;
            let mut progress = std::pin::pin!(file.progress.notified());
            progress.as_mut().enable();
            let now = drive.now();
            match drive.act(file, |state| state.append(now, part, ends)) {
                Taken::At(offset) => break offset,
                Taken::NeedsBody => know_body(drive, file).await?,
                Taken::NeedsRoom => progress.await,
                Taken::NeedsTurn => {
                    if let Some(error) = drive.with(file, |inner| inner.file.take_turn_failure()) {
                        return Err(error);
                    }
                    if tokio::time::timeout(deadline.left(), progress).await.is_err() {
                        let sentence = format!("others append to inode {} without a pause", file.inode);
                        return Err(Error::unavailable(sentence));
                    }
                }
            }
            drive.peers.check_open()?;
        };
        begin.get_or_insert(offset);
    }
    Ok(begin.unwrap_or(0))
}

/// `None`: the file has outgrown its inode.
async fn append_inline(drive: &Arc<Drive>, file: &FileRef, data: &[u8]) -> Result<Option<u64>> {
    let creds = drive.with(file, |inner| inner.file.creds().clone());
    let message = WriteInline { inode: file.inode, offset: 0, data: data.to_vec().into(), append: true, times: None };
    match drive.peers.name(&creds, Op::WriteInline(message)).await {
        Ok(reply) => {
            drive.with(file, |inner| inner.file.appended_inline(&reply, data));
            Ok(Some(reply.offset))
        }
        Err(error) if error.errno == libc::EFBIG => {
            drive.with(file, |inner| inner.file.outgrown());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Appended bytes lost their place: put them at the end, whatever that is now.
pub async fn reappend(drive: &Arc<Drive>, file: &FileRef) {
    loop {
        let mut progress = std::pin::pin!(file.progress.notified());
        progress.as_mut().enable();
        let now = drive.now();
        match drive.act(file, |state| state.reappend(now)) {
            // The turn that comes next calls again.
            Taken::At(_) | Taken::NeedsTurn => return,
            Taken::NeedsBody => {
                if let Err(error) = know_body(drive, file).await {
                    drive.act(file, |state| ((), state.lose_displaced(error)));
                    return;
                }
            }
            Taken::NeedsRoom => progress.await,
        }
    }
}
