//! Serves reads: inline bytes, bytes fetched ahead, or chunkservers directly; lays unacknowledged writes over them.

use std::ops::Deref;
use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Buffer, Error, Result};
use futures::FutureExt;
use futures::StreamExt;
use wire::proto::name_request::Op;
use wire::proto::{ChunkInfo, GetAttr, GetChunks};

use crate::core::{Core, PERMIT_BYTES};
use crate::fetch::fetch;
use crate::file::{Body, FileRef, State, cut};
use crate::metrics::add;
use crate::readahead::{Fetched, Fetching, SEGMENT_BYTES};
use crate::write::{MAP_CHUNKS, know_body};
use crate::writer::Patch;

/// Parts of one large read that are fetched at a time.
const PARALLEL: usize = 16;

/// Bytes that were read; dereferences to them.
#[derive(Clone)]
pub struct ReadData(Option<Fetched>);

impl ReadData {
    fn empty() -> ReadData {
        ReadData(None)
    }

    fn of(buffer: Buffer) -> ReadData {
        let end = buffer.len();
        ReadData(Some(Fetched { buffer: Arc::new(buffer), start: 0, end, _permit: None }))
    }
}

impl Deref for ReadData {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Fetched::bytes)
    }
}

impl AsRef<[u8]> for ReadData {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for ReadData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadData({} bytes)", self.len())
    }
}

/// One part of a read: where its base bytes come from, and what was written over them.
struct Part {
    start: u64,
    end: u64,
    /// Which copy is read first.
    turn: u64,
    ahead: Option<(u64, Fetching)>,
    patches: Vec<Patch>,
}

/// Up to `length` bytes from `offset`; short only at the end of the file.
pub async fn read_at(core: &Arc<Core>, file: &FileRef, handle: u64, offset: u64, length: u32) -> Result<ReadData> {
    if length == 0 {
        return Ok(ReadData::empty());
    }
    know_body(core, file).await?;
    let mut size = file.state.lock().size();
    if offset >= size {
        size = look_again(core, file).await?;
        if offset >= size {
            return Ok(ReadData::empty());
        }
    }
    let end = offset.saturating_add(u64::from(length)).min(size);
    if let Some(data) = file.state.lock().read_inline(offset, end) {
        return Ok(data);
    }
    let parts = prepare(core, file, handle, offset, end);
    if let [part] = &parts[..]
        && part.patches.is_empty()
    {
        return Ok(ReadData(Some(base_bytes(core, file, part).await?)));
    }
    let mut buffer = Buffer::take((end - offset) as usize);
    let work: Vec<_> = parts.iter().map(|part| base_bytes(core, file, part)).collect();
    let mut work = futures::stream::iter(work).buffered(PARALLEL);
    let mut done = parts.iter();
    while let (Some(bytes), Some(part)) = (work.next().await, done.next()) {
        let target = &mut buffer[(part.start - offset) as usize..(part.end - offset) as usize];
        target.copy_from_slice(bytes?.bytes());
        overlay(target, (part.start % CHUNK_BYTES) as u32, &part.patches);
    }
    drop(work);
    Ok(ReadData::of(buffer))
}

/// At the end of the file: it may have grown elsewhere.
async fn look_again(core: &Core, file: &FileRef) -> Result<u64> {
    let creds = file.state.lock().creds.clone();
    let reply = core.name(&creds, Op::Getattr(GetAttr { inode: file.inode })).await?;
    {
        let mut state = file.state.lock();
        if let Some(attr) = &reply.attr {
            state.absorb(attr);
        }
    }
    know_body(core, file).await?;
    Ok(file.state.lock().size())
}

impl State {
    fn read_inline(&self, offset: u64, end: u64) -> Option<ReadData> {
        let Body::Inline(inline) = &self.body else { return None };
        let mut buffer = Buffer::take((end - offset) as usize);
        let have = inline.content.get(offset as usize..).unwrap_or(&[]);
        let count = have.len().min(buffer.len());
        buffer[..count].copy_from_slice(&have[..count]);
        buffer[count..].fill(0);
        Some(ReadData::of(buffer))
    }
}

/// Under one lock: start what is worth fetching ahead, and note for each part its source and the unacknowledged writes
/// over it. Writes acknowledged later are in those notes; writes before are on every copy.
fn prepare(core: &Arc<Core>, file: &FileRef, handle: u64, offset: u64, end: u64) -> Vec<Part> {
    let mut state = file.state.lock();
    let (size, turn) = (state.size(), core.turn.wrapping_add(handle));
    let most = core.config.read_ahead_bytes;
    let mut wanted = Vec::new();
    if let Some(reader) = state.readers.get_mut(&handle) {
        let until = reader.note(offset, end, most);
        wanted = reader.missing(offset, until, size);
    }
    for (start, stop) in wanted {
        let permits = SEGMENT_BYTES as usize / PERMIT_BYTES;
        let Ok(permit) = core.read_budget.clone().try_acquire_many_owned(permits as u32) else { break };
        let (core, file) = (core.clone(), file.clone());
        let task = tokio::spawn(async move {
            let fetched = fetch(&core, &file, turn, start, stop).await?;
            Ok(Fetched { _permit: Some(Arc::new(permit)), ..fetched })
        });
        let data = task.map(|joined| joined.unwrap_or_else(|_| Err(Error::unavailable("fetching ahead was stopped"))));
        if let Some(reader) = state.readers.get_mut(&handle) {
            reader.insert(start, stop, data.boxed().shared());
        }
    }
    cut(offset, end, SEGMENT_BYTES)
        .map(|(start, end)| Part {
            start,
            end,
            turn,
            ahead: state.readers.get(&handle).and_then(|reader| reader.find(start, end)),
            patches: state.patches(
                start / CHUNK_BYTES,
                (start % CHUNK_BYTES) as u32,
                ((end - 1) % CHUNK_BYTES) as u32 + 1,
            ),
        })
        .collect()
}

async fn base_bytes(core: &Arc<Core>, file: &FileRef, part: &Part) -> Result<Fetched> {
    if let Some((at, data)) = &part.ahead
        && let Ok(fetched) = data.clone().await
    {
        let from = fetched.start + (part.start - at) as usize;
        let to = from + (part.end - part.start) as usize;
        if to <= fetched.end {
            add(&core.metrics.counters.read_ahead_hits, 1);
            return Ok(Fetched { start: from, end: to, ..fetched });
        }
    }
    // Not fetched ahead, or that failed: ask again, the error is then this read's own.
    fetch(core, file, part.turn, part.start, part.end).await
}

/// Lay `patches` over `target`, which begins at `offset` of the chunk.
fn overlay(target: &mut [u8], offset: u32, patches: &[Patch]) {
    let end = offset + target.len() as u32;
    for patch in patches {
        let bytes = patch.bytes();
        let (from, to) = (patch.offset().max(offset), (patch.offset() + bytes.len() as u32).min(end));
        if from < to {
            let source = &bytes[(from - patch.offset()) as usize..(to - patch.offset()) as usize];
            target[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
    }
}

/// Where chunk `index` lies; `refresh` asks even when it is known.
pub async fn chunk_info(core: &Core, file: &FileRef, index: u64, refresh: bool) -> Result<ChunkInfo> {
    let creds = {
        let state = file.state.lock();
        if let Some(info) = state.map.get(&index).filter(|_| !refresh) {
            return Ok(info.clone());
        }
        state.creds.clone()
    };
    let op = Op::GetChunks(GetChunks { inode: file.inode, first: index, count: MAP_CHUNKS });
    let reply = core.name(&creds, op).await?;
    let mut state = file.state.lock();
    if refresh && state.writers.get(&index).is_none_or(|writer| writer.is_idle()) {
        state.map.remove(&index);
    }
    state.learn(&reply, index, u64::from(MAP_CHUNKS));
    let known = state.map.get(&index).cloned();
    let fresh = reply.chunks.into_iter().find(|info| info.index == index);
    // A chunk being written here keeps its granted entry; for reading, the fresh one is as good.
    let info = if refresh { fresh.or(known) } else { known.or(fresh) };
    Ok(info.unwrap_or(ChunkInfo { index, ..ChunkInfo::default() }))
}
