//! Holes and promises of space: pieces without bytes. They go the way of written bytes, so that they stand in order with
//! them; but what a server will not do is told to who asked, and nothing else is lost by it.

use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Error, ErrorKind};
use wire::proto::Fill;

use super::pieces::{Filled, Piece};
use super::writer::Writer;
use super::{Action, Body, File, Now, Taken};

impl File {
    /// Make `start..end`, which lie within one chunk, a hole or a promise. `grows`: the file then reaches to `end` at least.
    pub fn fill(&mut self, now: Now, (start, end): (u64, u64), fill: Fill, grows: bool) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let taken = self.put_fill(now, (start, end), fill, grows, &mut out);
        self.advance(now, &mut out);
        (taken, out)
    }

    fn put_fill(
        &mut self,
        now: Now,
        (start, end): (u64, u64),
        fill: Fill,
        grows: bool,
        out: &mut Vec<Action>,
    ) -> Taken {
        if !self.is_body_known() {
            return Taken::NeedsBody;
        }
        if self.lies_inline_to(end) {
            self.fill_inline(now, (start, end), fill, grows);
            return Taken::At(start);
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
        writer.push(Piece::fill(seq, within, Filled { fill, length: (end - start) as u32, grows }));
        self.next_seq = seq + 1;
        self.wrote(now, if grows { end } else { 0 });
        if fill == Fill::Hole {
            out.push(Action::Forget { start, end });
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
            Fill::Hole => (start, end.min(known)),
            Fill::Promise => (known, if grows { end } else { known }),
        };
        if span.0 < span.1 {
            self.put_inline(span.0, &vec![0; (span.1 - span.0) as usize]);
            self.wrote(now, span.1);
        }
    }

    /// Why one was not made, once.
    pub fn take_refusal(&mut self) -> Option<Error> {
        self.refused.take()
    }

    /// Whether this answer to such a piece is for who asked for it: no server is at fault, and waiting would not help.
    pub(super) fn is_refusal(&self, index: u64, seq: u64, error: &Error) -> bool {
        let of_software = error.errno == libc::EOPNOTSUPP && error.kind == ErrorKind::Namespace;
        let of_room = matches!(error.errno, libc::ENOSPC | libc::EDQUOT);
        let piece = self.writers.get(&index).and_then(|writer| writer.filled(seq));
        piece.is_some_and(|filled| of_software || (of_room && filled.fill == Fill::Promise))
    }

    pub(super) fn promises_at(&self, index: u64) -> bool {
        self.writers.get(&index).is_some_and(Writer::promises)
    }

    /// All such pieces are dropped. Some copies may have done what others refused: they are to be compared.
    pub(super) fn refuse(&mut self, error: Error, out: &mut Vec<Action>) {
        for writer in self.writers.values_mut() {
            if let Some(chunk) = writer.drop_fills() {
                out.push(Action::Release { chunks: vec![chunk], abandoned: true });
            }
        }
        self.find_dirty_end();
        self.refused = Some(error);
        out.push(Action::Progress);
    }
}
