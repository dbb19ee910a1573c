//! Tells the kernel to drop the cached pages of an inode. One thread sends, because the kernel may wait for locks that
//! a request in progress holds; requests only leave the inode's number here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::Notifier;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// How long a request waits for the kernel to drop pages. It takes as long as writing back what a mapping dirtied.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Waiting {
    /// At most every open inode once, and who wants to know when it is done.
    inodes: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    over: bool,
}

#[derive(Clone, Default)]
pub struct Notices {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
}

impl Notices {
    /// Drop what is cached of this inode's content, soon.
    pub fn drop_pages(&self, inode: u64) {
        let (waiting, wake) = &*self.shared;
        waiting.lock().inodes.entry(inode).or_default();
        wake.notify_one();
    }

    /// As `drop_pages`; returns when it is done (or the kernel takes too long). Not for requests that the kernel makes
    /// while it holds pages: reads and writes.
    pub async fn pages_dropped(&self, inode: u64) {
        let (done, wait) = oneshot::channel();
        let (waiting, wake) = &*self.shared;
        waiting.lock().inodes.entry(inode).or_default().push(done);
        wake.notify_one();
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }

    /// Start sending; ends after `stop`.
    pub fn start(&self, notifier: Notifier) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        std::thread::Builder::new().name("mooseng-notices".to_string()).spawn(move || {
            let (waiting, wake) = &*shared;
            loop {
                let (inode, told) = {
                    let mut waiting = waiting.lock();
                    loop {
                        if waiting.over {
                            return;
                        }
                        match waiting.inodes.pop_first() {
                            Some(next) => break next,
                            None => wake.wait(&mut waiting),
                        }
                    }
                };
                // Fails only when the mount is going away; then there is no cache to drop.
                let _ = notifier.inval_inode(inode, 0, 0);
                told.into_iter().for_each(|done| {
                    let _ = done.send(());
                });
            }
        })
    }

    pub fn stop(&self) {
        let (waiting, wake) = &*self.shared;
        let mut waiting = waiting.lock();
        waiting.over = true;
        waiting.inodes.clear();
        wake.notify_all();
    }
}
