//! Chunk copies that belong to no chunk any more, waiting to be deleted on their servers, in batches.
//! What is lost here (a full queue, a dead server) is found again as orphans.

use std::collections::{BTreeMap, HashSet, VecDeque};

use meta::{FreedChunk, State};
use wire::proto::{ChunkRef, DeleteIntent};

/// Deletes that may wait per server.
const MOST_WAITING: usize = 100_000;
/// Deletes of one order: a second or so of a slow disk.
const MOST_AT_ONCE: usize = 1000;

/// Whether this copy belongs to no chunk, and may go.
pub fn is_orphan(state: &State, delete: &DeleteIntent) -> bool {
    let belongs = state
        .chunk(delete.chunk_id)
        .is_some_and(|chunk| chunk.servers.contains(&delete.server_id) || chunk.heal_target == delete.server_id);
    !belongs && !state.keeps_unknown(delete.chunk_id)
}

#[derive(Default)]
pub struct Deletes {
    waiting: BTreeMap<u32, VecDeque<ChunkRef>>,
    /// Servers that are carrying out an order.
    busy: HashSet<u32>,
}

impl Deletes {
    pub fn freed(&mut self, chunks: &[FreedChunk]) {
        for chunk in chunks {
            for server in &chunk.servers {
                self.add(*server, ChunkRef { id: chunk.id, version: chunk.version });
            }
        }
    }

    /// False when too many wait.
    pub fn add(&mut self, server: u32, chunk: ChunkRef) -> bool {
        let waiting = self.waiting.entry(server).or_default();
        if waiting.len() >= MOST_WAITING {
            return false;
        }
        waiting.push_back(chunk);
        true
    }

    /// The next order for each server that has none running.
    pub fn next_orders(&mut self) -> Vec<(u32, Vec<ChunkRef>)> {
        let busy = &self.busy;
        let mut orders = Vec::new();
        for (server, waiting) in self.waiting.iter_mut().filter(|(server, _)| !busy.contains(server)) {
            let chunks: Vec<ChunkRef> = waiting.drain(..waiting.len().min(MOST_AT_ONCE)).collect();
            if !chunks.is_empty() {
                orders.push((*server, chunks));
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.busy.extend(orders.iter().map(|(server, _)| *server));
        orders
    }

    pub fn done(&mut self, server: u32) {
        self.busy.remove(&server);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_one_order_at_a_time() {
        let mut deletes = Deletes::default();
        deletes.freed(&[FreedChunk { id: 1, version: 1, servers: vec![1, 2] }]);
        assert_eq!(deletes.next_orders().len(), 2);
        deletes.freed(&[FreedChunk { id: 2, version: 1, servers: vec![1] }]);
        assert!(deletes.next_orders().is_empty());
        deletes.done(1);
        assert_eq!(deletes.next_orders(), vec![(1, vec![ChunkRef { id: 2, version: 1 }])]);
    }
}
