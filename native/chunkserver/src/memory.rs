//! What this server remembers of the masters, and when it writes that down: before a registration is used, before an
//! order is carried out, and about once a second meanwhile. Until a leader has looked at it once since the start,
//! nothing is served: the disks may be older images of themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Error, Result};
use chunk::{Memory, Store};
use wire::proto::{DiskStatus, Position, ServerWelcome};

use crate::node::{Node, Opened};

/// How long a request waits for the first registration since the start. About what one takes; later, another copy is
/// the better answer.
const FIRST_LOOK: Duration = Duration::from_secs(2);

impl Node {
    /// Write down what a welcome says, before anything is done under it.
    pub async fn remember_welcome(&self, opened: &Opened, welcome: &ServerWelcome) {
        let memory = memory(welcome.epoch, welcome.position.as_ref());
        let outdated: Vec<PathBuf> = welcome.outdated_disks.iter().map(PathBuf::from).collect();
        for disk in &outdated {
            tracing::error!(disk = %disk.display(), "this disk was put back to an older image of itself; its copies are neither served nor counted, and made anew from other servers");
        }
        let store = opened.store.clone();
        let remembered = self.background.run(move || store.remember(memory, &outdated)).await;
        if let Err(error) = remembered {
            tracing::warn!(%error, "no disk remembers this registration");
        }
        self.looked_at.send_replace(true);
    }

    /// Write down where the masters were when they gave an order. Refused where no disk can: what they know and we do not
    /// could not be missed later.
    pub async fn remember_order(&self, opened: &Opened, epoch: u64, position: Option<&Position>) -> Result<()> {
        let memory = memory(epoch, position);
        let known = opened.store.memory();
        if (memory.epoch, memory.index) <= (known.epoch, known.index) {
            return Ok(());
        }
        let store = opened.store.clone();
        self.stable.run(move || store.remember(memory, &[])).await
    }

    /// Wait until a leader has compared this server's memory with its own, where there is one.
    pub async fn first_look(&self, opened: &Opened) -> Result<()> {
        if *self.looked_at.borrow() {
            return Ok(());
        }
        if opened.store.memory() == Memory::default() {
            return Ok(());
        }
        let mut looked_at = self.looked_at.subscribe();
        match tokio::time::timeout(FIRST_LOOK, looked_at.wait_for(|looked_at| *looked_at)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::unavailable(
                "this chunkserver has not been registered since its start, and its disks may be older than the masters know; use another copy, or start the masters",
            )
            .with_failed(self.server_id())),
        }
    }
}

/// The last position that a leader named, for the masters.
pub fn remembered(store: &Store) -> Option<Position> {
    let memory = store.memory();
    (memory.mark != 0).then_some(Position {
        index: memory.index,
        mark: memory.mark,
        next_chunk: memory.next_chunk,
        next_inode: memory.next_inode,
        next_session: memory.next_session,
        next_epoch: memory.next_epoch,
    })
}

pub fn memory(epoch: u64, position: Option<&Position>) -> Memory {
    let position = position.copied().unwrap_or_default();
    Memory {
        epoch,
        index: position.index,
        mark: position.mark,
        next_chunk: position.next_chunk,
        next_inode: position.next_inode,
        next_session: position.next_session,
        next_epoch: position.next_epoch,
    }
}

/// The disks as of the last look at them, with what they remember now.
pub fn disks_now(opened: &Arc<Opened>) -> Vec<DiskStatus> {
    let disks = opened.disks.lock().clone();
    with_memories(disks, &opened.store)
}

pub fn with_memories(mut disks: Vec<DiskStatus>, store: &Store) -> Vec<DiskStatus> {
    for (path, memory) in store.memories() {
        let path = path.display().to_string();
        if let Some(disk) = disks.iter_mut().find(|disk| disk.path == path) {
            (disk.epoch, disk.remembered) = (memory.epoch, memory.index);
        }
    }
    disks
}
