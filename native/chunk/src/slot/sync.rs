//! What makes a chunk durable: syncs, the barrier before an overwrite, stable entries, version advances, publishing a
//! copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Result;
use parking_lot::MutexGuard;

use super::{Control, Durable, Files, Origin, Slot, missing};
use crate::counters::add;
use crate::layout::Header;

impl Slot {
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

    pub(super) fn sync_locked(self: &Arc<Slot>) -> Result<()> {
        let (files, written, generation, data, sums) = {
            let mut control = self.control()?;
            if !control.unsynced {
                return self.disk.check_writable();
            }
            self.write_lagging(&mut control)?;
            control.unsynced = false;
            // Asked under the writer's lock, which a barrier holds until its sync has ended: a flag that is down now
            // stands for bytes that are durable, not for a sync on its way.
            let (data, sums) = (self.data_dirty.load(Ordering::Acquire), self.sums_dirty.load(Ordering::Acquire));
            let mut state = self.state.write();
            let Some(loaded) = state.as_mut() else { return Err(missing(self.id)) };
            // Stable in memory from here on, so that an overwrite during the sync is a barrier and never a fresh
            // write; on disk only after the sync.
            control.unflushed |= loaded.table.settle_pending();
            (loaded.files.clone(), control.written, control.header.generation, data, sums)
        };
        add(&self.counting().syncs, 1);
        self.sync_dirty(&files, data, sums)?;
        self.disk.sync_names(self.number)?;
        let mut control = self.control.lock();
        control.durable_pages |= written;
        control.header_stale = true;
        if control.header.generation == generation {
            control.header_durable = Durable::Yes;
        }
        Ok(())
    }

    /// Write the pages that a failed write left behind memory: a sync is to make durable what readers see.
    fn write_lagging(&self, control: &mut Control) -> Result<()> {
        if control.lagging != 0
            && let Some(loaded) = self.state.write().as_mut()
        {
            let files = loaded.files.clone();
            self.write_pages(control, &mut loaded.table, &files, control.lagging)?;
            control.lagging = 0;
        }
        Ok(())
    }

    /// Both files at once: neither needs the other first, as recovery compares pending entries with their data.
    fn sync_dirty(self: &Arc<Slot>, files: &Arc<Files>, data: bool, sums: bool) -> Result<()> {
        let (slot, shared) = (self.clone(), files.clone());
        let sync_data = || self.sync_data(files, "syncing a chunk");
        let sync_sums = move || slot.sync_sums(&shared, "syncing a checksum table");
        match (data, sums) {
            (true, true) => self.disk.shared.beside.both(sync_data, sync_sums),
            (true, false) => sync_data(),
            (false, true) => sync_sums(),
            (false, false) => Ok(()),
        }
    }

    /// Tell the disk which synced entries are stable. Needs no sync of its own: until then recovery compares.
    pub fn flush(self: &Arc<Slot>) -> Result<()> {
        let Some(_one) = self.sync_lock.try_lock() else { return Ok(()) };
        if self.is_gone() || !self.disk.writable() || self.state.read().is_none() {
            return Ok(());
        }
        self.flush_locked()
    }

    pub(super) fn flush_locked(self: &Arc<Slot>) -> Result<()> {
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
        // A chunk that was never synced would take the version with it.
        let put = put.and_then(|()| self.disk.sync_names(self.number));
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
}
