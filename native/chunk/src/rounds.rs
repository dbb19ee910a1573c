//! Which round of each writer has been here, so that a piece that was given up and sent again cannot arrive over what
//! came after it. Memory only, on purpose: a restart ends the connections that could deliver a late piece, and whoever
//! passes a write on asks here first (`Store::check_sender`), so none comes over a new one.
//!
//! Invariant: what is forgotten can be refused no more. So nothing is kept of a writer that never sent again (its
//! round is 0, and there is none before it), and of those that did the least recent goes first.

use base::{Error, Reason, Result};
use parking_lot::Mutex;

use crate::types::Sender;

/// Writers remembered for one chunk. Each of them had to send pieces of this chunk again; a late piece lives for about
/// ten seconds, which is the longest that a dead connection's buffers are kept. Fewer, and some writers in trouble at
/// a time push each other out; more is only searched for longer.
const MAX_WRITERS: usize = 8;

/// Of one chunk; the most recent writer last.
#[derive(Default)]
pub(crate) struct Rounds(Mutex<Vec<Sender>>);

impl Rounds {
    /// Refuse a sender whose later round has been here.
    pub fn check(&self, chunk_id: u64, sender: Sender) -> Result<()> {
        if sender.writer == 0 {
            return Ok(());
        }
        let known = self.0.lock();
        match known.iter().find(|known| known.writer == sender.writer) {
            Some(known) if known.round > sender.round => Err(Error::stale(format!(
                "chunk {chunk_id}: round {} of this writer came after round {} had; it sent these bytes again",
                sender.round, known.round
            ))
            .because(Reason::Overtaken)),
            _ => Ok(()),
        }
    }

    /// Remember a sender whose write is taken.
    pub fn note(&self, sender: Sender) {
        if sender.writer == 0 {
            return;
        }
        let mut known = self.0.lock();
        let at = known.iter().position(|known| known.writer == sender.writer);
        let former = at.map(|at| known.remove(at).round);
        let round = former.unwrap_or(0).max(sender.round);
        if round == 0 {
            return;
        }
        if known.len() == MAX_WRITERS {
            known.remove(0);
        }
        known.push(Sender { round, ..sender });
    }

    /// Know what `other` knows: a copy replaces the chunk that its writers wrote to.
    pub fn take_over(&self, other: &Rounds) {
        if std::ptr::eq(self, other) {
            return;
        }
        let known = other.0.lock().clone();
        known.into_iter().for_each(|sender| self.note(sender));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(writer: u64, round: u32) -> Sender {
        Sender { writer, round }
    }

    #[test]
    fn a_later_round_refuses_those_before_it_and_no_other_writer() {
        let rounds = Rounds::default();
        rounds.note(sender(1, 2));
        rounds.note(sender(1, 1));
        let refused = rounds.check(7, sender(1, 1)).expect_err("overtaken");
        assert_eq!((refused.errno, refused.reason), (libc::ESTALE, Reason::Overtaken));
        for taken in [sender(1, 2), sender(1, 3), sender(2, 0), sender(0, 0)] {
            assert_eq!(rounds.check(7, taken), Ok(()));
        }
    }

    #[test]
    fn writers_that_never_sent_again_push_nobody_out() {
        let rounds = Rounds::default();
        rounds.note(sender(1, 1));
        (2..1000).for_each(|writer| rounds.note(sender(writer, 0)));
        assert!(rounds.check(7, sender(1, 0)).is_err());
        // Those in trouble are kept by their last use, a bounded number of them.
        for writer in 2..1000 {
            rounds.note(sender(writer, 1));
            rounds.note(sender(1, 1));
        }
        assert!(rounds.check(7, sender(1, 0)).is_err());
        assert!(rounds.check(7, sender(999, 0)).is_err());
        assert_eq!(rounds.0.lock().len(), MAX_WRITERS);
    }
}
