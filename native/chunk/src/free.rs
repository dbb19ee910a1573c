//! A disk's slots without a chunk: which may be used again, and what of their data files stays allocated.
//!
//! Invariant: the header of a slot is durably free before its data file is emptied or used for another chunk. Else a
//! power cut could bring the former chunk back, over data that is not its own: it would look like rot.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use base::Result;
use parking_lot::Mutex;

use crate::disk::{Disk, FOLDER_SHIFT};
use crate::fs::Access;

/// Allocation kept in free slots, at most: writing over allocated extents measured 25 % faster than over fresh ones.
const MAX_WARM_BYTES: u64 = 1 << 30;
/// How long it is kept. Shorter, and files that replace each other pay for fresh extents; longer, and whoever deletes
/// waits to see the space come back.
const WARM_FOR: Duration = Duration::from_secs(10);
/// Slots emptied in one round of background work.
const COOLED_AT_ONCE: usize = 64;
/// Time for making free headers durable in one round of background work; what is left over waits for the next.
const SETTLING_AT_ONCE: Duration = Duration::from_millis(250);
/// A slot with this much allocated is worth the sync of its header when a chunk is made; others wait for the background.
const WORTH_A_SYNC: u64 = 4 << 20;

struct FreeSlot {
    number: u64,
    /// Bytes that its data file still has allocated.
    warm_bytes: u64,
    /// By the store's clock.
    since: Duration,
}

#[derive(Default)]
struct Lists {
    /// Durably free. Warm ones lie at the end, where they are taken first.
    ready: VecDeque<FreeSlot>,
    /// Whose free header may not be durable yet, the latest at the end.
    freed: VecDeque<FreeSlot>,
    /// Numbers without files yet, used when no other slot is left: a disk without inodes cannot make them.
    unmade: Vec<u64>,
    /// Of both lists.
    warm_bytes: u64,
    /// The lowest number never used.
    next: u64,
    /// Slots taken since spare ones were made last.
    taken: usize,
}

#[derive(Default)]
pub(crate) struct FreeSlots {
    lists: Mutex<Lists>,
    /// Held while headers are made durable, so that who needs the room waits for it.
    settling: Mutex<()>,
}

impl FreeSlots {
    pub fn warm_bytes(&self) -> u64 {
        self.lists.lock().warm_bytes
    }
}

/// A slot for a new chunk.
pub(crate) struct Taken {
    pub number: u64,
    /// Else whoever uses it syncs its header before anything else.
    pub durably_free: bool,
}

impl Lists {
    fn take(&mut self) -> Taken {
        self.taken += 1;
        let worth = self.freed.back().is_some_and(|slot| slot.warm_bytes >= WORTH_A_SYNC);
        let ready = if worth { None } else { self.ready.pop_back() };
        let durably_free = ready.is_some();
        if let Some(slot) = ready.or_else(|| self.freed.pop_back()) {
            self.warm_bytes -= slot.warm_bytes;
            return Taken { number: slot.number, durably_free };
        }
        Taken { number: self.new_number(), durably_free: true }
    }

    fn new_number(&mut self) -> u64 {
        self.unmade.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Disk {
    fn now(&self) -> Duration {
        self.shared.env.clock.monotonic()
    }

    /// A free slot (with allocation if there is one), else a new number.
    pub fn take_slot(&self) -> Taken {
        self.free.lists.lock().take()
    }

    /// Take back a slot that is durably free, or was never used.
    pub fn give_slot(&self, number: u64, warm_bytes: u64) {
        let mut free = self.free.lists.lock();
        free.warm_bytes += warm_bytes;
        let slot = FreeSlot { number, warm_bytes, since: self.now() };
        if warm_bytes > 0 {
            free.ready.push_back(slot);
        } else {
            free.ready.push_front(slot);
        }
    }

    /// Take back a slot whose free header may not be durable, with what its data file has allocated.
    pub fn give_freed(&self, number: u64, warm_bytes: u64) {
        let mut free = self.free.lists.lock();
        free.warm_bytes += warm_bytes;
        free.freed.push_back(FreeSlot { number, warm_bytes, since: self.now() });
    }

    /// Tell the disk that slots below `next` exist.
    pub fn set_next_slot(&self, next: u64) {
        let mut free = self.free.lists.lock();
        free.next = free.next.max(next);
    }

    /// Make the headers of freed slots durable; then they are ready, and what they need not keep allocated is given
    /// back. Called in the background.
    pub fn settle_some(&self) {
        self.settle(Some(self.now() + SETTLING_AT_ONCE));
    }

    /// On a disk that is nearly full, give what freed slots keep back before a new chunk is made.
    pub fn settle_if_tight(&self) {
        let waiting = !self.free.lists.lock().freed.is_empty();
        if waiting && !self.is_roomy() {
            self.settle(None);
        }
    }

    fn settle(&self, until: Option<Duration>) {
        let _one = self.free.settling.lock();
        while self.writable() && until.is_none_or(|until| self.now() < until) {
            let slot = {
                let mut free = self.free.lists.lock();
                let Some(slot) = free.freed.pop_front() else { return };
                free.warm_bytes -= slot.warm_bytes;
                slot
            };
            if let Err(error) = self.make_ready(&slot) {
                tracing::warn!(disk = %self.path.display(), slot = slot.number, "a free slot is not ready: {error}");
                self.give_freed(slot.number, slot.warm_bytes);
                return;
            }
        }
    }

    fn make_ready(&self, slot: &FreeSlot) -> Result<()> {
        match self.fs.open(&self.sums_path(slot.number), Access::READ) {
            Ok(file) => self.sync(&file, "syncing the header of a free slot")?,
            // It never had one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if slot.warm_bytes == 0 {
                    self.free.lists.lock().unmade.push(slot.number);
                    return Ok(());
                }
            }
            Err(error) => return Err(self.error("opening the table of a free slot", &error)),
        }
        let keeps = self.warm_allowance(slot.warm_bytes);
        if keeps == 0 && slot.warm_bytes > 0 && !self.empty(slot.number) {
            self.give_slot(slot.number, slot.warm_bytes);
        } else {
            self.give_slot(slot.number, keeps);
        }
        Ok(())
    }

    /// What of `bytes` may stay allocated for the next chunk: all of it as far as the limit allows, else nothing.
    fn warm_allowance(&self, bytes: u64) -> u64 {
        let fits = self.free.warm_bytes() + bytes <= MAX_WARM_BYTES;
        if fits && self.is_roomy() { bytes } else { 0 }
    }

    /// Give the allocation of a ready slot back; whether that was done.
    fn empty(&self, number: u64) -> bool {
        let path = self.data_path(number);
        let opened = self.fs.open(&path, Access::WRITE);
        match opened.and_then(|file| file.truncate(0)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot empty the data file of a free slot");
                false
            }
        }
    }

    /// Give the allocation of all free slots back: somebody needs the room now.
    pub fn release_warm(&self) {
        self.settle(None);
        let mut free = self.free.lists.lock();
        for slot in free.ready.iter_mut().filter(|slot| slot.warm_bytes > 0) {
            if self.empty(slot.number) {
                slot.warm_bytes = 0;
            }
        }
        free.warm_bytes = free.ready.iter().chain(&free.freed).map(|slot| slot.warm_bytes).sum();
    }

    /// Give the allocation of slots back that nobody took for a while. Called in the background.
    pub fn cool(&self) {
        let now = self.now();
        let cold: Vec<FreeSlot> = {
            let mut free = self.free.lists.lock();
            let is_cold = |slot: &FreeSlot| slot.warm_bytes > 0 && now.saturating_sub(slot.since) >= WARM_FOR;
            let (mut cold, kept) = std::mem::take(&mut free.ready).into_iter().partition::<Vec<_>, _>(is_cold);
            free.ready = kept.into();
            let later = cold.split_off(cold.len().min(COOLED_AT_ONCE));
            free.ready.extend(later);
            free.warm_bytes -= cold.iter().map(|slot| slot.warm_bytes).sum::<u64>();
            cold
        };
        for slot in cold {
            let left = if self.empty(slot.number) { 0 } else { slot.warm_bytes };
            self.give_slot(slot.number, left);
        }
    }

    /// Make spare slots ahead, so that creating a chunk creates no file. Called in the background.
    pub fn make_spares(&self) -> Result<()> {
        if !self.writable() || self.room().is_ok_and(|room| room.free_bytes == 0) {
            return Ok(());
        }
        let numbers: Vec<u64> = {
            let mut free = self.free.lists.lock();
            let wanted = (2 * std::mem::take(&mut free.taken))
                .clamp(self.shared.env.spare_slots, self.shared.env.max_spare_slots);
            let missing = wanted.saturating_sub(free.ready.len() + free.freed.len());
            (0..missing).map(|_| free.new_number()).collect()
        };
        let (mut count, mut outcome) = (0, Ok(()));
        while count < numbers.len() && outcome.is_ok() {
            outcome = self.create_files(numbers[count]);
            count += usize::from(outcome.is_ok());
        }
        let (made, unmade) = numbers.split_at(count);
        self.free.lists.lock().unmade.extend(unmade.iter().rev());
        for folder in made.chunk_by(|a, b| a >> FOLDER_SHIFT == b >> FOLDER_SHIFT) {
            self.sync_names(folder[0])?;
        }
        for &number in made.iter().rev() {
            self.give_slot(number, 0);
        }
        outcome
    }

    fn create_files(&self, number: u64) -> Result<()> {
        for path in [self.data_path(number), self.sums_path(number)] {
            self.open_file(number, &path, true, false).map_err(|error| self.error("creating a spare slot", &error))?;
        }
        Ok(())
    }
}
