//! From files to an open slot and back: opening, headers, closing, freeing for another chunk.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use base::Result;

use super::{Control, Durable, Files, Loaded, Origin, Slot, read_up_to};
use crate::counters::add;
use crate::layout::{HEADER_SPACE, Header, Headers, PAGES, choose_header, entry_offset};
use crate::recover;
use crate::table::Table;

impl Slot {
    pub(super) fn load(self: &Arc<Slot>, control: &mut Control) -> Result<()> {
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

    pub(super) fn open_files(&self, create: bool) -> Result<Files> {
        let open = |path: PathBuf, create: bool| {
            let opened = self.disk.open_file(self.number, &path, create, false);
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
        // Before anything of the new chunk: else the former one could come back over data that is not its own.
        if control.header_durable == Durable::Unknown {
            self.sync_sums(files, "syncing the free header of a slot")?;
        }
        // From here on the free header is in force until the next one is whole; the other copy may be overwritten.
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
        if !control.header.clean && self.disk.writable() {
            // Before anything says that the data is there: whoever made the files may have been killed before it made
            // their names durable, and a later sync finds nothing left to do.
            self.disk.sync_names(self.number)?;
        }
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

    /// Free the slot for another chunk. Not synced: a deleted chunk that a crash brings back is only an orphan, and
    /// whole, as the slot is used again only when its free header is durable.
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
                self.disk.give_freed(self.number, 0);
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
        let allocated = files.data.allocated_bytes().map_err(|error| self.data_error(&error))?;
        self.disk.give_freed(self.number, allocated);
        Ok(())
    }
}
