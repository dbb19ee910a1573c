//! Holes, promises of space, and copies of bytes that chunkservers have: pieces without bytes. They go the way of written bytes, so that they stand in order with
//! them; but what a server will not do is told to who asked, and nothing else is lost by it.

use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Error, ErrorKind};
use wire::proto::Fill;

use super::pieces::{Copied, Filled, Piece};
use super::writer::Writer;
use super::{Action, Body, File, Now, Taken};

impl File {
    /// Make `start..end`, which lie within one chunk, a hole or a promise. `grows`: the file then reaches to `end` at least.
    pub fn fill(&mut self, now: Now, (start, end): (u64, u64), fill: Fill, grows: bool) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let taken = if self.is_body_known() && self.lies_inline_to(end) {
            self.fill_inline(now, (start, end), fill, grows);
            Taken::At(start)
        } else {
            let filled = Filled { fill, length: (end - start) as u32, grows };
            self.put_without_bytes(now, start, |seq, within| Piece::fill(seq, within, filled), &mut out)
        };
        self.advance(now, &mut out);
        (taken, out)
    }

    /// Put what chunkservers have at `start`, within one cell. Until it is committed nobody here knows what is there.
    pub fn copy(&mut self, now: Now, start: u64, copied: Copied) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let taken = self.put_without_bytes(now, start, |seq, within| Piece::copy(seq, within, copied), &mut out);
        self.advance(now, &mut out);
        (taken, out)
    }

    fn put_without_bytes(
        &mut self,
        now: Now,
        start: u64,
        make: impl FnOnce(u64, u32) -> Piece,
        out: &mut Vec<Action>,
    ) -> Taken {
        if !self.is_body_known() {
            return Taken::NeedsBody;
        }
        self.outgrow();
        let unstable = self.unstable_bytes();
        if unstable > 0 && unstable + BLOCK_BYTES > self.limits.window_bytes {
            self.wanted = self.changes;
            return Taken::NeedsRoom;
        }
        let (index, within) = (start / CHUNK_BYTES, (start % CHUNK_BYTES) as u32);
        let mut seq = self.next_seq;
        let writer = self.writer(index);
        writer.seal(&mut seq);
        let piece = make(seq, within);
        let (end, grows_to, is_promise) = (piece.end(), piece.grows_to(), piece.is_promise());
        writer.push(piece);
        self.next_seq = seq + 1;
        let chunk = index * CHUNK_BYTES;
        self.wrote(now, if grows_to > 0 { chunk + u64::from(grows_to) } else { 0 });
        if !is_promise {
            out.push(Action::Forget { start, end: chunk + u64::from(end) });
        }
        Taken::At(start)
    }

    /// Whether something of ours waits there to be committed.
    pub fn writes_to(&self, index: u64) -> bool {
        self.writers.get(&index).is_some_and(|writer| !writer.is_clean())
    }

    /// Whether appended bytes wait to be committed. Their place is not final, so nothing can be ordered after them there.
    pub fn awaits_places(&self) -> bool {
        self.turn.has_displaced() || self.writers.values().any(Writer::appends)
    }

    fn lies_inline_to(&self, end: u64) -> bool {
        matches!(self.body, Body::Inline(_)) && end <= u64::from(self.limits.inline_bytes)
    }

    /// The inode's own bytes always have their space.
    fn fill_inline(&mut self, now: Now, (start, end): (u64, u64), fill: Fill, grows: bool) {
        let Body::Inline(inline) = &self.body else { return };
        let known = (inline.content.len() as u64).max(self.size());
        let span = match fill {
            Fill::Hole => (start, if grows { end } else { end.min(known) }),
            Fill::Promise => (known, if grows { end } else { known }),
        };
        if span.0 < span.1 {
            self.put_inline(span.0, &vec![0; (span.1 - span.0) as usize]);
            self.wrote(now, span.1);
        }
    }

    /// Why one was not carried out, once.
    pub fn take_refusal(&mut self) -> Option<Error> {
        self.refused.take()
    }

    /// Whether this answer to such a piece is for who asked for it: no server is at fault, and waiting would not help; or
    /// there is another way, as to a copy.
    pub(super) fn is_refusal(&self, index: u64, seq: u64, error: &Error) -> bool {
        let of_software = error.errno == libc::EOPNOTSUPP && error.kind == ErrorKind::Namespace;
        let of_room = matches!(error.errno, libc::ENOSPC | libc::EDQUOT);
        let Some(writer) = self.writers.get(&index) else { return false };
        let filled = writer.filled(seq);
        writer.copies(seq) || filled.is_some_and(|filled| of_software || (of_room && filled.fill == Fill::Promise))
    }

    pub(super) fn promises_at(&self, index: u64) -> bool {
        self.writers.get(&index).is_some_and(Writer::promises)
    }

    /// All such pieces are dropped. Some copies may have done what others refused: they are to be compared.
    pub(super) fn refuse(&mut self, error: Error, out: &mut Vec<Action>) {
        for writer in self.writers.values_mut() {
            if let Some(chunk) = writer.drop_what_has_no_bytes() {
                out.push(Action::Release { chunks: vec![chunk], abandoned: true });
            }
        }
        self.find_dirty_end();
        self.refused = Some(error);
        out.push(Action::Progress);
    }
}
