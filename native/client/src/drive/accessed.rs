//! Times of access: noted with a read, told to the leader many at a time, a second later. Nobody waits for it; what is not
//! told when the client dies is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::limits::MAX_ACCESSED;
use base::time::later;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use wire::proto::name_request::Op;
use wire::proto::{Accessed as Message, Attr, Credentials};

use crate::peers::Peers;

/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// More wait for nothing: a leader that is away for long forgets who read.
const MOST_WAITING: usize = 1 << 16;
const DAY_NS: i64 = 86_400_000_000_000;

/// As the options of mount(8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessTimes {
    Noatime,
    /// A read moves the time when that is not later than the last change, or a day old.
    #[default]
    Relatime,
    Strictatime,
}

impl AccessTimes {
    fn moves(self, attr: &Attr, now_ns: i64) -> bool {
        let changed_ns = later(attr.mtime_ns, attr.ctime_ns);
        match self {
            AccessTimes::Noatime => false,
            AccessTimes::Strictatime => true,
            AccessTimes::Relatime => {
                later(changed_ns, attr.atime_ns) == changed_ns || now_ns.saturating_sub(attr.atime_ns) >= DAY_NS
            }
        }
    }
}

#[derive(Default)]
pub struct Accessed {
    policy: AccessTimes,
    waiting: Mutex<HashMap<u64, i64>>,
    added: Notify,
}

impl Accessed {
    pub fn new(policy: AccessTimes) -> Accessed {
        Accessed { policy, ..Accessed::default() }
    }

    /// Something with these attributes, as known here, was read. Returns whether its time moved by that.
    pub fn note(&self, attr: &Attr, now_ns: i64) -> bool {
        if self.policy == AccessTimes::Noatime || !self.policy.moves(&self.laid_over(*attr), now_ns) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST_WAITING {
            return false;
        }
        waiting.insert(attr.inode, now_ns);
        self.added.notify_one();
        true
    }

    /// With what the leader has not heard yet.
    pub fn laid_over(&self, attr: Attr) -> Attr {
        match self.waiting.lock().get(&attr.inode) {
            Some(atime_ns) => Attr { atime_ns: later(attr.atime_ns, *atime_ns), ..attr },
            None => attr,
        }
    }

    /// Its time is set by hand.
    pub fn forget(&self, inode: u64) {
        self.waiting.lock().remove(&inode);
    }

    fn some(&self) -> Vec<(u64, i64)> {
        self.waiting.lock().iter().take(MAX_ACCESSED).map(|(inode, atime_ns)| (*inode, *atime_ns)).collect()
    }

    fn told(&self, told: &[(u64, i64)]) {
        let mut waiting = self.waiting.lock();
        for (inode, atime_ns) in told {
            if waiting.get(inode) == Some(atime_ns) {
                waiting.remove(inode);
            }
        }
    }

    /// Tell the leader all that waits; false when it could not be told.
    pub async fn tell(&self, peers: &Peers) -> bool {
        loop {
            let some = self.some();
            if some.is_empty() {
                return true;
            }
            let (inodes, atimes_ns) = some.iter().copied().unzip();
            match peers.name(&Credentials::default(), Op::Accessed(Message { inodes, atimes_ns })).await {
                Ok(_) => self.told(&some),
                // The cluster does not keep them yet.
                Err(error) if error.errno == libc::EOPNOTSUPP => self.waiting.lock().clear(),
                Err(error) => {
                    tracing::debug!(%error, "times of access were not told");
                    return false;
                }
            }
        }
    }
}

/// For as long as the engine lives.
pub async fn tell(accessed: Arc<Accessed>, peers: Arc<Peers>) {
    loop {
        accessed.added.notified().await;
        tokio::time::sleep(GATHER).await;
        while !accessed.tell(&peers).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(atime_ns: i64, mtime_ns: i64) -> Attr {
        Attr { inode: 7, atime_ns, mtime_ns, ctime_ns: mtime_ns, ..Attr::default() }
    }

    #[test]
    fn the_time_moves_after_a_change_and_once_a_day() {
        let relatime = AccessTimes::Relatime;
        assert!(relatime.moves(&attr(5, 5), 6) && relatime.moves(&attr(5, 9), 10));
        assert!(!relatime.moves(&attr(6, 5), 7));
        assert!(relatime.moves(&attr(6, 5), 6 + DAY_NS));
        assert!(AccessTimes::Strictatime.moves(&attr(6, 5), 7) && !AccessTimes::Noatime.moves(&attr(5, 9), 10));
    }

    #[test]
    fn what_is_noted_is_shown_at_once_and_told_once() {
        let accessed = Accessed::new(AccessTimes::Relatime);
        accessed.note(&attr(5, 9), 20);
        accessed.note(&attr(5, 9), 30);
        assert_eq!(accessed.laid_over(attr(5, 9)).atime_ns, 20);
        let some = accessed.some();
        assert_eq!(some, [(7, 20)]);
        accessed.note(&attr(5, 25), 40);
        accessed.told(&some);
        assert_eq!(accessed.some(), [(7, 40)], "what came meanwhile is told too");
        accessed.forget(7);
        assert_eq!(accessed.laid_over(attr(5, 9)).atime_ns, 5);
    }
}
