//! Tells the kernel to drop the cached pages of an inode. One thread sends, because the kernel may wait for locks that
//! a request in progress holds; requests only leave the inode's number here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct Waiting {
    /// At most every open inode once.
    inodes: BTreeSet<u64>,
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
        waiting.lock().inodes.insert(inode);
        wake.notify_one();
    }

    /// Start sending; ends after `stop`.
    pub fn start(&self, notifier: Notifier) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        std::thread::Builder::new().name("mooseng-notices".to_string()).spawn(move || {
            let (waiting, wake) = &*shared;
            loop {
                let inode = {
                    let mut waiting = waiting.lock();
                    loop {
                        if waiting.over {
                            return;
                        }
                        match waiting.inodes.pop_first() {
                            Some(inode) => break inode,
                            None => wake.wait(&mut waiting),
                        }
                    }
                };
                // Fails only when the mount is going away; then there is no cache to drop.
                let _ = notifier.inval_inode(INodeNo(inode), 0, 0);
            }
        })
    }

    pub fn stop(&self) {
        let (waiting, wake) = &*self.shared;
        waiting.lock().over = true;
        wake.notify_all();
    }
}
