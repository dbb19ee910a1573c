//! What one engine knows of one open inode; shared by all its handles here. Invariants: a byte written here is in `body`,
//! in a writer's filling buffer, queue or flight, or acknowledged by every copy; `mtime_ns` is set exactly while
//! something is not committed. No I/O; every method is short and runs under the lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::Error;
use base::limits::CHUNK_BYTES;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::proto::{Attr, ChunkInfo, Credentials, NameReply};

use crate::ranges::Ranges;
use crate::readahead::ReadAhead;
use crate::writer::{Patch, Writer};

pub struct File {
    pub inode: u64,
    pub state: Mutex<State>,
    /// Held by a write or a truncation: they take effect one after another.
    pub order: tokio::sync::Mutex<()>,
    /// Held by a flush.
    pub flushing: tokio::sync::Mutex<()>,
    /// Rings when pieces were acknowledged or given up.
    pub progress: Notify,
}

/// Where the bytes live.
pub enum Body {
    /// Not asked for yet, or changed by somebody else.
    Unknown,
    Inline(Inline),
    Chunked(Option<Convert>),
}

#[derive(Default)]
pub struct Inline {
    pub content: Vec<u8>,
    /// Written here and not sent.
    pub dirty: Ranges,
    /// Being sent.
    pub flushing: Ranges,
    /// Another client changed it too: ask again once nothing is dirty.
    pub stale: bool,
}

/// An inline file that outgrew its inode: chunk 0 gets its bytes, the next commit drops the inline ones.
pub struct Convert {
    /// The file's first bytes as this mount sees them, kept current until the commit.
    pub content: Vec<u8>,
    /// What was written here, and must not be overlaid with another client's bytes.
    pub own: Ranges,
    /// The data version that the commit expects; known from the grant.
    pub version: Option<u64>,
}

pub struct State {
    pub attr: Attr,
    /// Of whoever opened it for writing or wrote last; background work is done in this name.
    pub creds: Credentials,
    pub body: Body,
    pub map: HashMap<u64, ChunkInfo>,
    pub writers: BTreeMap<u64, Writer>,
    pub next_seq: u64,
    /// End of the last byte written and not committed.
    pub dirty_end: u64,
    pub mtime_ns: Option<i64>,
    /// Counts writes, so that a commit knows whether it covered all.
    pub changes: u64,
    /// Counts changes of the content by other clients.
    pub foreign_changes: u64,
    /// The count when nothing was dirty last.
    foreign_at_clean: u64,
    pub unacked_bytes: usize,
    /// Background failures so far, and the last of them.
    pub faults: u64,
    pub fault: Option<Error>,
    pub readers: HashMap<u64, ReadAhead>,
    pub handles: usize,
}

impl File {
    pub fn new(attr: Attr, creds: Credentials) -> File {
        File {
            inode: attr.inode,
            state: Mutex::new(State {
                attr,
                creds,
                body: Body::Unknown,
                map: HashMap::new(),
                writers: BTreeMap::new(),
                next_seq: 1,
                dirty_end: 0,
                mtime_ns: None,
                changes: 0,
                foreign_changes: 0,
                foreign_at_clean: 0,
                unacked_bytes: 0,
                faults: 0,
                fault: None,
                readers: HashMap::new(),
                handles: 0,
            }),
            order: tokio::sync::Mutex::new(()),
            flushing: tokio::sync::Mutex::new(()),
            progress: Notify::new(),
        }
    }
}

impl State {
    pub fn is_dirty(&self) -> bool {
        self.mtime_ns.is_some()
    }

    /// The size as this mount sees it.
    pub fn size(&self) -> u64 {
        self.attr.size.max(self.dirty_end)
    }

    /// `writer` writes from now on. What a user wrote is committed in a user's name, whoever comes after it.
    pub fn written_by(&mut self, writer: &Credentials) {
        if self.creds != *writer && (writer.uid != 0 || !self.is_dirty()) {
            self.creds = writer.clone();
        }
    }

    /// Whether a write of ours takes set-id bits away once it is committed.
    pub fn drops_set_id(&self) -> bool {
        let Attr { mode, gid, .. } = self.attr;
        let member = self.creds.gid == gid || self.creds.groups.contains(&gid);
        self.creds.uid != 0 && base::modes::without_set_id(mode, member) != mode
    }

    /// The newest attributes that are known, with what was written here and is not committed. Not those of the answer at
    /// hand: a slow listing may have been read before our last commit.
    pub fn seen(&self) -> Attr {
        let mut attr = self.attr;
        if let Some(mtime_ns) = self.mtime_ns {
            attr.size = attr.size.max(self.dirty_end);
            attr.mtime_ns = attr.mtime_ns.max(mtime_ns);
            attr.ctime_ns = attr.ctime_ns.max(mtime_ns);
            attr.blocks =
                attr.blocks.max(self.writers.values().map(|writer| u64::from(writer.stored_bytes) / 512).sum());
        }
        attr
    }

    /// Attributes as the masters have them now; when another client changed the content, forget what is clean.
    pub fn absorb(&mut self, attr: &Attr) {
        if attr.data_version < self.attr.data_version {
            return; // an older answer that was overtaken
        }
        let foreign = attr.data_version != self.attr.data_version;
        self.attr = *attr;
        if foreign {
            self.forget_clean();
        }
    }

    /// As `absorb`, for the reply to our own change: it raised the version by one at most.
    pub fn absorb_own(&mut self, attr: &Attr) {
        if attr.data_version < self.attr.data_version {
            return;
        }
        let foreign = attr.data_version > self.attr.data_version + 1;
        self.attr = *attr;
        if foreign {
            self.forget_clean();
        }
    }

    fn forget_clean(&mut self) {
        self.foreign_changes += 1;
        self.readers.values_mut().for_each(ReadAhead::clear);
        let writers = &self.writers;
        self.map.retain(|index, _| writers.get(index).is_some_and(|writer| !writer.is_idle()));
        if let Body::Inline(inline) = &mut self.body {
            inline.stale = true;
        }
        self.drop_stale_inline();
        if !self.is_dirty() && matches!(self.body, Body::Chunked(None)) {
            self.body = Body::Unknown; // cut by another client, it may lie in its inode again
        }
    }

    /// Inline bytes that another client changed are asked for again, once none of ours is missing there.
    pub fn drop_stale_inline(&mut self) {
        let done = |inline: &Inline| inline.stale && inline.dirty.is_empty() && inline.flushing.is_empty();
        if matches!(&self.body, Body::Inline(inline) if done(inline)) {
            self.body = Body::Unknown;
        }
    }

    /// After a truncation: everything but the handles is asked for again. Nothing is dirty then.
    pub fn forget_all(&mut self) {
        self.readers.values_mut().for_each(ReadAhead::clear);
        self.map.clear();
        self.writers.retain(|_, writer| writer.running);
        for writer in self.writers.values_mut() {
            writer.reset();
        }
        let empty = self.attr.size == 0;
        self.body = if empty { Body::Inline(Inline::default()) } else { Body::Unknown };
    }

    /// Take inline bytes and chunk map from the answer to Open or GetChunks about chunks `first..first + count`.
    pub fn learn(&mut self, reply: &NameReply, first: u64, count: u64) {
        if let Some(attr) = &reply.attr {
            if attr.data_version < self.attr.data_version {
                return;
            }
            self.absorb(attr);
        }
        for info in &reply.chunks {
            if self.writers.get(&info.index).is_none_or(|writer| writer.is_idle()) {
                self.map.insert(info.index, info.clone());
            }
        }
        let last = self.attr.size.div_ceil(CHUNK_BYTES).min(first.saturating_add(count));
        for index in first..last {
            self.map.entry(index).or_insert_with(|| ChunkInfo { index, ..ChunkInfo::default() });
        }
        if matches!(self.body, Body::Unknown) {
            let empty = self.attr.size == 0 && reply.chunks.is_empty();
            self.body = if reply.is_inline || empty {
                Body::Inline(Inline { content: reply.inline_data.to_vec(), ..Inline::default() })
            } else {
                Body::Chunked(None)
            };
        }
    }

    /// Note that `start..end` was written now.
    pub fn wrote(&mut self, start: u64, end: u64, now_ns: i64) {
        self.dirty_end = self.dirty_end.max(end);
        self.mtime_ns = Some(now_ns.max(self.mtime_ns.unwrap_or(i64::MIN)));
        self.changes += 1;
        self.drop_ahead(start, end);
    }

    /// Data fetched ahead that overlaps `start..end` is old.
    pub fn drop_ahead(&mut self, start: u64, end: u64) {
        self.readers.values_mut().for_each(|reader| reader.drop_range(start, end));
    }

    /// Keep a background failure for every handle to report once.
    pub fn set_fault(&mut self, error: Error) {
        self.faults += 1;
        self.fault = Some(error);
    }

    /// Nothing of what was written remains uncommitted, for better or worse.
    pub fn clean(&mut self) {
        self.dirty_end = 0;
        self.mtime_ns = None;
        for writer in self.writers.values_mut() {
            (writer.taken_end, writer.acked_end) = (0, 0);
        }
        if self.foreign_changes != self.foreign_at_clean && matches!(self.body, Body::Chunked(None)) {
            self.body = Body::Unknown;
        }
        self.foreign_at_clean = self.foreign_changes;
    }

    /// What was written here over `start..end` of chunk `index` and is not acknowledged, oldest first.
    pub fn patches(&self, index: u64, start: u32, end: u32) -> Vec<Patch> {
        let mut patches = self.writers.get(&index).map_or_else(Vec::new, |writer| writer.patches(start, end));
        if let Body::Chunked(Some(convert)) = &self.body
            && index == 0
            && let Some(bytes) = convert.content.get(start as usize..convert.content.len().min(end as usize))
        {
            // Not all of them are in the chunk yet; these are the newest in any case.
            patches.push(Patch::Copied(start, bytes.to_vec()));
        }
        patches
    }
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

pub type FileRef = Arc<File>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_cut_at_multiples_of_the_unit() {
        assert_eq!(cut(5, 23, 10).collect::<Vec<_>>(), [(5, 10), (10, 20), (20, 23)]);
        assert_eq!(cut(10, 20, 10).collect::<Vec<_>>(), [(10, 20)]);
        assert_eq!(cut(7, 7, 10).count(), 0);
    }

    #[test]
    fn what_is_not_committed_shows_in_the_attributes_and_an_overtaken_answer_does_not() {
        let file = File::new(Attr { size: 10, data_version: 4, ..Attr::default() }, Credentials::default());
        let mut state = file.state.lock();
        state.wrote(5, 50, 99);
        assert_eq!((state.seen().size, state.seen().mtime_ns), (50, 99));
        state.absorb(&Attr { size: 70, data_version: 3, ..Attr::default() });
        assert_eq!(state.size(), 50);
        state.absorb_own(&Attr { size: 50, data_version: 5, ..Attr::default() });
        state.clean();
        state.absorb(&Attr { size: 10, data_version: 4, ..Attr::default() });
        assert_eq!(state.seen().size, 50, "read before our commit, answered after it");
    }
}
