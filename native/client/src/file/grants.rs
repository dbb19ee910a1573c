//! What the leader says to a grant and a trim, and what the chunkservers say to what was sent under it.

use base::limits::CHUNK_BYTES;
use base::{Error, ErrorKind, Reason};
use wire::proto::{NameReply, TrimDone};

use super::cycle::Cycle;
use super::writer::Trouble;
use super::{Action, Blame, CELL_BYTES, FIRST_PAUSE_MS, File, Now, Refusal, Timer, chain, pause_ms};

impl File {
    pub(super) fn granted(
        &mut self,
        now: Now,
        index: u64,
        outcome: Result<Box<NameReply>, Error>,
        out: &mut Vec<Action>,
    ) {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(error) => return self.not_granted(now, index, error, out),
        };
        let Some(info) = reply.chunks.first().cloned() else {
            return self.give_up(index, Error::integrity("a grant came without its chunk"), out);
        };
        let data_version = self.absorb_unchanged(&reply);
        let deadline_ms = self.limits.deadline_ms;
        let writer = self.writer(index);
        let left_out: Vec<u32> = writer.trouble.failed.clone();
        let left_out: Vec<u32> =
            left_out.into_iter().filter(|id| !info.replicas.iter().any(|replica| replica.server_id == *id)).collect();
        if !left_out.is_empty() {
            out.push(Action::LeftOut(left_out));
        }
        writer.granted(info.clone(), data_version);
        if info.healing {
            writer.trouble.tries += 1;
            let since = *writer.trouble.since_ms.get_or_insert(now.mono_ms);
            if now.mono_ms.saturating_sub(since) >= deadline_ms {
                let error = Error::unavailable(format!("chunk {index} of inode {} is healed for too long", self.inode));
                return self.give_up(index, error, out);
            }
            let after_ms = pause_ms(writer.trouble.tries);
            out.push(Action::Wait { timer: Timer::Grant(index), after_ms });
        } else if writer.trouble.last.is_none() {
            writer.trouble = Trouble::default();
        }
        self.map.insert(index, info);
        self.settle_conversion(index, &reply);
    }

    fn not_granted(&mut self, now: Now, index: u64, error: Error, out: &mut Vec<Action>) {
        let deadline_ms = self.limits.deadline_ms;
        let Some(writer) = self.writers.get_mut(&index) else { return };
        if error.reason == Reason::TurnLost && self.cycle.as_ref().is_some_and(Cycle::is_committing) {
            // The commit under way may be what ended the turn: its answer tells.
            writer.pause(true);
            out.push(Action::Wait { timer: Timer::Grant(index), after_ms: FIRST_PAUSE_MS });
            return;
        }
        if error.reason == Reason::TurnLost {
            writer.pause(false);
            self.break_off();
            return self.lose_turn(out);
        }
        let since = *writer.trouble.since_ms.get_or_insert(now.mono_ms);
        let late = now.mono_ms.saturating_sub(since) >= deadline_ms;
        let again = error.kind == ErrorKind::Unavailable || error.reason == Reason::TurnTaken;
        if !again || writer.trouble.is_final() || late {
            let last = writer.trouble.last.clone().filter(|_| again).unwrap_or(error);
            let what = format!("chunk {index} of inode {} could not be written in time", self.inode);
            return self.give_up(index, if again { last.context(what) } else { last }, out);
        }
        // Too few copies would stay without the failed ones: they may have come back.
        let resend = !std::mem::take(&mut writer.trouble.failed).is_empty() && writer.go_on();
        if !resend {
            writer.pause(true);
        }
        writer.trouble.tries += 1;
        out.push(Action::Wait { timer: Timer::Grant(index), after_ms: pause_ms(writer.trouble.tries) });
    }

    pub(super) fn trimmed(&mut self, now: Now, index: u64, outcome: Result<(), Refusal>, out: &mut Vec<Action>) {
        match outcome {
            Ok(()) => {
                let Some(writer) = self.writers.get_mut(&index) else { return };
                writer.telling();
                let trim = writer.grant().and_then(|info| info.trim).unwrap_or(0);
                let request = TrimDone { inode: self.inode, index, chunk: Some(writer.chunk()), trim };
                out.push(Action::TellTrim { index, request });
            }
            Err(refusal) => self.trouble(now, index, refusal, out),
        }
    }

    pub(super) fn trim_told(
        &mut self,
        now: Now,
        index: u64,
        outcome: Result<Box<NameReply>, Error>,
        out: &mut Vec<Action>,
    ) {
        match outcome {
            Ok(reply) => {
                let data_version = self.absorb_unchanged(&reply);
                let Some(writer) = self.writers.get_mut(&index) else { return };
                match reply.chunks.first() {
                    Some(info) => {
                        self.map.insert(index, info.clone());
                        writer.granted(info.clone(), data_version);
                    }
                    None => writer.pause(false),
                }
            }
            Err(error) if error.kind == ErrorKind::Namespace => self.give_up(index, error, out),
            Err(error) => self.trouble(now, index, Refusal { error, blamed: Blame::new() }, out),
        }
    }

    // ---- what the chunkservers say ----

    pub(super) fn sent(
        &mut self,
        now: Now,
        index: u64,
        (round, seq, offset): (u32, u64, u32),
        outcome: Result<wire::proto::ChunkWriteReply, Refusal>,
        out: &mut Vec<Action>,
    ) {
        let Some(writer) = self.writers.get_mut(&index) else { return };
        let Some(end) = writer.in_flight(round, seq, offset) else {
            return; // from a round that is over
        };
        let refused = outcome.as_ref().err().filter(|refusal| self.is_refusal(index, seq, &refusal.error));
        if let Some(refusal) = refused {
            return self.refuse(refusal.error.clone(), out);
        }
        let Some(writer) = self.writers.get_mut(&index) else { return };
        match outcome {
            Ok(reply) => {
                if writer.acknowledged(seq, offset, &reply) {
                    writer.trouble = Trouble::default();
                    if let Some(info) = self.map.get_mut(&index) {
                        info.written = true;
                    }
                    // A read that began before the acknowledgement may hold older bytes.
                    let chunk = index * CHUNK_BYTES;
                    let start = chunk + u64::from(offset);
                    out.push(Action::Forget { start, end: (start + CELL_BYTES).max(chunk + u64::from(end)) });
                }
                out.push(Action::Progress);
            }
            Err(mut refusal) => {
                if refusal.error.errno == libc::ENOENT && writer.is_new() {
                    // Deleted with a cut by another client, or lost in a restart: nobody failed.
                    writer.send_again();
                    refusal.blamed.clear();
                }
                self.trouble(now, index, refusal, out);
            }
        }
    }

    /// Something failed for this chunk: recall what is in flight and ask for a grant without the failed servers.
    fn trouble(&mut self, now: Now, index: u64, refusal: Refusal, out: &mut Vec<Action>) {
        let deadline_ms = self.limits.deadline_ms;
        let Some(writer) = self.writers.get_mut(&index) else { return };
        let head = writer.grant().and_then(|info| chain(info)).map(|(head, _)| head.server_id);
        writer.trouble.note(refusal.error, refusal.blamed, head, now.mono_ms);
        writer.recall();
        writer.want_grant();
        let since = writer.trouble.since_ms.unwrap_or(now.mono_ms);
        if now.mono_ms.saturating_sub(since) >= deadline_ms {
            let last = writer.trouble.last.clone().unwrap_or_else(|| Error::unavailable("nothing answered"));
            let what = format!("chunk {index} of inode {} could not be written in time", self.inode);
            return self.give_up(index, last.context(what), out);
        }
        let pause = writer.trouble.rounds > 1;
        writer.pause(pause);
        if pause {
            let after_ms = pause_ms(writer.trouble.rounds);
            out.push(Action::Wait { timer: Timer::Grant(index), after_ms });
        }
    }

    pub(super) fn read_from(&mut self, index: u64, server: u32, boot_id: u64) {
        if self.took_another_start(index, server, boot_id)
            && let Some(writer) = self.writers.get_mut(&index)
        {
            writer.send_again();
        }
    }
}
