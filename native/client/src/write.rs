//! Takes the application's bytes: into the inode while the file is small, else into the writers of its chunks. Waits
//! only for room. Sends nothing itself.

use std::sync::Arc;

use base::limits::{CHUNK_BYTES, MAX_FILE_BYTES};
use base::{Error, Result, time};
use tokio::sync::OwnedSemaphorePermit;
use wire::proto::name_request::Op;
use wire::proto::{CommitWrite, GetChunks, WriteInline};

use crate::core::{Core, PERMIT_BYTES};
use crate::file::{Body, Convert, FileRef, Inline, State, cut};
use crate::flush::flush_file;
use crate::pump::kick;
use crate::writer::{CELL_BYTES, Wait};

/// Chunks asked for at once when the map is not known.
pub const MAP_CHUNKS: u32 = 64;

/// Write `data` at `offset`, in order with every other write of this mount.
pub async fn write_at(core: &Arc<Core>, file: &FileRef, offset: u64, data: &[u8]) -> Result<()> {
    let _order = file.order.lock().await;
    put(core, file, offset, data).await?;
    if file.state.lock().drops_set_id() {
        // The commit takes them; bytes in a program that still runs as somebody else must not be seen before.
        flush_file(core, file).await;
    }
    Ok(())
}

/// Write `data` at the end, as committed and as written here. The place is given out by the leader, so appends of several
/// mounts never overwrite each other. Returns the offset.
pub async fn append(core: &Arc<Core>, file: &FileRef, data: &[u8]) -> Result<u64> {
    let _order = file.order.lock().await;
    if data.is_empty() {
        return Ok(file.state.lock().size());
    }
    know_body(core, file).await?;
    if fits_inline(core, &file.state.lock(), data.len() as u64) {
        flush_file(core, file).await;
        if let Some(offset) = append_inline(core, file, data).await? {
            return Ok(offset);
        }
        know_body(core, file).await?;
    }
    let offset = reserve(core, file, data.len() as u64).await?;
    put(core, file, offset, data).await?;
    Ok(offset)
}

/// Make `bytes` behind the end ours to fill: one commit, since another mount may append at the same time. -> where
async fn reserve(core: &Core, file: &FileRef, bytes: u64) -> Result<u64> {
    let (creds, message) = {
        let state = file.state.lock();
        let message =
            CommitWrite { inode: file.inode, size: state.dirty_end, append_bytes: bytes, ..CommitWrite::default() };
        (state.creds.clone(), message)
    };
    let reply = core.name(&creds, Op::CommitWrite(message)).await?;
    if let Some(attr) = &reply.attr {
        file.state.lock().absorb_own(attr);
    }
    Ok(reply.offset)
}

fn fits_inline(core: &Core, state: &State, more: u64) -> bool {
    matches!(state.body, Body::Inline(_)) && state.size() + more <= u64::from(core.session().inline_limit)
}

/// `None`: the file has outgrown its inode.
async fn append_inline(core: &Arc<Core>, file: &FileRef, data: &[u8]) -> Result<Option<u64>> {
    let creds = file.state.lock().creds.clone();
    let message = WriteInline { inode: file.inode, offset: 0, data: data.to_vec().into(), append: true };
    match core.name(&creds, Op::WriteInline(message)).await {
        Ok(reply) => {
            let mut state = file.state.lock();
            let before = state.attr.data_version;
            if let Some(attr) = &reply.attr {
                state.absorb_own(attr);
            }
            let follows = state.attr.data_version == before + 1;
            match &mut state.body {
                Body::Inline(inline) if follows && inline.content.len() as u64 == reply.offset => {
                    inline.content.extend_from_slice(data);
                }
                body => *body = Body::Unknown,
            }
            Ok(Some(reply.offset))
        }
        Err(error) if error.errno == libc::EFBIG => {
            file.state.lock().body = Body::Unknown;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Ask for body and map when they are not known.
pub async fn know_body(core: &Core, file: &FileRef) -> Result<()> {
    let creds = {
        let state = file.state.lock();
        if !matches!(state.body, Body::Unknown) {
            return Ok(());
        }
        state.creds.clone()
    };
    let op = Op::GetChunks(GetChunks { inode: file.inode, first: 0, count: MAP_CHUNKS });
    let reply = core.name(&creds, op).await?;
    let mut state = file.state.lock();
    state.learn(&reply, 0, u64::from(MAP_CHUNKS));
    if matches!(state.body, Body::Unknown) {
        return Err(Error::stale(format!("inode {} changes too fast to be read; try again", file.inode)));
    }
    Ok(())
}

/// The caller holds `order`.
async fn put(core: &Arc<Core>, file: &FileRef, offset: u64, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let end = offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_FILE_BYTES);
    let Some(end) = end else {
        return Err(Error::namespace(libc::EFBIG, format!("a file may have {MAX_FILE_BYTES} bytes at most")));
    };
    know_body(core, file).await?;
    let converts = {
        let mut state = file.state.lock();
        if state.put_inline(offset, data, u64::from(core.session().inline_limit)) {
            return Ok(());
        }
        let converts = state.outgrow();
        if converts {
            state.dirty_end = state.size();
            state.mtime_ns.get_or_insert_with(time::wall_ns);
        }
        kick(core, file, &mut state);
        converts
    };
    if converts {
        // Alone and at once: the bytes move in one commit, before anything else goes into the chunk.
        flush_file(core, file).await;
    }
    for (start, stop) in cut(offset, end, CELL_BYTES) {
        let part = &data[(start - offset) as usize..(stop - offset) as usize];
        put_part(core, file, start, part).await?;
    }
    Ok(())
}

async fn put_part(core: &Arc<Core>, file: &FileRef, offset: u64, part: &[u8]) -> Result<()> {
    let mut spare: Option<OwnedSemaphorePermit> = None;
    let window = core.config.write_window_bytes as usize;
    loop {
        let mut room = std::pin::pin!(file.progress.notified());
        room.as_mut().enable();
        let wait = {
            let mut state = file.state.lock();
            let budget = |bytes: usize| {
                let held = spare.take().filter(|permit| permit.num_permits() * PERMIT_BYTES >= bytes);
                held.or_else(|| core.dirty_budget.clone().try_acquire_many_owned((bytes / PERMIT_BYTES) as u32).ok())
            };
            let outcome = state.take(offset / CHUNK_BYTES, (offset % CHUNK_BYTES) as u32, part, window, budget);
            if outcome.is_ok() {
                state.wrote(offset, offset + part.len() as u64, time::wall_ns());
                state.own(offset, part);
            } else {
                state.seal_all();
            }
            kick(core, file, &mut state);
            outcome
        };
        match wait {
            Ok(()) => return Ok(()),
            Err(Wait::Window) => room.await,
            Err(Wait::Budget(bytes)) => {
                let permits = core.dirty_budget.clone().acquire_many_owned((bytes / PERMIT_BYTES) as u32).await;
                spare = Some(permits.map_err(|_| Error::unavailable("this client is closed; connect anew"))?);
            }
        }
        core.check_open()?;
    }
}

impl State {
    /// Into the inode's own bytes, when the file is inline and stays so.
    fn put_inline(&mut self, offset: u64, data: &[u8], limit: u64) -> bool {
        let end = offset + data.len() as u64;
        let Body::Inline(inline) = &mut self.body else { return false };
        if end > limit {
            return false;
        }
        if (inline.content.len() as u64) < end {
            inline.content.resize(end as usize, 0);
        }
        inline.content[offset as usize..end as usize].copy_from_slice(data);
        inline.dirty.insert(offset, end);
        self.wrote(offset, end, time::wall_ns());
        true
    }

    /// An inline body becomes chunk 0's first bytes: what was written here is queued, what others wrote follows with the
    /// grant. Whether the leader holds bytes of it.
    pub fn outgrow(&mut self) -> bool {
        let Body::Inline(inline) = &mut self.body else { return false };
        let Inline { content, dirty: mut own, flushing, .. } = std::mem::take(inline);
        own.extend(&flushing);
        for (start, end) in own.iter() {
            self.queue_small(0, start as u32, &content[start as usize..end as usize]);
        }
        self.body = Body::Chunked(Some(Convert { content, own, version: None }));
        self.attr.size > 0
    }

    /// While the file is converted: what was written here wins over inline bytes of others.
    fn own(&mut self, offset: u64, data: &[u8]) {
        if let Body::Chunked(Some(convert)) = &mut self.body {
            convert.own.insert(offset, offset + data.len() as u64);
            if let Some(kept) = convert.content.get_mut(offset as usize..) {
                let count = kept.len().min(data.len());
                kept[..count].copy_from_slice(&data[..count]);
            }
        }
    }
}
