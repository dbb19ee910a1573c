//! Serves reads: inline bytes, bytes fetched ahead, or chunkservers directly; lays unacknowledged writes over them.

use std::ops::Deref;
use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Buffer, Error, Result};
use futures::FutureExt;
use futures::StreamExt;
use wire::proto::name_request::Op;
use wire::proto::{ChunkInfo, GetAttr, GetChunks};

use super::fetch::fetch;
use super::write::{MAP_CHUNKS, cut, know_body};
use super::{Drive, FileRef, PERMIT_BYTES};
use crate::file::{Event, Fetched, Fetching, Patch, SEGMENT_BYTES, Source, overlay};
use crate::metrics::add;

/// Parts of one large read that are fetched at a time.
const PARALLEL: usize = 16;

/// An answer that another one overtook is asked for again this often. Masters that were put back know less for ever.
pub const OVERTAKEN_TRIES: u32 = 100;

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

/// One part of a read, and where its bytes come from.
struct Part {
    start: u64,
    end: u64,
    /// Which copy is read first.
    turn: u64,
    /// What is fetched ahead, where that begins, and what of ours lies over it.
    ahead: Option<(u64, Fetching, Vec<Patch>)>,
}

/// Up to `length` bytes from `offset`; short only at the end of the file.
pub async fn read_at(drive: &Arc<Drive>, file: &FileRef, handle: u64, offset: u64, length: u32) -> Result<ReadData> {
    if length == 0 {
        return Ok(ReadData::empty());
    }
    know_body(drive, file).await?;
    let mut size = drive.with(file, |inner| inner.file.size());
    if offset >= size {
        size = look_again(drive, file).await?;
        if offset >= size {
            return Ok(ReadData::empty());
        }
    }
    let end = offset.saturating_add(u64::from(length)).min(size);
    if let Some(data) = drive.with(file, |inner| inner.file.read_inline(offset, end)) {
        return Ok(ReadData::of(data));
    }
    let parts = prepare(drive, file, handle, offset, end);
    if let [part] = &parts[..] {
        let (fetched, patches) = part_bytes(drive, file, part).await?;
        if patches.is_empty() {
            return Ok(ReadData(Some(fetched)));
        }
        let mut buffer = Buffer::take((end - offset) as usize);
        lay(&mut buffer, part, &fetched, &patches);
        return Ok(ReadData::of(buffer));
    }
    let mut buffer = Buffer::take((end - offset) as usize);
    let work: Vec<_> = parts.iter().map(|part| part_bytes(drive, file, part)).collect();
    let mut work = futures::stream::iter(work).buffered(PARALLEL);
    let mut done = parts.iter();
    while let (Some(bytes), Some(part)) = (work.next().await, done.next()) {
        let (fetched, patches) = bytes?;
        let target = &mut buffer[(part.start - offset) as usize..(part.end - offset) as usize];
        lay(target, part, &fetched, &patches);
    }
    drop(work);
    Ok(ReadData::of(buffer))
}

fn lay(target: &mut [u8], part: &Part, fetched: &Fetched, patches: &[Patch]) {
    target.copy_from_slice(fetched.bytes());
    overlay(target, (part.start % CHUNK_BYTES) as u32, patches);
}

/// At the end of the file: it may have grown elsewhere.
pub async fn look_again(drive: &Arc<Drive>, file: &FileRef) -> Result<u64> {
    let creds = drive.with(file, |inner| inner.file.creds().clone());
    let reply = drive.peers.name(&creds, Op::Getattr(GetAttr { inode: file.inode })).await?;
    if let Some(attr) = reply.attr {
        drive.tell(file, Event::Seen(attr));
    }
    know_body(drive, file).await?;
    Ok(drive.with(file, |inner| inner.file.size()))
}

/// Under one lock: start what is worth fetching ahead, and note for each part what is on its way and the unacknowledged
/// writes over it. What is acknowledged later is in those notes; what was acknowledged before is in what was fetched since.
/// Where it is not known what the masters have now, nothing that is on its way counts: the answer may bring bytes of others
/// that belong over it.
fn prepare(drive: &Arc<Drive>, file: &FileRef, handle: u64, offset: u64, end: u64) -> Vec<Part> {
    let mut guard = file.state.lock();
    let state = &mut *guard;
    let (size, turn) = (state.file.size(), drive.peers.turn.wrapping_add(handle));
    let most = drive.peers.config.read_ahead_bytes;
    let mut wanted = Vec::new();
    if state.file.is_located(offset / CHUNK_BYTES)
        && let Some(reader) = state.readers.get_mut(&handle)
    {
        let until = reader.note(offset, end, most);
        wanted = reader.missing(offset, until, size);
    }
    for (start, stop) in wanted {
        let permits = SEGMENT_BYTES as usize / PERMIT_BYTES;
        let Ok(permit) = drive.read_budget.clone().try_acquire_many_owned(permits as u32) else { break };
        let (drive, file) = (drive.clone(), file.clone());
        let number = state.next_fetch();
        let task = tokio::spawn(async move {
            let (fetched, _) = fetch(&drive, &file, (turn, number), start, stop).await?;
            Ok(Fetched { _permit: Some(Arc::new(permit)), ..fetched })
        });
        let data = task.map(|joined| joined.unwrap_or_else(|_| Err(Error::unavailable("fetching ahead was stopped"))));
        if let Some(reader) = state.readers.get_mut(&handle) {
            reader.insert(start, stop, number, data.boxed().shared());
        }
    }
    cut(offset, end, SEGMENT_BYTES)
        .map(|(start, end)| {
            let (index, span) = place(start, end);
            let reader = state.readers.get(&handle).filter(|_| state.file.is_located(index));
            let ahead = reader.and_then(|reader| reader.find(start, end));
            let ahead = ahead.map(|(at, data)| (at, data, state.file.patches(index, span.0, span.1)));
            Part { start, end, turn, ahead }
        })
        .collect()
}

/// Bytes of a file that lie in one chunk: which, and where in it.
pub fn place(start: u64, end: u64) -> (u64, (u32, u32)) {
    (start / CHUNK_BYTES, ((start % CHUNK_BYTES) as u32, ((end - 1) % CHUNK_BYTES) as u32 + 1))
}

/// -> bytes as they are stored, and what of ours lies over them.
async fn part_bytes(drive: &Arc<Drive>, file: &FileRef, part: &Part) -> Result<(Fetched, Vec<Patch>)> {
    if let Some((at, data, patches)) = &part.ahead
        && let Ok(fetched) = data.clone().await
    {
        let from = fetched.start + (part.start - at) as usize;
        let to = from + (part.end - part.start) as usize;
        if to <= fetched.end {
            add(&drive.peers.metrics.counters.read_ahead_hits, 1);
            let (index, span) = place(part.start, part.end);
            let mut patches = patches.clone();
            // What had to be sent again meanwhile may be missing in what was fetched.
            patches.extend(drive.with(file, |inner| inner.file.patches(index, span.0, span.1)));
            return Ok((Fetched { start: from, end: to, ..fetched }, patches));
        }
    }
    // Not fetched ahead, or that failed: ask again, the error is then this read's own.
    let number = drive.with(file, |inner| inner.next_fetch());
    fetch(drive, file, (part.turn, number), part.start, part.end).await
}

/// Where chunk `index` lies, and what of ours lies over `span` of it: both of one moment, or what is acknowledged in between
/// would be in neither. `refresh` asks even when it is known.
pub async fn located(
    drive: &Arc<Drive>,
    file: &FileRef,
    index: u64,
    (from, to): (u32, u32),
    refresh: bool,
) -> Result<(ChunkInfo, Vec<Patch>)> {
    let creds = {
        let mut inner = file.state.lock();
        if refresh {
            inner.file.forget_source(index);
        }
        if let Source::Known(info) = inner.file.source(index) {
            return Ok((info, inner.file.patches(index, from, to)));
        }
        inner.file.creds().clone()
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let op = Op::GetChunks(GetChunks { inode: file.inode, first: index, count: MAP_CHUNKS });
        let reply = Box::new(drive.peers.name(&creds, op).await?);
        let fresh = reply.chunks.iter().find(|info| info.index == index).cloned();
        let overtaken = drive.with(file, |inner| inner.file.is_overtaken(&reply));
        drive.tell(file, Event::Learned { reply, first: index, count: u64::from(MAP_CHUNKS) });
        let inner = file.state.lock();
        let info = match inner.file.source(index) {
            Source::Known(info) => info,
            Source::Unknown if overtaken && tries < OVERTAKEN_TRIES => continue,
            // Behind the end.
            Source::Unknown => inner.file.readable(index, fresh.unwrap_or(ChunkInfo { index, ..ChunkInfo::default() })),
        };
        return Ok((info, inner.file.patches(index, from, to)));
    }
}
