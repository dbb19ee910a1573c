//! O_APPEND: the turn to add to the end. While it is ours, appends go to the end as seen here; the commit that makes them
//! visible ends the turn. It is kept a little while for the next append, and never while nothing is appended.

use std::collections::VecDeque;
use std::sync::Arc;

use base::limits::CHUNK_BYTES;
use base::{Error, Reason};
use wire::proto::NameReply;

use super::File;
use super::event::{Action, Now, Taken, Timer};
use super::pieces::{CELL_BYTES, Piece};

/// The turn is given back after this pause of appending, and after this time in any case when others may wait.
const LINGER_MS: u64 = 5;
const LONGEST_TURN_MS: u64 = 100;
/// Pauses between two questions for a turn that somebody else has.
pub(super) const ASK_AGAIN_MS: u64 = 4;
/// A turn that takes so long is a dead client's, or the leader's: asking more often does not end it.
const LONGEST_ASK_MS: u64 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    None,
    Asking,
    Waiting,
    Held,
    /// A commit that ends it is under way.
    Ending,
}

#[derive(Default)]
pub struct Turn {
    step: Step,
    since_ms: u64,
    used_ms: u64,
    /// A record is only partly in: the turn must not end in its middle.
    within_record: bool,
    /// Nothing is appended any more: the turn may go.
    due: bool,
    /// Bytes whose place went to somebody else; they come first in the next turn.
    displaced: VecDeque<Arc<Piece>>,
    failure: Option<Error>,
    /// How often it was asked for in vain.
    refused: u32,
}

impl Turn {
    pub fn is_held(&self) -> bool {
        self.step == Step::Held
    }

    pub fn has_displaced(&self) -> bool {
        !self.displaced.is_empty()
    }

    /// Whether the turn waits for a commit to end it.
    pub fn wants_commit(&self) -> bool {
        self.step == Step::Held && self.due && !self.within_record
    }

    /// A commit begins; whether it ends the turn.
    pub fn end(&mut self) -> bool {
        let ends = self.step == Step::Held && !self.within_record;
        if ends {
            self.step = Step::Ending;
        }
        ends
    }

    /// The commit that was to end it is tried again.
    pub fn not_ended(&mut self) {
        if self.step == Step::Ending {
            self.step = Step::Held;
        }
    }

    pub fn ended(&mut self) {
        if !matches!(self.step, Step::Asking | Step::Waiting) {
            self.step = Step::None;
        }
        self.due = false;
    }
}

impl File {
    /// Take one part of a record, at most a cell long, for the end of the file; `ends`: the last one.
    pub fn append(&mut self, now: Now, data: &[u8], ends: bool) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let taken = self.put_at_end(now, data, &mut out);
        if let Taken::At(_) = taken {
            self.turn.within_record = !ends;
        }
        self.advance(now, &mut out);
        (taken, out)
    }

    /// The rest of a record that was begun will not come.
    pub fn record_ended(&mut self) -> Vec<Action> {
        self.turn.within_record = false;
        Vec::new()
    }

    /// Displaced bytes cannot be put anywhere.
    pub fn lose_displaced(&mut self, error: Error) -> Vec<Action> {
        let mut out = Vec::new();
        self.turn.displaced.clear();
        self.fail(error, &mut out);
        out
    }

    /// Why the turn could not be had.
    pub fn take_turn_failure(&mut self) -> Option<Error> {
        self.turn.failure.take()
    }

    fn put_at_end(&mut self, now: Now, data: &[u8], out: &mut Vec<Action>) -> Taken {
        if !self.turn.is_held() || self.turn.has_displaced() {
            self.ask_turn(out);
            return Taken::NeedsTurn;
        }
        let offset = self.size();
        let room = CELL_BYTES - offset % CELL_BYTES;
        if data.len() as u64 > room {
            // The caller cuts its data at cells of the place that it expects; the end has moved.
            return self.put_in_two(now, offset, data, room as usize, out);
        }
        let taken = self.put(now, offset, data, true, out);
        if taken == Taken::At(offset) {
            self.turn.used_ms = now.mono_ms;
        }
        taken
    }

    /// Both parts or neither: what is taken is one record.
    fn put_in_two(&mut self, now: Now, offset: u64, data: &[u8], room: usize, out: &mut Vec<Action>) -> Taken {
        let first = self.put(now, offset, &data[..room], true, out);
        if first != Taken::At(offset) {
            return first;
        }
        self.turn.used_ms = now.mono_ms;
        // Room was there for the first part; the second may go beyond the window by one cell.
        let window = std::mem::replace(&mut self.limits.window_bytes, usize::MAX);
        let second = self.put(now, offset + room as u64, &data[room..], true, out);
        self.limits.window_bytes = window;
        if matches!(second, Taken::At(_)) { first } else { second }
    }

    /// The pause after a refusal is over. Nothing is asked for when the turn came and went meanwhile.
    pub(super) fn ask_turn_again(&mut self, out: &mut Vec<Action>) {
        if self.turn.step == Step::Waiting {
            self.turn.step = Step::None;
            self.ask_turn(out);
        }
    }

    fn ask_turn(&mut self, out: &mut Vec<Action>) {
        if self.turn.step == Step::None {
            self.turn.step = Step::Asking;
            out.push(Action::AskTurn);
        }
    }

    pub(super) fn turn_answered(&mut self, now: Now, outcome: Result<Box<NameReply>, Error>, out: &mut Vec<Action>) {
        match outcome {
            Ok(reply) => {
                self.learn(&reply, reply.offset / CHUNK_BYTES, 1);
                let turn = &mut self.turn;
                turn.refused = 0;
                (turn.step, turn.since_ms, turn.used_ms, turn.due) = (Step::Held, now.mono_ms, now.mono_ms, false);
                out.push(Action::Wait { timer: Timer::Linger, after_ms: LINGER_MS });
                if self.turn.has_displaced() {
                    out.push(Action::Reappend);
                }
            }
            Err(error) if error.reason == Reason::TurnTaken => {
                self.turn.step = Step::Waiting;
                self.turn.refused = self.turn.refused.saturating_add(1);
                out.push(Action::Wait { timer: Timer::Turn, after_ms: ask_again_ms(self.turn.refused) });
                return;
            }
            Err(error) => {
                self.turn.step = Step::None;
                if self.turn.has_displaced() {
                    self.turn.displaced.clear();
                    self.fail(error, out);
                } else {
                    self.turn.failure = Some(error);
                }
            }
        }
        out.push(Action::Progress);
    }

    pub(super) fn turn_is_due(&mut self) {
        self.turn.due = true;
    }

    pub(super) fn linger(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.turn.is_held() {
            return;
        }
        let paused = now.mono_ms.saturating_sub(self.turn.used_ms) >= LINGER_MS;
        if paused || now.mono_ms.saturating_sub(self.turn.since_ms) >= LONGEST_TURN_MS {
            self.turn.due = true;
            self.wanted = self.changes;
        }
        if !self.turn.wants_commit() {
            out.push(Action::Wait { timer: Timer::Linger, after_ms: LINGER_MS });
        }
    }

    /// The turn went to another client: what was appended in it and not committed takes a new place.
    pub(super) fn lose_turn(&mut self, out: &mut Vec<Action>) {
        let mut taken = Vec::new();
        for writer in self.writers.values_mut() {
            taken.extend(writer.take_appended(&mut self.next_seq));
        }
        taken.sort_by_key(|piece| piece.seq);
        self.turn.displaced.extend(taken);
        self.turn.ended();
        self.find_dirty_end();
        if self.turn.has_displaced() {
            self.ask_turn(out);
        }
    }

    /// Put displaced bytes at the end. `Taken::At`: all of them are there.
    pub fn reappend(&mut self, now: Now) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let mut taken = Taken::At(0);
        while let Some(piece) = self.turn.displaced.pop_front() {
            if !self.turn.is_held() {
                taken = Taken::NeedsTurn;
                self.ask_turn(&mut out);
            } else {
                let rest = std::mem::take(&mut self.turn.displaced);
                taken = self.put_at_end(now, piece.bytes(), &mut out);
                self.turn.displaced = rest;
            }
            if !matches!(taken, Taken::At(_)) {
                self.turn.displaced.push_front(piece);
                break;
            }
        }
        out.push(Action::Progress);
        self.advance(now, &mut out);
        (taken, out)
    }
}

/// Often while the turn is likely to go round, which takes some tens of milliseconds.
fn ask_again_ms(refused: u32) -> u64 {
    (ASK_AGAIN_MS << (refused / 8).min(10)).min(LONGEST_ASK_MS)
}
