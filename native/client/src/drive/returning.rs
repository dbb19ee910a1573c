//! Grants on their way back to the leader. Requests of one client have no order among each other: were a chunk asked for
//! again meanwhile, the one that comes late would take the new grant back, and its writer would count for nothing.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub struct Returning {
    /// Requests under way, by inode.
    under_way: Mutex<HashMap<u64, usize>>,
    ended: Notify,
}

impl Returning {
    /// To be called where it is decided, before anybody can ask anew.
    pub fn begin(&self, inode: u64) {
        *self.under_way.lock().entry(inode).or_default() += 1;
    }

    /// One that has begun ends when this is dropped: the leader answered, or never will.
    pub fn ends(&self, inode: u64) -> impl Drop {
        Ends { returning: self, inode }
    }

    fn end(&self, inode: u64) {
        let mut under_way = self.under_way.lock();
        if let Some(count) = under_way.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&inode);
                self.ended.notify_waiters();
            }
        }
    }

    /// Until nothing of this inode is on its way back.
    pub async fn ended(&self, inode: u64) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if !self.under_way.lock().contains_key(&inode) {
                return;
            }
            ended.await;
        }
    }
}

struct Ends<'a> {
    returning: &'a Returning,
    inode: u64,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.returning.end(self.inode);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_grant_is_asked_for_when_all_that_went_back_have_arrived() {
        let returning = Arc::new(Returning::default());
        returning.begin(7);
        returning.begin(7);
        assert!(returning.ended(8).now_or_never().is_some(), "of another file");
        let waiting = tokio::spawn({
            let returning = returning.clone();
            async move { returning.ended(7).await }
        });
        tokio::task::yield_now().await;
        drop(returning.ends(7));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        returning.end(7);
        waiting.await.unwrap();
        assert!(returning.ended(7).now_or_never().is_some());
        returning.end(7);
        assert!(returning.under_way.lock().is_empty());
    }
}
