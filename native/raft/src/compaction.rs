//! When this member writes a snapshot and cuts its log, and what becomes of a snapshot that cannot be written: it is told
//! and tried again later, while the member goes on. openraft, for which a failure would be the end, hears only of
//! snapshots that are there. Members write at different entries, so that equally full disks do not fail together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Error, Result};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use parking_lot::Mutex;

use crate::RaftConfig;
use crate::consensus::Raft;
use crate::files::{free_bytes, random_bytes};
use crate::log::store::LogStore;
use crate::snapshot::Snapshots;
use crate::types::{LogId, Types};

/// Log files above this are compacted even when few entries came.
const LOG_SEGMENTS: u64 = 16;
/// Between looks while entries are applied: a snapshot is late by as many as come meanwhile. And while none are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(1);
/// Before a failed snapshot is tried again; doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// At which entries a member writes snapshots: every so many, each member shifted by its place among all.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    every: u64,
    offset: u64,
}

impl Schedule {
    fn new(config: &RaftConfig) -> Schedule {
        let place = config.peers.keys().take_while(|id| **id != config.node_id).count() as u128;
        let offset = u128::from(config.snapshot_every) * place / config.peers.len().max(1) as u128;
        Schedule { every: config.snapshot_every, offset: offset as u64 }
    }

    /// Whether one of its entries lies between the newest snapshot and what is applied.
    fn is_due(&self, snapshot: u64, applied: u64) -> bool {
        let round = |index: u64| index.saturating_add(self.offset) / self.every;
        round(applied) > round(snapshot)
    }
}

/// How long to wait after so many failures in a row; `dice` from 0 to 1 spreads members that fail together.
fn pause_after(failures: u32, dice: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LAST_PAUSE).mul_f64(0.5 + dice.clamp(0.0, 1.0))
}

#[derive(Debug, Default)]
struct Trouble {
    reason: Option<String>,
    in_a_row: u32,
    total: u64,
    again_at: Option<Instant>,
}

/// What is known of the failures. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<Trouble>>);

impl Troubles {
    /// Why the last snapshot could not be written, until one is.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().reason.clone()
    }

    /// Snapshots that could not be written since the start.
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    fn may_try(&self, now: Instant) -> bool {
        self.0.lock().again_at.is_none_or(|at| at <= now)
    }

    /// One line for each new reason.
    fn failed(&self, error: &Error, now: Instant, dice: f64) {
        let mut trouble = self.0.lock();
        trouble.total += 1;
        trouble.in_a_row = trouble.in_a_row.saturating_add(1);
        trouble.again_at = Some(now + pause_after(trouble.in_a_row, dice));
        let reason =
            format!("no snapshot can be written ({error}); the log grows until one can: mend or free the disk");
        if trouble.reason.as_ref() != Some(&reason) {
            tracing::error!("{reason}");
            trouble.reason = Some(reason);
        }
    }

    fn over(&self) {
        let mut trouble = self.0.lock();
        if trouble.reason.take().is_some() {
            tracing::info!(failures = trouble.in_a_row, "snapshots are written again");
        }
        (trouble.in_a_row, trouble.again_at) = (0, None);
    }
}

pub struct Compaction {
    pub raft: Raft,
    pub log: LogStore,
    pub snapshots: Snapshots,
    pub troubles: Troubles,
    schedule: Schedule,
    log_limit: u64,
    /// Left free beside a snapshot: the next file of the log.
    reserve: u64,
}

/// Indexes of the last entry applied, in the newest snapshot on disk and in the one that openraft knows, and purged.
struct Reach {
    applied: u64,
    written: u64,
    known: u64,
    purged: u64,
}

impl Compaction {
    pub fn new(raft: Raft, log: LogStore, snapshots: Snapshots, troubles: Troubles, config: &RaftConfig) -> Compaction {
        Compaction {
            raft,
            log,
            snapshots,
            troubles,
            schedule: Schedule::new(config),
            log_limit: config.segment_bytes.saturating_mul(LOG_SEGMENTS),
            reserve: config.segment_bytes,
        }
    }

    /// Until the core ends.
    pub async fn run(self) {
        let mut applied = self.raft.data_metrics();
        while self.step().await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
            // Also when nothing is applied: what failed is tried again.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_IDLE_EVERY, applied.changed()).await {
                return;
            }
        }
    }

    async fn step(&self) -> std::result::Result<(), Fatal<Types>> {
        let reach = self.reach();
        let long = self.log.summary().bytes > self.log_limit;
        if reach.written > reach.known {
            return self.raft.trigger().snapshot().await;
        }
        if long && reach.known > reach.purged {
            return self.raft.trigger().purge_log(reach.known).await;
        }
        let due = self.schedule.is_due(reach.written, reach.applied) || (long && reach.applied > reach.written);
        let now = Instant::now();
        if !due || !self.troubles.may_try(now) {
            return Ok(());
        }
        match self.write().await? {
            Ok(()) => self.troubles.over(),
            Err(error) => self.troubles.failed(&error, now, dice()),
        }
        Ok(())
    }

    fn reach(&self) -> Reach {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<LogId>| id.map_or(0, |id| id.index);
        Reach {
            applied: index(&metrics.last_applied),
            written: self.snapshots.newest().map_or(0, |snapshot| index(&snapshot.meta.last_log_id)),
            known: index(&metrics.snapshot),
            purged: index(&metrics.purged),
        }
    }

    /// The outer error: the core has ended. The inner one: this snapshot failed, and left nothing behind.
    async fn write(&self) -> std::result::Result<Result<()>, Fatal<Types>> {
        if let Err(error) = self.check_room() {
            return Ok(Err(error));
        }
        let view = self.raft.with_state_machine(|machine| Box::pin(std::future::ready(machine.view()))).await?;
        let written = tokio::task::spawn_blocking(move || view.write()).await;
        let written = written.unwrap_or_else(|error| Err(Error::unavailable(format!("writing it panicked: {error}"))));
        if let Err(error) = written {
            return Ok(Err(error));
        }
        self.raft.trigger().snapshot().await?;
        Ok(Ok(()))
    }

    /// Room for one like the newest and a quarter, and for the log beside it.
    fn check_room(&self) -> Result<()> {
        let folder = self.snapshots.folder();
        let free = free_bytes(folder).map_err(|error| Error::from(error).context(folder.display()))?;
        let expected = self.snapshots.newest().map_or(0, |snapshot| snapshot.bytes / 4 * 5);
        let needed = expected.saturating_add(self.reserve);
        if free >= needed {
            return Ok(());
        }
        Err(Error::new(
            base::ErrorKind::Unavailable,
            rustix::io::Errno::NOSPC.raw_os_error(),
            // Free bytes are no part of it: the same reason is told once.
            format!("{} has not the {} MiB free that it takes", folder.display(), needed.div_ceil(1 << 20)),
        ))
    }
}

fn dice() -> f64 {
    let byte = random_bytes::<1>().map_or(128, |bytes| bytes[0]);
    f64::from(byte) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedules(members: u64, every: u64) -> Vec<Schedule> {
        let peers: std::collections::BTreeMap<u64, String> =
            (1..=members).map(|id| (id * 7, format!("h:{id}"))).collect();
        let config = |node_id: &u64| RaftConfig {
            node_id: *node_id,
            cluster_id: "c".to_string(),
            advertise: peers[node_id].clone(),
            peers: peers.clone(),
            data_dir: "/d".into(),
            heartbeat_ms: 10,
            election_min_ms: 50,
            election_max_ms: 100,
            snapshot_every: every,
            segment_bytes: 1 << 20,
        };
        peers.keys().map(|id| Schedule::new(&config(id))).collect()
    }

    /// The entries at which a member that looks after each one writes.
    fn written_at(schedule: &Schedule, upto: u64) -> Vec<u64> {
        let (mut snapshot, mut written) = (0, Vec::new());
        for applied in 0..=upto {
            if schedule.is_due(snapshot, applied) {
                snapshot = applied;
                written.push(applied);
            }
        }
        written
    }

    #[test]
    fn members_write_as_often_as_told_and_never_at_the_same_entry() {
        let all: Vec<Vec<u64>> = schedules(3, 300).iter().map(|schedule| written_at(schedule, 1000)).collect();
        assert_eq!(all, [vec![300, 600, 900], vec![200, 500, 800], vec![100, 400, 700, 1000]]);
        assert_eq!(written_at(&schedules(1, 100)[0], 250), [100, 200]);
        assert_eq!(written_at(&schedules(3, 1)[2], 3), [1, 2, 3]);
    }

    #[test]
    fn a_failed_snapshot_is_tried_again_after_longer_and_longer_pauses_that_differ_between_members() {
        assert_eq!(pause_after(1, 0.5), FIRST_PAUSE);
        assert_eq!(pause_after(3, 0.5), 4 * FIRST_PAUSE);
        assert_eq!(pause_after(u32::MAX, 0.5), LAST_PAUSE);
        assert!(pause_after(4, 0.0) < pause_after(4, 1.0) / 2);
    }

    #[test]
    fn a_reason_stands_until_a_snapshot_is_written_and_no_try_comes_before_its_time() {
        let (troubles, now) = (Troubles::default(), Instant::now());
        assert!(troubles.may_try(now) && troubles.reason().is_none());
        troubles.failed(&Error::unavailable("no room"), now, 0.5);
        assert!(troubles.reason().unwrap().contains("no room"));
        assert!(!troubles.may_try(now + FIRST_PAUSE / 2) && troubles.may_try(now + FIRST_PAUSE));
        troubles.failed(&Error::unavailable("no room"), now, 0.5);
        assert!(!troubles.may_try(now + FIRST_PAUSE));
        troubles.over();
        assert!(troubles.may_try(now) && troubles.reason().is_none());
        assert_eq!(troubles.total(), 2);
    }
}
