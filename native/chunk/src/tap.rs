//! Tests only: a journal of everything written to a disk's slots, and failures on demand.

use std::io;

use parking_lot::Mutex;

use crate::disk::Place;
use crate::fs::FileHandle;

#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
    Hole(u64, u64),
    Synced,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub place: Place,
    pub change: Change,
}

/// What the next operations do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Writes to this part still allowed before one fails.
    pub after_writes: Option<(crate::disk::Part, u32)>,
    /// Syncs still allowed before one fails.
    pub after_syncs: Option<u32>,
    pub errno: i32,
    /// Bytes that a failing write still puts.
    pub short_bytes: usize,
    /// Fail on and on, as a full disk does, instead of once.
    pub stay: bool,
}

#[derive(Default)]
pub struct Tap {
    pub journal: Mutex<Option<Vec<Event>>>,
    pub fault: Mutex<Fault>,
}

impl Tap {
    pub fn note(&self, place: Place, change: Change) {
        if let Some(journal) = self.journal.lock().as_mut() {
            journal.push(Event { place, change });
        }
    }

    pub fn put(&self, place: Place, file: &FileHandle, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut fault = self.fault.lock();
        if let Some((part, left)) = fault.after_writes
            && part == place.1
        {
            if left > 0 {
                fault.after_writes = Some((part, left - 1));
            } else {
                if !fault.stay {
                    fault.after_writes = None;
                }
                let short = fault.short_bytes.min(bytes.len());
                file.pwrite(&bytes[..short], offset)?;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        drop(fault);
        self.note(place, Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    pub fn sync(&self, _place: Place) -> io::Result<()> {
        let mut fault = self.fault.lock();
        if let Some(left) = fault.after_syncs {
            fault.after_syncs = left.checked_sub(1);
            if left == 0 {
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }
}
