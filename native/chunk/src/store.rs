//! The public face: which slot holds which chunk, and every operation by chunk. It has no I/O of its own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::crc::piece_crcs;
use base::limits::CHUNK_BYTES;
use base::{Error, Result};
use parking_lot::RwLock;

use crate::copy::Copy;
use crate::counters::{Counters, add};
use crate::disk::Disk;
use crate::env::Env;
use crate::open::{Place, open_places, read_cluster_id, scan_all};
use crate::slot::{Origin, Shared, Slot, check_first_version, missing};
use crate::types::{
    BadBlock, BlockRead, ChunkEntry, ChunkMap, ChunkRef, DiskCondition, DiskInfo, Fill, ScrubCursor, Sender,
    StoreConfig,
};
use crate::write::{check_span, verify};

pub(crate) struct Inner {
    places: Vec<Place>,
    pub(crate) index: RwLock<BTreeMap<u64, Arc<Slot>>>,
    pub(crate) shared: Arc<Shared>,
}

/// The chunks of one chunkserver. Used by many threads through an `Arc`.
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// Open the disks: format empty ones, refuse foreign ones, settle what a crash left. Disks that do not work are
    /// left out with a sentence in `disks()`; an error when none works.
    pub fn open(config: StoreConfig) -> Result<Store> {
        Store::open_in(config, Env::real())
    }

    #[cfg(test)]
    pub(crate) fn open_with(config: StoreConfig, open_slots: usize) -> Result<Store> {
        Store::open_in(config, Env::real().with_open_slots(open_slots))
    }

    /// `open` on simulated disks, `disks[i]` mounted at `config.disks[i]`. Nothing runs by itself, and no clock and no
    /// random number but those of the arguments is used: call `tick` for background work.
    #[cfg(any(test, feature = "sim"))]
    pub fn open_simulated(config: StoreConfig, disks: &[crate::sim::SimDisk], now_ns: i64) -> Result<Store> {
        let env = Env::simulated(&config.disks, disks, now_ns);
        Store::open_in(config, env)
    }

    /// `open` on what `env` names.
    pub fn open_in(config: StoreConfig, env: Env) -> Result<Store> {
        let shared = Arc::new(Shared::new(env));
        let places = open_places(&config, &shared)?;
        let index = scan_all(&places, &shared.env)?;
        let inner = Inner { places, index: RwLock::new(index), shared };
        if inner.open_disks().all(|disk| disk.failed()) {
            let why: Vec<String> = inner.disks().into_iter().map(|disk| disk.state).collect();
            let message = format!("no disk of this chunkserver works: {}", why.join("; "));
            return Err(Error::unavailable(message));
        }
        inner.recover();
        let store = Store { inner: Arc::new(inner) };
        store.flush_lazy();
        Ok(store)
    }

    /// The cluster id the disks carry; None when all are new.
    pub fn read_cluster_id(disks: &[PathBuf]) -> Result<Option<String>> {
        read_cluster_id(disks)
    }

    /// Write `data` at `offset` into the page cache or past it, checked against `crcs` first; see `sync`. Returns the
    /// bytes the chunk then stores. EBADMSG: the data does not match. ENOENT: no such chunk, and not `create`. ESTALE:
    /// the chunk is at a later version, or a later round of the same writer has been here.
    pub fn write(
        &self,
        chunk: ChunkRef,
        sender: Sender,
        offset: u32,
        data: &[u8],
        crcs: &[u8],
        create: bool,
    ) -> Result<u32> {
        check_span(chunk.id, offset, data.len())?;
        verify(chunk.id, offset, data, crcs)?;
        self.put(chunk, sender, offset, data, crcs, create)
    }

    /// Refuse a sender whose later round has been here, without waiting for a disk. For who passes a write on: taking
    /// one decides anew, at the moment its bytes are written.
    pub fn check_sender(&self, chunk_id: u64, sender: Sender) -> Result<()> {
        self.inner.find(chunk_id).map_or(Ok(()), |slot| slot.rounds.check(chunk_id, sender))
    }

    /// `write` for data that was made in this process: there is no sender's checksum to hold it against.
    pub fn write_own(&self, chunk: ChunkRef, offset: u32, data: &[u8], create: bool) -> Result<u32> {
        check_span(chunk.id, offset, data.len())?;
        self.put(chunk, Sender::default(), offset, data, &piece_crcs(offset as usize, data), create)
    }

    fn put(&self, chunk: ChunkRef, sender: Sender, offset: u32, data: &[u8], crcs: &[u8], create: bool) -> Result<u32> {
        self.change(chunk, create, |slot| slot.write(chunk, sender, offset, data, crcs))
    }

    fn change(&self, chunk: ChunkRef, create: bool, act: impl Fn(&Arc<Slot>) -> Result<u32>) -> Result<u32> {
        loop {
            let slot = match self.inner.find(chunk.id) {
                Some(slot) => slot,
                None if create => self.inner.create(chunk)?,
                None => return Err(missing(chunk.id)),
            };
            match slot.check_current().and_then(|()| act(&slot)) {
                Err(error) if error.errno == libc::ENOENT && create && slot.is_gone() => continue,
                Err(error) => {
                    self.inner.drop_unborn(&slot);
                    return Err(error);
                }
                done => return done,
            }
        }
    }

    /// Read the blocks around the span. Absent ones are zeros; a wrong one is EBADMSG and nothing is answered.
    pub fn read(&self, chunk: ChunkRef, offset: u32, length: u32) -> Result<BlockRead> {
        self.inner.with(chunk.id, |slot| slot.read(chunk, offset, length))
    }

    /// Make everything written so far durable. A failure fences the chunk's disk until the store is opened anew.
    pub fn sync(&self, chunk: ChunkRef) -> Result<u32> {
        self.inner.with(chunk.id, |slot| {
            slot.check_version(chunk)?;
            slot.sync()?;
            Ok(slot.stored_bytes())
        })
    }

    /// Make a span a hole, or promise its space: ENOSPC where there is none. Ordered and refused as a write is.
    pub fn fill(
        &self,
        chunk: ChunkRef,
        sender: Sender,
        offset: u32,
        length: u32,
        fill: Fill,
        create: bool,
    ) -> Result<u32> {
        check_span(chunk.id, offset, length as usize)?;
        self.change(chunk, create, |slot| slot.fill(chunk, sender, offset, length, fill))
    }

    /// Zero every byte from `length` on, durably.
    pub fn trim(&self, chunk: ChunkRef, length: u32) -> Result<u32> {
        self.inner.with(chunk.id, |slot| {
            slot.check_version(chunk)?;
            slot.trim(chunk, length)
        })
    }

    /// Raise the stored version durably to the chunk's, so that writers of older ones are refused.
    pub fn fence(&self, chunk: ChunkRef) -> Result<u32> {
        self.inner.with(chunk.id, |slot| {
            slot.check_version(chunk)?;
            slot.advance(chunk.version)?;
            Ok(slot.version())
        })
    }

    /// Fence, and tell what the copy holds, stable: copies that are equal now stay so in a power cut.
    pub fn settle(&self, chunk: ChunkRef) -> Result<ChunkMap> {
        self.fence(chunk)?;
        self.sync(chunk)?;
        self.map(chunk)
    }

    /// Which blocks exist, for a copy.
    pub fn map(&self, chunk: ChunkRef) -> Result<ChunkMap> {
        self.inner.with(chunk.id, |slot| slot.map(chunk))
    }

    /// Start a copy of the chunk that replaces whatever is here when it is finished.
    pub fn begin_copy(&self, chunk: ChunkRef) -> Result<Copy> {
        self.inner.check_newest(chunk)?;
        let disk = self.inner.choose_disk()?;
        disk.settle_if_tight();
        let slot = Arc::new(Slot::new(disk, chunk, Origin::Copy));
        Ok(Copy::new(self.inner.clone(), slot, chunk))
    }

    /// Delete the chunk if its stored version is not newer; whether it was. Works on a full disk.
    pub fn delete(&self, chunk: ChunkRef) -> Result<bool> {
        let slot = {
            let mut index = self.inner.index.write();
            match index.get(&chunk.id) {
                Some(slot) if slot.version() <= chunk.version => index.remove(&chunk.id),
                _ => None,
            }
        };
        let Some(slot) = slot else { return Ok(false) };
        add(&self.inner.shared.counting.deleted, 1);
        match slot.free() {
            Ok(()) => Ok(true),
            // On a disk that takes no writes the files stay; after a restart the chunk is an orphan.
            Err(error) => Err(error.context(format!("deleting chunk {}", chunk.id))),
        }
    }

    /// Every chunk on disks that work.
    pub fn inventory(&self) -> Vec<ChunkEntry> {
        let index = self.inner.index.read();
        let working = index.values().filter(|slot| !slot.disk.failed());
        let entry = |slot: &Arc<Slot>| ChunkEntry {
            id: slot.id,
            version: slot.version(),
            stored_bytes: slot.stored_bytes(),
            disk: slot.disk.index,
            outdated: slot.is_outdated(),
        };
        working.map(entry).collect()
    }

    pub fn disks(&self) -> Vec<DiskInfo> {
        self.inner.disks()
    }

    /// Chunks on disks that failed since the store was opened.
    pub fn lost(&self) -> Vec<u64> {
        let index = self.inner.index.read();
        index.values().filter(|slot| slot.disk.failed()).map(|slot| slot.id).collect()
    }

    /// The file with the chunk's data.
    pub fn locate(&self, id: u64) -> Option<PathBuf> {
        self.inner.find(id).map(|slot| slot.disk.data_path(slot.number))
    }

    /// Verify stored blocks from the cursor on, about `budget_bytes` of them or one round, whichever ends first.
    pub fn scrub_next(&self, cursor: &mut ScrubCursor, budget_bytes: u64) -> Vec<BadBlock> {
        let mut bad = Vec::new();
        let mut done = 0;
        while done < budget_bytes {
            let next = self.inner.next_chunk(cursor.chunk_id);
            let Some(slot) = next else {
                *cursor = ScrubCursor { chunk_id: 0, block: 0, rounds: cursor.rounds + 1 };
                break;
            };
            if slot.id != cursor.chunk_id {
                *cursor = ScrubCursor { chunk_id: slot.id, block: 0, ..*cursor };
            }
            let step = if slot.disk.failed() { None } else { slot.scrub(cursor.block as usize).ok() };
            let go_on = step.as_ref().and_then(|step| step.next);
            if let Some(step) = step {
                done += step.bytes;
                bad.extend(step.bad);
            }
            *cursor = match go_on {
                Some(block) => ScrubCursor { block: block as u32, ..*cursor },
                None => match cursor.chunk_id.checked_add(1) {
                    Some(chunk_id) => ScrubCursor { chunk_id, block: 0, ..*cursor },
                    None => ScrubCursor { chunk_id: 0, block: 0, rounds: cursor.rounds + 1 },
                },
            };
        }
        bad
    }

    /// Background work, to be called about once a second: synced entries turn stable on disk, spare slots are made,
    /// vanished disks are noticed.
    pub fn flush_lazy(&self) {
        for disk in self.inner.open_disks().filter(|disk| !disk.failed()) {
            disk.check_present();
            disk.keep_promises();
            disk.settle_some();
            disk.cool();
            if let Err(error) = disk.make_spares() {
                tracing::debug!(disk = %disk.path.display(), "no spare slots: {error}");
            }
        }
        for slot in self.inner.shared.cache.all() {
            if let Err(error) = slot.flush() {
                tracing::warn!(chunk = slot.id, "cannot note synced blocks as stable: {error}");
            }
        }
    }

    /// A simulated store's second of background work, at this time.
    #[cfg(any(test, feature = "sim"))]
    pub fn tick(&self, now_ns: i64) {
        self.inner.shared.env.tell(now_ns);
        self.flush_lazy();
    }

    pub fn counters(&self) -> Counters {
        self.inner.shared.counting.read()
    }
}

impl Inner {
    pub(crate) fn open_disks(&self) -> impl Iterator<Item = &Arc<Disk>> {
        self.places.iter().filter_map(|place| match place {
            Place::Open(disk) => Some(disk),
            Place::Failed(..) => None,
        })
    }

    fn disks(&self) -> Vec<DiskInfo> {
        let devices: Vec<u64> = self.open_disks().filter_map(|disk| disk.device()).collect();
        let outdated = self.outdated();
        let info = |place: &Place| match place {
            Place::Open(disk) => {
                let room = disk.room().ok();
                let (condition, state) = disk.condition();
                // Directories of one file system share its room: the sum over all of them is what there is.
                let sharing = devices.iter().filter(|device| Some(**device) == disk.device()).count().max(1) as u64;
                DiskInfo {
                    path: disk.path.clone(),
                    total_bytes: room.map_or(0, |room| room.total_bytes / sharing),
                    free_bytes: room.filter(|_| disk.writable()).map_or(0, |room| room.free_bytes / sharing),
                    chunks: disk.chunks.load(Ordering::Relaxed),
                    condition,
                    state,
                    direct_io: disk.probe.wins,
                    outdated: outdated.get(&disk.index).copied().unwrap_or(0),
                }
            }
            Place::Failed(path, why) => DiskInfo {
                path: path.clone(),
                total_bytes: 0,
                free_bytes: 0,
                chunks: 0,
                condition: DiskCondition::Failed,
                state: format!("failed: {why}"),
                direct_io: false,
                outdated: 0,
            },
        };
        self.places.iter().map(info).collect()
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<Slot>> {
        self.index.read().get(&id).cloned()
    }

    fn next_chunk(&self, from: u64) -> Option<Arc<Slot>> {
        self.index.read().range((Bound::Included(from), Bound::Unbounded)).next().map(|(_, slot)| slot.clone())
    }

    /// Run `act` on the chunk's slot; once more when a copy replaced it meanwhile.
    fn with<T>(&self, id: u64, act: impl Fn(&Arc<Slot>) -> Result<T>) -> Result<T> {
        loop {
            let slot = self.find(id).ok_or_else(|| missing(id))?;
            match slot.check_current().and_then(|()| act(&slot)) {
                Err(_) if slot.is_gone() && self.find(id).is_some_and(|now| !Arc::ptr_eq(&now, &slot)) => continue,
                done => return done,
            }
        }
    }

    /// The slot of a new chunk, or the one another thread made first.
    fn create(&self, chunk: ChunkRef) -> Result<Arc<Slot>> {
        check_first_version(chunk)?;
        let disk = self.choose_disk()?;
        disk.settle_if_tight();
        let mut index = self.index.write();
        if let Some(slot) = index.get(&chunk.id) {
            return Ok(slot.clone());
        }
        let slot = Arc::new(Slot::new(disk, chunk, Origin::New));
        index.insert(chunk.id, slot.clone());
        add(&self.shared.counting.created, 1);
        Ok(slot)
    }

    /// Take a chunk out again whose first write failed: it never held a byte.
    fn drop_unborn(&self, slot: &Arc<Slot>) {
        if slot.free_unborn() {
            let mut index = self.index.write();
            if index.get(&slot.id).is_some_and(|held| Arc::ptr_eq(held, slot)) {
                index.remove(&slot.id);
            }
        }
    }

    /// The writable disk with the most room, in chunks; the one with fewer chunks among equals.
    fn choose_disk(&self) -> Result<Arc<Disk>> {
        let (mut best, mut trouble) = (None, None);
        for disk in self.open_disks() {
            if let Err(error) = disk.check_writable() {
                trouble = Some(error);
                continue;
            }
            let rank = (disk.expected_room() / CHUNK_BYTES, Reverse(disk.chunks.load(Ordering::Relaxed)));
            if best.as_ref().is_none_or(|(most, _)| rank > *most) {
                best = Some((rank, disk));
            }
        }
        match (best, trouble) {
            (Some((_, disk)), _) => Ok(disk.clone()),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::unavailable("no disk of this chunkserver works; see its log")),
        }
    }

    /// Refuse a copy older than what is here.
    pub(crate) fn check_newest(&self, chunk: ChunkRef) -> Result<()> {
        match self.find(chunk.id) {
            Some(slot) => slot.check_version(chunk),
            None => check_first_version(chunk),
        }
    }

    /// Make a published copy the chunk; returns what it replaces.
    pub(crate) fn install(&self, slot: &Arc<Slot>, chunk: ChunkRef) -> Result<Option<Arc<Slot>>> {
        let mut index = self.index.write();
        if let Some(held) = index.get(&chunk.id) {
            held.check_version(chunk)?;
        }
        Ok(index.insert(chunk.id, slot.clone()))
    }

    /// Open every slot that was in use when the store stopped, which settles its pending blocks.
    fn recover(&self) {
        let slots: Vec<Arc<Slot>> = self.index.read().values().filter(|slot| slot.needs_recovery()).cloned().collect();
        for slot in slots {
            if let Err(error) = slot.recover() {
                tracing::warn!(chunk = slot.id, "cannot recover: {error}");
            }
        }
    }
}
