//! fallocate(2): holes and promises of space, durable when it returns.

use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Error, Result};
use tokio::sync::MutexGuard;
use wire::proto::name_request::Op;
use wire::proto::{Fill, StatFs};

use super::read::{located, look_again};
use super::write::{cut, end_of, know_body, offer};
use super::{Drive, FileRef};

/// Chunks of one call that are under way together.
const AT_ONCE: usize = 64;

/// What becomes of a span of a file. `grows`: the file reaches to its end then, else its size stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// What nobody wrote takes its space, so that writing it later does not fail for want of room.
    Promise { grows: bool },
    /// Reads as zeros, and its space is free.
    Hole,
    /// Reads as zeros, and takes its space.
    Zeros { grows: bool },
}

/// Where the size stays, what lies behind the end is left alone: its space is looked at, and not kept.
/// ENOSPC: there is no room, and some of the span may be promised. EFBIG: no file is that long.
pub async fn allocate(drive: &Arc<Drive>, file: &FileRef, (offset, length): (u64, u64), what: Allocate) -> Result<()> {
    let end = end_of(offset, length)?;
    if what != Allocate::Hole {
        require_room(drive, file, length).await?;
    }
    let _order = in_order(drive, file).await?;
    let size = look_again(drive, file).await?;
    let (holes, promises) = match what {
        Allocate::Hole => (end.min(size), offset),
        Allocate::Promise { grows } => (offset, if grows { end } else { end.min(size) }),
        Allocate::Zeros { grows } => (end.min(size), if grows { end } else { end.min(size) }),
    };
    for (start, stop) in cut(offset, holes, CHUNK_BYTES) {
        if has_bytes(drive, file, start / CHUNK_BYTES).await? {
            put_fill(drive, file, (start, stop), Fill::Hole, false).await?;
        }
    }
    let grows = matches!(what, Allocate::Promise { grows: true } | Allocate::Zeros { grows: true });
    for (count, span) in cut(offset, promises, CHUNK_BYTES).enumerate() {
        put_fill(drive, file, span, Fill::Promise, grows).await?;
        if count % AT_ONCE == AT_ONCE - 1 {
            finish(drive, file).await?;
        }
    }
    finish(drive, file).await
}

/// After everything that was written before, as long as the answer is held.
pub async fn in_order<'a>(drive: &Arc<Drive>, file: &'a FileRef) -> Result<MutexGuard<'a, ()>> {
    let order = file.order.lock().await;
    // Of a call that was given up.
    drive.with(file, |inner| inner.file.take_refusal());
    if drive.with(file, |inner| inner.file.awaits_places()) {
        drive.committed(file, false).await?;
    }
    Ok(order)
}

/// Before anything is changed: a span that is far too long is not begun.
async fn require_room(drive: &Arc<Drive>, file: &FileRef, length: u64) -> Result<()> {
    let (creds, attr) = drive.with(file, |inner| (inner.file.creds().clone(), inner.file.attr()));
    let stats = drive.peers.name(&creds, Op::Statfs(StatFs {})).await?.statfs;
    let free = stats.map_or(u64::MAX, |stats| stats.free_bytes);
    if length <= free.saturating_add(attr.blocks * 512) {
        return Ok(());
    }
    let message =
        format!("{length} bytes cannot be promised to inode {}: {free} are free; delete or add disks", file.inode);
    Err(Error::namespace(libc::ENOSPC, message))
}

/// Whether somebody wrote to chunk `index`, or may have.
pub async fn has_bytes(drive: &Arc<Drive>, file: &FileRef, index: u64) -> Result<bool> {
    know_body(drive, file).await?;
    if drive.with(file, |inner| inner.file.is_inline() || inner.file.writes_to(index)) {
        return Ok(true);
    }
    let (info, _) = located(drive, file, index, (0, CHUNK_BYTES as u32), false).await?;
    Ok(info.written || info.granted)
}

pub async fn put_fill(drive: &Arc<Drive>, file: &FileRef, span: (u64, u64), fill: Fill, grows: bool) -> Result<()> {
    offer(drive, file, |file, now| file.fill(now, span, fill, grows)).await
}

/// All of it is carried out, or why not.
pub async fn finish(drive: &Arc<Drive>, file: &FileRef) -> Result<()> {
    drive.committed(file, false).await?;
    drive.with(file, |inner| inner.file.take_refusal()).map_or(Ok(()), Err)
}
