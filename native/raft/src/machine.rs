//! Between openraft and the state machine: entries in order, frozen views for snapshots, restore. Holds no state of its
//! own but how far it got.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::consensus::{Frozen, StateMachine};
use crate::snapshot::{Snapshot, Snapshots};
use crate::types::{LogId, SnapshotMeta, StoredMembers, Types, term_of};

pub type OpenSnapshot = openraft::alias::SnapshotOf<Types, Snapshot>;

pub struct Machine {
    pub machine: Arc<dyn StateMachine>,
    pub snapshots: Snapshots,
    applied: Option<LogId>,
    members: StoredMembers,
}

impl Machine {
    pub fn new(machine: Arc<dyn StateMachine>, snapshots: Snapshots) -> Machine {
        Machine { machine, snapshots, applied: None, members: StoredMembers::default() }
    }

    /// What is applied now, to be written while entries go on being applied.
    pub fn view(&self) -> View {
        View {
            frozen: self.machine.freeze(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.members.clone() },
            snapshots: self.snapshots.clone(),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = entry.log_id;
            let reply = match entry.payload {
                EntryPayload::Blank => Bytes::new(),
                EntryPayload::Normal(command) => {
                    let apply = || self.machine.apply(id.index, term_of(&id), &command.0);
                    // A state machine that panicked is in no known state: this member stops, the others go on.
                    let reply = catch_unwind(AssertUnwindSafe(apply))
                        .map_err(|_| io::Error::other(format!("applying log entry {} panicked", id.index)))?
                        .map_err(|error| io::Error::other(format!("log entry {}: {}", id.index, error.message)))?;
                    Bytes::from(reply)
                }
                EntryPayload::Membership(members) => {
                    self.members = StoredMembers::new(Some(id), members);
                    Bytes::new()
                }
            };
            self.applied = Some(id);
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    /// A snapshot that stands already, written by `compaction`; none is written here unless openraft cannot do without.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        Some(Builder(Mutex::new(Some(Source::Written(self.snapshots.newest()?)))))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Mutex::new(Some(Source::View(self.view()))))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot) -> io::Result<()> {
        let (machine, snapshots) = (self.machine.clone(), self.snapshots.clone());
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let restored = tokio::task::spawn_blocking(move || {
            // In place only now: before, openraft cuts off what contradicts it.
            let snapshot = snapshots.install(snapshot)?;
            let mut reader = snapshot.reader()?;
            machine.restore(&mut reader)
        });
        restored
            .await
            .map_err(|error| io::Error::other(format!("restoring the snapshot at {index} panicked: {error}")))?
            .map_err(|error| io::Error::other(format!("restoring the snapshot at {index}: {error}")))?;
        (self.applied, self.members) = (meta.last_log_id, meta.last_membership.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<OpenSnapshot>> {
        Ok(self.snapshots.newest().map(|snapshot| OpenSnapshot { meta: snapshot.meta.clone(), snapshot }))
    }
}

/// The state at one entry, and where its snapshot goes.
pub struct View {
    frozen: Box<dyn Frozen>,
    meta: SnapshotMeta,
    snapshots: Snapshots,
}

impl View {
    /// Write it and make it the newest snapshot. Blocks.
    pub fn write(self) -> base::Result<Snapshot> {
        let started = std::time::Instant::now();
        let snapshot = self.snapshots.build(&self.meta, |out| self.frozen.write(out))?;
        let index = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(index, bytes = snapshot.bytes, took_ms, "snapshot written");
        Ok(snapshot)
    }
}

enum Source {
    Written(Snapshot),
    View(View),
}

/// Hands openraft one snapshot, once.
pub struct Builder(Mutex<Option<Source>>);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<OpenSnapshot> {
        let source = self.0.lock().take().ok_or_else(|| io::Error::other("a snapshot is built once"))?;
        let snapshot = match source {
            Source::Written(snapshot) => snapshot,
            Source::View(view) => tokio::task::spawn_blocking(move || view.write())
                .await
                .map_err(|error| io::Error::other(format!("writing a snapshot panicked: {error}")))?
                .map_err(|error| io::Error::other(error.to_string()))?,
        };
        Ok(OpenSnapshot { meta: snapshot.meta.clone(), snapshot })
    }
}
