//! Makes what was written durable and visible: waits for acknowledgements, syncs every copy of every dirty chunk, commits
//! size and times. Failures become the file's fault, which each handle reports once.

use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use wire::Method;
use wire::proto::name_request::Op;
use wire::proto::{ChunkInfo, ChunkRef, ChunkStored, ChunkSync, ChunkSyncReply, CommitWrite, Replica, WriteInline};

use crate::backoff::Backoff;
use crate::core::Core;
use crate::file::{Body, FileRef, State};
use crate::grant::grant;
use crate::metrics::add;
use crate::pump::kick;
use crate::servers::Failure;
use crate::writer::Writer;

/// How long a disk may take to make a chunk stable. fdatasync on a busy disk takes seconds, rarely.
const SYNC_TIMEOUT: Duration = Duration::from_secs(16);

/// Everything written before the call is durable and committed afterwards, or is in the file's fault.
pub async fn flush_file(core: &Arc<Core>, file: &FileRef) {
    let _one = file.flushing.lock().await;
    if let Err(error) = flush_locked(core, file).await {
        tracing::warn!(inode = file.inode, %error, "a flush failed; its handles report it");
        add(&core.metrics.counters.write_faults, 1);
        let mut state = file.state.lock();
        state.set_fault(error);
        state.lose_inline();
        if state
            .writers
            .values()
            .all(|writer| writer.queue.is_empty() && writer.flying.is_empty() && writer.filling.is_none())
        {
            state.clean();
        }
    }
}

async fn flush_locked(core: &Arc<Core>, file: &FileRef) -> Result<()> {
    if !file.state.lock().is_dirty() {
        return Ok(());
    }
    let deadline = core.deadline();
    let mut backoff = Backoff::default();
    loop {
        flush_inline(core, file).await?;
        if file.state.lock().is_unsettled() {
            grant(core, file, 0, ChunkRef::default(), &[]).await?;
        }
        let Some(plan) = file.state.lock().plan() else { return Ok(()) };
        kick(core, file, &mut file.state.lock());
        acknowledged(file, plan.before_seq).await;
        let dirty = file.state.lock().dirty_chunks();
        let synced = dirty.iter().map(|chunk| sync_chunk(core, file, chunk.index, deadline));
        futures::future::try_join_all(synced).await?;
        match commit(core, file, &plan, &dirty).await {
            Ok(()) => return Ok(()),
            Err(error)
                if error.kind == ErrorKind::Stale && file.state.lock().may_mend(&dirty) && !deadline.passed() =>
            {
                // Somebody changed the file or a chunk's set meanwhile: look again, then commit what is true now.
                backoff.wait().await;
                regrant(core, file, &dirty).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a commit covers.
struct Plan {
    before_seq: u64,
    size: u64,
    mtime_ns: i64,
    changes: u64,
}

struct Dirty {
    index: u64,
    chunk_id: u64,
    acked: u64,
}

impl State {
    /// `None` when nothing is left to commit.
    fn plan(&mut self) -> Option<Plan> {
        let mtime_ns = self.mtime_ns?;
        if matches!(&self.body, Body::Inline(_)) {
            return None; // it all went with the inline writes
        }
        self.seal_all();
        Some(Plan { before_seq: self.next_seq, size: self.dirty_end, mtime_ns, changes: self.changes })
    }

    /// It outgrew its inode, and the leader was not asked yet what is in there.
    fn is_unsettled(&self) -> bool {
        matches!(&self.body, Body::Chunked(Some(convert)) if convert.version.is_none())
    }

    fn dirty_chunks(&self) -> Vec<Dirty> {
        let dirty = self.writers.iter().filter(|(_, writer)| writer.acked > writer.committed);
        dirty.map(|(index, writer)| Dirty { index: *index, chunk_id: writer.chunk_id, acked: writer.acked }).collect()
    }

    /// The writer, if what was dirty is stable in the chunk that it went to. Not so when another client took the place
    /// meanwhile: the writer has another chunk then, and sends again.
    fn stable(&mut self, dirty: &Dirty) -> Option<&mut Writer> {
        let writer = self.writers.get_mut(&dirty.index)?;
        (writer.chunk_id == dirty.chunk_id && writer.synced >= dirty.acked).then_some(writer)
    }

    /// Whether an old view can be the reason of a refusal; else the inode is gone.
    fn may_mend(&self, dirty: &[Dirty]) -> bool {
        !dirty.is_empty() || matches!(self.body, Body::Chunked(Some(_)))
    }

    fn lose_inline(&mut self) {
        if let Body::Inline(_) = self.body {
            self.body = Body::Unknown;
            self.clean();
        }
    }
}

/// Send what is dirty in the inode's own bytes, one operation for each contiguous range.
async fn flush_inline(core: &Arc<Core>, file: &FileRef) -> Result<()> {
    let (creds, changes, writes) = {
        let mut state = file.state.lock();
        let (creds, changes) = (state.creds.clone(), state.changes);
        let Body::Inline(inline) = &mut state.body else { return Ok(()) };
        inline.flushing = std::mem::take(&mut inline.dirty);
        let content = &inline.content;
        let writes: Vec<(u64, Vec<u8>)> = inline
            .flushing
            .iter()
            .map(|(start, end)| (start, content[start as usize..end as usize].to_vec()))
            .collect();
        (creds, changes, writes)
    };
    for (offset, data) in writes {
        let message = WriteInline { inode: file.inode, offset, data: data.into(), append: false };
        match core.name(&creds, Op::WriteInline(message)).await {
            Ok(reply) => {
                if let Some(attr) = &reply.attr {
                    file.state.lock().absorb_own(attr);
                }
            }
            // Another client made it a chunked file, or it was one: our bytes go into the chunk.
            Err(error) if error.errno == libc::EFBIG => {
                let mut state = file.state.lock();
                state.outgrow();
                kick(core, file, &mut state);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let mut state = file.state.lock();
    if let Body::Inline(inline) = &mut state.body {
        inline.flushing = Default::default();
        if state.changes == changes {
            state.clean();
        }
        state.drop_stale_inline();
    }
    Ok(())
}

/// Wait until every piece sealed before `seq` is acknowledged or given up. Pumps end within their deadline.
async fn acknowledged(file: &FileRef, seq: u64) {
    loop {
        let mut progress = std::pin::pin!(file.progress.notified());
        progress.as_mut().enable();
        if !file.state.lock().unacked_before(seq) {
            return;
        }
        progress.await;
    }
}

enum Synced {
    Stable,
    /// Another start of the server, or an old version: the grant tells which.
    Stale,
    Failed(Error),
}

/// Make chunk `index` stable on every server of its set that took our writes; one that cannot is left out of the set.
async fn sync_chunk(core: &Arc<Core>, file: &FileRef, index: u64, deadline: Deadline) -> Result<()> {
    let mut backoff = Backoff::default();
    let mut refused: Option<Error> = None;
    loop {
        let Some((info, stamps, acked)) = file.state.lock().to_sync(index) else { return Ok(()) };
        let asked = info.replicas.iter().filter_map(|replica| Some((replica, *stamps.get(&replica.server_id)?)));
        let answers = asked.map(|(replica, boot_id)| {
            let info = &info;
            async move { (replica.server_id, sync_one(core, replica, info, boot_id).await) }
        });
        let answers = futures::future::join_all(answers).await;
        let stale = answers.iter().any(|(_, synced)| matches!(synced, Synced::Stale));
        let troubled = |(id, synced): &(u32, Synced)| (!matches!(synced, Synced::Stable)).then_some(*id);
        let mut failed: Vec<u32> = answers.iter().filter_map(troubled).collect();
        if failed.is_empty() {
            if let Some(writer) = file.state.lock().writers.get_mut(&index) {
                writer.synced = writer.synced.max(acked);
            }
            return Ok(());
        }
        let last = answers.into_iter().find_map(|(_, synced)| match synced {
            Synced::Failed(error) => Some(error),
            _ => None,
        });
        let seen = info.chunk.unwrap_or_default();
        if stale {
            file.state.lock().ungrant(index);
            let now = grant(core, file, index, seen, &[]).await?;
            if now.chunk != Some(seen) || now.healing {
                backoff.wait().await;
                if now.healing && deadline.passed() {
                    return Err(Error::unavailable(format!(
                        "chunk {index} of inode {} is being healed for too long",
                        file.inode
                    )));
                }
                continue;
            }
        }
        failed.retain(|id| info.replicas.iter().any(|replica| replica.server_id == *id));
        match grant(core, file, index, seen, &failed).await {
            Ok(now) if now.chunk != Some(seen) => continue,
            Ok(_) => {}
            Err(error) if error.kind != ErrorKind::Unavailable => return Err(error),
            Err(error) => refused = Some(error),
        }
        if deadline.passed() {
            let why = last.or(refused).unwrap_or_else(|| Error::unavailable("its servers were restarted"));
            return Err(
                why.context(format!("chunk {index} of inode {} could not be made stable on enough copies", file.inode))
            );
        }
        backoff.wait().await;
    }
}

async fn sync_one(core: &Core, replica: &Replica, info: &ChunkInfo, boot_id: u64) -> Synced {
    let message = ChunkSync { chunk: info.chunk, boot_id };
    let start = std::time::Instant::now();
    match core.servers.call_patiently(replica, Method::ChunkSync, &message, None, Deadline::after(SYNC_TIMEOUT)).await {
        Ok(reply) => match reply.decode::<ChunkSyncReply>() {
            Ok(reply) if reply.stamp.is_none_or(|stamp| stamp.boot_id == boot_id) => {
                core.metrics.chunk_sync.since(start);
                Synced::Stable
            }
            Ok(_) => Synced::Stale,
            Err(error) => Synced::Failed(error),
        },
        Err(Failure::Answered(error)) if error.kind == ErrorKind::Stale => Synced::Stale,
        Err(failure) => {
            core.servers.avoid(replica.server_id);
            Synced::Failed(failure.error())
        }
    }
}

impl State {
    #[allow(clippy::type_complexity)]
    fn to_sync(&self, index: u64) -> Option<(ChunkInfo, std::collections::BTreeMap<u32, u64>, u64)> {
        let writer = self.writers.get(&index).filter(|writer| writer.acked > writer.synced)?;
        Some((self.map.get(&index)?.clone(), writer.stamps.clone(), writer.acked))
    }

    fn ungrant(&mut self, index: u64) {
        if let Some(writer) = self.writers.get_mut(&index) {
            writer.granted = false;
        }
    }
}

async fn regrant(core: &Arc<Core>, file: &FileRef, dirty: &[Dirty]) -> Result<()> {
    let converting = matches!(file.state.lock().body, Body::Chunked(Some(_)));
    let mut indexes: Vec<u64> = dirty.iter().map(|chunk| chunk.index).collect();
    if converting && !indexes.contains(&0) {
        indexes.push(0);
    }
    for index in indexes {
        let seen = {
            let mut state = file.state.lock();
            state.ungrant(index);
            state.map.get(&index).and_then(|info| info.chunk).unwrap_or_default()
        };
        let info = grant(core, file, index, seen, &[]).await?;
        if info.chunk != Some(seen) {
            // The set changed: sync again what is in it now.
            if let Some(writer) = file.state.lock().writers.get_mut(&index) {
                writer.synced = writer.committed;
            }
        }
    }
    Ok(())
}

async fn commit(core: &Arc<Core>, file: &FileRef, plan: &Plan, dirty: &[Dirty]) -> Result<()> {
    let (creds, message) = {
        let mut state = file.state.lock();
        if let Some(moved) = dirty.iter().find(|chunk| state.stable(chunk).is_none()) {
            let sentence = format!("chunk {} was replaced while its bytes were made stable", moved.chunk_id);
            return Err(Error::stale(sentence));
        }
        let expect = match &state.body {
            Body::Chunked(Some(convert)) => convert.version,
            _ => None,
        };
        let message = CommitWrite {
            inode: file.inode,
            // Less than planned when bytes were given up meanwhile.
            size: plan.size.min(state.dirty_end),
            mtime_ns: state.mtime_ns.filter(|_| state.changes == plan.changes).unwrap_or(plan.mtime_ns),
            stored: dirty.iter().filter_map(|chunk| state.stored(chunk.index)).collect(),
            expect_inline_version: expect.unwrap_or(0),
            convert_inline: expect.is_some(),
            append_bytes: 0,
            append: false,
        };
        (state.creds.clone(), message)
    };
    let reply = core.name(&creds, Op::CommitWrite(message)).await?;
    let mut state = file.state.lock();
    if let Some(attr) = &reply.attr {
        state.absorb_own(attr);
    }
    for chunk in dirty {
        if let Some(writer) = state.stable(chunk) {
            writer.committed = writer.committed.max(chunk.acked);
            writer.create = false;
        }
    }
    if let Body::Chunked(convert) = &mut state.body {
        *convert = None;
    }
    if state.changes == plan.changes {
        state.clean();
    }
    Ok(())
}

impl State {
    fn stored(&self, index: u64) -> Option<ChunkStored> {
        let info = self.map.get(&index)?;
        let chunk = info.chunk?;
        let stored_bytes = self.writers.get(&index)?.stored_bytes;
        Some(ChunkStored { index, chunk_id: chunk.id, stored_bytes, version: chunk.version, settled: false })
    }
}
