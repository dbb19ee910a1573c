//! One cycle makes everything written before it durable and visible: wait until every copy has it, sync each copy, commit
//! size, times and chunks in one operation. What fails on the way sends pieces again and begins another cycle.

use std::collections::BTreeMap;

use base::{Error, Reason};
use wire::proto::{ChunkInfo, ChunkRef, ChunkStored, CommitWrite, NameReply};

use super::append::ASK_AGAIN_MS;
use super::event::{Action, Now, Synced, Timer, Times};
use super::{Body, File, MOST_GRANTS, Writer, pause_ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until every piece of the cycle is on every copy.
    Gathering,
    Syncing,
    Committing,
}

pub struct Cycle {
    id: u64,
    stage: Stage,
    /// Pieces up to this.
    seq: u64,
    changes: u64,
    times: Times,
    settle: bool,
    ends_turn: bool,
    /// The inode's own bytes were looked at.
    inline_begun: bool,
    /// Chunks that take part.
    chunks: Vec<u64>,
    /// As what each of them was synced: a chunk that was sent again since, or moved, is not what the servers made stable.
    synced_as: Vec<(ChunkRef, u32)>,
    /// Chunks whose grant goes back with the commit.
    settling: Vec<u64>,
    awaited: usize,
    /// What a copy of each of them stores, as of its sync: less than before where there are holes.
    stored_bytes: BTreeMap<u64, u32>,
    restarted: Vec<u64>,
    moved: Vec<u64>,
    failed: Vec<(u64, u32, Error)>,
}

impl Cycle {
    pub fn is_committing(&self) -> bool {
        self.stage == Stage::Committing
    }

    /// Whether it would commit neither the first `end` bytes, which are only now to be sent, nor all that was written over
    /// them since.
    pub fn passes_over(&self, writer: &Writer, end: u64) -> bool {
        match self.stage {
            Stage::Gathering => writer.covers_later(self.seq, end),
            Stage::Syncing => true,
            Stage::Committing => false,
        }
    }

    /// Bytes of it became pieces up to `seq`.
    pub fn follows_to(&mut self, seq: u64) {
        if self.stage == Stage::Gathering {
            self.seq = seq;
        }
    }

    /// Of what it commits; `told` by now, after `changes` writes: they may have been set since, while nothing more was
    /// written.
    fn times_now(&self, told: Option<Times>, changes: u64) -> Times {
        told.filter(|_| changes == self.changes).unwrap_or(self.times)
    }
}

impl File {
    pub(super) fn drive_cycle(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.cycle.is_none() && !self.begin_cycle(now) {
            return;
        }
        if self.cycle.as_ref().is_some_and(|cycle| cycle.stage == Stage::Gathering) {
            self.gather(out);
        }
    }

    fn begin_cycle(&mut self, now: Now) -> bool {
        let wants = (self.wanted > self.done && self.is_dirty()) || self.turn.wants_commit();
        if self.wanted > self.done && !self.is_dirty() {
            self.done = self.wanted;
        }
        if self.paused || !wants || self.turn.has_displaced() {
            return false;
        }
        self.ask_for_moved();
        for writer in self.writers.values_mut() {
            writer.seal(&mut self.next_seq);
        }
        self.cycles += 1;
        self.cycle = Some(Cycle {
            id: self.cycles,
            stage: Stage::Gathering,
            seq: self.next_seq - 1,
            changes: self.changes,
            times: self.times.unwrap_or(Times { mtime_ns: now.wall_ns, ctime_ns: now.wall_ns }),
            settle: std::mem::take(&mut self.settle),
            ends_turn: self.turn.end(),
            inline_begun: false,
            chunks: Vec::new(),
            synced_as: Vec::new(),
            settling: Vec::new(),
            awaited: 0,
            stored_bytes: BTreeMap::new(),
            restarted: Vec::new(),
            moved: Vec::new(),
            failed: Vec::new(),
        });
        true
    }

    /// Whether something of ours is under way that may raise the data version.
    pub(super) fn is_changing(&self) -> bool {
        self.writing_inline.is_some() || self.cycle.as_ref().is_some_and(Cycle::is_committing)
    }

    fn gather(&mut self, out: &mut Vec<Action>) {
        if self.writing_inline.is_some() {
            // Also when those bytes went another way since: it must not come after what follows a sync.
            return;
        }
        if matches!(self.body, Body::Inline(_)) {
            return self.send_inline(out);
        }
        let Some(cycle) = &mut self.cycle else { return };
        if self.writers.values().any(|writer| writer.is_behind(cycle.seq)) {
            return;
        }
        if self.convert.as_ref().is_some_and(|convert| convert.version.is_none()) {
            // Only a grant from now on tells what lies in the inode.
            self.writer(0).ask_anew();
            return;
        }
        let mut missing = false;
        for writer in self.writers.values_mut().filter(|writer| writer.holds() && writer.grant().is_none()) {
            writer.want_grant();
            missing = true;
        }
        if missing {
            return;
        }
        cycle.stage = Stage::Syncing;
        cycle.chunks = self.writers.iter().filter(|(_, writer)| writer.holds()).map(|(index, _)| *index).collect();
        cycle.stored_bytes.clear();
        cycle.synced_as = cycle.chunks.iter().map(|index| self.writers[index].sent_as()).collect();
        for index in &cycle.chunks {
            let writer = &self.writers[index];
            let Some(info) = writer.grant() else { continue };
            for replica in &info.replicas {
                let Some(boot_id) = writer.boot_of(replica.server_id) else { continue };
                cycle.awaited += 1;
                let (index, replica) = (*index, replica.clone());
                out.push(Action::Sync { cycle: cycle.id, index, chunk: writer.chunk(), replica, boot_id });
            }
        }
        if cycle.awaited == 0 {
            self.commit(out);
        }
    }

    // ---- the inode's own bytes ----

    /// One operation for each contiguous range, one after the other.
    fn send_inline(&mut self, out: &mut Vec<Action>) {
        let (Some(cycle), Body::Inline(inline)) = (&mut self.cycle, &mut self.body) else { return };
        if !std::mem::replace(&mut cycle.inline_begun, true) {
            // Once a cycle: later writes are for the next one.
            inline.sending = std::mem::take(&mut inline.dirty).iter().collect();
        }
        if let Some((start, end)) = inline.sending.front().copied() {
            self.writing_inline = Some(cycle.id);
            let data = inline.content[start as usize..end as usize].to_vec();
            let times = cycle.times_now(self.times, self.changes);
            out.push(Action::WriteInline { offset: start, data, times });
            return;
        }
        if cycle.ends_turn {
            return self.commit(out);
        }
        self.finish(out);
    }

    pub(super) fn inline_written(&mut self, now: Now, outcome: Result<Box<NameReply>, Error>, out: &mut Vec<Action>) {
        let by = self.writing_inline.take();
        if self.cycle.as_ref().map(|cycle| cycle.id) != by {
            // Of a cycle that is over, whose bytes are looked after.
            if let Ok(reply) = outcome {
                self.absorb_reply(&reply);
            }
            return;
        }
        match outcome {
            Ok(reply) => {
                if let Body::Inline(inline) = &mut self.body {
                    inline.sending.pop_front();
                }
                self.absorb_reply(&reply);
            }
            // Another client made it a chunked file, or it was one: our bytes go into the chunk.
            Err(error) if error.errno == libc::EFBIG => self.outgrow(),
            // Another client adds to the end just now.
            Err(error) if error.reason == Reason::TurnTaken => {
                if let Body::Inline(inline) = &mut self.body {
                    inline.unsend();
                }
                let settle = self.cycle.take().is_some_and(|cycle| cycle.settle);
                self.try_again(now, settle, error, out);
            }
            Err(error) => {
                self.cycle = None;
                self.give_up_all(error, out);
            }
        }
    }

    // ---- syncing ----

    pub(super) fn synced(
        &mut self,
        now: Now,
        id: u64,
        index: u64,
        server: u32,
        outcome: Synced,
        out: &mut Vec<Action>,
    ) {
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.id == id && cycle.stage == Stage::Syncing) else {
            return;
        };
        cycle.awaited -= 1;
        match outcome {
            Synced::Stable(stored_bytes) => {
                let most = cycle.stored_bytes.entry(index).or_default();
                *most = stored_bytes.max(*most);
            }
            Synced::Restarted => cycle.restarted.push(index),
            Synced::Moved => cycle.moved.push(index),
            Synced::Failed(error) => cycle.failed.push((index, server, error)),
        }
        if cycle.awaited > 0 {
            return;
        }
        if cycle.restarted.is_empty() && cycle.moved.is_empty() && cycle.failed.is_empty() {
            let now: Vec<_> =
                cycle.chunks.iter().filter_map(|index| self.writers.get(index)).map(Writer::sent_as).collect();
            if now != cycle.synced_as {
                cycle.stage = Stage::Gathering;
                return;
            }
            return self.commit(out);
        }
        let Some(mut cycle) = self.cycle.take() else { return };
        self.excuse_servers_of_gone_chunks(&mut cycle);
        let mut last = Error::unavailable("its servers were started anew");
        for index in &cycle.restarted {
            if let Some(writer) = self.writers.get_mut(index) {
                writer.send_again();
            }
        }
        for (index, server, error) in cycle.failed {
            last = error.clone();
            if let Some(writer) = self.writers.get_mut(&index) {
                writer.trouble.note(error, vec![server], None, now.mono_ms);
                writer.pause(false);
                writer.want_grant();
            }
        }
        self.moved.extend(cycle.moved);
        self.try_again(now, cycle.settle, last, out);
    }

    /// A chunk that none of its servers has went with a cut by another client: nobody failed.
    fn excuse_servers_of_gone_chunks(&mut self, cycle: &mut Cycle) {
        for index in &cycle.chunks {
            let absent = |(at, _, error): &&(u64, u32, Error)| at == index && error.errno == libc::ENOENT;
            let (absent, writer) = (cycle.failed.iter().filter(absent).count(), self.writers.get_mut(index));
            let Some(writer) =
                writer.filter(|writer| absent > 0 && writer.grant().is_some_and(|info| info.replicas.len() == absent))
            else {
                continue;
            };
            writer.send_again();
            cycle.failed.retain(|(at, _, _)| at != index);
            cycle.moved.push(*index);
        }
    }

    /// What we know of these chunks is old. Asked before a pause, the answer would be old again after it, as long as another
    /// client goes on changing the file.
    fn ask_for_moved(&mut self) {
        for index in std::mem::take(&mut self.moved) {
            if let Some(writer) = self.writers.get_mut(&index) {
                writer.ask_anew();
            }
        }
    }

    /// The cycle, if there is one, ends without a commit; another one follows.
    pub(super) fn break_off(&mut self) {
        if let Some(cycle) = self.cycle.take() {
            self.end_settling(&cycle.settling, false);
            self.turn.not_ended();
            self.settle |= cycle.settle;
        }
        if let Body::Inline(inline) = &mut self.body {
            inline.unsend();
        }
    }

    /// The cycle is over without a commit; another one follows, at once the first time.
    fn try_again(&mut self, now: Now, settle: bool, error: Error, out: &mut Vec<Action>) {
        self.settle |= settle;
        self.turn.not_ended();
        let trouble = &mut self.cycle_trouble;
        let waits_for_turn = error.reason == Reason::TurnTaken;
        trouble.note(error, Vec::new(), None, now.mono_ms);
        let since = trouble.since_ms.unwrap_or(now.mono_ms);
        if now.mono_ms.saturating_sub(since) >= self.limits.deadline_ms {
            let what = format!("inode {} could not be made stable on enough copies", self.inode);
            let last = std::mem::take(&mut self.cycle_trouble).last;
            let last = last.unwrap_or_else(|| Error::unavailable("nothing answered"));
            return self.give_up_all(last.context(what), out);
        }
        let after_ms = if waits_for_turn { ASK_AGAIN_MS } else { pause_ms(trouble.rounds) };
        if waits_for_turn || trouble.rounds > 1 {
            self.paused = true;
            out.push(Action::Wait { timer: Timer::Cycle, after_ms });
        }
    }

    // ---- committing ----

    fn commit(&mut self, out: &mut Vec<Action>) {
        let Some(mut cycle) = self.cycle.take() else { return };
        cycle.stage = Stage::Committing;
        cycle.settling = self.settling_with(&cycle);
        for (index, stored_bytes) in &cycle.stored_bytes {
            if let Some(writer) = self.writers.get_mut(index) {
                writer.stores(*stored_bytes);
            }
        }
        let stored = cycle.chunks.iter().filter(|index| self.writers[*index].holds_up_to(cycle.seq)).map(|index| {
            let writer = &self.writers[index];
            let ChunkRef { id, version } = writer.chunk();
            let settled = cycle.settling.contains(index);
            ChunkStored { index: *index, chunk_id: id, stored_bytes: writer.stored_bytes(), version, settled }
        });
        let version = self.convert.as_ref().and_then(|convert| convert.version);
        let times = cycle.times_now(self.times, self.changes);
        let request = CommitWrite {
            inode: self.inode,
            size: self.end_of(cycle.seq),
            mtime_ns: times.mtime_ns,
            times: Some(times.into()),
            stored: stored.collect(),
            expect_inline_version: version.unwrap_or(0),
            convert_inline: version.is_some(),
            append: cycle.ends_turn,
        };
        let (id, nothing) = (cycle.id, request.stored.is_empty() && !cycle.ends_turn && version.is_none());
        for index in &cycle.settling {
            if let Some(writer) = self.writers.get_mut(index) {
                writer.settle();
            }
        }
        self.cycle = Some(cycle);
        if nothing {
            return self.finish(out);
        }
        out.push(Action::Commit { cycle: id, request });
    }

    /// Chunks whose grant goes back with this commit: nothing of them is under way then.
    fn settling_with(&self, cycle: &Cycle) -> Vec<u64> {
        let many = self.writers.len() > MOST_GRANTS;
        let last = self.writers.keys().next_back().copied();
        let settles = |index: &u64| cycle.settle || (many && Some(*index) != last);
        let clean = |index: &u64| self.writers[index].is_clean_after(cycle.seq);
        cycle.chunks.iter().copied().filter(|index| settles(index) && clean(index)).collect()
    }

    pub(super) fn committed(
        &mut self,
        now: Now,
        id: u64,
        outcome: Result<Box<NameReply>, Error>,
        out: &mut Vec<Action>,
    ) {
        if self.cycle.as_ref().is_none_or(|cycle| cycle.id != id) {
            return;
        }
        let error = match outcome {
            Ok(reply) => {
                if let Some(attr) =
                    reply.attr.filter(|_| self.cycle.as_ref().is_some_and(|cycle| cycle.chunks.is_empty()))
                {
                    self.absorb(&attr); // it may have raised no version: a higher one is of another client
                } else {
                    self.absorb_reply(&reply);
                }
                if self.cycle.as_ref().is_some_and(|cycle| cycle.ends_turn) {
                    self.turn.ended();
                }
                // Unless another client put bytes into the inode since.
                self.convert.take_if(|convert| convert.version.is_some());
                return self.finish(out);
            }
            Err(error) => error,
        };
        let Some(cycle) = self.cycle.take() else { return };
        self.end_settling(&cycle.settling, false);
        match error.reason {
            Reason::ChunkMoved => {
                if let Some(convert) = &mut self.convert {
                    convert.version = None;
                    self.moved.push(0);
                }
                self.moved.extend(&cycle.chunks);
                self.try_again(now, cycle.settle, error, out);
            }
            Reason::TurnLost => {
                self.turn.not_ended();
                self.lose_turn(out);
                self.try_again(now, cycle.settle, error, out);
            }
            // Another client adds to the end just now.
            Reason::TurnTaken => self.try_again(now, cycle.settle, error, out),
            _ => self.give_up_all(error, out),
        }
    }

    fn end_settling(&mut self, indexes: &[u64], taken: bool) {
        for index in indexes {
            if let Some(writer) = self.writers.get_mut(index) {
                writer.settled(taken);
            }
        }
    }

    /// Everything of the cycle is committed.
    fn finish(&mut self, out: &mut Vec<Action>) {
        let Some(cycle) = self.cycle.take() else { return };
        for index in &cycle.chunks {
            let Some(writer) = self.writers.get_mut(index) else { continue };
            writer.committed(cycle.seq);
            let of_writer = |info: &&mut ChunkInfo| info.chunk.is_some_and(|chunk| chunk.id == writer.chunk().id);
            // An answer from before the commit, which came since, says otherwise.
            if let Some(info) = self.map.get_mut(index).filter(of_writer) {
                info.written = true;
            }
        }
        self.end_settling(&cycle.settling, true);
        self.cycle_trouble = Default::default();
        self.done = self.done.max(cycle.changes);
        if self.done == self.changes {
            self.clean();
        } else {
            self.find_dirty_end();
        }
        if cycle.settle && !self.is_dirty() {
            self.give_back(out);
        }
        out.push(Action::Progress);
    }
}
