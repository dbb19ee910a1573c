//! One chunk's files and its locks; `open` has opening, headers and freeing, `sync` what makes durable.
//!
//! Locks, always taken in this order: `sync_lock` (one sync, flush or advance at a time), `control` (one writer; what
//! the disk's table and header say), `state` (memory's table; shared by readers, exclusive while data and table move
//! together). Only `sync_lock` and, for barriers, `control` are held across an fsync: readers go on.
//!
//! Invariants: an entry is stable on disk only after its data was synced; the header copy overwritten next is never
//! the only durable one.

mod open;
mod sync;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::{Error, Reason, Result};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::beside::Beside;
use crate::cache::Cache;
use crate::counters::Counting;
use crate::disk::Disk;
use crate::env::Env;
use crate::fs::FileHandle;
use crate::layout::Header;
use crate::rounds::Rounds;
use crate::table::Table;
use crate::types::ChunkRef;

/// What all parts of a store share.
pub(crate) struct Shared {
    pub env: Env,
    pub counting: Counting,
    pub cache: Cache,
    pub beside: Beside,
    incarnation: AtomicU64,
}

impl Shared {
    pub fn new(env: Env) -> Shared {
        Shared {
            counting: Counting::default(),
            cache: Cache::new(env.open_slots),
            beside: Beside::start(env.hands),
            incarnation: AtomicU64::new(0),
            env,
        }
    }

    /// Remember an incarnation found on disk.
    pub fn saw_incarnation(&self, incarnation: u64) {
        self.incarnation.fetch_max(incarnation, Ordering::Relaxed);
    }

    /// The highest one so far.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// A number above all before, also above those that a crash took off the disks: the clock is the floor.
    fn next_incarnation(&self) -> u64 {
        let now = u64::try_from(self.env.clock.wall_ns()).unwrap_or(0);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        self.incarnation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
    }
}

/// Open files of a slot.
pub(crate) struct Files {
    pub data: FileHandle,
    pub sums: FileHandle,
    direct: OnceLock<Option<FileHandle>>,
}

impl Files {
    /// The data file past the page cache, opened at its first use; None where that does not work.
    pub fn direct(&self, slot: &Slot) -> Option<&FileHandle> {
        let open = || slot.disk.open_file(slot.number, &slot.disk.data_path(slot.number), false, true).ok();
        self.direct.get_or_init(|| slot.disk.probe.works.then(open).flatten()).as_ref()
    }
}

pub(crate) struct Loaded {
    pub files: Arc<Files>,
    pub table: Table,
}

/// How the slot came to hold its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The header on disk names the chunk.
    Stored,
    /// To be written into a free slot at first use.
    New,
    /// As `New`, but without a header until the copy is whole.
    Copy,
}

/// What is known of the header last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    Yes,
    /// The other copy is the durable one.
    No,
    /// Found at open, or a free one written lately: maybe only in the page cache.
    Unknown,
}

/// What the writer knows about the slot's table file.
pub(crate) struct Control {
    pub origin: Origin,
    pub header: Header,
    /// Which copy holds `header`; before the first use of a slot, its free header.
    at: u8,
    header_durable: Durable,
    /// Pages of the area that the disk has whole, by bit.
    pub written: u32,
    /// Those of them that are durable.
    durable_pages: u32,
    /// Something was written since the last sync.
    pub unsynced: bool,
    /// Pages whose stable entries the disk has as pending, by bit.
    unflushed: u32,
    /// Pages where the disk may lack what memory says, since writing it failed, by bit; written before the next sync.
    pub lagging: u32,
    header_stale: bool,
}

/// A request whose version is further ahead of the stored one is nonsense, and taking it would shut out everybody else
/// for ever. Masters raise a version by one each time, and may do so without asking a server that is down: smaller,
/// and a server that comes back after very long is refused.
const MAX_VERSIONS_AHEAD: u32 = 1 << 24;
/// A chunk may begin at any version below: half of the numbers stay for its life.
const MAX_FIRST_VERSION: u32 = 1 << 31;

/// Refuse a version at which no chunk begins.
pub(crate) fn check_first_version(chunk: ChunkRef) -> Result<()> {
    if chunk.version < MAX_FIRST_VERSION {
        return Ok(());
    }
    let message = format!("no chunk begins at version {}; chunk {} is not here", chunk.version, chunk.id);
    Err(Error::namespace(libc::EINVAL, message))
}

pub(crate) struct Slot {
    pub disk: Arc<Disk>,
    pub number: u64,
    pub id: u64,
    pub version: AtomicU32,
    /// Present blocks: exact once the table was read.
    pub present: AtomicU32,
    pub incarnation: u64,
    /// Taken last of all locks.
    pub rounds: Rounds,
    gone: AtomicBool,
    /// Has, or had when it was found, something written.
    born: AtomicBool,
    /// Used since the cache last looked.
    pub touched: AtomicBool,
    /// Set after each write to the file, cleared before each sync of it: without, a sync has nothing to do.
    data_dirty: AtomicBool,
    sums_dirty: AtomicBool,
    sync_lock: Mutex<()>,
    control: Mutex<Control>,
    state: RwLock<Option<Loaded>>,
}

impl Slot {
    /// A chunk that the scan found.
    pub fn stored(disk: Arc<Disk>, header: Header, at: u8) -> Slot {
        Slot::with(disk, Origin::Stored, header, at, Durable::Unknown)
    }

    /// A chunk to be made on `disk`; its files are opened at the first use.
    pub fn new(disk: Arc<Disk>, chunk: ChunkRef, origin: Origin) -> Slot {
        let taken = disk.take_slot();
        disk.promise(CHUNK_BYTES);
        let header = Header {
            used: true,
            clean: false,
            chunk_id: chunk.id,
            version: chunk.version,
            incarnation: disk.shared.next_incarnation(),
            ..Header::free(taken.number, disk.uuid, 0)
        };
        let free_header = if taken.durably_free { Durable::Yes } else { Durable::Unknown };
        Slot::with(disk, origin, header, 0, free_header)
    }

    fn with(disk: Arc<Disk>, origin: Origin, header: Header, at: u8, header_durable: Durable) -> Slot {
        disk.add_chunks(1);
        let control = Control {
            origin,
            header,
            at,
            header_durable,
            written: 0,
            durable_pages: header.pages,
            unsynced: false,
            unflushed: 0,
            lagging: 0,
            header_stale: false,
        };
        Slot {
            number: header.slot,
            id: header.chunk_id,
            version: AtomicU32::new(header.version),
            present: AtomicU32::new(header.present),
            incarnation: header.incarnation,
            rounds: Rounds::default(),
            gone: AtomicBool::new(false),
            born: AtomicBool::new(origin == Origin::Stored),
            touched: AtomicBool::new(false),
            // Whoever had the files open before may not have synced them.
            data_dirty: AtomicBool::new(true),
            sums_dirty: AtomicBool::new(true),
            sync_lock: Mutex::new(()),
            control: Mutex::new(control),
            state: RwLock::new(None),
            disk,
        }
    }

    pub fn counting(&self) -> &Counting {
        &self.disk.shared.counting
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    pub fn stored_bytes(&self) -> u32 {
        self.present.load(Ordering::Relaxed) * BLOCK_BYTES as u32
    }

    pub fn chunk(&self) -> ChunkRef {
        ChunkRef { id: self.id, version: self.version() }
    }

    pub fn check_version(&self, chunk: ChunkRef) -> Result<()> {
        let stored = self.version();
        if chunk.version < stored {
            return Err(Error::stale(format!(
                "chunk {} is at version {stored}, newer than {}; refresh the chunk map",
                chunk.id, chunk.version
            ))
            .because(Reason::ChunkMoved));
        }
        if chunk.version - stored > MAX_VERSIONS_AHEAD {
            return Err(Error::namespace(
                libc::EINVAL,
                format!(
                    "version {} of chunk {} is too far ahead of the stored {stored} to be one that masters gave",
                    chunk.version, chunk.id
                ),
            ));
        }
        Ok(())
    }

    // ---- opening ----

    /// The writer's lock with the slot open.
    pub fn control(self: &Arc<Slot>) -> Result<MutexGuard<'_, Control>> {
        let mut control = self.control.lock();
        if self.is_gone() {
            return Err(missing(self.id));
        }
        self.touched.store(true, Ordering::Relaxed);
        if self.state.read().is_none() {
            self.load(&mut control)?;
            self.disk.shared.cache.admit(self);
        }
        Ok(control)
    }

    /// Shared access to the open slot.
    pub fn read_state(self: &Arc<Slot>) -> Result<RwLockReadGuard<'_, Option<Loaded>>> {
        loop {
            let state = self.state.read();
            if self.is_gone() {
                return Err(missing(self.id));
            }
            if state.is_some() {
                self.touched.store(true, Ordering::Relaxed);
                return Ok(state);
            }
            drop(state);
            drop(self.control()?);
        }
    }

    /// Shared access under the writer's lock.
    pub fn state(&self) -> &RwLock<Option<Loaded>> {
        &self.state
    }

    pub fn table_error(&self, error: &io::Error) -> Error {
        self.disk.error(&format!("checksum table of chunk {}", self.id), error)
    }

    pub fn data_error(&self, error: &io::Error) -> Error {
        self.disk.error(&format!("data of chunk {}", self.id), error)
    }

    // ---- the two files ----

    pub fn put_data(&self, file: &FileHandle, bytes: &[u8], offset: u64) -> io::Result<()> {
        let put = file.pwrite(bytes, offset);
        self.data_dirty.store(true, Ordering::Release);
        put
    }

    pub fn put_zeros(&self, file: &FileHandle, from: u64, length: u64) -> io::Result<()> {
        let put = file.zero_range(from, length);
        self.data_dirty.store(true, Ordering::Release);
        put
    }

    pub fn put_sums(&self, files: &Files, bytes: &[u8], offset: u64) -> Result<()> {
        let put = files.sums.pwrite(bytes, offset);
        self.sums_dirty.store(true, Ordering::Release);
        put.map_err(|error| self.table_error(&error))
    }

    fn sync_data(&self, files: &Files, doing: &str) -> Result<()> {
        self.data_dirty.store(false, Ordering::Release);
        self.disk.sync(&files.data, doing)
    }

    fn sync_sums(&self, files: &Files, doing: &str) -> Result<()> {
        self.sums_dirty.store(false, Ordering::Release);
        self.disk.sync(&files.sums, doing)
    }

    // ---- recovery ----

    pub fn needs_recovery(&self) -> bool {
        !self.control.lock().header.clean
    }

    /// Open the slot, which settles what a crash left pending.
    pub fn recover(self: &Arc<Slot>) -> Result<()> {
        self.control().map(drop)
    }
}

pub(crate) fn missing(id: u64) -> Error {
    Error::namespace(libc::ENOENT, format!("chunk {id} is not on this server; refresh the chunk map"))
}

/// Read until the buffer is full or the file ends.
pub(crate) fn read_up_to(file: &FileHandle, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.pread(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
