//! One chunk's written bytes and the grant they are sent under. A piece is in exactly one place: queued, in flight, or held
//! (every copy has it, nothing is committed). Invariants: whatever is in flight or held was sent under the present
//! grant's chunk and version and, for what is in flight, in the present round; `boots` tells which start of each server
//! took what is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base::Error;
use wire::proto::{ChunkInfo, ChunkRef, ChunkWriteReply};

use super::event::Blame;
use super::pieces::{Filled, Filling, Patch, Piece};
use super::ranges::Ranges;

/// Rounds of "your map is old" or "damaged on the way" without any progress before the first server is blamed.
const PATIENT_ROUNDS: u32 = 2;

/// What the chunk waits for before pieces can be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Ready,
    Granting,
    Trimming,
    TellingTrim,
    Waiting,
    /// A commit that gives the grant back is under way.
    Settling,
}

/// What is wrong since the last progress.
#[derive(Default)]
pub struct Trouble {
    pub since_ms: Option<u64>,
    pub failed: Vec<u32>,
    pub last: Option<Error>,
    pub rounds: u32,
    pub tries: u32,
}

impl Trouble {
    pub fn note(&mut self, error: Error, blamed: Blame, head: Option<u32>, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
        self.rounds += 1;
        let head = head.filter(|_| blamed.is_empty() && self.rounds > PATIENT_ROUNDS);
        for server in blamed.into_iter().chain(head) {
            if !self.failed.contains(&server) {
                self.failed.push(server);
            }
        }
        self.last = Some(error);
    }

    /// Full or read-only disks do not mend themselves while a writer waits.
    pub fn is_final(&self) -> bool {
        self.last.as_ref().is_some_and(|error| matches!(error.errno, libc::ENOSPC | libc::EROFS | libc::EDQUOT))
    }
}

/// Rises over all files of a client each time pieces are sent again: a server takes only the latest round.
pub type Rounds = Arc<AtomicU32>;

pub struct Writer {
    filling: Option<Filling>,
    queue: VecDeque<Arc<Piece>>,
    flying: Vec<Arc<Piece>>,
    held: Vec<Arc<Piece>>,
    step: Step,
    grant: Option<Arc<ChunkInfo>>,
    /// The last grant, which still stands when no other can be had.
    last_grant: Option<Arc<ChunkInfo>>,
    /// The file's data version when it was granted.
    granted_at: u64,
    /// The last grant was asked for with bytes appended: it was given only if the turn for them was ours.
    asked_to_append: bool,
    /// The chunk that the leader named last, granted or not.
    chunk: ChunkRef,
    /// The leader counts us among the chunk's writers.
    owed: bool,
    /// A grant is wanted though nothing is queued: bytes of others are to be moved.
    wanted: bool,
    rounds: Rounds,
    round: u32,
    boots: BTreeMap<u32, u64>,
    stored_bytes: u32,
    /// Memory of what fills and of all pieces.
    charged: usize,
    /// A commit took bytes of ours in this chunk: its servers must have it.
    committed: bool,
    pub trouble: Trouble,
}

/// What a writer wants done next.
pub enum Want {
    Nothing,
    Grant,
    Trim(Arc<ChunkInfo>),
    Send(Vec<Arc<Piece>>, Arc<ChunkInfo>),
}

impl Writer {
    pub fn new(rounds: &Rounds) -> Writer {
        Writer {
            filling: None,
            queue: VecDeque::new(),
            flying: Vec::new(),
            held: Vec::new(),
            step: Step::Ready,
            grant: None,
            last_grant: None,
            granted_at: 0,
            asked_to_append: false,
            chunk: ChunkRef::default(),
            owed: false,
            wanted: false,
            round: rounds.load(Ordering::Relaxed),
            rounds: rounds.clone(),
            boots: BTreeMap::new(),
            stored_bytes: 0,
            charged: 0,
            committed: false,
            trouble: Trouble::default(),
        }
    }

    // ---- taking bytes ----

    /// Whether a write at `offset` would need no further memory.
    pub fn joins(&self, offset: u32, append: bool) -> bool {
        self.filling.as_ref().is_some_and(|filling| filling.joins(offset, append))
    }

    /// Bytes within one cell. `seq` is for what fills now and is sealed by this.
    pub fn put(&mut self, offset: u32, data: &[u8], append: bool, now_ms: u64, seq: &mut u64) {
        if !self.joins(offset, append) {
            self.seal(seq);
        }
        let before = self.filling.as_ref().map_or(0, Filling::charge);
        match &mut self.filling {
            Some(filling) => filling.put(offset, data, now_ms),
            None => self.filling = Some(Filling::start(offset, data, append, now_ms)),
        }
        self.charged += self.filling.as_ref().map_or(0, Filling::charge) - before;
        if self.filling.as_ref().is_some_and(Filling::is_full) {
            self.seal(seq);
        }
    }

    /// What fills is queued.
    pub fn seal(&mut self, seq: &mut u64) {
        if let Some(filling) = self.filling.take() {
            self.charged -= filling.charge();
            self.push(filling.seal(*seq));
            *seq += 1;
        }
    }

    pub fn is_filling_since(&self, before_ms: u64) -> bool {
        self.filling.as_ref().is_some_and(|filling| filling.touched_ms <= before_ms)
    }

    pub fn push(&mut self, piece: Piece) {
        self.charged += piece.charge();
        self.queue.push_back(Arc::new(piece));
    }

    pub fn charged(&self) -> usize {
        self.charged
    }

    /// After pieces left.
    fn recount(&mut self) {
        let filling = self.filling.as_ref().map_or(0, Filling::charge);
        self.charged = filling + self.pieces().map(|piece| piece.charge()).sum::<usize>();
    }

    fn pieces(&self) -> impl Iterator<Item = &Arc<Piece>> {
        self.queue.iter().chain(&self.flying).chain(&self.held)
    }

    // ---- looking ----

    /// Nothing here that is not committed.
    pub fn is_clean(&self) -> bool {
        self.filling.is_none() && self.pieces().next().is_none()
    }

    /// A piece up to `seq` is not on every copy yet.
    pub fn is_behind(&self, seq: u64) -> bool {
        self.queue.iter().chain(&self.flying).any(|piece| piece.seq <= seq)
    }

    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Appended bytes are among what is here: they are good only in their turn.
    pub fn appends(&self) -> bool {
        self.filling.as_ref().is_some_and(|filling| filling.append) || self.pieces().any(|piece| piece.append)
    }

    /// Something of the first `end` bytes was written over after `seq`.
    pub fn covers_later(&self, seq: u64, end: u64) -> bool {
        let filling = self.filling.as_ref().map(|filling| filling.offset);
        let pieces = self.pieces().filter(|piece| piece.seq > seq).map(|piece| piece.offset);
        pieces.chain(filling).any(|offset| u64::from(offset) < end)
    }

    /// Something that is held was written up to `seq`.
    pub fn holds_up_to(&self, seq: u64) -> bool {
        self.held.iter().any(|piece| piece.seq <= seq)
    }

    /// Nothing is here once pieces up to `seq` are committed.
    pub fn is_clean_after(&self, seq: u64) -> bool {
        self.filling.is_none() && self.step == Step::Ready && self.pieces().all(|piece| piece.seq <= seq)
    }

    pub fn is_asking(&self) -> bool {
        self.step != Step::Ready
    }

    pub fn grant(&self) -> Option<&Arc<ChunkInfo>> {
        self.grant.as_ref()
    }

    /// The grant, or the one before it while another is asked for.
    pub fn last_grant(&self) -> Option<&Arc<ChunkInfo>> {
        self.grant.as_ref().or(self.last_grant.as_ref())
    }

    /// Whether an answer of this data version, which names no chunk here, is younger than the grant: it was cut away.
    pub fn was_cut_away(&self, data_version: u64) -> bool {
        data_version > self.granted_at && self.last_grant().is_some()
    }

    pub fn asked_to_append(&self) -> bool {
        self.asked_to_append
    }

    pub fn chunk(&self) -> ChunkRef {
        self.chunk
    }

    /// Changes whenever what is held has to be sent again.
    pub fn sent_as(&self) -> (ChunkRef, u32) {
        (self.chunk, self.round)
    }

    pub fn round(&self) -> u32 {
        self.round
    }

    /// As a copy said when all was synced.
    pub fn stores(&mut self, stored_bytes: u32) {
        self.stored_bytes = stored_bytes;
    }

    pub fn stored_bytes(&self) -> u32 {
        self.stored_bytes
    }

    /// Of ours, that no copy is known to have.
    pub fn unsent_bytes(&self) -> u64 {
        let filling = self.filling.iter().map(|filling| u64::from(filling.end() - filling.offset));
        let pieces = self.queue.iter().chain(&self.flying).filter(|piece| piece.has_bytes());
        filling.chain(pieces.map(|piece| u64::from(piece.length()))).sum()
    }

    pub fn boot_of(&self, server: u32) -> Option<u64> {
        self.boots.get(&server).copied()
    }

    /// Bytes of ours that some copy may lack, oldest first. What is held is on every copy of the chunk that we were
    /// granted, which need not be the one that is read (`source`).
    pub fn patches(&self, source: Option<ChunkRef>, start: u32, end: u32) -> Vec<Patch> {
        let held = if source == Some(self.chunk) { &[][..] } else { &self.held[..] };
        let sent = self.queue.iter().chain(&self.flying).chain(held);
        let sent = sent.filter(|piece| piece.offset < end && start < piece.end() && piece.is_known());
        let mut sealed: Vec<&Arc<Piece>> = sent.collect();
        sealed.sort_by_key(|piece| piece.seq);
        let mut patches: Vec<Patch> = sealed.into_iter().cloned().map(Patch::Sealed).collect();
        if let Some((from, bytes)) = self.filling.as_ref().and_then(|filling| filling.bytes(start, end)) {
            patches.push(Patch::Copied(from, bytes.to_vec()));
        }
        patches
    }

    /// Where this client wrote and nothing is committed.
    pub fn own(&self) -> Ranges {
        let mut own = Ranges::default();
        for piece in self.pieces().filter(|piece| piece.seq != 0 && !piece.is_promise()) {
            own.insert(u64::from(piece.offset), u64::from(piece.end()));
        }
        if let Some(filling) = &self.filling {
            own.insert(u64::from(filling.offset), u64::from(filling.end()));
        }
        own
    }

    /// The end of what this client wrote up to `seq` and nobody committed; 0 when there is none.
    pub fn end(&self, seq: u64) -> u32 {
        let filling = self.filling.as_ref().filter(|_| seq == u64::MAX).map_or(0, Filling::end);
        let pieces = self.pieces().filter(|piece| piece.seq != 0 && piece.seq <= seq);
        pieces.map(|piece| piece.grows_to()).max().unwrap_or(0).max(filling)
    }

    // ---- the grant ----

    pub fn want_grant(&mut self) {
        self.wanted = true;
    }

    /// What was granted is old; unless an answer is on its way already.
    pub fn ask_anew(&mut self) {
        if !self.is_asking() {
            self.pause(false);
            self.want_grant();
        }
    }

    /// The next step, taken as begun.
    pub fn next(&mut self) -> Want {
        if self.step != Step::Ready || (self.queue.is_empty() && !(self.wanted && self.grant.is_none())) {
            return Want::Nothing;
        }
        let Some(info) = self.grant.clone() else {
            self.step = Step::Granting;
            self.asked_to_append = self.appends();
            return Want::Grant;
        };
        if info.trim.is_some() {
            self.step = Step::Trimming;
            return Want::Trim(info);
        }
        let mut sent = Vec::new();
        // In order among pieces that touch a block.
        while let Some(next) = self.queue.front()
            && !self.flying.iter().any(|piece| piece.meets(next))
            && let Some(piece) = self.queue.pop_front()
        {
            self.flying.push(piece.clone());
            sent.push(piece);
        }
        Want::Send(sent, info)
    }

    /// The leader's answer. What was sent under another chunk or version does not count any more.
    pub fn granted(&mut self, info: ChunkInfo, data_version: u64) {
        self.granted_at = data_version;
        let chunk = info.chunk.unwrap_or_default();
        if chunk != self.chunk {
            if chunk.id != self.chunk.id {
                (self.stored_bytes, self.committed) = (0, false);
            }
            self.chunk = chunk;
            self.send_again();
        }
        self.wanted = false;
        self.owed = !info.healing;
        self.trouble.failed.clear();
        self.step = if info.healing { Step::Waiting } else { Step::Ready };
        self.grant = (!info.healing).then(|| Arc::new(info));
        self.last_grant = self.grant.clone();
        if self.appends() && !self.asked_to_append {
            // Appended since it was asked for: whether the turn still is ours has to be asked.
            self.grant = None;
            self.wanted = true;
        }
    }

    /// The copies have zeros behind the mark; the leader is told.
    pub fn telling(&mut self) {
        self.step = Step::TellingTrim;
    }

    /// What the leader has is not what we were granted: ask before anything else is sent.
    pub fn ungrant(&mut self) {
        if matches!(self.step, Step::Ready) {
            self.grant = None;
        }
    }

    /// The present grant, if any, is void; something has to be asked after a pause, or at once.
    pub fn pause(&mut self, pause: bool) {
        self.grant = None;
        self.step = if pause { Step::Waiting } else { Step::Ready };
    }

    /// Go on under the grant that was, after a pause, since no other can be had. False when there was none.
    pub fn go_on(&mut self) -> bool {
        self.grant = self.last_grant.clone();
        self.wanted &= self.grant.is_none();
        self.step = Step::Waiting;
        self.grant.is_some()
    }

    pub fn woke(&mut self) {
        if self.step == Step::Waiting {
            self.step = Step::Ready;
        }
    }

    /// The leader need not count us any more: the grant to give back.
    pub fn give_back(&mut self) -> Option<ChunkRef> {
        let idle = self.step == Step::Ready && self.is_clean() && self.owed;
        idle.then(|| {
            (self.grant, self.last_grant, self.owed) = (None, None, false);
            self.chunk
        })
    }

    /// A commit gives the grant back: nothing is sent until it is answered.
    pub fn settle(&mut self) {
        self.step = Step::Settling;
    }

    /// It was taken, or not.
    pub fn settled(&mut self, taken: bool) {
        if self.step == Step::Settling {
            self.step = Step::Ready;
            if taken {
                (self.grant, self.last_grant, self.owed) = (None, None, false);
            }
        }
    }

    // ---- answers ----

    /// The end of this piece, while its answer counts.
    pub fn in_flight(&self, round: u32, seq: u64, offset: u32) -> Option<u32> {
        let piece = self.flying.iter().find(|piece| piece.seq == seq && piece.offset == offset);
        piece.filter(|_| round == self.round).map(|piece| piece.end())
    }

    /// Every copy has the piece. False when a server was started anew since it took others: it may have lost them.
    pub fn acknowledged(&mut self, seq: u64, offset: u32, reply: &ChunkWriteReply) -> bool {
        let restarted = reply
            .stamps
            .iter()
            .any(|stamp| self.boots.get(&stamp.server_id).is_some_and(|boot| *boot != stamp.boot_id));
        if restarted {
            self.send_again();
            return false;
        }
        for stamp in &reply.stamps {
            self.boots.insert(stamp.server_id, stamp.boot_id);
            self.stored_bytes = self.stored_bytes.max(stamp.stored_bytes);
        }
        if let Some(at) = self.flying.iter().position(|piece| piece.seq == seq && piece.offset == offset) {
            let piece = self.flying.swap_remove(at);
            self.held.push(piece);
        }
        true
    }

    /// What is in flight goes back to the queue: its answers come too late from here on.
    pub fn recall(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        self.round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        let flying = std::mem::take(&mut self.flying);
        self.requeue(flying);
    }

    /// Nothing that was sent counts.
    pub fn send_again(&mut self) {
        self.boots.clear();
        let held = std::mem::take(&mut self.held);
        self.flying.extend(held);
        self.recall();
    }

    fn requeue(&mut self, pieces: Vec<Arc<Piece>>) {
        if pieces.is_empty() {
            return;
        }
        let mut all: Vec<Arc<Piece>> = self.queue.drain(..).chain(pieces).collect();
        all.sort_by_key(|piece| piece.seq);
        renew_overwritten(&mut all);
        self.queue = all.into();
    }

    /// Pieces up to `seq` are committed, wherever they are now.
    pub fn committed(&mut self, seq: u64) {
        self.queue.retain(|piece| piece.seq > seq);
        self.flying.retain(|piece| piece.seq > seq);
        self.held.retain(|piece| piece.seq > seq);
        self.committed = true;
        self.recount();
        if self.held.is_empty() && self.flying.is_empty() {
            // Which start of a server takes the next bytes is all the same.
            self.boots.clear();
        }
    }

    /// Whether the servers of the set may not have the chunk yet. Not once they took a piece of this round: what they lost
    /// since, with the chunk or a restart, must not come back as half of it.
    pub fn creates(&self) -> bool {
        self.is_new() && self.held.is_empty()
    }

    /// Whether no byte of the chunk is committed, as far as we know.
    pub fn is_new(&self) -> bool {
        !self.committed && self.grant.as_ref().is_some_and(|info| !info.written)
    }

    /// Bytes of others that were to move with ours: they are read again.
    pub fn drop_others(&mut self) {
        let ours = |piece: &Arc<Piece>| piece.seq != 0;
        self.queue.retain(ours);
        if self.flying.iter().any(|piece| piece.seq == 0) {
            self.recall();
            self.queue.retain(ours);
        }
        self.held.retain(ours);
        self.recount();
    }

    pub fn take_others(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.queue.push_front(Arc::new(piece));
        }
        self.recount();
    }

    /// Appended bytes lost their place: they leave, in order.
    pub fn take_appended(&mut self, seq: &mut u64) -> Vec<Arc<Piece>> {
        self.seal(seq);
        if self.flying.iter().any(|piece| piece.append) {
            self.recall();
        }
        let (mut taken, mut kept) = (Vec::new(), VecDeque::new());
        for piece in self.queue.drain(..) {
            if piece.append { taken.push(piece) } else { kept.push_back(piece) }
        }
        self.queue = kept;
        let (held, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(|piece| piece.append);
        self.held = rest;
        taken.extend(held);
        self.recount();
        taken
    }

    /// The hole or promise with this number.
    pub fn filled(&self, seq: u64) -> Option<Filled> {
        self.pieces().filter(|piece| piece.seq == seq).find_map(|piece| piece.filled().copied())
    }

    pub fn promises(&self) -> bool {
        self.pieces().any(|piece| piece.is_promise())
    }

    /// Whether the piece with this number is a copy.
    pub fn copies(&self, seq: u64) -> bool {
        self.pieces().any(|piece| piece.seq == seq && piece.is_copy())
    }

    /// Holes, promises and copies leave, done or not; bytes are sent again. -> the grant to abandon
    pub fn drop_what_has_no_bytes(&mut self) -> Option<ChunkRef> {
        if self.pieces().all(|piece| piece.has_bytes()) {
            return None;
        }
        self.send_again();
        self.queue.retain(|piece| piece.has_bytes());
        self.recount();
        self.pause(false);
        self.last_grant = None;
        std::mem::take(&mut self.owed).then_some(self.chunk)
    }

    /// Give up everything here. -> the grant to abandon.
    pub fn abandon(&mut self) -> Option<ChunkRef> {
        self.filling = None;
        self.queue.clear();
        self.held.clear();
        self.recall();
        self.queue.clear();
        self.recount();
        self.boots.clear();
        self.trouble = Trouble::default();
        (self.grant, self.last_grant, self.step, self.wanted) = (None, None, Step::Ready, false);
        std::mem::take(&mut self.owed).then_some(self.chunk)
    }
}

/// Sent again, a piece takes along what was written over it since: a reader that saw those bytes does not go back. Not what
/// was appended, which may move to another place, nor others' bytes out of the inode.
fn renew_overwritten(pieces: &mut Vec<Arc<Piece>>) {
    let mut covered = Ranges::default();
    let mut renewed: Vec<Vec<Arc<Piece>>> = Vec::with_capacity(pieces.len());
    for at in (0..pieces.len()).rev() {
        let piece = &pieces[at];
        let (start, end) = (u64::from(piece.offset), u64::from(piece.end()));
        let is_plain = !piece.append && piece.seq != 0;
        let is_covered = is_plain && covered.gaps(start, end) != [(start, end)];
        renewed.push(if is_covered { piece.under(&pieces[at + 1..]) } else { vec![piece.clone()] });
        if !piece.is_promise() {
            covered.insert(start, end);
        }
    }
    *pieces = renewed.into_iter().rev().flatten().collect();
}
