//! What the last look at an inode showed of its extended attributes, for a moment: whoever lists a directory asks for the
//! access control list of each entry right after its attributes, and nearly always there is none. The kernel itself
//! answers from names and attributes until its next tick; this is no longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::proto::{Attr, FileKind};

const MOMENT: Duration = Duration::from_millis(1);
/// More that is asked about in one moment is asked of the masters.
const SLOTS: usize = 256;

#[derive(Clone, Copy)]
struct Look {
    inode: u64,
    at: Instant,
    has_xattr: bool,
    has_acl: bool,
    is_link: bool,
}

pub struct Recent {
    slots: Mutex<Vec<Option<Look>>>,
    /// Attributes set and removed through this mount.
    changes: AtomicU64,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { slots: Mutex::new(vec![None; SLOTS]), changes: AtomicU64::new(0) }
    }
}

impl Recent {
    /// To be taken before the masters are asked for attributes.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The masters' answer to what was asked after `changes`, unless something changed here since.
    pub fn look(&self, attr: &Attr, changes: u64) {
        let (inode, is_link) = (attr.inode, attr.kind() == FileKind::FileSymlink);
        let look = Look { inode, at: Instant::now(), has_xattr: attr.has_xattr, has_acl: attr.has_acl, is_link };
        let mut slots = self.slots.lock();
        if self.changes() == changes {
            slots[inode as usize % SLOTS] = Some(look);
        }
    }

    /// An attribute was set or removed: whatever is known is old.
    pub fn changed(&self) {
        let mut slots = self.slots.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        slots.fill(None);
    }

    /// Whether the inode is known to have no attribute `name`. Users' own are not told of without the right to read.
    pub fn lacks(&self, inode: u64, name: &[u8]) -> bool {
        let Some(look) = self.get(inode) else { return false };
        match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => !look.has_acl && !look.is_link,
            name => !look.has_xattr && name.starts_with(b"security."),
        }
    }

    pub fn has_none(&self, inode: u64) -> bool {
        self.get(inode).is_some_and(|look| !look.has_xattr)
    }

    fn get(&self, inode: u64) -> Option<Look> {
        let look = self.slots.lock()[inode as usize % SLOTS]?;
        (look.inode == inode && look.at.elapsed() < MOMENT).then_some(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACL: &[u8] = b"system.posix_acl_access";

    fn attr(inode: u64, has_xattr: bool, has_acl: bool) -> Attr {
        Attr { inode, has_xattr, has_acl, ..Attr::default() }
    }

    /// The answer of a look that is no moment old, however slow this machine is.
    fn at_once(recent: &Recent, attr: &Attr, ask: impl Fn() -> bool) -> bool {
        (0..1000).any(|_| {
            recent.look(attr, recent.changes());
            ask()
        })
    }

    #[test]
    fn what_a_look_showed_is_believed_for_a_moment() {
        let recent = Recent::default();
        assert!(!recent.lacks(7, ACL) && !recent.has_none(7));
        assert!(at_once(&recent, &attr(7, false, false), || recent.lacks(7, ACL) && recent.has_none(7)));
        assert!(!recent.lacks(7 + SLOTS as u64, ACL), "another inode of the same slot");
        std::thread::sleep(MOMENT);
        assert!(!recent.lacks(7, ACL));
    }

    #[test]
    fn only_what_is_not_there_and_anybody_may_know_is_answered() {
        let recent = Recent::default();
        assert!(!at_once(&recent, &attr(7, true, true), || recent.lacks(7, ACL) || recent.has_none(7)));
        assert!(at_once(&recent, &attr(7, true, false), || recent.lacks(7, ACL)));
        assert!(!at_once(&recent, &attr(7, false, false), || recent.lacks(7, b"user.a") || recent.lacks(7, b"other.a")));
    }

    #[test]
    fn a_change_through_this_mount_ends_it_also_for_looks_on_their_way() {
        let recent = Recent::default();
        let before = recent.changes();
        recent.look(&attr(7, false, false), before);
        recent.changed();
        assert!(!recent.lacks(7, ACL));
        recent.look(&attr(7, false, false), before);
        assert!(!recent.lacks(7, ACL));
    }
}
