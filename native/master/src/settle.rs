//! Copies of one chunk are equal once their writers are gone: after a writer that ended, or is silent, the chunk is fenced,
//! the copies are compared, and those that differ from the first of the chain are made anew from it. Writes pass the
//! first one before all others, so it lacks nothing that any reader saw. Now and then all other chunks are compared too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result};
use futures::future::join_all;
use parking_lot::Mutex;
use wire::proto::{
    BeginHeal, ChunkRef, ChunkState, DigestChunk, EndHeal, HealIntent, admin_command::Op, server_command::Command,
};

use crate::node::Node;

/// Chunks settled at a time.
const MOST_SETTLING: usize = 8;
/// A client with grants tells every second that it lives; after this silence what it wrote is settled. It may go on
/// later: what it has not committed it sends again.
const SILENT: Duration = Duration::from_secs(5);
/// A chunk that could not be settled is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const DIGEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Comparing all copies: so many chunks each time, and one round of all chunks takes this long at least.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
const COMPARE_AT_ONCE: usize = 8;
const SHORTEST_ROUND: Duration = Duration::from_secs(60);

/// What one copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// 0: the server never got the chunk.
    pub version: u32,
    pub digest: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// These copies are to be made anew from `source`.
    Differ {
        source: u32,
        targets: Vec<u32>,
    },
    /// No server has it.
    Gone,
}

/// Servers in the order of the chain that clients use.
pub fn chain(chunk: u64, servers: &[u32]) -> Vec<u32> {
    let mut order = servers.to_vec();
    order.rotate_left(chunk as usize % servers.len().max(1));
    order
}

/// Compare copies, given in the order of the chain.
pub fn compare(told: &[(u32, Told)]) -> Verdict {
    let Some((source, first)) = told.iter().find(|(_, told)| told.version > 0) else { return Verdict::Gone };
    let differs = |other: &Told| other.version == 0 || other.digest != first.digest;
    let targets: Vec<u32> = told.iter().filter(|(_, other)| differs(other)).map(|(server, _)| *server).collect();
    if targets.is_empty() { Verdict::Equal } else { Verdict::Differ { source: *source, targets } }
}

/// Chunks that could not be settled lately.
#[derive(Default)]
pub struct Settles(Mutex<HashMap<u64, Instant>>);

impl Settles {
    pub fn reset(&self) {
        self.0.lock().clear();
    }
}

/// Where the round over all chunks stands.
pub struct Comparing {
    next: u64,
    round_began: Instant,
    last: Instant,
}

impl Comparing {
    pub fn new(now: Instant) -> Comparing {
        Comparing { next: 0, round_began: now, last: now }
    }
}

impl Node {
    /// Start settling every chunk that a writer left, as far as there is room.
    pub fn settle_ended_writers(self: &Arc<Node>, term: u64) {
        let granted = self.machine.state().granted();
        if granted.is_empty() {
            return;
        }
        let now = Instant::now();
        let over: Vec<u64> = {
            let sessions = self.machine.soft.sessions.lock();
            let silent = |session: &u64| *session == 0 || sessions.idle(*session, now).0 > SILENT;
            granted.into_iter().filter(|(_, writers)| writers.iter().any(silent)).map(|(chunk, _)| chunk).collect()
        };
        let known: HashSet<u64> = over.iter().copied().collect();
        self.settles.0.lock().retain(|chunk, at| known.contains(chunk) && now.duration_since(*at) < AGAIN_AFTER);
        for chunk in over {
            self.start_settling(term, chunk);
        }
    }

    fn start_settling(self: &Arc<Node>, term: u64, chunk: u64) {
        if self.settles.0.lock().contains_key(&chunk) || !self.heals.begin_settling(chunk, MOST_SETTLING) {
            return;
        }
        let node = self.clone();
        tokio::spawn(async move {
            match node.settle(term, chunk).await {
                Ok(()) => {
                    node.metrics.settled.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::debug!(chunk, %error, "the copies of a chunk could not be compared; trying again");
                    node.settles.0.lock().insert(chunk, Instant::now());
                }
            }
            node.heals.end_settling(chunk);
        });
    }

    /// Fence the chunk and compare its copies, until they are equal. Each round makes one copy anew.
    async fn settle(&self, term: u64, chunk_id: u64) -> Result<()> {
        loop {
            let Some(chunk) = self.machine.state().chunk(chunk_id) else { return Ok(()) };
            self.require_connected(&chunk.servers)?;
            let begin = BeginHeal { chunk_id, version: chunk.version, target: 0 };
            // Without a committed byte the chunk goes.
            let Some(chunk) = self.committer.admin(term, Op::BeginHeal(begin)).await?.chunk else { return Ok(()) };
            let told = self.digests(&chunk, true).await;
            let verdict = told.as_ref().ok().map(|told| compare(told));
            let ok = verdict == Some(Verdict::Equal);
            let end = EndHeal { chunk_id, heal_id: chunk.heal_id, ok, stored_bytes: 0 };
            self.end_heal(term, end).await?;
            told?;
            match verdict {
                Some(Verdict::Differ { source, targets }) => {
                    self.metrics.differing.fetch_add(targets.len() as u64, Ordering::Relaxed);
                    tracing::warn!(
                        chunk = chunk_id,
                        source,
                        ?targets,
                        "copies of one version differ; they are made anew"
                    );
                    for target in targets {
                        let Some(now) = self.machine.state().chunk(chunk_id) else { return Ok(()) };
                        let heal = HealIntent { chunk_id, version: now.version, source, target };
                        self.heal(term, &heal).await?;
                    }
                }
                Some(Verdict::Gone) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        libc::EIO,
                        format!("no server of its set has chunk {chunk_id}"),
                    ));
                }
                _ => return Ok(()),
            }
        }
    }

    /// Before writers are made to wait: a server that is away comes back, or healing replaces it.
    fn require_connected(&self, servers: &[u32]) -> Result<()> {
        let registered = self.servers.lock();
        let away = servers.iter().find(|id| registered.get(**id).is_none_or(|server| server.peer.is_closed()));
        away.map_or(Ok(()), |server| Err(Error::unavailable(format!("chunkserver {server} is not connected"))))
    }

    /// What each copy of the chunk's set holds, in the order of the chain; an error when one does not answer.
    async fn digests(&self, chunk: &ChunkState, fence: bool) -> Result<Vec<(u32, Told)>> {
        let reference = ChunkRef { id: chunk.id, version: chunk.version };
        let asked = chain(chunk.id, &chunk.servers).into_iter().map(|server| async move {
            let command = Command::Digest(DigestChunk { chunk: Some(reference), fence });
            let result = self.order(server, command, DIGEST_TIMEOUT).await?;
            Ok((server, Told { version: result.version, digest: result.digest }))
        });
        join_all(asked).await.into_iter().collect()
    }

    /// One step of comparing all copies.
    pub fn compare_copies(self: &Arc<Node>, term: u64, comparing: &mut Comparing) {
        if comparing.last.elapsed() < COMPARE_EVERY
            || (comparing.next == 0 && comparing.round_began.elapsed() < SHORTEST_ROUND)
        {
            return;
        }
        comparing.last = Instant::now();
        if comparing.next == 0 {
            comparing.round_began = comparing.last;
        }
        let chunks = self.machine.state().chunks_from(comparing.next, COMPARE_AT_ONCE);
        comparing.next = if chunks.len() < COMPARE_AT_ONCE { 0 } else { chunks[chunks.len() - 1].id + 1 };
        let quiet = |chunk: &ChunkState| {
            chunk.written && chunk.writers.is_empty() && chunk.heal_id == 0 && !self.heals.is_running(chunk.id)
        };
        for chunk in chunks.into_iter().filter(quiet) {
            let node = self.clone();
            tokio::spawn(async move { node.compare_one(term, chunk).await });
        }
    }

    /// A difference counts when nobody wrote meanwhile; the fence of a settle then makes sure of it.
    async fn compare_one(self: &Arc<Node>, term: u64, chunk: ChunkState) {
        let Ok(told) = self.digests(&chunk, false).await else { return };
        let same = |now: ChunkState| now.version == chunk.version && now.writers.is_empty();
        if matches!(compare(&told), Verdict::Differ { .. }) && self.machine.state().chunk(chunk.id).is_some_and(same) {
            self.start_settling(term, chunk.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(copies: &[(u32, u32, u32)]) -> Vec<(u32, Told)> {
        copies.iter().map(|(server, version, digest)| (*server, Told { version: *version, digest: *digest })).collect()
    }

    #[test]
    fn copies_that_differ_from_the_first_of_the_chain_are_made_anew_from_it() {
        assert_eq!(compare(&told(&[(1, 4, 7), (2, 4, 7), (3, 4, 7)])), Verdict::Equal);
        let differ = |source, targets: &[u32]| Verdict::Differ { source, targets: targets.to_vec() };
        assert_eq!(compare(&told(&[(1, 4, 7), (2, 4, 7), (3, 4, 8)])), differ(1, &[3]));
        assert_eq!(compare(&told(&[(1, 4, 9), (2, 4, 7), (3, 4, 7)])), differ(1, &[2, 3]), "never a vote");
    }

    #[test]
    fn a_server_that_never_got_the_chunk_is_no_source() {
        let verdict = compare(&told(&[(1, 0, 0), (2, 4, 7), (3, 4, 7)]));
        assert_eq!(verdict, Verdict::Differ { source: 2, targets: vec![1] });
        assert_eq!(compare(&told(&[(1, 0, 0), (2, 0, 0)])), Verdict::Gone);
    }

    #[test]
    fn the_chain_begins_where_clients_begin_it() {
        assert_eq!(chain(7, &[1, 2, 3]), [2, 3, 1]);
        assert_eq!(chain(9, &[1, 2, 3]), [1, 2, 3]);
    }
}
