//! Makes copies anew: mark the chunk (BeginHeal), let the target fetch it (CopyChunk), add the target to the set
//! (EndHeal). Bounded over the cluster and per server. Which copies to make is the planner's decision.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use wire::proto::{
    BeginHeal, ChunkRef, ChunkState, CopyChunk, DigestChunk, EndHeal, HealIntent, Replica, admin_command::Op,
    server_command::Command,
};

use crate::node::Node;
use crate::policy::Policy;

/// Heals waiting for their turn; the planner names the rest again.
const MOST_WAITING: usize = 1024;
/// A copy may take this long, and a second more for each of these bytes.
const COPY_TIMEOUT: Duration = Duration::from_secs(20);
const SLOWEST_BYTES_PER_SECOND: u32 = 1 << 20;
/// How long a server may take to say what it holds, before writers are made to wait for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between attempts to end a heal that the log did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const END_ATTEMPTS: usize = 5;

#[derive(Default)]
struct Table {
    waiting: VecDeque<HealIntent>,
    /// By chunk id.
    running: HashMap<u64, (u32, u32)>,
    /// Chunks whose copies are being compared.
    settling: HashSet<u64>,
    /// Grows when leadership is lost: what was running before no longer counts.
    generation: u64,
}

impl Table {
    /// Take the first waiting heal whose servers have room.
    fn next(&mut self, policy: &Policy) -> Option<HealIntent> {
        if self.running.len() >= policy.heals_running {
            return None;
        }
        let (running, most) = (&self.running, policy.heals_per_server);
        let load = |server: u32| running.values().filter(|(a, b)| *a == server || *b == server).count();
        let at = self.waiting.iter().position(|heal| {
            load(heal.source) < most
                && load(heal.target) < most
                && !running.contains_key(&heal.chunk_id)
                && !self.settling.contains(&heal.chunk_id)
        })?;
        let heal = self.waiting.remove(at)?;
        self.running.insert(heal.chunk_id, (heal.source, heal.target));
        Some(heal)
    }
}

#[derive(Default)]
pub struct Heals(Mutex<Table>);

impl Heals {
    pub fn reset(&self) {
        let mut table = self.0.lock();
        *table = Table { generation: table.generation + 1, ..Table::default() };
    }

    /// False when the chunk is being healed already or too many wait.
    pub fn add(&self, heal: HealIntent) -> bool {
        let mut table = self.0.lock();
        let known = table.running.contains_key(&heal.chunk_id)
            || table.waiting.iter().any(|waiting| waiting.chunk_id == heal.chunk_id);
        if known || table.waiting.len() >= MOST_WAITING {
            return false;
        }
        table.waiting.push_back(heal);
        true
    }

    pub fn is_running(&self, chunk: u64) -> bool {
        let table = self.0.lock();
        table.running.contains_key(&chunk) || table.settling.contains(&chunk)
    }

    /// Take a chunk for settling, at most `most` at a time; false when there is no room or it is being healed.
    pub fn begin_settling(&self, chunk: u64, most: usize) -> bool {
        let mut table = self.0.lock();
        table.settling.len() < most && !table.running.contains_key(&chunk) && table.settling.insert(chunk)
    }

    pub fn end_settling(&self, chunk: u64) {
        self.0.lock().settling.remove(&chunk);
    }

    /// Running and waiting.
    pub fn count(&self) -> usize {
        let table = self.0.lock();
        table.running.len() + table.waiting.len()
    }
}

impl Node {
    /// Start every heal that has room.
    pub fn pump_heals(self: &Arc<Node>, term: u64) {
        let policy = self.policy();
        loop {
            let (heal, generation) = {
                let mut table = self.heals.0.lock();
                let Some(heal) = table.next(&policy) else { return };
                (heal, table.generation)
            };
            let node = self.clone();
            tokio::spawn(async move {
                let chunk = heal.chunk_id;
                match node.heal(term, &heal).await {
                    Ok(()) => {
                        node.metrics.heals_ok.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        node.metrics.heals_failed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(chunk, source = heal.source, target = heal.target, %error, "a copy could not be made; the planner will name it again");
                    }
                }
                let ours = {
                    let mut table = node.heals.0.lock();
                    let ours = table.generation == generation;
                    if ours {
                        table.running.remove(&chunk);
                    }
                    ours
                };
                if ours {
                    node.pump_heals(term);
                }
            });
        }
    }

    pub async fn heal(&self, term: u64, heal: &HealIntent) -> Result<()> {
        self.require_answer(heal).await?;
        let begin = BeginHeal { chunk_id: heal.chunk_id, version: heal.version, target: heal.target };
        let chunk = self.committer.admin(term, Op::BeginHeal(begin)).await?.chunk;
        let chunk =
            chunk.ok_or_else(|| Error::integrity("the state marked no chunk as healing; report this as a bug"))?;
        let copied = self.copy(heal, &chunk).await;
        let (ok, stored_bytes) = (copied.is_ok(), *copied.as_ref().unwrap_or(&0));
        if ok {
            // A copy that does not join the set after all is found as an orphan.
            let index = self.machine.state().position().index;
            self.machine.soft.copies.write().healed(heal.target, chunk.id, chunk.version, index);
        }
        let ended = self.end_heal(term, EndHeal { chunk_id: chunk.id, heal_id: chunk.heal_id, ok, stored_bytes }).await;
        copied?;
        ended
    }

    /// Writers wait while a copy is made, so not for a server that is paused and not known to be away yet. Whatever it says
    /// of its copy, it is there.
    async fn require_answer(&self, heal: &HealIntent) -> Result<()> {
        let chunk = Some(ChunkRef { id: heal.chunk_id, version: heal.version });
        let asked = Command::Digest(DigestChunk { chunk, fence: false });
        match self.order(heal.target, asked, ANSWER_TIMEOUT).await {
            Err(error) if error.kind == ErrorKind::Unavailable => Err(error),
            _ => Ok(()),
        }
    }

    /// Let the target fetch the chunk. -> bytes stored there.
    async fn copy(&self, heal: &HealIntent, chunk: &ChunkState) -> Result<u32> {
        let source = self.machine.state().server(heal.source).map(|server| server.address);
        let source = source.ok_or_else(|| Error::stale(format!("chunkserver {} is not registered", heal.source)))?;
        let copy = CopyChunk {
            chunk: Some(ChunkRef { id: chunk.id, version: chunk.version }),
            source: Some(Replica { server_id: heal.source, address: source }),
            heal_id: chunk.heal_id,
        };
        let timeout = COPY_TIMEOUT + Duration::from_secs(u64::from(chunk.stored_bytes / SLOWEST_BYTES_PER_SECOND));
        Ok(self.order(heal.target, Command::Copy(copy), timeout).await?.stored_bytes)
    }

    /// Writers wait while the mark stands, so ending is tried again; a mark left over is ended by the leader's next look.
    pub async fn end_heal(&self, term: u64, end: EndHeal) -> Result<()> {
        let mut attempt = 1;
        loop {
            match self.committer.admin(term, Op::EndHeal(end)).await {
                Ok(_) => return Ok(()),
                Err(error)
                    if error.kind == ErrorKind::Unavailable
                        && attempt < END_ATTEMPTS
                        && self.serving_term() == Some(term) =>
                {
                    attempt += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Order something of a registered chunkserver.
    pub async fn order(&self, server: u32, command: Command, timeout: Duration) -> Result<wire::proto::CommandResult> {
        let registered =
            self.servers.lock().get(server).map(|registered| (registered.peer.clone(), registered.contact.epoch));
        let Some((peer, epoch)) = registered.filter(|(peer, _)| !peer.is_closed()) else {
            return Err(Error::unavailable(format!("chunkserver {server} is not connected to this leader")));
        };
        let position = self.machine.state().position();
        self.commands.order(server, &peer, epoch, position, command, timeout).await
    }

    /// End healing marks that no task of this leader works on: an older leader's, or ones whose end was not committed.
    pub async fn end_stray_heals(&self, term: u64) {
        let marked: Vec<(u64, u64)> =
            self.machine.state().healing().iter().map(|chunk| (chunk.id, chunk.heal_id)).collect();
        for (chunk_id, heal_id) in marked {
            if self.heals.is_running(chunk_id) {
                continue;
            }
            let end = EndHeal { chunk_id, heal_id, ok: false, stored_bytes: 0 };
            match self.committer.admin(term, Op::EndHeal(end)).await {
                Ok(_) => tracing::info!(chunk = chunk_id, "ended a healing mark nobody works on"),
                Err(error) if error.kind == ErrorKind::Stale => {}
                Err(error) => {
                    tracing::warn!(chunk = chunk_id, %error, "a healing mark could not be ended; trying again");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heal(chunk_id: u64, source: u32, target: u32) -> HealIntent {
        HealIntent { chunk_id, version: 1, source, target }
    }

    #[test]
    fn no_server_takes_part_in_more_heals_than_allowed() {
        let heals = Heals::default();
        for chunk in 1..=3 {
            assert!(heals.add(heal(chunk, 1, 2)));
        }
        assert!(heals.add(heal(4, 3, 4)));
        let mut table = heals.0.lock();
        let started: Vec<u64> =
            std::iter::from_fn(|| table.next(&Policy::default())).map(|heal| heal.chunk_id).collect();
        assert_eq!(started, vec![1, 2, 4]);
        table.running.remove(&1);
        assert_eq!(table.next(&Policy::default()).unwrap().chunk_id, 3);
    }

    #[test]
    fn as_many_heals_run_as_the_policy_says() {
        for (heals_running, heals_per_server, wanted) in [(3, 3, 3), (4, 2, 2), (1, 2, 1)] {
            let policy = Policy { heals_running, heals_per_server, ..Policy::default() };
            let heals = Heals::default();
            (1..=4).for_each(|chunk| assert!(heals.add(heal(chunk, 1, 2))));
            assert_eq!(std::iter::from_fn(|| heals.0.lock().next(&policy)).count(), wanted);
        }
    }

    #[test]
    fn a_chunk_is_healed_once_at_a_time() {
        let heals = Heals::default();
        assert!(heals.add(heal(1, 1, 2)));
        assert!(!heals.add(heal(1, 1, 3)));
        heals.0.lock().next(&Policy::default());
        assert!(!heals.add(heal(1, 1, 3)));
    }
}
