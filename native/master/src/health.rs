//! Which chunks are not as their goal says, and which stored copies belong to no chunk. Compares the committed table
//! with the inventories in slices of a frozen view, beside the running master. Decides nothing about repairs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use parking_lot::RwLock;
use wire::proto::ChunkState;

use crate::copies::{Copies, Held, Slices};

/// Troubled chunks and orphans kept for planners; more wait for the next rounds.
pub const MOST_LISTED: usize = 10_000;
/// Chunks compared per hold of the inventories' lock: about 50 us.
const SLICE_CHUNKS: usize = 512;
/// Inventory entries looked at per slice and server.
const SLICE_HELD: usize = 4096;
/// Chunks are sorted by how many live copies are left, up to this many.
const LEVELS: usize = 16;

/// What the leader knows of one chunkserver when it judges chunks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub up: bool,
    /// Down for longer than the delay after which its copies are made elsewhere.
    pub down_long: bool,
    pub inventory_known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub live: Vec<u32>,
    pub bad: Vec<u32>,
    pub troubled: bool,
}

/// Judge one chunk. `held` is asked only for servers whose inventory is known.
pub fn judge(
    chunk: &ChunkState,
    copies: u32,
    standing: impl Fn(u32) -> Standing,
    held: impl Fn(u32) -> Option<Held>,
) -> Judged {
    let (mut live, mut bad, mut gone) = (Vec::new(), Vec::new(), false);
    for &server in &chunk.servers {
        let standing = standing(server);
        // A version below the committed one is legal: the server advances when it is next asked to write.
        let is_bad = standing.inventory_known && held(server).is_none_or(|held| held.bad);
        if is_bad {
            bad.push(server);
        } else if standing.up {
            live.push(server);
        }
        gone |= standing.down_long;
    }
    let troubled = chunk.written && (chunk.servers.len() < copies as usize || !bad.is_empty() || gone);
    Judged { live, bad, troubled }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub server: u32,
    pub chunk: u64,
    pub version: u32,
}

/// Copies at a version that these masters never gave: they were put back to an older state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    pub version: u32,
    /// Who has the newest, in order.
    pub servers: Vec<u32>,
}

/// What copies have beyond a chunk's committed version, if any do; those that are bad do not count.
pub fn ahead(committed: u32, held: impl Iterator<Item = (u32, Held)>) -> Option<Ahead> {
    let newer: Vec<(u32, Held)> = held.filter(|(_, held)| held.version > committed && !held.bad).collect();
    let version = newer.iter().map(|(_, held)| held.version).max()?;
    let newest = newer.iter().filter(|(_, held)| held.version == version);
    Some(Ahead { version, servers: newest.map(|(server, _)| *server).collect() })
}

/// What one scan found.
#[derive(Default)]
pub struct Findings {
    /// Chunks of which a copy is ahead.
    pub ahead: BTreeSet<u64>,
    /// Chunk ids, by number of live copies.
    troubled: Vec<Vec<u64>>,
    pub orphans: Vec<Orphan>,
    pub under_replicated: u64,
    pub missing: u64,
}

impl Findings {
    /// Most endangered first.
    pub fn troubled(&self) -> impl Iterator<Item = u64> {
        self.troubled.iter().flatten().copied().take(MOST_LISTED)
    }

    fn count(&mut self, chunk: &ChunkState, judged: &Judged, copies: u32) {
        if !chunk.written {
            return;
        }
        self.under_replicated += u64::from(judged.live.len() < copies as usize);
        self.missing += u64::from(judged.live.is_empty());
        if judged.troubled {
            self.troubled.resize_with(LEVELS, Vec::new);
            let level = &mut self.troubled[judged.live.len().min(LEVELS - 1)];
            if level.len() < MOST_LISTED {
                level.push(chunk.id);
            }
        }
    }
}

/// Compare one slice of the table, in order of chunk id, with the inventories of the same ids.
fn compare(
    chunks: &[ChunkState],
    slices: &Slices,
    copies: u32,
    standings: &HashMap<u32, Standing>,
    found: &mut Findings,
) {
    let standing = |server: u32| standings.get(&server).copied().unwrap_or_default();
    let slice_of: HashMap<u32, &[(u64, Held)]> =
        slices.iter().map(|(server, held)| (*server, held.as_slice())).collect();
    let held_by = |server: u32, chunk: u64| {
        let held = slice_of.get(&server)?;
        held.binary_search_by_key(&chunk, |(id, _)| *id).ok().map(|at| held[at].1)
    };
    for chunk in chunks {
        // An inventory that became whole since the standings were taken is judged in the next scan.
        let known = |server: u32| Standing {
            inventory_known: standing(server).inventory_known && slice_of.contains_key(&server),
            ..standing(server)
        };
        let judged = judge(chunk, copies, known, |server| held_by(server, chunk.id));
        found.count(chunk, &judged, copies);
    }
    for (server, held) in slices {
        for (id, held) in held {
            let chunk = chunks.binary_search_by_key(id, |chunk| chunk.id).ok().map(|at| &chunks[at]);
            if chunk.is_some_and(|chunk| held.version > chunk.version && !held.bad) && found.ahead.len() < MOST_LISTED {
                found.ahead.insert(*id);
            }
            let belongs = chunk.is_some_and(|chunk| chunk.servers.contains(server) || chunk.heal_target == *server);
            if !belongs && found.orphans.len() < MOST_LISTED {
                found.orphans.push(Orphan { server: *server, chunk: *id, version: held.version });
            }
        }
    }
}

/// Compare everything. `chunks_from(id, n)` gives up to `n` chunks with ids from `id` on, in order, of one frozen state.
pub fn scan(
    chunks_from: impl Fn(u64, usize) -> Vec<ChunkState>,
    copies: u32,
    standings: &HashMap<u32, Standing>,
    inventories: &RwLock<Copies>,
) -> Findings {
    let mut found = Findings::default();
    let mut from = 0;
    loop {
        let mut chunks = chunks_from(from, SLICE_CHUNKS);
        let end = if chunks.len() < SLICE_CHUNKS { u64::MAX } else { chunks[SLICE_CHUNKS - 1].id };
        let (slices, end) = inventories.read().slice(from..=end, SLICE_HELD);
        chunks.truncate(chunks.partition_point(|chunk| chunk.id <= end));
        compare(&chunks, &slices, copies, standings, &mut found);
        if end == u64::MAX {
            return found;
        }
        from = end + 1;
    }
}

/// The last scan, and since when each orphan has been seen by this leader.
#[derive(Default)]
pub struct Health {
    pub findings: Findings,
    orphans_since: BTreeMap<(u32, u64), Instant>,
}

impl Health {
    pub fn renew(&mut self, findings: Findings, now: Instant) {
        let present: HashSet<(u32, u64)> = findings.orphans.iter().map(|o| (o.server, o.chunk)).collect();
        self.orphans_since.retain(|orphan, _| present.contains(orphan));
        for orphan in present {
            self.orphans_since.entry(orphan).or_insert(now);
        }
        self.findings = findings;
    }

    pub fn orphans(&self) -> impl Iterator<Item = (&Orphan, Instant)> {
        self.findings
            .orphans
            .iter()
            .filter_map(|orphan| self.orphans_since.get(&(orphan.server, orphan.chunk)).map(|since| (orphan, *since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::proto::ChunkReport;

    fn chunk(id: u64, servers: &[u32]) -> ChunkState {
        ChunkState { id, version: 2, servers: servers.to_vec(), written: true, ..ChunkState::default() }
    }

    fn up() -> Standing {
        Standing { up: true, down_long: false, inventory_known: true }
    }

    fn held(version: u32) -> Option<Held> {
        Some(Held { version, bad: false })
    }

    #[test]
    fn a_member_behind_the_committed_version_is_no_trouble() {
        let judged = judge(&chunk(1, &[1, 2, 3]), 3, |_| up(), |_| held(1));
        assert_eq!(judged, Judged { live: vec![1, 2, 3], bad: vec![], troubled: false });
    }

    #[test]
    fn the_newest_good_copies_beyond_the_committed_version_are_ahead() {
        let copies = |versions: &[u32]| versions.iter().map(|version| held(*version).unwrap()).collect::<Vec<_>>();
        let of = |versions: &[u32]| ahead(2, (1..).zip(copies(versions)));
        assert_eq!(of(&[2, 1, 2]), None);
        assert_eq!(of(&[2, 4, 3, 4]), Some(Ahead { version: 4, servers: vec![2, 4] }));
        let bad = [(1, Held { version: 9, bad: true }), (2, Held { version: 3, bad: false })];
        assert_eq!(ahead(2, bad.into_iter()), Some(Ahead { version: 3, servers: vec![2] }));
    }

    #[test]
    fn missing_and_bad_copies_are_trouble_and_an_unknown_inventory_is_not() {
        let judged = judge(&chunk(1, &[1, 2, 3]), 3, |_| up(), |server| if server == 1 { None } else { held(2) });
        assert_eq!((judged.bad, judged.troubled), (vec![1], true));
        let unknown = |_| Standing { inventory_known: false, ..up() };
        assert!(!judge(&chunk(1, &[1, 2, 3]), 3, unknown, |_| None).troubled);
    }

    #[test]
    fn a_server_down_for_a_moment_is_not_live_but_no_trouble_yet() {
        let standing = |server| Standing { up: server != 1, ..up() };
        let judged = judge(&chunk(1, &[1, 2, 3]), 3, standing, |_| held(2));
        assert_eq!(judged, Judged { live: vec![2, 3], bad: vec![], troubled: false });
        let standing = |server| Standing { up: server != 1, down_long: server == 1, inventory_known: true };
        assert!(judge(&chunk(1, &[1, 2, 3]), 3, standing, |_| held(2)).troubled);
    }

    #[test]
    fn a_chunk_nobody_wrote_is_never_trouble() {
        let unwritten = ChunkState { written: false, ..chunk(1, &[1]) };
        assert!(!judge(&unwritten, 3, |_| up(), |_| None).troubled);
    }

    #[test]
    fn the_most_endangered_chunk_comes_first() {
        let mut copies = Copies::default();
        for server in 1..=3 {
            copies.registered(server, false);
            let reports = if server == 3 { vec![1] } else { vec![1, 2, 3] };
            let reports: Vec<ChunkReport> =
                reports.into_iter().map(|id| ChunkReport { id, version: 2, ..ChunkReport::default() }).collect();
            copies.part(server, &reports, true, true);
        }
        let table = [chunk(1, &[1, 2, 3]), chunk(2, &[1, 2, 3]), chunk(3, &[3])];
        let standings = (1..=3).map(|server| (server, up())).collect();
        let found = scan(|from, n| range(&table, from, n), 3, &standings, &RwLock::new(copies));
        assert_eq!(found.troubled().collect::<Vec<_>>(), vec![3, 2]);
        assert_eq!((found.under_replicated, found.missing), (2, 1));
        assert_eq!(found.orphans.len(), 2);
    }

    fn range(table: &[ChunkState], from: u64, n: usize) -> Vec<ChunkState> {
        table.iter().filter(|chunk| chunk.id >= from).take(n).cloned().collect()
    }

    proptest! {
        #[test]
        fn a_scan_in_slices_finds_what_a_look_at_each_chunk_finds(
            table in prop::collection::btree_map(0u64..3000, prop::collection::btree_set(1u32..4, 1..4), 0..1500),
            stored in prop::collection::vec((1u32..4, 0u64..3000, any::<bool>()), 0..3000),
        ) {
            let table: Vec<ChunkState> =
                table.into_iter().map(|(id, servers)| chunk(id, &servers.into_iter().collect::<Vec<_>>())).collect();
            let mut copies = Copies::default();
            for server in 1..4 {
                copies.registered(server, false);
                let reports: Vec<ChunkReport> = stored.iter().filter(|(s, _, _)| *s == server)
                    .map(|(_, id, bad)| ChunkReport { id: *id, version: 2, bad: *bad, stored_bytes: 0 }).collect();
                copies.part(server, &reports, true, true);
            }
            let standings: HashMap<u32, Standing> = (1..4).map(|server| (server, up())).collect();
            let copies = RwLock::new(copies);
            let found = scan(|from, n| range(&table, from, n), 3, &standings, &copies);
            let copies = copies.read();
            let troubled: HashSet<u64> = table.iter()
                .filter(|c| judge(c, 3, |_| up(), |s| copies.get(s, c.id)).troubled).map(|c| c.id).collect();
            prop_assert_eq!(found.troubled().collect::<HashSet<_>>(), troubled);
            let orphans: HashSet<(u32, u64)> = stored.iter()
                .filter(|(s, id, _)| !table.iter().any(|c| c.id == *id && c.servers.contains(s))).map(|(s, id, _)| (*s, *id)).collect();
            prop_assert_eq!(found.orphans.iter().map(|o| (o.server, o.chunk)).collect::<HashSet<_>>(), orphans);
        }
    }
}
