//! copy_file_range(2): bytes go from chunkserver to chunkserver where they can, through this client where not.

use std::sync::Arc;

use base::Result;
use base::limits::CHUNK_BYTES;
use wire::proto::Fill;

use super::allocate::{finish, has_bytes, in_order, put_fill};
use super::read::{located, look_again, read_at};
use super::write::{end_of, offer, put};
use super::{Drive, FileRef};
use crate::file::{CELL_BYTES, Copied};

/// Shorter spans, as most small files, go through the client: that costs less than to tell servers about it.
const LEAST: u64 = 128 << 10;
/// Committed at a time; what could not be copied by the servers goes through the client as a whole.
const BATCH_BYTES: u64 = 64 << 20;
/// The most of one call: the caller asks for the rest.
const MOST_BYTES: u64 = 1 << 30;

/// One end of a copy. `handle`: whose reads go ahead there.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub file: &'a FileRef,
    pub handle: u64,
    pub offset: u64,
}

impl Place<'_> {
    fn behind(self, bytes: u64) -> Self {
        Place { offset: self.offset + bytes, ..self }
    }
}

/// Copy up to `length` bytes: what the source has from there on, and at most `MOST_BYTES`. They are durable when it returns.
pub async fn duplicate(drive: &Arc<Drive>, source: Place<'_>, target: Place<'_>, length: u64) -> Result<u64> {
    end_of(target.offset, length)?;
    // What servers are to read of it must be there.
    drive.committed(source.file, false).await?;
    let size = look_again(drive, source.file).await?;
    let length = length.min(size.saturating_sub(source.offset)).min(MOST_BYTES);
    let _order = in_order(drive, target.file).await?;
    let mut done = 0;
    while done < length {
        let batch = (length - done).min(BATCH_BYTES);
        let (from, to) = (source.behind(done), target.behind(done));
        let is_inline = drive.with(source.file, |inner| inner.file.is_inline());
        let by_servers = batch >= LEAST && !is_inline && by_servers(drive, from, to, batch).await?;
        let copied = if by_servers { batch } else { through_here(drive, from, to, batch).await? };
        done += copied;
        if copied < batch {
            break;
        }
    }
    drive.committed(target.file, false).await?;
    Ok(done)
}

/// False: not all of it could be copied so, for whatever reason.
async fn by_servers(drive: &Arc<Drive>, source: Place<'_>, target: Place<'_>, length: u64) -> Result<bool> {
    let (mut done, mut can) = (0, true);
    while done < length {
        let (from, to) = (source.offset + done, target.offset + done);
        let within = (from % CHUNK_BYTES) as u32;
        let (info, own) = located(drive, source.file, from / CHUNK_BYTES, (within, within + 1), false).await?;
        if info.trim.is_some() || !own.is_empty() {
            can = false;
            break;
        }
        let most = (length - done).min(CHUNK_BYTES - u64::from(within));
        done += if info.written {
            let step = most.min(CELL_BYTES - to % CELL_BYTES);
            let copied = Copied { source: Arc::new(info), offset: within, length: step as u32 };
            offer(drive, target.file, |file, now| file.copy(now, to, copied.clone())).await?;
            step
        } else {
            let step = most.min(CHUNK_BYTES - to % CHUNK_BYTES);
            let is_last = done + step == length;
            if is_last || has_bytes(drive, target.file, to / CHUNK_BYTES).await? {
                put_fill(drive, target.file, (to, to + step), Fill::Hole, is_last).await?;
            }
            step
        };
    }
    let finished = finish(drive, target.file).await;
    if let Err(error) = &finished {
        tracing::debug!(inode = target.file.inode, %error, "chunkservers could not copy a span by themselves");
    }
    Ok(can && finished.is_ok())
}

/// -> how many: less where the source was cut meanwhile
async fn through_here(drive: &Arc<Drive>, source: Place<'_>, target: Place<'_>, length: u64) -> Result<u64> {
    let mut done = 0;
    while done < length {
        let step = (length - done).min(CELL_BYTES) as u32;
        let data = read_at(drive, source.file, source.handle, source.offset + done, step).await?;
        if data.is_empty() {
            break;
        }
        put(drive, target.file, target.offset + done, &data).await?;
        done += data.len() as u64;
    }
    Ok(done)
}
