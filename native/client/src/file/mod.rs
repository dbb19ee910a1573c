//! What one engine knows of one open inode, and what is to be done next: `decide(event) -> actions`, without a socket, a
//! clock or a task. `drive` carries the actions out.
//!
//! Invariants. A byte written here is in the inode's own bytes or in one piece of a writer until a commit took it or it was
//! given up, which every handle reports. What was sent counts only under the chunk and version that the commit names; a
//! change of either, or another start of a server, sends it again. A commit covers everything written before its cycle
//! began, so that no size shows over bytes that are not on the servers. One cycle runs at a time.

mod answers;
mod append;
mod blocks;
mod cycle;
mod event;
mod fill;
mod grants;
mod inline;
mod pieces;
mod ranges;
mod readahead;
mod reading;
#[cfg(test)]
mod tests;
mod told;
mod writer;

use std::collections::{BTreeMap, HashMap};

use base::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_FILE_BYTES};
use base::{Error, ErrorKind};
use wire::proto::{Attr, ChunkInfo, ChunkRef, Credentials, GrantWrite};

use append::Turn;
use cycle::Cycle;
use inline::{Convert, Inline};
pub use writer::Rounds;
use writer::{Trouble, Want, Writer};

pub use answers::{PieceRequest, blamed, not_synced, piece_request, stamped, synced};
pub use blocks::Blocks;
pub use event::{Action, Blame, Event, Now, Refusal, Synced, Taken, Timer, Times};
pub use pieces::{CELL_BYTES, Content, Copied, Filled, Patch, Piece};
pub use ranges::Ranges;
pub use readahead::{Fetched, Fetching, ReadAhead, SEGMENT_BYTES};
pub use reading::{Source, chain, overlay};

/// How long another client may take to move a file out of its inode before this one does it.
const TAKE_OVER_AFTER_MS: u64 = 3000;
/// Written bytes that nobody adds to are sent after this.
const IDLE_SEND_MS: u64 = 200;
/// They are committed in the background after this rest, or this long after the first of them.
const REST_MS: u64 = 3000;
const LONGEST_UNCOMMITTED_MS: u64 = 20_000;
/// Grants that a file keeps for its next writes.
const MOST_GRANTS: usize = 64;
const FIRST_PAUSE_MS: u64 = 10;
const LONGEST_PAUSE_MS: u64 = 500;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of written bytes that are not committed; a writer waits beyond.
    pub window_bytes: usize,
    /// Files up to this lie in their inode.
    pub inline_bytes: u32,
    /// How long something is tried before written bytes are given up.
    pub deadline_ms: u64,
}

/// Where the bytes live.
enum Body {
    /// Not asked for yet, or changed by somebody else.
    Unknown,
    Inline(Inline),
    Chunked,
}

pub struct File {
    inode: u64,
    limits: Limits,
    attr: Attr,
    /// Of whoever opened it for writing or wrote last; background work is done in this name.
    creds: Credentials,
    body: Body,
    convert: Option<Convert>,
    /// For readers; a writer has its own grant.
    map: HashMap<u64, ChunkInfo>,
    writers: BTreeMap<u64, Writer>,
    next_seq: u64,
    /// End of the last byte written and not committed.
    dirty_end: u64,
    /// Of the last write; set exactly while something is not committed.
    times: Option<Times>,
    dirty_since_ms: u64,
    changed_ms: u64,
    /// Counts writes; of them `wanted` are to be committed, and `done` are, or were given up.
    changes: u64,
    wanted: u64,
    done: u64,
    cycle: Option<Cycle>,
    /// The cycle whose operation on the inode's own bytes is under way. Nothing passes it.
    writing_inline: Option<u64>,
    cycles: u64,
    /// The next cycle gives the grants back.
    settle: bool,
    /// A pause runs before the next cycle.
    paused: bool,
    /// Chunks of which the next cycle needs another grant.
    moved: Vec<u64>,
    cycle_trouble: Trouble,
    turn: Turn,
    /// Counts changes of the content by other clients, and how many there were when nothing was dirty last.
    foreign_changes: u64,
    foreign_at_clean: u64,
    /// What was fetched ahead is from before such a change.
    ahead_is_old: bool,
    rounds: Rounds,
    /// Background failures so far, and the last of them.
    faults: u64,
    fault: Option<Error>,
    /// Why a promise or a hole was not made.
    refused: Option<Error>,
    /// No handle is left: what the leader still grants goes back at once.
    closed: bool,
}

impl File {
    pub fn new(attr: Attr, creds: Credentials, limits: Limits, rounds: Rounds) -> File {
        File {
            inode: attr.inode,
            limits,
            attr,
            creds,
            body: Body::Unknown,
            convert: None,
            map: HashMap::new(),
            writers: BTreeMap::new(),
            next_seq: 1,
            dirty_end: 0,
            times: None,
            dirty_since_ms: 0,
            changed_ms: 0,
            changes: 0,
            wanted: 0,
            done: 0,
            cycle: None,
            writing_inline: None,
            cycles: 0,
            settle: false,
            paused: false,
            moved: Vec::new(),
            cycle_trouble: Trouble::default(),
            turn: Turn::default(),
            foreign_changes: 0,
            foreign_at_clean: 0,
            ahead_is_old: false,
            rounds,
            faults: 0,
            fault: None,
            refused: None,
            closed: false,
        }
    }

    // ---- what others may ask ----

    pub fn is_dirty(&self) -> bool {
        self.times.is_some()
    }

    /// The size as this client sees it.
    pub fn size(&self) -> u64 {
        self.attr.size.max(self.dirty_end)
    }

    pub fn creds(&self) -> &Credentials {
        &self.creds
    }

    pub fn foreign_changes(&self) -> u64 {
        self.foreign_changes
    }

    /// Failures so far; each handle reports once that there were more.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    pub fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// Memory of written bytes that are not committed.
    pub fn unstable_bytes(&self) -> usize {
        self.writers.values().map(Writer::charged).sum()
    }

    /// Writes so far; `is_done` tells when they are committed or given up.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn is_done(&self, changes: u64) -> bool {
        self.done >= changes
    }

    pub fn is_body_known(&self) -> bool {
        match &self.body {
            Body::Unknown => false,
            Body::Inline(inline) => !inline.stale,
            Body::Chunked => true,
        }
    }

    /// Whether `more` bytes at the end would still lie in the inode.
    pub fn stays_inline(&self, more: u64) -> bool {
        matches!(self.body, Body::Inline(_)) && self.size() + more <= u64::from(self.limits.inline_bytes)
    }

    /// Whether time changes anything: something is not committed, or the leader counts us among writers.
    pub fn needs_ticks(&self) -> bool {
        self.is_dirty() || !self.writers.is_empty()
    }

    pub fn is_inline(&self) -> bool {
        matches!(self.body, Body::Inline(_))
    }

    /// The newest attributes that are known, with what was written here and is not committed. Not those of the answer at
    /// hand: a slow listing may have been read before our last commit.
    pub fn attr(&self) -> Attr {
        let mut attr = self.attr;
        if let Some(times) = self.times {
            attr.size = attr.size.max(self.dirty_end);
            // As the commit will have it.
            let untouched = attr.ctime_ns <= times.ctime_ns;
            attr.mtime_ns = if untouched { times.mtime_ns } else { attr.mtime_ns.max(times.mtime_ns) };
            attr.ctime_ns = attr.ctime_ns.max(times.ctime_ns);
            attr.blocks = attr.blocks.max(self.blocks_to_come(attr.size));
        }
        attr
    }

    /// About the 512-byte units that will be stored: what reads something there must not take it for a hole.
    fn blocks_to_come(&self, size: u64) -> u64 {
        let whole = |bytes: u64| bytes.next_multiple_of(BLOCK_BYTES as u64) / 512;
        let bytes = match &self.body {
            Body::Inline(inline) => return (inline.content.len() as u64).div_ceil(512),
            _ => self.writers.values().map(|writer| u64::from(writer.stored_bytes()) + writer.unsent_bytes()).sum(),
        };
        whole(bytes).min(whole(size))
    }

    /// Reading moved the time of access.
    pub fn accessed(&mut self, atime_ns: i64) {
        self.attr.atime_ns = atime_ns;
    }

    // ---- who writes ----

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

    // ---- writing ----

    /// Take `data` at `offset`, which lie within one cell. `Taken::At` is the only answer after which they are taken.
    pub fn write(&mut self, now: Now, offset: u64, data: &[u8]) -> (Taken, Vec<Action>) {
        let mut out = Vec::new();
        let taken = self.put(now, offset, data, false, &mut out);
        self.advance(now, &mut out);
        (taken, out)
    }

    fn put(&mut self, now: Now, offset: u64, data: &[u8], append: bool, out: &mut Vec<Action>) -> Taken {
        if !self.is_body_known() {
            return Taken::NeedsBody;
        }
        // Appended bytes are good only in their turn, which a write into the inode would not look at.
        if append || !self.put_inline(offset, data) {
            self.outgrow();
            let (index, within) = (offset / CHUNK_BYTES, (offset % CHUNK_BYTES) as u32);
            let joins = self.writers.get(&index).is_some_and(|writer| writer.joins(within, append));
            let unstable = self.unstable_bytes();
            if !joins && unstable > 0 && unstable + data.len().max(CELL_BYTES as usize / 16) > self.limits.window_bytes
            {
                self.wanted = self.changes;
                return Taken::NeedsRoom;
            }
            let rounds = &self.rounds;
            let writer = self.writers.entry(index).or_insert_with(|| Writer::new(rounds));
            writer.put(within, data, append, now.mono_ms, &mut self.next_seq);
            if self.cycle.is_none() && unstable > self.limits.window_bytes / 2 {
                self.wanted = self.changes + 1;
            }
        }
        self.wrote(now, offset + data.len() as u64);
        out.push(Action::Forget { start: offset, end: offset + data.len() as u64 });
        Taken::At(offset)
    }

    fn writer(&mut self, index: u64) -> &mut Writer {
        let rounds = &self.rounds;
        self.writers.entry(index).or_insert_with(|| Writer::new(rounds))
    }

    fn wrote(&mut self, now: Now, end: u64) {
        if !self.is_dirty() {
            self.dirty_since_ms = now.mono_ms;
        }
        self.changed_ms = now.mono_ms;
        self.dirty_end = self.dirty_end.max(end);
        // Not before what was told of the writes before it.
        let now_ns = self.times.map_or(now.wall_ns, |times| now.wall_ns.max(times.ctime_ns));
        self.times = Some(Times { mtime_ns: now_ns, ctime_ns: now_ns });
        self.changes += 1;
    }

    // ---- events ----

    pub fn decide(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Flush { settle } => {
                self.wanted = self.changes;
                self.settle |= settle;
                self.turn_is_due();
            }
            Event::Tick => self.tick(now, &mut out),
            Event::Fired(timer) => self.fired(now, timer, &mut out),
            Event::Seen(attr) => self.absorb(&attr),
            Event::Dated(attr) => {
                self.absorb(&attr);
                if self.is_dirty() {
                    self.times = Some(Times { mtime_ns: attr.mtime_ns, ctime_ns: attr.ctime_ns });
                }
            }
            Event::Learned { reply, first, count } => self.learn(&reply, first, count),
            Event::Resized(attr) => self.resized(&attr),
            Event::Granted { index, outcome } => self.granted(now, index, outcome, &mut out),
            Event::Trimmed { index, outcome } => self.trimmed(now, index, outcome, &mut out),
            Event::TrimTold { index, outcome } => self.trim_told(now, index, outcome, &mut out),
            Event::Sent { index, round, seq, offset, outcome } => {
                self.sent(now, index, (round, seq, offset), outcome, &mut out);
            }
            Event::Synced { cycle, index, server, outcome } => {
                self.synced(now, cycle, index, server, outcome, &mut out);
            }
            Event::InlineWritten { outcome } => self.inline_written(now, outcome, &mut out),
            Event::Committed { cycle, outcome } => self.committed(now, cycle, outcome, &mut out),
            Event::Turn { outcome } => self.turn_answered(now, outcome, &mut out),
            Event::ReadFrom { index, server, boot_id } => self.read_from(index, server, boot_id),
        }
        self.advance(now, &mut out);
        if self.closed && !self.is_dirty() {
            self.give_back(&mut out);
        }
        out
    }

    /// Begin whatever can be begun.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.ahead_is_old) {
            out.push(Action::Forget { start: 0, end: MAX_FILE_BYTES });
        }
        self.drive_cycle(now, out);
        let inode = self.inode;
        for (index, writer) in &mut self.writers {
            match writer.next() {
                Want::Nothing => {}
                Want::Grant => {
                    let since = *writer.trouble.since_ms.get_or_insert(now.mono_ms);
                    let request = GrantWrite {
                        inode,
                        index: *index,
                        failed: writer.trouble.failed.clone(),
                        chunk: Some(writer.chunk()),
                        take_over: now.mono_ms.saturating_sub(since) >= TAKE_OVER_AFTER_MS,
                        append: writer.asked_to_append(),
                    };
                    out.push(Action::Grant { index: *index, request });
                }
                Want::Trim(info) => out.push(Action::Trim { index: *index, info }),
                Want::Send(pieces, info) => {
                    let (round, create) = (writer.round(), writer.creates());
                    out.extend(pieces.into_iter().map(|piece| Action::Send {
                        index: *index,
                        round,
                        info: info.clone(),
                        piece,
                        create,
                    }));
                }
            }
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let before = now.mono_ms.saturating_sub(IDLE_SEND_MS);
        for writer in self.writers.values_mut().filter(|writer| writer.is_filling_since(before)) {
            writer.seal(&mut self.next_seq);
        }
        let rested = now.mono_ms.saturating_sub(self.changed_ms) >= REST_MS;
        if self.is_dirty() && (rested || now.mono_ms.saturating_sub(self.dirty_since_ms) >= LONGEST_UNCOMMITTED_MS) {
            self.wanted = self.changes;
            self.settle |= rested;
            self.turn_is_due();
        } else if !self.is_dirty() && rested && self.cycle.is_none() {
            self.give_back(out);
        }
    }

    /// Grants of clean chunks need not be counted by the leader any more.
    fn give_back(&mut self, out: &mut Vec<Action>) {
        let chunks: Vec<ChunkRef> = self.writers.values_mut().filter_map(Writer::give_back).collect();
        if !chunks.is_empty() {
            out.push(Action::Release { chunks, abandoned: false });
        }
        self.writers.retain(|_, writer| !writer.is_clean() || writer.is_asking() || writer.grant().is_some());
    }

    /// The last handle goes: nothing is kept for later writes.
    pub fn closing(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        self.closed = true;
        if !self.is_dirty() {
            self.give_back(&mut out);
        }
        out
    }

    fn fired(&mut self, now: Now, timer: Timer, out: &mut Vec<Action>) {
        match timer {
            Timer::Grant(index) => {
                if let Some(writer) = self.writers.get_mut(&index) {
                    writer.woke();
                }
            }
            Timer::Cycle => self.paused = false,
            Timer::Turn => self.ask_turn_again(out),
            Timer::Linger => self.linger(now, out),
        }
    }

    // ---- giving up ----

    /// The bytes of one chunk are lost to this client: every handle hears of it once.
    fn give_up(&mut self, index: u64, error: Error, out: &mut Vec<Action>) {
        if matches!(error.errno, libc::ENOSPC | libc::EDQUOT) && self.promises_at(index) {
            return self.refuse(error, out);
        }
        if let Some(writer) = self.writers.get_mut(&index)
            && let Some(chunk) = writer.abandon()
        {
            out.push(Action::Release { chunks: vec![chunk], abandoned: true });
        }
        if index == 0 && self.convert.take().is_some() {
            self.body = Body::Unknown;
        }
        // The size must not grow over bytes that are nowhere.
        self.find_dirty_end();
        self.fail(error, out);
    }

    /// Everything that is not committed is lost to this client.
    fn give_up_all(&mut self, error: Error, out: &mut Vec<Action>) {
        let chunks: Vec<ChunkRef> = self.writers.values_mut().filter_map(Writer::abandon).collect();
        if !chunks.is_empty() {
            out.push(Action::Release { chunks, abandoned: true });
        }
        self.writers.clear();
        self.convert = None;
        self.turn.ended();
        self.body = Body::Unknown;
        self.map.clear();
        self.done = self.changes;
        self.clean();
        self.fail(error, out);
    }

    fn fail(&mut self, mut error: Error, out: &mut Vec<Action>) {
        let of_disks = matches!(error.errno, libc::ENOSPC | libc::EROFS | libc::EDQUOT);
        if error.kind == ErrorKind::Unavailable && !of_disks {
            // How nobody could be reached is for the sentence; write(2) and fsync(2) know one number for it.
            error.errno = libc::EIO;
        }
        self.faults += 1;
        self.fault = Some(error.clone());
        out.push(Action::GaveUp(error));
        out.push(Action::Progress);
    }

    /// Nothing of what was written remains uncommitted, for better or worse.
    fn clean(&mut self) {
        self.dirty_end = 0;
        self.times = None;
        self.moved.clear();
        let changed = self.foreign_changes != self.foreign_at_clean || self.convert.take().is_some();
        if changed && matches!(self.body, Body::Chunked) {
            self.body = Body::Unknown;
        }
        self.foreign_at_clean = self.foreign_changes;
        self.drop_stale_inline();
    }

    fn find_dirty_end(&mut self) {
        self.dirty_end = self.end_of(u64::MAX);
        if let Body::Inline(inline) = &self.body
            && !inline.is_clean()
        {
            self.dirty_end = self.dirty_end.max(inline.content.len() as u64);
        }
    }

    /// The end of what was written up to `seq` and is not committed.
    fn end_of(&self, seq: u64) -> u64 {
        let ends = self.writers.iter().map(|(index, writer)| (index, writer.end(seq)));
        ends.filter(|(_, end)| *end > 0).map(|(index, end)| index * CHUNK_BYTES + u64::from(end)).max().unwrap_or(0)
    }
}

/// The pause before try number `tries`, less jitter, which is the driver's.
fn pause_ms(tries: u32) -> u64 {
    (FIRST_PAUSE_MS << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE_MS)
}
