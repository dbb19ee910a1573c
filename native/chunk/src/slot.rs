//! One chunk's files and its locks: opening, headers, syncing, making stable, version advances, freeing.
//!
//! Locks, always taken in this order: `sync_lock` (one sync, flush or advance at a time), `control` (one writer; what
//! the disk's table and header say), `state` (memory's table; shared by readers, exclusive while data and table move
//! together). Only `sync_lock` and, for barriers, `control` are held across an fsync: readers go on.
//!
//! Invariants: an entry is stable on disk only after its data was synced; the header copy overwritten next is never
//! the only durable one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use base::time::wall_ns;
use base::{Error, Result};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::cache::Cache;
use crate::counters::{Counting, add};
use crate::disk::{Disk, Part};
use crate::layout::{HEADER_SPACE, Header, Headers, PAGES, choose_header, entry_offset};
use crate::recover;
use crate::table::Table;
use crate::types::ChunkRef;

/// What all parts of a store share.
pub(crate) struct Shared {
    pub counting: Counting,
    pub cache: Cache,
    incarnation: AtomicU64,
}

impl Shared {
    pub fn new(open_slots: usize) -> Shared {
        Shared { counting: Counting::default(), cache: Cache::new(open_slots), incarnation: AtomicU64::new(0) }
    }

    /// Remember an incarnation found on disk.
    pub fn saw_incarnation(&self, incarnation: u64) {
        self.incarnation.fetch_max(incarnation, Ordering::Relaxed);
    }

    /// A number above all before, also above those that a crash took off the disks: the clock is the floor.
    fn next_incarnation(&self) -> u64 {
        let now = u64::try_from(wall_ns()).unwrap_or(0);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        self.incarnation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| now.max(last + 1))
    }
}

/// Open files of a slot.
pub(crate) struct Files {
    pub data: File,
    pub sums: File,
    direct: OnceLock<Option<File>>,
}

impl Files {
    /// The data file past the page cache, opened at its first use; None where that does not work.
    pub fn direct(&self, slot: &Slot) -> Option<&File> {
        let open = || slot.disk.open_file(&slot.disk.data_path(slot.number), false, libc::O_DIRECT).ok();
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
    /// Found at open: maybe only in the page cache.
    Unknown,
}

/// What the writer knows about the slot's table file.
pub(crate) struct Control {
    pub origin: Origin,
    pub header: Header,
    /// Which copy holds `header`.
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
    header_stale: bool,
    folder_durable: bool,
}

pub(crate) struct Slot {
    pub disk: Arc<Disk>,
    pub number: u64,
    pub id: u64,
    pub version: AtomicU32,
    /// Present blocks: exact once the table was read.
    pub present: AtomicU32,
    pub incarnation: u64,
    gone: AtomicBool,
    /// Has, or had when it was found, something written.
    born: AtomicBool,
    /// Used since the cache last looked.
    pub touched: AtomicBool,
    sync_lock: Mutex<()>,
    control: Mutex<Control>,
    state: RwLock<Option<Loaded>>,
}

impl Slot {
    /// A chunk that the scan found.
    pub fn stored(disk: Arc<Disk>, header: Header, at: u8) -> Slot {
        Slot::with(disk, Origin::Stored, header, at)
    }

    /// A chunk to be made on `disk`; its files are opened at the first use.
    pub fn new(disk: Arc<Disk>, chunk: ChunkRef, origin: Origin) -> Slot {
        let number = disk.take_slot();
        disk.promise(CHUNK_BYTES);
        let header = Header {
            used: true,
            clean: false,
            chunk_id: chunk.id,
            version: chunk.version,
            incarnation: disk.shared.next_incarnation(),
            ..Header::free(number, disk.uuid, 0)
        };
        Slot::with(disk, origin, header, 0)
    }

    fn with(disk: Arc<Disk>, origin: Origin, header: Header, at: u8) -> Slot {
        disk.add_chunks(1);
        let control = Control {
            origin,
            header,
            at,
            header_durable: Durable::Unknown,
            written: 0,
            durable_pages: header.pages,
            unsynced: false,
            unflushed: 0,
            header_stale: false,
            folder_durable: origin == Origin::Stored,
        };
        Slot {
            number: header.slot,
            id: header.chunk_id,
            version: AtomicU32::new(header.version),
            present: AtomicU32::new(header.present),
            incarnation: header.incarnation,
            gone: AtomicBool::new(false),
            born: AtomicBool::new(origin == Origin::Stored),
            touched: AtomicBool::new(false),
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
            )));
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

    fn load(self: &Arc<Slot>, control: &mut Control) -> Result<()> {
        add(&self.counting().opened, 1);
        let create = control.origin != Origin::Stored;
        if create {
            self.disk.check_writable()?;
        }
        let files = Arc::new(self.open_files(create)?);
        let table = match control.origin {
            Origin::Stored => self.read_table(control, &files)?,
            Origin::New | Origin::Copy => self.occupy(control, &files)?,
        };
        self.present.store(table.present(), Ordering::Relaxed);
        *self.state.write() = Some(Loaded { files, table });
        Ok(())
    }

    fn open_files(&self, create: bool) -> Result<Files> {
        let open = |path: PathBuf, create: bool| {
            let opened = self.disk.open_file(&path, create, 0);
            opened.map_err(|error| self.disk.error(&format!("opening {}", path.display()), &error))
        };
        let sums = open(self.disk.sums_path(self.number), create)?;
        // Also made when missing: a crash may take the name of a never synced file. What was in it fails its check.
        let data = open(self.disk.data_path(self.number), true)?;
        Ok(Files { data, sums, direct: OnceLock::new() })
    }

    /// Put the chunk into a free slot. Nothing is synced: until the first sync the chunk may vanish in a crash.
    fn occupy(&self, control: &mut Control, files: &Files) -> Result<Table> {
        let mut bytes = [0; 2 * HEADER_SPACE as usize];
        let length = read_up_to(&files.sums, &mut bytes, 0).map_err(|error| self.table_error(&error))?;
        if let Headers::Found(old, at) = choose_header(&bytes[..length], self.number, &self.disk.uuid) {
            control.header.generation = old.generation;
            control.at = at;
        } else {
            control.at = 1;
        }
        // A free header is nothing to keep: the other copy may be overwritten.
        control.header_durable = Durable::Yes;
        if control.origin == Origin::New {
            self.write_header(control, files)?;
            control.origin = Origin::Stored;
        }
        control.unsynced = true;
        Ok(Table::new(control.header.key()))
    }

    /// Read the table and settle what a crash left pending. The settled state is synced before it counts as stable.
    fn read_table(&self, control: &mut Control, files: &Files) -> Result<Table> {
        let found = recover::read_table(&control.header, files).map_err(|error| self.table_error(&error))?;
        let counting = self.counting();
        add(&counting.recovered_whole, found.whole);
        add(&counting.recovered_absent, found.absent);
        add(&counting.recovered_torn, found.torn);
        let mut table = found.table;
        control.written = control.header.pages;
        control.durable_pages = control.header.pages;
        if found.changed_pages != 0 && self.disk.writable() {
            self.sync_data(files, "recovering a chunk")?;
            self.write_pages(control, &mut table, files, found.changed_pages)?;
            self.sync_sums(files, "recovering a chunk")?;
            control.header_durable = Durable::Yes;
            control.durable_pages = control.written;
        }
        if !control.header.clean && self.disk.writable() {
            control.header.clean = true;
            control.header.pages = control.durable_pages;
            control.header.present = table.present();
            self.write_header(control, files)?;
        }
        Ok(table)
    }

    pub fn table_error(&self, error: &io::Error) -> Error {
        self.disk.error(&format!("checksum table of chunk {}", self.id), error)
    }

    pub fn data_error(&self, error: &io::Error) -> Error {
        self.disk.error(&format!("data of chunk {}", self.id), error)
    }

    // ---- the two files ----

    pub fn put_data(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.put((self.number, Part::Data), file, bytes, offset)
    }

    pub fn put_sums(&self, files: &Files, bytes: &[u8], offset: u64) -> Result<()> {
        let put = self.disk.put((self.number, Part::Sums), &files.sums, bytes, offset);
        put.map_err(|error| self.table_error(&error))
    }

    fn sync_data(&self, files: &Files, doing: &str) -> Result<()> {
        self.disk.sync((self.number, Part::Data), &files.data, doing)
    }

    fn sync_sums(&self, files: &Files, doing: &str) -> Result<()> {
        self.disk.sync((self.number, Part::Sums), &files.sums, doing)
    }

    /// Write the header into a copy that is not the only durable one.
    pub fn write_header(&self, control: &mut Control, files: &Files) -> Result<()> {
        if control.header_durable == Durable::Unknown {
            self.sync_sums(files, "syncing a header")?;
            control.header_durable = Durable::Yes;
        }
        let at = if control.header_durable == Durable::Yes { 1 - control.at } else { control.at };
        control.header.generation += 1;
        self.put_sums(files, &control.header.encode(), u64::from(at) * HEADER_SPACE)?;
        control.at = at;
        control.header_durable = Durable::No;
        control.header_stale = false;
        Ok(())
    }

    pub fn write_pages(&self, control: &mut Control, table: &mut Table, files: &Files, pages: u32) -> Result<()> {
        for page in (0..PAGES).filter(|page| pages & 1 << page != 0) {
            let at = entry_offset(control.header.area, page * crate::layout::PAGE_ENTRIES);
            self.put_sums(files, &table.page_bytes(page), at)?;
            control.written |= 1 << page;
        }
        Ok(())
    }

    /// Say in the header that pending entries may follow, before the first one does.
    pub fn mark_dirty(&self, control: &mut Control, files: &Files) -> Result<()> {
        if control.header.clean && control.origin == Origin::Stored {
            control.header.clean = false;
            self.write_header(control, files).inspect_err(|_| control.header.clean = true)?;
        }
        Ok(())
    }

    /// Make all table bytes written so far durable before data is overwritten in place.
    pub fn barrier(&self, control: &mut Control, files: &Files) -> Result<()> {
        add(&self.counting().barriers, 1);
        self.sync_sums(files, "syncing a checksum table before an overwrite")?;
        control.header_durable = Durable::Yes;
        control.durable_pages = control.written;
        Ok(())
    }

    // ---- durability ----

    /// Keep syncs, flushes and advances out.
    pub fn lock_syncs(&self) -> MutexGuard<'_, ()> {
        self.sync_lock.lock()
    }

    /// Make everything written before the call durable.
    pub fn sync(self: &Arc<Slot>) -> Result<()> {
        let _one = self.sync_lock.lock();
        self.sync_locked()
    }

    fn sync_locked(self: &Arc<Slot>) -> Result<()> {
        let (files, written, generation, folder) = {
            let mut control = self.control()?;
            if !control.unsynced {
                return self.disk.check_writable();
            }
            control.unsynced = false;
            let mut state = self.state.write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            // Stable in memory from here on, so that an overwrite during the sync is a barrier and never a fresh
            // write; on disk only after the sync.
            control.unflushed |= loaded.table.settle_pending();
            (loaded.files.clone(), control.written, control.header.generation, !control.folder_durable)
        };
        add(&self.counting().syncs, 1);
        self.sync_data(&files, "syncing a chunk")?;
        self.sync_sums(&files, "syncing a checksum table")?;
        if folder {
            self.disk.sync_folder(self.number)?;
        }
        let mut control = self.control.lock();
        control.folder_durable = true;
        control.durable_pages |= written;
        control.header_stale = true;
        if control.header.generation == generation {
            control.header_durable = Durable::Yes;
        }
        Ok(())
    }

    /// Tell the disk which synced entries are stable. Needs no sync of its own: until then recovery compares.
    pub fn flush(self: &Arc<Slot>) -> Result<()> {
        let Some(_one) = self.sync_lock.try_lock() else { return Ok(()) };
        if self.is_gone() || !self.disk.writable() || self.state.read().is_none() {
            return Ok(());
        }
        self.flush_locked()
    }

    fn flush_locked(self: &Arc<Slot>) -> Result<()> {
        let mut control = self.control()?;
        if (control.unflushed == 0 && !control.header_stale) || control.origin != Origin::Stored {
            return Ok(());
        }
        let (files, clean, present) = {
            let mut state = self.state.write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            let files = loaded.files.clone();
            let pages = control.unflushed;
            self.write_pages(&mut control, &mut loaded.table, &files, pages)?;
            (files, !loaded.table.has_pending(), loaded.table.present())
        };
        control.unflushed = 0;
        control.header.clean = clean;
        control.header.pages = control.durable_pages;
        control.header.present = present;
        self.write_header(&mut control, &files)
    }

    /// Raise the version durably: the retagged table goes to the other area, then the header flips to it.
    pub fn advance(self: &Arc<Slot>, version: u32) -> Result<()> {
        let _one = self.sync_lock.lock();
        let mut control = self.control()?;
        if version <= self.version() {
            return Ok(());
        }
        self.disk.check_writable()?;
        add(&self.counting().advances, 1);
        let header = Header { version, area: 1 - control.header.area, ..control.header };
        let (files, mut table) = {
            let state = self.state.read();
            let Some(loaded) = state.as_ref() else { return Err(missing(self.id)) };
            (loaded.files.clone(), loaded.table.retagged(header.key()))
        };
        let before = (control.header, control.written);
        control.header = header;
        control.written = 0;
        let pages = table.touched();
        let put = self.write_pages(&mut control, &mut table, &files, pages);
        let put = put.and_then(|()| self.sync_sums(&files, "syncing a checksum table"));
        if let Err(error) = put {
            (control.header, control.written) = before;
            return Err(error);
        }
        // That sync also made the header in force durable.
        control.header_durable = Durable::Yes;
        control.header.pages = control.written;
        control.header.present = table.present();
        control.header.clean = !table.has_pending();
        let flipped = self.write_header(&mut control, &files);
        let flipped = flipped.and_then(|()| self.sync_sums(&files, "syncing a header"));
        if let Err(error) = flipped {
            // Old or new, nobody knows: no more writes until the next open reads it.
            self.disk.fence(format!("cannot tell the version of chunk {} on disk: {error}", self.id));
            return Err(error);
        }
        control.header_durable = Durable::Yes;
        control.durable_pages = control.written;
        control.unflushed = 0;
        // The other copy still names the version before; the next flush levels it.
        control.header_stale = true;
        if let Some(loaded) = self.state.write().as_mut() {
            loaded.table = table;
        }
        self.version.store(version, Ordering::Release);
        Ok(())
    }

    /// Give a finished copy its header; from here on the slot holds the chunk, also after a crash.
    pub fn publish(self: &Arc<Slot>) -> Result<()> {
        self.sync()?;
        let _one = self.sync_lock.lock();
        let mut control = self.control()?;
        let files = {
            let mut state = self.state.write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            let files = loaded.files.clone();
            let pages = loaded.table.touched();
            self.write_pages(&mut control, &mut loaded.table, &files, pages)?;
            control.header.present = loaded.table.present();
            files
        };
        self.sync_sums(&files, "syncing a copied checksum table")?;
        control.header.pages = control.written;
        control.header.clean = true;
        control.origin = Origin::Stored;
        control.header_durable = Durable::Yes;
        self.write_header(&mut control, &files)?;
        self.sync_sums(&files, "syncing the header of a copied chunk")?;
        control.header_durable = Durable::Yes;
        control.durable_pages = control.written;
        control.unflushed = 0;
        control.header_stale = true;
        Ok(())
    }

    // ---- closing ----

    /// Close the files if nobody uses them; whether that was done. Unsynced data is synced first, so that an open
    /// slot is the only place where the outcome of an fsync can be missed.
    pub fn unload(self: &Arc<Slot>) -> bool {
        let Some(_one) = self.sync_lock.try_lock() else { return false };
        if self.is_gone() || self.state.read().is_none() {
            return true;
        }
        // An unfinished copy would be lost: only its owner knows what its slot holds.
        if self.control.try_lock().is_none_or(|control| control.origin != Origin::Stored) {
            return false;
        }
        if self.disk.writable() && (self.sync_locked().is_err() || self.flush_locked().is_err()) {
            return false;
        }
        let Some(control) = self.control.try_lock() else { return false };
        let Some(mut state) = self.state.try_write() else { return false };
        if control.unsynced || control.unflushed != 0 || control.origin != Origin::Stored {
            return false;
        }
        *state = None;
        add(&self.counting().evicted, 1);
        true
    }

    /// Note the first successful write; the caller holds the writer's lock.
    pub fn set_born(&self) {
        self.born.store(true, Ordering::Release);
    }

    /// Free the slot for another chunk. Not synced: a deleted chunk that a crash brings back is only an orphan.
    pub fn free(&self) -> Result<()> {
        let _one = self.sync_lock.lock();
        let mut control = self.control.lock();
        self.free_locked(&mut control)
    }

    /// Free a new slot whose first write failed, unless another write succeeded meanwhile; whether it is free.
    pub fn free_unborn(&self) -> bool {
        if self.born.load(Ordering::Acquire) {
            return false;
        }
        let _one = self.sync_lock.lock();
        let mut control = self.control.lock();
        if self.born.load(Ordering::Acquire) || self.is_gone() {
            return false;
        }
        if let Err(error) = self.free_locked(&mut control) {
            tracing::debug!(chunk = self.id, "freeing a slot after a failed first write: {error}");
        }
        true
    }

    /// The chunk is gone from here on; the slot becomes free unless its disk refuses.
    fn free_locked(&self, control: &mut Control) -> Result<()> {
        if self.gone.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.disk.add_chunks(-1);
        let loaded = self.state.write().take();
        self.disk.check_writable()?;
        let files = match loaded {
            Some(loaded) => loaded.files,
            // Never used: no file says anything.
            None if control.origin != Origin::Stored => {
                self.disk.give_slot(self.number, 0);
                return Ok(());
            }
            None => Arc::new(self.open_files(false)?),
        };
        if control.origin == Origin::Stored {
            let generation = control.header.generation;
            control.header = Header::free(self.number, self.disk.uuid, generation);
            // Which copy survives a crash does not matter any more.
            control.header_durable = Durable::Yes;
            self.write_header(control, &files)?;
        }
        let allocated = allocated_bytes(&files.data).map_err(|error| self.data_error(&error))?;
        let warm = self.disk.warm_allowance(allocated);
        if warm == 0 {
            self.disk.put_length((self.number, Part::Data), &files.data, 0).map_err(|error| self.data_error(&error))?;
        }
        self.disk.give_slot(self.number, warm);
        Ok(())
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

pub(crate) fn allocated_bytes(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.blocks() * 512)
}

/// Read until the buffer is full or the file ends.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
