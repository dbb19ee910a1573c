//! Open directories: pages of the listing as the server sent them, handed to the kernel entry by entry.
//! Cookies: 1 is ".", 2 is "..", a server's cookie is shifted by 2, so that any position can be gone back to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base::{Error, Result};
use parking_lot::Mutex;
use wire::proto::name_request::Op;
use wire::proto::{self, Attr, Credentials, DirEntry};

use crate::core::Core;

/// Entries asked for at once: some 100 KiB with attributes. Fewer cost round trips, more make `ls | head` wait.
const PAGE_ENTRIES: u32 = 1000;
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
const SHIFT: u64 = 2;

#[derive(Default)]
pub struct Directories {
    open: Mutex<HashMap<u64, Arc<Directory>>>,
}

pub struct Directory {
    inode: u64,
    creds: Credentials,
    page: tokio::sync::Mutex<Page>,
}

/// A run of entries that follow the kernel's cookie `after`.
#[derive(Default)]
struct Page {
    after: Option<u64>,
    entries: VecDeque<DirEntry>,
    end: bool,
    plus: bool,
    parent: Option<u64>,
}

/// One entry as the kernel wants it; `cookie` is where to go on after it.
pub struct Listed {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: proto::FileKind,
    pub cookie: u64,
    pub attr: Option<Attr>,
}

impl Core {
    /// Check the right to list, and remember who may. -> handle
    pub async fn opendir(&self, creds: Credentials, inode: u64) -> Result<u64> {
        let asked = self.engine.name(&creds, Op::Access(proto::Access { inode, mask: libc::R_OK as u32 })).await;
        if let Err(error) = asked {
            self.known.removed(inode, error)?;
        }
        let directory = Directory { inode, creds, page: tokio::sync::Mutex::default() };
        let handle = self.next_handle();
        self.directories.open.lock().insert(handle, Arc::new(directory));
        Ok(handle)
    }

    pub fn releasedir(&self, handle: u64) {
        self.directories.open.lock().remove(&handle);
    }

    /// Hand entries after `cookie` to `add` until it returns true (full: that entry was not taken) or the end. A directory
    /// that was removed has none.
    pub async fn readdir(
        &self,
        handle: u64,
        cookie: u64,
        plus: bool,
        add: impl FnMut(&Listed) -> bool + Send,
    ) -> Result<()> {
        let directory = self.directories.open.lock().get(&handle).cloned();
        let directory = directory.ok_or_else(|| Error::namespace(libc::EBADF, "this directory is not open"))?;
        match self.list(&directory, cookie, plus, add).await {
            Err(error) => self.known.removed(directory.inode, error).map(drop),
            Ok(()) => Ok(()),
        }
    }

    fn note_listing(&self, inode: u64) {
        let Some(attr) = self.known.get(inode) else { return };
        if let Some(atime_ns) = self.engine.accessed(&attr) {
            self.known.tell(&Attr { atime_ns, ..attr });
        }
    }

    async fn list(
        &self,
        directory: &Directory,
        cookie: u64,
        plus: bool,
        mut add: impl FnMut(&Listed) -> bool + Send,
    ) -> Result<()> {
        let mut page = directory.page.lock().await;
        if cookie == 0 {
            self.note_listing(directory.inode);
            // The start, or rewinddir(3): what is read from here on must be as of now.
            *page = Page { parent: page.parent, ..Page::default() };
        }
        let mut cookie = cookie;
        loop {
            if cookie < DOT_DOT {
                let listed = self.dot_entry(directory, &mut page, cookie).await?;
                if add(&listed) {
                    return Ok(());
                }
                cookie = listed.cookie;
                continue;
            }
            if page.after != Some(cookie) || page.plus != plus || (page.entries.is_empty() && !page.end) {
                self.fetch(directory, &mut page, cookie, plus).await?;
            }
            let Some(entry) = page.entries.pop_front() else { return Ok(()) };
            let listed = listed(entry);
            if add(&listed) {
                page.entries.push_front(unlisted(listed));
                return Ok(());
            }
            cookie = listed.cookie;
            page.after = Some(cookie);
        }
    }

    async fn dot_entry(&self, directory: &Directory, page: &mut Page, cookie: u64) -> Result<Listed> {
        let (name, inode, cookie) = if cookie < DOT {
            (".", directory.inode, DOT)
        } else {
            let parent = match page.parent {
                Some(parent) => parent,
                None => self.engine.getattr(&directory.creds, directory.inode).await?.parent,
            };
            page.parent = Some(parent);
            ("..", if parent == 0 { directory.inode } else { parent }, DOT_DOT)
        };
        let kind = proto::FileKind::FileDirectory;
        Ok(Listed { name: name.into(), inode, kind, cookie, attr: None })
    }

    async fn fetch(&self, directory: &Directory, page: &mut Page, cookie: u64, plus: bool) -> Result<()> {
        let ask = proto::ReadDir {
            inode: directory.inode,
            cookie: cookie - SHIFT,
            max_entries: PAGE_ENTRIES,
            plus,
            by_handle: true,
        };
        let reply = self.engine.name(&directory.creds, Op::Readdir(ask)).await?;
        // An empty page that is not the end would be asked for again for ever.
        let end = reply.end || reply.entries.is_empty();
        let mut entries: VecDeque<DirEntry> = reply.entries.into();
        for entry in &mut entries {
            // The kernel takes the size from here: one that lacks bytes written here would cut its cached pages.
            entry.attr = entry.attr.map(|attr| self.engine.overlay(attr));
        }
        *page = Page { after: Some(cookie), entries, end, plus, parent: page.parent };
        Ok(())
    }
}

fn listed(entry: DirEntry) -> Listed {
    let kind = entry.kind();
    Listed { name: entry.name, inode: entry.inode, kind, cookie: entry.cookie + SHIFT, attr: entry.attr }
}

fn unlisted(listed: Listed) -> DirEntry {
    let cookie = listed.cookie - SHIFT;
    DirEntry { name: listed.name, inode: listed.inode, kind: listed.kind as i32, cookie, attr: listed.attr }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_refused_entry_goes_back_as_it_came(name: Vec<u8>, inode: u64, cookie in 1u64..u64::MAX - SHIFT) {
            let entry = DirEntry { name, inode, kind: 1, cookie, attr: None };
            let shown = listed(entry.clone());
            prop_assert!(shown.cookie > DOT_DOT, "no entry may look like a dot entry");
            prop_assert_eq!(unlisted(shown), entry);
        }
    }
}
