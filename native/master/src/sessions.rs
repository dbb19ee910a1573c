//! What the leader remembers of clients without the log: when each was last heard of and which inodes it holds open.
//! Pure: times are arguments. Never loses a hold early: when in doubt an inode counts as held until a renewal says otherwise.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// An inode's hold ends when renewals left it out for this share of the session timeout: one of them may have crossed an
/// open on the wire, and a client that asks whether its session lives sends an empty list before the full one.
const ABSENT_SHARE: u32 = 8;
/// Operation ids of releases remembered per session, so that a retried release counts once.
const REMEMBERED_RELEASES: usize = 128;

/// How one session holds one inode.
#[derive(Default)]
struct Hold {
    handles: u32,
    /// Learned from a renewal, or of a session from before this leader: the number of handles is not known, so only
    /// renewals end it.
    learned: bool,
    /// Since the first renewal in a row that left it out.
    absent_since: Option<Instant>,
}

struct Session {
    seen: Instant,
    /// Its holds are known to this leader.
    known: bool,
    /// Another leader registered it and may have counted handles that this one knows nothing of.
    from_before: bool,
    /// Since the first renewal that listed nothing; believed once another one follows later.
    empty_since: Option<Instant>,
    holds: HashMap<u64, Hold>,
    releases: VecDeque<u64>,
}

impl Session {
    fn new(now: Instant) -> Session {
        let (holds, releases) = (HashMap::new(), VecDeque::new());
        Session { seen: now, known: false, from_before: true, empty_since: None, holds, releases }
    }
}

pub struct Sessions {
    /// Since when this leader counts; nobody is late before that.
    since: Instant,
    timeout: Duration,
    live: HashMap<u64, Session>,
    /// How many sessions hold each inode.
    holders: HashMap<u64, u32>,
    /// Purges on their way to the log: these inodes can no longer be opened.
    purging: HashSet<u64>,
}

impl Sessions {
    pub fn new(now: Instant, timeout: Duration) -> Sessions {
        Sessions { since: now, timeout, live: HashMap::new(), holders: HashMap::new(), purging: HashSet::new() }
    }

    /// A session was registered through this leader: it holds nothing yet.
    pub fn register(&mut self, session: u64, now: Instant) {
        let entry = self.live.entry(session).or_insert_with(|| Session::new(now));
        entry.seen = now;
        (entry.known, entry.from_before) = (true, false);
    }

    /// Count one more handle; false when the inode is being purged and cannot be opened any more.
    pub fn open(&mut self, session: u64, inode: u64, now: Instant) -> bool {
        if self.purging.contains(&inode) {
            return false;
        }
        let entry = self.live.entry(session).or_insert_with(|| Session::new(now));
        entry.seen = now;
        // Handles of before may be open too, or just being released.
        let learned = entry.from_before && now.saturating_duration_since(self.since) <= self.timeout;
        let hold = entry.holds.entry(inode).or_insert_with(|| {
            *self.holders.entry(inode).or_default() += 1;
            Hold { learned, ..Hold::default() }
        });
        hold.handles = hold.handles.saturating_add(1);
        hold.absent_since = None;
        true
    }

    /// Count one handle less for each entry of `inodes`. `op_id` (when not 0) makes retries count once.
    pub fn release(&mut self, session: u64, op_id: u64, inodes: &[u64], now: Instant) {
        let Some(entry) = self.live.get_mut(&session) else { return };
        entry.seen = now;
        if op_id != 0 {
            if entry.releases.contains(&op_id) {
                return;
            }
            if entry.releases.len() == REMEMBERED_RELEASES {
                entry.releases.pop_front();
            }
            entry.releases.push_back(op_id);
        }
        let mut ended = Vec::new();
        for inode in inodes {
            let Some(hold) = entry.holds.get_mut(inode) else { continue };
            hold.handles = hold.handles.saturating_sub(1);
            if hold.handles == 0 && !hold.learned {
                entry.holds.remove(inode);
                ended.push(*inode);
            }
        }
        for inode in ended {
            self.let_go(inode);
        }
    }

    /// The session lives and holds exactly `inodes`, as far as it knew when it asked.
    pub fn renew(&mut self, session: u64, inodes: &[u64], now: Instant) {
        let patience = self.timeout / ABSENT_SHARE;
        let long = |since: &mut Option<Instant>| now.duration_since(*since.get_or_insert(now)) >= patience;
        let entry = self.live.entry(session).or_insert_with(|| Session::new(now));
        entry.seen = now;
        entry.known |= !inodes.is_empty() || long(&mut entry.empty_since);
        let listed: HashSet<u64> = inodes.iter().copied().collect();
        let mut ended = Vec::new();
        entry.holds.retain(|inode, hold| {
            if listed.contains(inode) {
                hold.absent_since = None;
            } else if long(&mut hold.absent_since) {
                ended.push(*inode);
                return false;
            }
            true
        });
        for inode in listed {
            entry.holds.entry(inode).or_insert_with(|| {
                *self.holders.entry(inode).or_default() += 1;
                Hold { learned: true, ..Hold::default() }
            });
        }
        for inode in ended {
            self.let_go(inode);
        }
    }

    /// The session lives; what it holds is as it said before.
    pub fn alive(&mut self, session: u64, now: Instant) {
        self.live.entry(session).or_insert_with(|| Session::new(now)).seen = now;
    }

    /// The session is closed or expired.
    pub fn end(&mut self, session: u64) {
        if let Some(entry) = self.live.remove(&session) {
            for inode in entry.holds.into_keys() {
                self.let_go(inode);
            }
        }
    }

    /// Forget sessions that are not committed any more.
    pub fn retain(&mut self, committed: &HashSet<u64>) {
        let ended: Vec<u64> = self.live.keys().copied().filter(|session| !committed.contains(session)).collect();
        for session in ended {
            self.end(session);
        }
    }

    fn let_go(&mut self, inode: u64) {
        if let Some(count) = self.holders.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&inode);
            }
        }
    }

    /// Since when this leader counts.
    pub fn since(&self) -> Instant {
        self.since
    }

    pub fn is_held(&self, inode: u64) -> bool {
        self.holders.contains_key(&inode)
    }

    /// How long the session has been silent, and how many inodes it holds.
    pub fn idle(&self, session: u64, now: Instant) -> (Duration, usize) {
        match self.live.get(&session) {
            Some(entry) => (now.saturating_duration_since(entry.seen), entry.holds.len()),
            None => (now.saturating_duration_since(self.since), 0),
        }
    }

    /// Which of the committed sessions have been silent for too long.
    pub fn expired(&self, committed: impl Iterator<Item = u64>, now: Instant) -> Vec<u64> {
        committed.filter(|session| self.idle(*session, now).0 > self.timeout).collect()
    }

    /// Whether the holds are complete: every committed session renewed with this leader, or one timeout has passed.
    pub fn holds_are_known(&self, mut committed: impl Iterator<Item = u64>, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > self.timeout
            || committed.all(|session| self.live.get(&session).is_some_and(|entry| entry.known))
    }

    /// Take up to `most` orphans that nobody holds; they cannot be opened until `end_purge`.
    pub fn begin_purge(&mut self, orphans: &BTreeSet<u64>, most: usize) -> Vec<u64> {
        let free: Vec<u64> =
            orphans.iter().copied().filter(|i| !self.is_held(*i) && !self.purging.contains(i)).take(most).collect();
        self.purging.extend(&free);
        free
    }

    /// The purge is committed (the state refuses further opens) or failed (they are possible again).
    pub fn end_purge(&mut self, inodes: &[u64]) {
        for inode in inodes {
            self.purging.remove(inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_retried_release_drops_one_handle_only() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.register(1, now);
        assert!(sessions.open(1, 9, now) && sessions.open(1, 9, now));
        sessions.release(1, 5, &[9], now);
        sessions.release(1, 5, &[9], now);
        assert!(sessions.is_held(9));
        sessions.release(1, 6, &[9], now);
        assert!(!sessions.is_held(9));
    }

    #[test]
    fn a_hold_learned_from_a_renewal_ends_by_renewals_only() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.renew(1, &[9], now);
        sessions.release(1, 1, &[9], now);
        sessions.renew(1, &[], now);
        assert!(sessions.is_held(9));
        sessions.renew(1, &[], now + TIMEOUT / 3);
        assert!(!sessions.is_held(9));
    }

    #[test]
    fn a_file_opened_under_another_leader_stays_held_when_a_handle_opened_since_is_closed() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.open(1, 9, now);
        sessions.renew(1, &[9], now);
        sessions.open(1, 8, now);
        sessions.release(1, 1, &[9, 8], now);
        assert!(sessions.is_held(9), "the renewal says no more than that it is open");
        assert!(sessions.is_held(8), "what was released may be a handle of before");
        sessions.renew(1, &[7], now);
        sessions.renew(1, &[7], now + TIMEOUT / 3);
        assert!(!sessions.is_held(9) && !sessions.is_held(8));
        let later = now + TIMEOUT + Duration::from_secs(1);
        sessions.open(1, 8, later);
        sessions.release(1, 2, &[8], later);
        assert!(!sessions.is_held(8), "long after the change of leaders every handle was counted here");
    }

    #[test]
    fn an_open_that_crosses_a_renewal_is_kept() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.open(1, 9, now);
        sessions.renew(1, &[], now);
        sessions.renew(1, &[9], now + TIMEOUT / 3);
        sessions.renew(1, &[], now + TIMEOUT / 2);
        assert!(sessions.is_held(9));
    }

    #[test]
    fn a_client_that_asks_whether_it_lives_loses_no_holds() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.open(1, 9, now);
        for _ in 0..5 {
            sessions.renew(1, &[], now);
        }
        assert!(sessions.is_held(9));
        assert!(!sessions.holds_are_known([1].into_iter(), now));
        sessions.renew(1, &[9], now);
        assert!(sessions.holds_are_known([1].into_iter(), now));
    }

    #[test]
    fn nobody_expires_before_one_timeout_of_this_leader() {
        let start = Instant::now();
        let mut sessions = Sessions::new(start, TIMEOUT);
        assert!(sessions.expired([1].into_iter(), start + TIMEOUT).is_empty());
        sessions.renew(2, &[], start + TIMEOUT);
        let late = start + TIMEOUT + Duration::from_secs(1);
        assert_eq!(sessions.expired([1, 2].into_iter(), late), vec![1]);
    }

    #[test]
    fn purging_waits_for_every_session_or_one_timeout() {
        let start = Instant::now();
        let mut sessions = Sessions::new(start, TIMEOUT);
        sessions.renew(1, &[5], start);
        assert!(!sessions.holds_are_known([1, 2].into_iter(), start));
        sessions.renew(2, &[6], start);
        assert!(sessions.holds_are_known([1, 2].into_iter(), start));
        assert!(sessions.holds_are_known([1, 2, 3].into_iter(), start + TIMEOUT * 2));
    }

    #[test]
    fn an_inode_being_purged_cannot_be_opened() {
        let now = Instant::now();
        let mut sessions = Sessions::new(now, TIMEOUT);
        sessions.open(1, 8, now);
        let orphans = BTreeSet::from([7, 8]);
        assert_eq!(sessions.begin_purge(&orphans, 10), vec![7]);
        assert!(!sessions.open(1, 7, now));
        sessions.end_purge(&[7]);
        assert!(sessions.open(1, 7, now));
    }

    proptest! {
        #[test]
        fn the_count_of_holders_equals_the_sessions_that_hold(steps in prop::collection::vec((0u8..5, 1u64..4, 1u64..4), 0..200)) {
            let now = Instant::now();
            let mut sessions = Sessions::new(now, TIMEOUT);
            for (op, (what, session, inode)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => { sessions.open(session, inode, now); }
                    2 => sessions.release(session, op as u64 + 1, &[inode, inode], now),
                    3 => sessions.renew(session, &[inode], now),
                    _ => sessions.end(session),
                }
                for inode in 1..4 {
                    let holding = sessions.live.values().filter(|s| s.holds.contains_key(&inode)).count();
                    prop_assert_eq!(sessions.holders.get(&inode).copied().unwrap_or(0) as usize, holding);
                }
            }
        }
    }
}
