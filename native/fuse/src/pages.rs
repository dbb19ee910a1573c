//! Which content the kernel's page cache may hold for each inode, so that an open may keep it. Pure bookkeeping.
//! Invariant: pages of an inode are kept at an open of version V only if every byte they may hold was read through
//! handles opened at V, and none of them could write. When in doubt the answer is "drop them".

use std::collections::HashMap;

use parking_lot::Mutex;

/// Inodes remembered after their last handle closed. Forgetting one only costs reading its data again.
const MAX_CLOSED: usize = 64 << 10;

#[derive(Default)]
struct Inode {
    /// The one version that cached pages come from; none when they may be mixed, or written here.
    version: Option<u64>,
    open: u32,
    /// Changes by other clients up to which the kernel's pages are right; none when they are wrong in any case.
    foreign: Option<u64>,
    /// The size that the kernel knows; none right after an open, and where that is in doubt.
    size: Option<u64>,
}

#[derive(Default)]
struct State {
    inodes: HashMap<u64, Inode>,
    closed: usize,
}

#[derive(Default)]
pub struct Pages(Mutex<State>);

impl Pages {
    /// A handle was opened at `version` of the content, after `foreign` changes by others. True: what the kernel has
    /// cached is still right. False: the kernel drops it. Each call wants one of `closed`.
    pub fn opened(&self, inode: u64, version: u64, foreign: u64, writes: bool) -> bool {
        let mut state = self.0.lock();
        if state.inodes.get(&inode).is_some_and(|entry| entry.open == 0) {
            state.closed -= 1;
        }
        let entry = state.inodes.entry(inode).or_default();
        let keep = !writes && entry.version == Some(version);
        if !keep {
            // Handles still open go on filling the cache with what they see, which may be older.
            entry.version = (!writes && entry.open == 0).then_some(version);
        }
        (entry.foreign, entry.size) = (Some(foreign), None);
        entry.open += 1;
        keep
    }

    /// The kernel is about to hear of `size` after `foreign` changes by others. True: its pages must go first. A new size
    /// makes it drop them by itself; dropped by us, it would not take that size (its attributes count as newer).
    pub fn told(&self, inode: u64, foreign: u64, size: u64) -> bool {
        let mut state = self.0.lock();
        let Some(entry) = state.inodes.get_mut(&inode).filter(|entry| entry.open > 0) else { return false };
        let changed = entry.foreign.replace(foreign) != Some(foreign);
        let known = entry.size.replace(size);
        changed && known.is_none_or(|known| known == size)
    }

    /// The kernel wrote up to `end`, where it took the place to be.
    pub fn wrote(&self, inode: u64, end: u64) {
        if let Some(entry) = self.0.lock().inodes.get_mut(&inode) {
            entry.size = entry.size.map(|size| size.max(end));
        }
    }

    /// A read found nothing from `end` on: the kernel may take that for the size, or have heard of another since it asked.
    pub fn ended_at(&self, inode: u64, end: u64) {
        if let Some(entry) = self.0.lock().inodes.get_mut(&inode) {
            entry.size = entry.size.filter(|size| *size <= end);
        }
    }

    /// The kernel takes this size from the reply to a change of attributes.
    pub fn resized(&self, inode: u64, size: u64) {
        if let Some(entry) = self.0.lock().inodes.get_mut(&inode) {
            entry.size = Some(size);
        }
    }

    /// The kernel cached what was appended where it took the end to be, and that is not where it went.
    pub fn misplaced(&self, inode: u64) {
        if let Some(entry) = self.0.lock().inodes.get_mut(&inode) {
            entry.foreign = None;
        }
    }

    pub fn closed(&self, inode: u64) {
        let mut state = self.0.lock();
        let Some(entry) = state.inodes.get_mut(&inode) else { return };
        entry.open = entry.open.saturating_sub(1);
        if entry.open > 0 {
            return;
        }
        if entry.version.is_none() {
            state.inodes.remove(&inode);
            return;
        }
        state.closed += 1;
        if state.closed > MAX_CLOSED {
            state.inodes.retain(|_, entry| entry.open > 0);
            state.closed = 0;
        }
    }

    /// The kernel let the inode go, and its pages with it.
    pub fn forgotten(&self, inode: u64) {
        let mut state = self.0.lock();
        if state.inodes.get(&inode).is_some_and(|entry| entry.open == 0) {
            state.inodes.remove(&inode);
            state.closed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_once(pages: &Pages, version: u64) -> bool {
        let keep = pages.opened(1, version, 0, false);
        pages.closed(1);
        keep
    }

    #[test]
    fn unchanged_content_is_kept_and_changed_content_dropped() {
        let pages = Pages::default();
        assert!(!read_once(&pages, 5), "nothing is known at the first open");
        assert!(read_once(&pages, 5));
        assert!(!read_once(&pages, 6));
        assert!(read_once(&pages, 6));
    }

    #[test]
    fn a_handle_of_older_content_spoils_the_cache_until_it_is_closed() {
        let pages = Pages::default();
        pages.opened(1, 5, 0, false);
        assert!(!read_once(&pages, 6));
        assert!(!read_once(&pages, 6), "the old handle may have brought old pages back");
        pages.closed(1);
        assert!(!read_once(&pages, 6));
        assert!(read_once(&pages, 6));
    }

    #[test]
    fn after_a_writer_the_next_open_reads_again() {
        let pages = Pages::default();
        read_once(&pages, 5);
        pages.opened(1, 5, 0, true);
        assert!(!read_once(&pages, 5));
        pages.closed(1);
        assert!(!read_once(&pages, 6));
        assert!(read_once(&pages, 6));
    }

    #[test]
    fn a_change_by_others_under_an_open_handle_drops_the_pages_once_unless_a_new_size_does_it() {
        let pages = Pages::default();
        assert!(!pages.told(1, 1, 10), "nothing is open");
        pages.opened(1, 5, 0, false);
        assert!(!pages.told(1, 0, 10));
        assert!(pages.told(1, 1, 10));
        assert!(!pages.told(1, 1, 10));
        assert!(!pages.told(1, 2, 11), "the kernel sees another size");
        pages.wrote(1, 20);
        assert!(pages.told(1, 3, 20), "it knows that one from its own write");
        pages.resized(1, 7);
        assert!(pages.told(1, 4, 7));
        pages.ended_at(1, 7);
        assert!(!pages.told(1, 5, 8), "the end was where it is");
        pages.ended_at(1, 3);
        assert!(pages.told(1, 6, 3), "it may have taken that size from the read");
    }

    #[test]
    fn an_append_that_went_elsewhere_drops_the_pages_at_the_next_look() {
        let pages = Pages::default();
        pages.opened(1, 5, 0, true);
        assert!(!pages.told(1, 0, 10));
        pages.wrote(1, 14);
        pages.misplaced(1);
        assert!(pages.told(1, 0, 14));
        assert!(!pages.told(1, 0, 14));
    }

    #[test]
    fn a_forgotten_inode_starts_anew() {
        let pages = Pages::default();
        read_once(&pages, 5);
        pages.forgotten(1);
        assert!(!read_once(&pages, 5));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open { writes: bool },
        Close(prop::sample::Index),
        Change,
        Read(prop::sample::Index),
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(|writes| Step::Open { writes }),
            any::<prop::sample::Index>().prop_map(Step::Close),
            Just(Step::Change),
            any::<prop::sample::Index>().prop_map(Step::Read),
            Just(Step::Forget),
        ]
    }

    proptest! {
        /// The model: a cache with one page, filled by a handle's own version; a writer's fill counts as spoiled.
        #[test]
        fn pages_kept_at_an_open_are_never_of_another_version(steps in prop::collection::vec(step(), 1..60)) {
            let pages = Pages::default();
            let (mut version, mut cached, mut handles) = (1u64, None::<Option<u64>>, Vec::<Option<u64>>::new());
            for step in steps {
                match step {
                    Step::Open { writes } => {
                        let keep = pages.opened(1, version, 0, writes);
                        if keep {
                            prop_assert!(cached.is_none() || cached == Some(Some(version)), "{cached:?} kept at {version}");
                        } else {
                            cached = None;
                        }
                        handles.push((!writes).then_some(version));
                    }
                    Step::Close(at) if !handles.is_empty() => {
                        handles.swap_remove(at.index(handles.len()));
                        pages.closed(1);
                    }
                    Step::Read(at) if !handles.is_empty() && cached.is_none() => {
                        cached = Some(handles[at.index(handles.len())]);
                    }
                    Step::Change => version += 1,
                    Step::Forget if handles.is_empty() => {
                        pages.forgotten(1);
                        cached = None;
                    }
                    _ => {}
                }
            }
            for _ in handles {
                pages.closed(1);
            }
            let state = pages.0.lock();
            prop_assert_eq!(state.closed, state.inodes.len());
        }
    }
}
