//! Which chunk copies each chunkserver says it has: its inventory, kept up by what this leader commits and commands.
//! Ordered by chunk id, so that it can be compared with the committed table slice by slice. Never touches a disk.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use wire::proto::ChunkReport;

/// Chunks one server may report; a corrupt peer cannot fill the leader's memory past it.
const MOST_CHUNKS: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub version: u32,
    pub bad: bool,
}

#[derive(Default)]
struct Inventory {
    /// A whole one has arrived since the server registered.
    known: bool,
    held: BTreeMap<u64, Held>,
    /// Parts of the one on its way.
    arriving: Option<BTreeMap<u64, Held>>,
    /// Copies made since the server registered: an inventory on its way may have been listed before them.
    added: BTreeMap<u64, u32>,
    /// The last entry of the log that changed a copy there.
    changed_at: u64,
}

#[derive(Default)]
pub struct Copies {
    servers: HashMap<u32, Inventory>,
    /// Grows with every change, so that a scan knows whether anything is new.
    pub changes: u64,
}

impl Copies {
    pub fn clear(&mut self) {
        self.servers.clear();
        self.changes += 1;
    }

    /// A server registered. The same start of the same daemon keeps what is known of it until a new inventory is whole.
    pub fn registered(&mut self, server: u32, same_boot: bool) {
        self.changes += 1;
        let inventory = self.servers.entry(server).or_default();
        if !same_boot {
            *inventory = Inventory::default();
        }
        inventory.arriving = None;
        inventory.added.clear();
    }

    /// One part of an inventory. False when a part is missing before it or it is far too long: ask for a new one.
    pub fn part(&mut self, server: u32, reports: &[ChunkReport], first: bool, last: bool) -> bool {
        let Some(inventory) = self.servers.get_mut(&server) else { return false };
        if first {
            inventory.arriving = Some(BTreeMap::new());
        }
        let Some(arriving) = inventory.arriving.as_mut() else { return false };
        arriving.extend(reports.iter().map(|report| (report.id, Held { version: report.version, bad: report.bad })));
        if arriving.len() > MOST_CHUNKS {
            inventory.arriving = None;
            return false;
        }
        if last {
            let mut held = inventory.arriving.take().unwrap_or_default();
            for (chunk, version) in std::mem::take(&mut inventory.added) {
                let entry = held.entry(chunk).or_insert(Held { version, bad: false });
                entry.version = entry.version.max(version);
            }
            inventory.held = held;
            inventory.known = true;
            self.changes += 1;
        }
        true
    }

    /// Every server of a committed write set took this version, by this entry of the log.
    pub fn written(&mut self, server: u32, chunk: u64, version: u32, index: u64) {
        let Some(inventory) = self.servers.get_mut(&server) else { return };
        inventory.changed_at = index;
        let entry = inventory.held.entry(chunk).or_insert(Held { version, bad: false });
        entry.version = entry.version.max(version);
        inventory.added.insert(chunk, version);
        self.changes += 1;
    }

    /// A copy was made anew: whatever was wrong with the old one is gone.
    pub fn healed(&mut self, server: u32, chunk: u64, version: u32, index: u64) {
        let Some(inventory) = self.servers.get_mut(&server) else { return };
        inventory.changed_at = index;
        inventory.held.insert(chunk, Held { version, bad: false });
        inventory.added.insert(chunk, version);
        self.changes += 1;
    }

    /// The server deleted its copy if that was at `version` or below.
    pub fn deleted(&mut self, server: u32, chunk: u64, version: u32) {
        let Some(inventory) = self.servers.get_mut(&server) else { return };
        if inventory.held.get(&chunk).is_some_and(|held| held.version <= version) {
            inventory.held.remove(&chunk);
            inventory.added.remove(&chunk);
            self.changes += 1;
        }
    }

    /// The server found a copy bad, or lost it with a disk (`bad` not set).
    pub fn reported(&mut self, server: u32, report: &ChunkReport) {
        let Some(inventory) = self.servers.get_mut(&server) else { return };
        self.changes += 1;
        inventory.added.remove(&report.id);
        if report.bad {
            inventory.held.insert(report.id, Held { version: report.version, bad: true });
        } else {
            inventory.held.remove(&report.id);
        }
    }

    pub fn forget(&mut self, server: u32) {
        self.servers.remove(&server);
        self.changes += 1;
    }

    pub fn changed_at(&self, server: u32) -> u64 {
        self.servers.get(&server).map_or(0, |inventory| inventory.changed_at)
    }

    pub fn is_known(&self, server: u32) -> bool {
        self.servers.get(&server).is_some_and(|inventory| inventory.known)
    }

    pub fn get(&self, server: u32, chunk: u64) -> Option<Held> {
        self.servers.get(&server)?.held.get(&chunk).copied()
    }

    /// Every server that has a copy, in order.
    pub fn holders(&self, chunk: u64) -> Vec<(u32, Held)> {
        let found = self.servers.iter().filter_map(|(server, inventory)| Some((*server, *inventory.held.get(&chunk)?)));
        let mut holders: Vec<(u32, Held)> = found.collect();
        holders.sort_unstable_by_key(|(server, _)| *server);
        holders
    }

    pub fn count(&self, server: u32) -> usize {
        self.servers.get(&server).map_or(0, |inventory| inventory.held.len())
    }

    /// The known inventories within `ids`, at most `most` entries each. The second value is the last id up to which
    /// all of them are complete.
    pub fn slice(&self, ids: RangeInclusive<u64>, most: usize) -> (Slices, u64) {
        let mut end = *ids.end();
        let mut slices = Vec::new();
        for (server, inventory) in self.servers.iter().filter(|(_, inventory)| inventory.known) {
            let held: Vec<(u64, Held)> =
                inventory.held.range(ids.clone()).map(|(id, held)| (*id, *held)).take(most).collect();
            if held.len() == most {
                end = end.min(held[most - 1].0);
            }
            slices.push((*server, held));
        }
        for (_, held) in &mut slices {
            held.truncate(held.partition_point(|(id, _)| *id <= end));
        }
        slices.sort_unstable_by_key(|(server, _)| *server);
        (slices, end)
    }
}

/// Per server with a known inventory, its copies in order of chunk id.
pub type Slices = Vec<(u32, Vec<(u64, Held)>)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: u64, version: u32) -> ChunkReport {
        ChunkReport { id, version, bad: false, stored_bytes: 0 }
    }

    #[test]
    fn an_inventory_counts_only_when_it_is_whole() {
        let mut copies = Copies::default();
        copies.registered(1, false);
        assert!(copies.part(1, &[report(1, 1)], true, false));
        assert!(!copies.is_known(1));
        assert!(copies.part(1, &[report(2, 1)], false, true));
        assert!(copies.is_known(1) && copies.get(1, 1).is_some() && copies.get(1, 2).is_some());
    }

    #[test]
    fn a_part_without_its_first_is_refused() {
        let mut copies = Copies::default();
        copies.registered(1, false);
        assert!(!copies.part(1, &[report(1, 1)], false, true));
        assert!(!copies.is_known(1));
    }

    #[test]
    fn a_chunk_written_while_the_inventory_travels_is_not_missing() {
        let mut copies = Copies::default();
        copies.registered(1, false);
        copies.part(1, &[report(1, 1)], true, false);
        copies.written(1, 7, 3, 40);
        copies.part(1, &[], false, true);
        assert_eq!(copies.get(1, 7), Some(Held { version: 3, bad: false }));
    }

    #[test]
    fn a_write_does_not_mend_a_bad_copy_and_healing_does() {
        let mut copies = Copies::default();
        copies.registered(1, false);
        copies.reported(1, &ChunkReport { bad: true, ..report(1, 1) });
        copies.written(1, 1, 2, 40);
        assert!(copies.get(1, 1).unwrap().bad);
        copies.healed(1, 1, 3, 41);
        assert!(!copies.get(1, 1).unwrap().bad);
    }

    #[test]
    fn a_copy_newer_than_its_delete_stays() {
        let mut copies = Copies::default();
        copies.registered(1, false);
        copies.part(1, &[report(1, 5), report(2, 4)], true, true);
        copies.deleted(1, 1, 4);
        copies.deleted(1, 2, 4);
        assert_eq!((copies.get(1, 1), copies.get(1, 2)), (Some(Held { version: 5, bad: false }), None));
    }

    #[test]
    fn slices_end_where_the_longest_one_was_cut() {
        let mut copies = Copies::default();
        for server in [1, 2] {
            copies.registered(server, false);
        }
        copies.part(1, &(1..=9).map(|id| report(id, 1)).collect::<Vec<_>>(), true, true);
        copies.part(2, &[report(3, 1), report(8, 1)], true, true);
        let (slices, end) = copies.slice(0..=u64::MAX, 4);
        assert_eq!(end, 4);
        assert_eq!(slices[0].1.len(), 4);
        assert_eq!(slices[1].1.iter().map(|(id, _)| *id).collect::<Vec<_>>(), vec![3]);
    }
}
