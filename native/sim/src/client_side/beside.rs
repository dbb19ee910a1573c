//! An fsync beside other operations on the same file, as another thread of the program makes one.

use client::file::Event;

use super::FileName;
use crate::oracle::Time;
use crate::world::World;

/// What was written before it began is to be there when so many changes are done.
pub(super) struct Beside {
    changes: u64,
    began: Time,
}

impl World {
    /// At most one at a time: the operations go on.
    pub(super) fn sync_beside(&mut self, id: usize) {
        let (now, began) = (self.now_of(id), self.now);
        self.note(|| format!("client {id} syncs beside what follows"));
        let changes = self.act(id, |file| {
            let actions = file.decide(now, Event::Flush { settle: false });
            (file.changes(), actions)
        });
        if let Some(opened) = self.clients[id].opened.as_mut().filter(|opened| opened.beside.is_none()) {
            opened.beside = changes.map(|changes| Beside { changes, began });
        }
        self.ended(id);
    }

    /// Whether it is over by now.
    pub(super) fn pump_beside(&mut self, id: usize) -> bool {
        let Some(opened) = &mut self.clients[id].opened else { return false };
        let file = &opened.file;
        let Some(Beside { began, .. }) = opened.beside.take_if(|beside| file.is_done(beside.changes)) else {
            return false;
        };
        self.was_synced(id, began);
        true
    }

    /// What was taken until `began` is surely there.
    pub(super) fn was_synced(&mut self, id: usize, began: Time) {
        let client = &self.clients[id];
        let Some(opened) = &client.opened else { return };
        let (name, is_log) = (client.name, opened.name == FileName::Log);
        self.note(|| format!("client {id}: what was written until {:.6} is synced", began as f64 / 1e6));
        if is_log {
            return self.log.synced(name, began, self.now);
        }
        for (file, ends) in self.register.synced(name, began, self.now) {
            for offset in ends {
                self.look_at_once(file, offset);
            }
        }
    }
}
