//! Handles that were given up, told to the leader many at a time: nobody waits for it, and one request for each costs
//! more than the rest of a close that has nothing to write.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::proto::name_request::Op;
use wire::proto::{Credentials, Release};

use super::Peers;

/// How long the first of them waits for others. Longer keeps the space of removed files longer, shorter gathers fewer.
const GATHER: Duration = Duration::from_millis(10);
/// Handles of one request.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Releases {
    /// The session that opened each, and its inode: a later session never counted the handle.
    waiting: Mutex<Vec<(u64, u64)>>,
    added: Notify,
}

impl Releases {
    pub fn add(&self, session: u64, inode: u64) {
        let mut waiting = self.waiting.lock();
        waiting.push((session, inode));
        if waiting.len() == 1 {
            self.added.notify_one();
        }
    }

    /// Those of `session`, one entry for each handle; the others are forgotten.
    fn take(&self, session: u64) -> Vec<u64> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().filter(|(opened_by, _)| *opened_by == session).map(|(_, inode)| inode).collect()
    }
}

/// Tell the leader, for as long as the engine lives.
pub async fn tell(core: Arc<Peers>) {
    loop {
        core.releases.added.notified().await;
        tokio::time::sleep(GATHER).await;
        let inodes = core.releases.take(core.session().id);
        for some in inodes.chunks(MOST) {
            let op = Op::Release(Release { inodes: some.to_vec() });
            // An unheard release is made good by the renewals.
            if let Err(error) = core.name(&Credentials::default(), op).await {
                tracing::debug!(count = some.len(), %error, "releases were not heard");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_is_told_once_and_only_to_the_session_that_counted_it() {
        let releases = Releases::default();
        for (session, inode) in [(1, 7), (2, 7), (2, 9), (2, 7)] {
            releases.add(session, inode);
        }
        assert_eq!(releases.take(2), [7, 9, 7]);
        assert!(releases.take(2).is_empty());
    }
}
