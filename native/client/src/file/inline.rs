//! A file whose bytes lie in its inode, and its way out: what was written here is queued for chunk 0, what others wrote
//! follows with the grant, and one commit moves both.

use std::collections::VecDeque;

use base::Buffer;
use wire::proto::NameReply;

use super::pieces::Piece;
use super::ranges::Ranges;
use super::writer::Writer;
use super::{Body, File};

#[derive(Default)]
pub struct Inline {
    pub content: Vec<u8>,
    /// Written here and not sent.
    pub dirty: Ranges,
    /// Being sent, one after the other.
    pub sending: VecDeque<(u64, u64)>,
    /// Another client changed it too: ask again once nothing is dirty.
    pub stale: bool,
}

impl Inline {
    /// Ranges that are not committed.
    fn own(&self) -> Ranges {
        let mut own = self.dirty.clone();
        self.sending.iter().for_each(|(start, end)| own.insert(*start, *end));
        own
    }

    /// What was not sent, or may not have arrived, is to be sent.
    pub fn unsend(&mut self) {
        for (start, end) in std::mem::take(&mut self.sending) {
            self.dirty.insert(start, end);
        }
    }

    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.sending.is_empty()
    }
}

/// On the way out of the inode: chunk 0 gets the bytes, the next commit drops the inline ones.
pub struct Convert {
    /// The bytes as they were seen last, for readers until the grant brings them anew.
    pub content: Vec<u8>,
    /// The data version that the commit expects; known from the grant.
    pub version: Option<u64>,
}

impl File {
    /// Into the inode's own bytes, when the file is inline and stays so.
    pub(super) fn put_inline(&mut self, offset: u64, data: &[u8]) -> bool {
        let end = offset + data.len() as u64;
        let Body::Inline(inline) = &mut self.body else { return false };
        if end > u64::from(self.limits.inline_bytes) {
            return false;
        }
        if (inline.content.len() as u64) < end {
            inline.content.resize(end as usize, 0);
        }
        inline.content[offset as usize..end as usize].copy_from_slice(data);
        inline.dirty.insert(offset, end);
        true
    }

    /// The file outgrows its inode. A cycle that was about to write there waits for the same bytes on their way to the chunk.
    pub(super) fn outgrow(&mut self) {
        let Body::Inline(inline) = &mut self.body else { return };
        let inline = std::mem::take(inline);
        self.body = Body::Chunked;
        let rounds = &self.rounds;
        let writer = self.writers.entry(0).or_insert_with(|| Writer::new(rounds));
        for (start, end) in inline.own().iter() {
            let bytes = Buffer::copy_of(&inline.content[start as usize..end as usize]);
            writer.push(Piece::new(self.next_seq, start as u32, bytes, false));
            self.next_seq += 1;
        }
        if let Some(cycle) = &mut self.cycle {
            cycle.follows_to(self.next_seq - 1);
        }
        // What lies at the leader moves at once, before others ask for it too.
        if self.attr.size > 0 {
            writer.want_grant();
            self.convert = Some(Convert { content: inline.content, version: None });
            self.wanted = self.changes;
        }
    }

    /// A grant tells whether the file is still inline, and what its bytes are now: they go into chunk 0 wherever this
    /// client did not write.
    pub(super) fn settle_conversion(&mut self, index: u64, reply: &NameReply) {
        if self.is_overtaken(reply) {
            return; // what lay there then is known better by now; a cycle without its version asks again
        }
        let inline: &[u8] = if reply.is_inline { &reply.inline_data } else { &[] };
        if inline.is_empty() {
            self.convert = None;
            if let Some(writer) = self.writers.get_mut(&0) {
                writer.drop_others();
            }
            return;
        }
        if let (Some(cycle), Some(writer)) = (&self.cycle, self.writers.get(&0))
            && cycle.passes_over(writer, inline.len() as u64)
        {
            // Its commit would drop the inode's bytes all the same.
            self.break_off();
        }
        let rounds = &self.rounds;
        let writer = self.writers.entry(0).or_insert_with(|| Writer::new(rounds));
        if index != 0 {
            // Chunk 0 has to be asked for.
            writer.want_grant();
            self.convert.get_or_insert_with(|| Convert { content: inline.to_vec(), version: None });
            return;
        }
        writer.drop_others();
        let gaps = writer.own().gaps(0, inline.len() as u64);
        let others = gaps.into_iter().map(|(start, end)| {
            Piece::new(0, start as u32, Buffer::copy_of(&inline[start as usize..end as usize]), false)
        });
        writer.take_others(others.collect());
        let version = reply.attr.as_ref().map_or(0, |attr| attr.data_version);
        self.convert = Some(Convert { content: inline.to_vec(), version: Some(version) });
    }

    pub(super) fn content_at(&self, offset: u64, end: u64) -> Option<Buffer> {
        let Body::Inline(inline) = &self.body else { return None };
        let mut buffer = Buffer::take((end - offset) as usize);
        let have = inline.content.get(offset as usize..).unwrap_or(&[]);
        let count = have.len().min(buffer.len());
        buffer[..count].copy_from_slice(&have[..count]);
        buffer[count..].fill(0);
        Some(buffer)
    }

    /// An append to the inode's own bytes was committed at `offset`.
    pub fn appended_inline(&mut self, reply: &NameReply, data: &[u8]) {
        let before = self.attr.data_version;
        self.absorb_reply(reply);
        let follows = self.attr.data_version == before + 1;
        match &mut self.body {
            Body::Inline(inline) if follows && inline.content.len() as u64 == reply.offset => {
                inline.content.extend_from_slice(data);
            }
            body => *body = Body::Unknown,
        }
    }

    /// The leader says that the file is, or would become, too big to lie inline.
    pub fn outgrown(&mut self) {
        if matches!(&self.body, Body::Inline(inline) if inline.is_clean()) {
            self.body = Body::Unknown;
        }
    }

    /// Bytes of the inode that another client changed too come anew, with ours over them; if the file lies in chunks by
    /// now, ours follow it there.
    pub(super) fn renew_inline(&mut self, reply: &NameReply) {
        let empty = self.attr.size == 0 && reply.chunks.is_empty();
        let Body::Inline(inline) = &mut self.body else { return };
        if !inline.stale {
            return;
        }
        if reply.is_inline || empty {
            inline.stale = false;
            let old = std::mem::replace(&mut inline.content, reply.inline_data.to_vec());
            for (start, end) in inline.own().iter() {
                let (start, end) = (start as usize, end as usize);
                inline.content.resize(inline.content.len().max(end), 0);
                inline.content[start..end].copy_from_slice(&old[start..end]);
            }
        } else {
            self.outgrow();
            self.convert = None;
        }
    }

    /// The file lies in its inode, and bytes of ours for its chunks wait: it was on its way out and another client changed it,
    /// or another client cut it away and wrote it anew. What lies in the inode now is what readers see and what goes into
    /// chunk 0. A commit of ours that is under way is refused then, or told by itself.
    pub(super) fn renew_conversion(&mut self, reply: &NameReply) {
        if !matches!(self.body, Body::Chunked) || !self.is_dirty() {
            return;
        }
        let lies_inline = reply.is_inline && !reply.inline_data.is_empty();
        let told = reply.attr.as_ref().map(|attr| attr.data_version);
        let known = self.convert.as_ref().and_then(|convert| convert.version);
        let moved_by_us = !lies_inline && self.is_changing();
        if known.is_some_and(|version| told == Some(version)) || moved_by_us || (!lies_inline && self.convert.is_none())
        {
            return;
        }
        let content = if lies_inline { reply.inline_data.to_vec() } else { Vec::new() };
        self.convert = Some(Convert { content, version: None });
        if let Some(writer) = self.writers.get_mut(&0) {
            // Copies have old bytes of others too, by now or by a commit that was refused: none is read there.
            writer.send_again();
            writer.drop_others();
            writer.ask_anew();
        }
    }

    /// Inline bytes that another client changed are asked for again, once none of ours is missing there.
    pub(super) fn drop_stale_inline(&mut self) {
        if matches!(&self.body, Body::Inline(inline) if inline.stale && inline.is_clean()) {
            self.body = Body::Unknown;
        }
    }
}
