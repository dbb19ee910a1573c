//! What the masters say of a file: its attributes, where its bytes lie, and so what other clients did to it. Answers may
//! come late; the data version tells which is older.

use base::limits::CHUNK_BYTES;
use wire::proto::{Attr, ChunkInfo, NameReply};

use super::inline::Inline;
use super::{Body, File};

impl File {
    /// Attributes as the masters have them now; when another client changed the content, forget what is clean.
    pub(super) fn absorb(&mut self, attr: &Attr) {
        if attr.data_version < self.attr.data_version {
            return; // an older answer that was overtaken
        }
        let foreign = attr.data_version != self.attr.data_version;
        self.attr = *attr;
        if foreign {
            self.forget_clean();
        }
    }

    /// As `absorb`, for the reply to our own change of the content: it raised the version by one.
    pub(super) fn absorb_own(&mut self, attr: &Attr) {
        if attr.data_version < self.attr.data_version {
            return;
        }
        let foreign = attr.data_version > self.attr.data_version + 1;
        self.attr = *attr;
        if foreign {
            self.forget_clean();
        }
    }

    /// The reply to an operation of our own that changed the content. -> the data version that it is of.
    pub(super) fn absorb_reply(&mut self, reply: &NameReply) -> u64 {
        let Some(attr) = &reply.attr else { return self.attr.data_version };
        self.absorb_own(attr);
        attr.data_version
    }

    /// The reply to what changes no content, as a grant: a higher version is of another client's change, unless one of ours
    /// is under way; then its own reply tells. -> the data version that it is of.
    pub(super) fn absorb_unchanged(&mut self, reply: &NameReply) -> u64 {
        let Some(attr) = &reply.attr else { return self.attr.data_version };
        if !self.is_changing() {
            self.absorb(attr);
        }
        attr.data_version
    }

    pub(super) fn forget_clean(&mut self) {
        self.foreign_changes += 1;
        self.ahead_is_old = true;
        self.map.clear();
        for writer in self.writers.values_mut().filter(|writer| writer.is_clean()) {
            writer.ungrant();
        }
        if let Body::Inline(inline) = &mut self.body {
            inline.stale = true;
        }
        self.drop_stale_inline();
        if !self.is_dirty() && matches!(self.body, Body::Chunked) {
            self.body = Body::Unknown; // cut by another client, it may lie in its inode again
        }
    }

    /// Take inline bytes and chunk map from the answer to Open or GetChunks about chunks `first..first + count`.
    pub(super) fn learn(&mut self, reply: &NameReply, first: u64, count: u64) {
        if self.is_overtaken(reply) {
            return;
        }
        if let Some(attr) = &reply.attr {
            self.absorb(attr);
        }
        for info in &reply.chunks {
            // What was sent to another chunk or version does not count any more, whether its grant was given back or not.
            if let Some(writer) = self.writers.get_mut(&info.index)
                && writer.last_grant().is_some_and(|grant| grant.chunk != info.chunk)
                && info
                    .chunk
                    .is_some_and(|chunk| chunk.id != writer.chunk().id || chunk.version > writer.chunk().version)
            {
                writer.send_again();
                writer.ungrant();
            }
            self.map.insert(info.index, info.clone());
        }
        let last = self.attr.size.div_ceil(CHUNK_BYTES).min(first.saturating_add(count));
        for index in first..last {
            self.map.entry(index).or_insert_with(|| ChunkInfo { index, ..ChunkInfo::default() });
        }
        self.lose_what_was_cut(reply, first, count);
        self.renew_inline(reply);
        self.renew_conversion(reply);
        if matches!(self.body, Body::Unknown) {
            let empty = self.attr.size == 0 && reply.chunks.is_empty();
            self.body = if reply.is_inline || empty {
                Body::Inline(Inline { content: reply.inline_data.to_vec(), ..Inline::default() })
            } else {
                Body::Chunked
            };
        }
    }

    /// Another client cut the file before a chunk that we were granted: what we sent there is sent to a new one.
    pub(super) fn lose_what_was_cut(&mut self, reply: &NameReply, first: u64, count: u64) {
        let Some(attr) = reply.attr.filter(|_| self.convert.is_none()) else { return };
        let is_named = |index: u64| reply.chunks.iter().any(|info| info.index == index && info.chunk.is_some());
        for (index, writer) in self.writers.range_mut(first..first.saturating_add(count)) {
            if !is_named(*index) && writer.was_cut_away(attr.data_version) {
                writer.send_again();
                writer.ungrant();
            }
        }
    }

    /// After a change of size by this client: everything is asked for again.
    pub(super) fn resized(&mut self, attr: &Attr) {
        self.absorb_own(attr);
        self.ahead_is_old = true;
        self.map.clear();
        self.convert = None;
        self.turn.ended();
        for writer in self.writers.values_mut() {
            writer.ungrant();
        }
        let empty = self.attr.size == 0;
        self.body = if empty { Body::Inline(Inline::default()) } else { Body::Unknown };
    }
}
