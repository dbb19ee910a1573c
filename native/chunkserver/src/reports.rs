//! Copies found bad here or lost with a disk, until the leader had them replaced or deleted. A report goes out with the
//! next heartbeat, which is woken at once; after each registration everything known is told again, because the leader
//! may be new.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A copy that is still met as bad is told again after this long: the leader may have missed or refused it. Shorter
/// turns every reader of a bad block into a message to the leader.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// What the leader is told of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Blocks of this version do not match their checksums.
    Rotten(u32),
    /// Its disk failed.
    Lost,
}

struct Bad {
    finding: Finding,
    told: Option<Instant>,
}

#[derive(Default)]
pub struct Reports {
    bad: Mutex<HashMap<u64, Bad>>,
    wake: Notify,
}

impl Reports {
    /// A copy was met as bad.
    pub fn note(&self, chunk: u64, finding: Finding, now: Instant) {
        let mut bad = self.bad.lock();
        let due = match bad.get(&chunk) {
            Some(known) if known.finding == finding => {
                finding != Finding::Lost && known.told.is_some_and(|told| now.duration_since(told) >= TELL_AGAIN)
            }
            _ => true,
        };
        if due {
            bad.insert(chunk, Bad { finding, told: None });
            self.wake.notify_one();
        }
    }

    /// What the leader has not heard, at most `most`; counts as told until `retell`.
    pub fn take(&self, most: usize, now: Instant) -> Vec<(u64, Finding)> {
        let mut bad = self.bad.lock();
        let due = bad.iter_mut().filter(|(_, known)| known.told.is_none()).take(most);
        due.map(|(chunk, known)| {
            known.told = Some(now);
            (*chunk, known.finding)
        })
        .collect()
    }

    /// The leader did not get it, or is another one: everything is due again.
    pub fn retell(&self) {
        let mut bad = self.bad.lock();
        for known in bad.values_mut() {
            known.told = None;
        }
    }

    /// The copy was deleted or replaced.
    pub fn forget(&self, chunk: u64) {
        self.bad.lock().remove(&chunk);
    }

    pub fn is_bad(&self, chunk: u64) -> bool {
        self.bad.lock().contains_key(&chunk)
    }

    pub fn count(&self) -> usize {
        self.bad.lock().len()
    }

    /// Completes when something became due since the last time.
    pub async fn due(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_copy_is_told_once_until_it_is_met_much_later() {
        let (reports, start) = (Reports::default(), Instant::now());
        reports.note(7, Finding::Rotten(1), start);
        reports.note(7, Finding::Rotten(1), start);
        assert_eq!(reports.take(10, start), [(7, Finding::Rotten(1))]);
        reports.note(7, Finding::Rotten(1), start + Duration::from_secs(1));
        assert!(reports.take(10, start).is_empty());
        reports.note(7, Finding::Rotten(1), start + TELL_AGAIN);
        assert_eq!(reports.take(10, start), [(7, Finding::Rotten(1))]);
    }

    #[test]
    fn a_new_leader_hears_everything_again_but_not_what_was_mended() {
        let (reports, start) = (Reports::default(), Instant::now());
        reports.note(7, Finding::Rotten(1), start);
        reports.note(8, Finding::Lost, start);
        assert_eq!(reports.take(10, start).len(), 2);
        reports.forget(7);
        reports.retell();
        assert_eq!(reports.take(10, start), [(8, Finding::Lost)]);
        assert!(!reports.is_bad(7));
    }
}
