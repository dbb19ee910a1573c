//! Takes the application's bytes, in order with every other write of this client. Waits only for room.

use std::sync::Arc;

use base::limits::MAX_FILE_BYTES;
use base::{Error, Result};
use wire::proto::GetChunks;
use wire::proto::name_request::Op;

use super::read::OVERTAKEN_TRIES;
use super::{Drive, FileRef};
use crate::file::{Action, CELL_BYTES, Event, File, Now, Taken};

/// Chunks asked for at once when the map is not known.
pub const MAP_CHUNKS: u32 = 64;

/// Write `data` at `offset`.
pub async fn write_at(drive: &Arc<Drive>, file: &FileRef, offset: u64, data: &[u8]) -> Result<()> {
    let _order = file.order.lock().await;
    put(drive, file, offset, data).await?;
    if drive.with(file, |inner| inner.file.drops_set_id()) {
        // The commit takes them; bytes in a program that still runs as somebody else must not be seen before.
        drive.flush(file, false).await;
    }
    Ok(())
}

/// The caller holds the file's order.
pub async fn put(drive: &Arc<Drive>, file: &FileRef, offset: u64, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let end = end_of(offset, data.len() as u64)?;
    for (start, stop) in cut(offset, end, CELL_BYTES) {
        let part = &data[(start - offset) as usize..(stop - offset) as usize];
        offer(drive, file, |state, now| state.write(now, start, part)).await?;
    }
    Ok(())
}

/// Where a span ends, if a file can reach there.
pub fn end_of(offset: u64, length: u64) -> Result<u64> {
    let end = offset.checked_add(length).filter(|end| *end <= MAX_FILE_BYTES);
    end.ok_or_else(|| Error::namespace(libc::EFBIG, format!("a file may have {MAX_FILE_BYTES} bytes at most")))
}

/// Offer something to the file until it is taken.
pub async fn offer(
    drive: &Arc<Drive>,
    file: &FileRef,
    mut put: impl FnMut(&mut File, Now) -> (Taken, Vec<Action>),
) -> Result<()> {
    loop {
        drive.budget().await?;
        let mut progress = std::pin::pin!(file.progress.notified());
        progress.as_mut().enable();
        let now = drive.now();
        match drive.act(file, |state| put(state, now)) {
            Taken::At(_) => return Ok(()),
            Taken::NeedsBody => know_body(drive, file).await?,
            Taken::NeedsRoom | Taken::NeedsTurn => progress.await,
        }
        drive.peers.check_open()?;
    }
}

/// Ask for body and map when they are not known. An answer that a change here or elsewhere overtook tells neither.
pub async fn know_body(drive: &Arc<Drive>, file: &FileRef) -> Result<()> {
    for _ in 0..OVERTAKEN_TRIES {
        let known = drive.with(file, |inner| (inner.file.is_body_known(), inner.file.creds().clone()));
        let (false, creds) = known else { return Ok(()) };
        let op = Op::GetChunks(GetChunks { inode: file.inode, first: 0, count: MAP_CHUNKS });
        let reply = Box::new(drive.peers.name(&creds, op).await?);
        drive.tell(file, Event::Learned { reply, first: 0, count: u64::from(MAP_CHUNKS) });
    }
    Err(Error::stale(format!("inode {} changes too fast to be read; try again", file.inode)))
}

/// Cut `start..end` of a file at multiples of `unit`: (start, end) of each part.
pub fn cut(start: u64, end: u64, unit: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let part = (at, end.min((at / unit + 1) * unit));
        at = part.1;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_cut_at_multiples_of_the_unit() {
        assert_eq!(cut(5, 23, 10).collect::<Vec<_>>(), [(5, 10), (10, 20), (20, 23)]);
        assert_eq!(cut(10, 20, 10).collect::<Vec<_>>(), [(10, 20)]);
        assert_eq!(cut(7, 7, 10).count(), 0);
    }
}
