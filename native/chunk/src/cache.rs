//! Which slots are open: a bounded second-chance queue. It closes slots and never touches their content.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::slot::Slot;

pub(crate) struct Cache {
    limit: usize,
    /// Weak: a slot belongs to the index, and holds its disk, which holds this.
    open: Mutex<VecDeque<Weak<Slot>>>,
}

impl Cache {
    pub fn new(limit: usize) -> Cache {
        Cache { limit, open: Mutex::default() }
    }

    /// Note a slot that was just opened; over the limit, the longest unused one that is idle gets closed.
    pub fn admit(&self, slot: &Arc<Slot>) {
        self.open.lock().push_back(Arc::downgrade(slot));
        for _ in 0..2 * self.limit {
            let candidate = {
                let mut open = self.open.lock();
                if open.len() <= self.limit {
                    return;
                }
                match open.pop_front() {
                    Some(candidate) => candidate,
                    None => return,
                }
            };
            let Some(candidate) = candidate.upgrade() else { continue };
            // The queue's lock is not held here: closing may have to sync.
            let used = candidate.touched.swap(false, Ordering::Relaxed);
            if candidate.is_gone() || (!used && candidate.unload()) {
                continue;
            }
            self.open.lock().push_back(Arc::downgrade(&candidate));
        }
    }

    /// The slots open now.
    pub fn all(&self) -> Vec<Arc<Slot>> {
        let mut open = self.open.lock();
        open.retain(|slot| slot.upgrade().is_some_and(|slot| !slot.is_gone()));
        open.iter().filter_map(Weak::upgrade).collect()
    }
}
