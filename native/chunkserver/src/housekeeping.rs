//! What runs without being asked: lazy flushing, a look at the disks, scrubbing. One round never overlaps the next,
//! and a disk that hangs holds up one background thread, never a heartbeat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::proto::{ChunkReport, DiskStatus};

use crate::metrics::add;
use crate::node::{Node, Opened};
use crate::reports::Finding;

/// Between two looks at the disks and flushes of what nobody synced.
const ROUND: Duration = Duration::from_secs(1);
/// Between two pieces of scrubbing: small pieces keep the disk free for clients in between.
const SCRUB_PIECE: Duration = Duration::from_millis(250);

/// Flush and look at the disks once a round.
pub async fn keep_house(node: Arc<Node>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Ok(opened) = node.opened() else { continue };
        let shared = node.clone();
        let round = node.background.run(move || {
            opened.store.flush_lazy();
            let named = *shared.named.lock();
            if let Err(error) = opened.store.remember(named, &[]) {
                tracing::debug!(%error, "no disk remembers the masters' position");
            }
            take_stock(&shared, &opened);
            Ok(())
        });
        if let Err(error) = round.await {
            tracing::warn!(%error, "a round of housekeeping failed; it is tried again");
        }
    }
}

/// Look at the disks, and report what was lost with one. Blocks.
pub fn take_stock(node: &Node, opened: &Opened) {
    let disks: Vec<DiskStatus> = crate::node::disk_statuses(&opened.store);
    for chunk in opened.store.lost() {
        node.reports.note(chunk, Finding::Lost, Instant::now());
    }
    *opened.disks.lock() = disks;
}

/// Everything this server holds, as the leader wants it, bad copies marked; what was lost with a disk is not in it.
/// Blocks.
pub fn inventory_of(node: &Node, opened: &Opened) -> Vec<ChunkReport> {
    let entries = opened.store.inventory().into_iter();
    let report = |entry: chunk::ChunkEntry| ChunkReport {
        id: entry.id,
        version: entry.version,
        bad: entry.outdated || node.reports.is_bad(entry.id),
        stored_bytes: entry.stored_bytes,
    };
    entries.map(report).collect()
}

/// Make everything stable that nobody synced, and note what is stable. Blocks.
pub fn settle(opened: &Opened) {
    for id in std::mem::take(&mut *opened.unsynced.lock()) {
        // Whatever version it has by now.
        let synced = opened.store.sync(chunk::ChunkRef { id, version: u32::MAX });
        if let Err(error) =
            synced.map(drop).or_else(|error| if error.errno == libc::ENOENT { Ok(()) } else { Err(error) })
        {
            tracing::warn!(chunk = id, %error, "a chunk could not be made stable when stopping");
        }
    }
    opened.store.flush_lazy();
}

/// Verify stored blocks, `scrub_mb_s` of them each second.
pub async fn scrub(node: Arc<Node>) {
    let budget = (node.config.scrub_mb_s << 20) * SCRUB_PIECE.as_millis() as u64 / 1000;
    if budget == 0 {
        return;
    }
    let mut cursor = chunk::ScrubCursor::default();
    loop {
        tokio::time::sleep(SCRUB_PIECE).await;
        let Ok(opened) = node.opened() else { continue };
        let piece = node.background.run(move || {
            let bad = opened.store.scrub_next(&mut cursor, budget);
            Ok((cursor, bad))
        });
        let Ok((next, bad)) = piece.await else { continue };
        cursor = next;
        for block in bad {
            // Once per copy: a rotten one may have thousands of bad blocks, and comes by again until it is replaced.
            if !node.reports.is_bad(block.chunk.id) {
                tracing::warn!(
                    chunk = block.chunk.id,
                    version = block.chunk.version,
                    offset = block.offset,
                    reason = %block.reason,
                    "scrubbing found a bad block; another copy must replace this one"
                );
            }
            add(&node.metrics.bad_blocks_scrubbed, 1);
            node.reports.note(block.chunk.id, Finding::Rotten(block.chunk.version), Instant::now());
        }
    }
}
