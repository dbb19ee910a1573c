//! Every table of the state, behind a narrow interface so that another engine could take its place.
//! Invariants: both entry tables hold the same entries; chunk tables, healing marks, per-server counts and totals
//! follow from the records; a grant belongs to a chunk that exists, a turn to append and an attribute to an inode. All tables are ordered: nothing observable depends on a hash. Cloning is O(1).

use std::sync::Arc;

use base::Result;
use imbl::{OrdMap, OrdSet};
use wire::proto;

use crate::chunk::{Chunk, SETTLING, ServerSet};
use crate::errors;
use crate::history::History;
use crate::inode::{Body, Inode, ROOT};
use crate::name::Name;
use crate::session::Session;
use crate::state::{ClusterConfig, FreedChunk};
use crate::xattrs::{self, Key, Xattrs};

/// Readdir cookies start here; callers may use the smaller ones for `.` and `..`.
pub(crate) const FIRST_COOKIE: u64 = 16;

/// The next number of each kind. None is ever given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub inode: u64,
    pub chunk: u64,
    pub session: u64,
    pub epoch: u64,
    pub heal: u64,
    pub cookie: u64,
}

impl Default for Next {
    fn default() -> Next {
        Next { inode: ROOT + 1, chunk: 1, session: 1, epoch: 1, heal: 1, cookie: FIRST_COOKIE }
    }
}

/// Where a name points, and its place in the listing of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub inode: u64,
    pub cookie: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub name: Name,
    pub inode: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub address: Arc<str>,
    pub epoch: u64,
    /// The last epoch that its disks are known to remember.
    pub confirmed: u64,
    /// The last entry of the log that they are known to remember.
    pub remembered: u64,
    pub boot_id: u64,
    pub up: bool,
    pub weight: u32,
    /// Committed write sets it is in.
    pub chunks: u64,
}

/// Whose turn it is to add to the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appender {
    pub session: u64,
    pub since_ns: i64,
}

/// Stands in a chunk's grants for every session that has ended without giving its grant back.
pub(crate) const ENDED: u64 = 0;

/// Sums over the tables, kept with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub file_bytes: u128,
    /// Bytes that records hold outside of their tables' nodes.
    pub heap_bytes: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub next: Next,
    pub config: Option<Arc<ClusterConfig>>,
    pub history: History,
    /// Read with `level()`.
    level: u32,
    inodes: OrdMap<u64, Inode>,
    entries: OrdMap<(u64, Name), Entry>,
    listing: OrdMap<(u64, u64), Listed>,
    chunks: OrdMap<u64, Chunk>,
    file_chunks: OrdMap<(u64, u32), u64>,
    servers: OrdMap<u32, Server>,
    sessions: OrdMap<u64, Session>,
    orphans: OrdSet<u64>,
    /// Those of the orphans that never had a name and may be given one.
    unnamed: OrdSet<u64>,
    healing: OrdSet<u64>,
    /// By chunk: the sessions that may have sent bytes which not all copies have. Sorted, none twice, never empty.
    grants: OrdMap<u64, Arc<[u64]>>,
    appenders: OrdMap<u64, Appender>,
    xattrs: Xattrs,
    totals: Totals,
}

impl Tables {
    /// The cluster level: see `wire::level`.
    pub fn level(&self) -> u32 {
        wire::level::said(self.level)
    }

    pub fn raise_level(&mut self, level: u32) {
        self.level = self.level.max(level);
    }

    // ---- inodes ----

    pub fn inode(&self, id: u64) -> Result<&Inode> {
        self.inodes.get(&id).ok_or_else(|| errors::no_inode(id))
    }

    pub fn directory(&self, id: u64) -> Result<&Inode> {
        let inode = self.inode(id)?;
        if inode.is_directory() { Ok(inode) } else { Err(errors::not_a_directory(id)) }
    }

    pub fn inodes(&self) -> impl Iterator<Item = (u64, &Inode)> {
        self.inodes.iter().map(|(id, inode)| (*id, inode))
    }

    /// The newest ctime of all. Walks them.
    pub fn newest_change_ns(&self) -> Option<i64> {
        self.inodes.values().map(|inode| inode.ctime_ns).max()
    }

    pub fn inode_count(&self) -> u64 {
        self.inodes.len() as u64
    }

    pub fn put_inode(&mut self, id: u64, inode: Inode) {
        self.totals.file_bytes += u128::from(inode.file_bytes());
        self.totals.heap_bytes += inode.heap_bytes() as u64;
        if let Some(old) = self.inodes.insert(id, inode) {
            self.uncount(&old);
        }
    }

    /// Change an inode that was seen to exist; one that does not is left alone.
    pub fn edit(&mut self, id: u64, change: impl FnOnce(&mut Inode)) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        let (file_bytes, heap_bytes) = (inode.file_bytes(), inode.heap_bytes() as u64);
        change(inode);
        self.totals.file_bytes = self.totals.file_bytes - u128::from(file_bytes) + u128::from(inode.file_bytes());
        self.totals.heap_bytes = self.totals.heap_bytes - heap_bytes + inode.heap_bytes() as u64;
    }

    pub fn remove_inode(&mut self, id: u64) {
        if let Some(old) = self.inodes.remove(&id) {
            self.uncount(&old);
        }
        self.orphans.remove(&id);
        self.unnamed.remove(&id);
        self.appenders.remove(&id);
        let keys: Vec<Key> = self.xattrs_of(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove_xattr(id, &key);
        }
    }

    /// What a client is told of an inode.
    pub fn attr(&self, id: u64, inode: &Inode) -> proto::Attr {
        let mut attr = inode.attr(id);
        for (key, _) in self.xattrs_of(id) {
            attr.has_xattr = true;
            attr.has_acl |= key.space.is_acl();
        }
        attr
    }

    // ---- extended attributes ----

    pub fn xattr(&self, inode: u64, key: &Key) -> Option<&Arc<[u8]>> {
        self.xattrs.get(inode, key)
    }

    pub fn xattrs_of(&self, inode: u64) -> impl Iterator<Item = (&Key, &Arc<[u8]>)> {
        self.xattrs.of(inode)
    }

    pub fn xattrs(&self) -> &Xattrs {
        &self.xattrs
    }

    /// Of an inode that was seen to exist. Returns false when there was one of this name.
    pub fn put_xattr(&mut self, inode: u64, key: Key, value: Arc<[u8]>) -> bool {
        self.totals.heap_bytes += xattrs::heap_bytes(&key, &value);
        let Some(old) = self.xattrs.put(inode, key.clone(), value) else { return true };
        self.totals.heap_bytes -= xattrs::heap_bytes(&key, &old);
        false
    }

    /// Returns whether there was one.
    pub fn remove_xattr(&mut self, inode: u64, key: &Key) -> bool {
        let Some(old) = self.xattrs.remove(inode, key) else { return false };
        self.totals.heap_bytes -= xattrs::heap_bytes(key, &old);
        true
    }

    fn uncount(&mut self, inode: &Inode) {
        self.totals.file_bytes -= u128::from(inode.file_bytes());
        self.totals.heap_bytes -= inode.heap_bytes() as u64;
    }

    pub fn orphans(&self) -> impl Iterator<Item = u64> {
        self.orphans.iter().copied()
    }

    pub fn orphan_count(&self) -> u64 {
        self.orphans.len() as u64
    }

    pub fn is_orphan(&self, id: u64) -> bool {
        self.orphans.contains(&id)
    }

    pub fn put_orphan(&mut self, id: u64) {
        self.orphans.insert(id);
    }

    /// It has a name again, or for the first time.
    pub fn remove_orphan(&mut self, id: u64) {
        self.orphans.remove(&id);
        self.unnamed.remove(&id);
    }

    pub fn unnamed(&self) -> impl Iterator<Item = u64> {
        self.unnamed.iter().copied()
    }

    pub fn may_be_named(&self, id: u64) -> bool {
        self.unnamed.contains(&id)
    }

    /// Of an orphan. Returns false when it was one of them.
    pub fn put_unnamed(&mut self, id: u64) -> bool {
        self.unnamed.insert(id).is_none()
    }

    // ---- entries ----

    pub fn entry(&self, parent: u64, name: &[u8]) -> Option<Entry> {
        self.entries.get(&(parent, Name::new(name))).copied()
    }

    pub fn entries(&self) -> impl Iterator<Item = (u64, &Name, Entry)> {
        self.entries.iter().map(|((parent, name), entry)| (*parent, name, *entry))
    }

    pub fn entry_count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Add an entry under a name that was seen to be free, behind all others of its directory.
    pub fn add_entry(&mut self, parent: u64, name: &[u8], inode: u64) {
        let cookie = self.next.cookie;
        self.next.cookie += 1;
        self.put_entry(parent, Name::new(name), Entry { inode, cookie });
    }

    /// Returns false when the name or the cookie is taken: a damaged snapshot.
    pub fn put_entry(&mut self, parent: u64, name: Name, entry: Entry) -> bool {
        self.totals.heap_bytes += name.heap_bytes() as u64;
        let listed = Listed { name: name.clone(), inode: entry.inode };
        let old_listed = self.listing.insert((parent, entry.cookie), listed);
        let old_entry = self.entries.insert((parent, name), entry);
        old_listed.is_none() && old_entry.is_none()
    }

    /// Point an existing entry at another inode; its cookie stays.
    pub fn repoint_entry(&mut self, parent: u64, name: &[u8], inode: u64) {
        let Some(entry) = self.entries.get_mut(&(parent, Name::new(name))) else { return };
        entry.inode = inode;
        let cookie = entry.cookie;
        if let Some(listed) = self.listing.get_mut(&(parent, cookie)) {
            listed.inode = inode;
        }
    }

    pub fn remove_entry(&mut self, parent: u64, name: &[u8]) {
        let key = (parent, Name::new(name));
        if let Some(entry) = self.entries.remove(&key) {
            self.listing.remove(&(parent, entry.cookie));
            self.totals.heap_bytes -= key.1.heap_bytes() as u64;
        }
    }

    pub fn has_entries(&self, directory: u64) -> bool {
        self.listing.get_next(&(directory, 0)).is_some_and(|((parent, _), _)| *parent == directory)
    }

    /// The listing behind `cookie`, in the order in which entries were made.
    pub fn list(&self, directory: u64, cookie: u64) -> impl Iterator<Item = (u64, &Listed)> {
        let first = (directory, cookie.saturating_add(1));
        self.listing.range(first..=(directory, u64::MAX)).map(|((_, cookie), listed)| (*cookie, listed))
    }

    pub fn listing(&self) -> impl Iterator<Item = (u64, u64, &Listed)> {
        self.listing.iter().map(|((parent, cookie), listed)| (*parent, *cookie, listed))
    }

    // ---- chunks ----

    pub fn chunk(&self, id: u64) -> Result<&Chunk> {
        self.chunks.get(&id).ok_or_else(|| errors::no_chunk(id))
    }

    pub fn chunks_from(&self, id: u64) -> impl Iterator<Item = (u64, &Chunk)> {
        self.chunks.range(id..).map(|(id, chunk)| (*id, chunk))
    }

    pub fn chunk_count(&self) -> u64 {
        self.chunks.len() as u64
    }

    pub fn chunk_at(&self, inode: u64, index: u32) -> Option<(u64, &Chunk)> {
        let id = *self.file_chunks.get(&(inode, index))?;
        Some((id, self.chunks.get(&id)?))
    }

    /// The chunks of a file from `first` on, by index.
    pub fn chunks_of(&self, inode: u64, first: u32) -> impl Iterator<Item = (u64, &Chunk)> {
        self.file_chunks
            .range((inode, first)..=(inode, u32::MAX))
            .filter_map(|(_, id)| Some((*id, self.chunks.get(id)?)))
    }

    pub fn file_chunks(&self) -> impl Iterator<Item = ((u64, u32), u64)> {
        self.file_chunks.iter().map(|(key, id)| (*key, *id))
    }

    pub fn healing(&self) -> impl Iterator<Item = u64> {
        self.healing.iter().copied()
    }

    /// Returns false when the id or the place in the file is taken: a damaged snapshot.
    pub fn put_chunk(&mut self, id: u64, chunk: Chunk) -> bool {
        self.count_copies(chunk.servers, true);
        if chunk.heal.is_some() {
            self.healing.insert(id);
        }
        if chunk.stored_bytes > 0 {
            self.add_stored(chunk.inode, i64::from(chunk.stored_bytes));
        }
        let old_place = self.file_chunks.insert((chunk.inode, chunk.index), id);
        let old = self.chunks.insert(id, chunk);
        old_place.is_none() && old.is_none()
    }

    /// Change a chunk that was seen to exist, everything but its place in the file.
    pub fn edit_chunk(&mut self, id: u64, change: impl FnOnce(&mut Chunk)) {
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        let (old_servers, old_heal, old_stored) = (chunk.servers, chunk.heal, chunk.stored_bytes);
        change(chunk);
        let (servers, heal, stored, inode) = (chunk.servers, chunk.heal, chunk.stored_bytes, chunk.inode);
        if servers != old_servers {
            self.count_copies(old_servers, false);
            self.count_copies(servers, true);
        }
        if heal.is_some() && old_heal.is_none() {
            self.healing.insert(id);
        } else if heal.is_none() && old_heal.is_some() {
            self.healing.remove(&id);
        }
        if stored != old_stored {
            self.add_stored(inode, i64::from(stored) - i64::from(old_stored));
        }
    }

    /// Take a chunk out; what is returned says where its copies lie.
    pub fn remove_chunk(&mut self, id: u64) -> Option<FreedChunk> {
        let chunk = self.chunks.remove(&id)?;
        self.file_chunks.remove(&(chunk.inode, chunk.index));
        self.healing.remove(&id);
        self.grants.remove(&id);
        self.count_copies(chunk.servers, false);
        if chunk.stored_bytes > 0 {
            self.add_stored(chunk.inode, -i64::from(chunk.stored_bytes));
        }
        let mut servers = chunk.servers.as_slice().to_vec();
        servers.extend(chunk.heal.map(|heal| heal.target).filter(|target| *target != SETTLING));
        Some(FreedChunk { id, version: chunk.version, servers })
    }

    fn add_stored(&mut self, inode: u64, difference: i64) {
        if let Some(Inode { body: Body::Chunked { stored }, .. }) = self.inodes.get_mut(&inode) {
            *stored = stored.saturating_add_signed(difference);
        }
    }

    fn count_copies(&mut self, set: ServerSet, more: bool) {
        for server in set.as_slice() {
            if let Some(server) = self.servers.get_mut(server) {
                server.chunks = if more { server.chunks + 1 } else { server.chunks.saturating_sub(1) };
            }
        }
    }

    // ---- who writes ----

    pub fn grants(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.grants.iter().map(|(chunk, sessions)| (*chunk, &**sessions))
    }

    /// The sessions that may have sent bytes of this chunk which not all copies have.
    pub fn writers(&self, chunk: u64) -> &[u64] {
        self.grants.get(&chunk).map_or(&[], |sessions| sessions)
    }

    /// Returns false when there are some already, or no such chunk: a damaged snapshot.
    pub fn put_writers(&mut self, chunk: u64, sessions: &[u64]) -> bool {
        let sorted = !sessions.is_empty() && sessions.windows(2).all(|pair| pair[0] < pair[1]);
        sorted && self.chunks.contains_key(&chunk) && self.grants.insert(chunk, Arc::from(sessions)).is_none()
    }

    pub fn grant(&mut self, chunk: u64, session: u64) {
        let now = self.writers(chunk);
        if let Err(place) = now.binary_search(&session) {
            let mut sessions = now.to_vec();
            sessions.insert(place, session);
            self.grants.insert(chunk, Arc::from(sessions));
        }
    }

    /// The session has nothing under way for the chunk any more.
    pub fn settle(&mut self, chunk: u64, session: u64) {
        let left: Vec<u64> = self.writers(chunk).iter().copied().filter(|writer| *writer != session).collect();
        if left.is_empty() {
            self.grants.remove(&chunk);
        } else if left.len() < self.writers(chunk).len() {
            self.grants.insert(chunk, Arc::from(left));
        }
    }

    pub fn settle_all(&mut self, chunk: u64) {
        self.grants.remove(&chunk);
    }

    /// The session will never say what became of its bytes in these chunks.
    pub fn abandon(&mut self, chunk: u64, session: u64) {
        if self.writers(chunk).contains(&session) {
            self.settle(chunk, session);
            self.grant(chunk, ENDED);
        }
    }

    pub fn appender(&self, inode: u64) -> Option<Appender> {
        self.appenders.get(&inode).copied()
    }

    pub fn appenders(&self) -> impl Iterator<Item = (u64, Appender)> {
        self.appenders.iter().map(|(inode, appender)| (*inode, *appender))
    }

    pub fn put_appender(&mut self, inode: u64, appender: Appender) -> bool {
        self.appenders.insert(inode, appender).is_none()
    }

    pub fn remove_appender(&mut self, inode: u64) {
        self.appenders.remove(&inode);
    }

    // ---- servers ----

    pub fn server(&self, id: u32) -> Option<&Server> {
        self.servers.get(&id)
    }

    pub fn servers(&self) -> impl Iterator<Item = (u32, &Server)> {
        self.servers.iter().map(|(id, server)| (*id, server))
    }

    pub fn server_mut(&mut self, id: u32) -> Option<&mut Server> {
        self.servers.get_mut(&id)
    }

    pub fn put_server(&mut self, id: u32, server: Server) -> bool {
        self.servers.insert(id, server).is_none()
    }

    pub fn remove_server(&mut self, id: u32) {
        self.servers.remove(&id);
    }

    // ---- sessions ----

    pub fn session(&self, id: u64) -> Result<&Session> {
        self.sessions.get(&id).ok_or_else(|| errors::no_session(id))
    }

    pub fn sessions(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    pub fn put_session(&mut self, id: u64, session: Session) -> bool {
        self.sessions.insert(id, session).is_none()
    }

    pub fn forget_replies(&mut self, id: u64, acked_below: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.totals.heap_bytes -= session.forget_below(acked_below) as u64;
        }
    }

    /// Remember a reply. Returns false when one was there: a damaged snapshot.
    pub fn put_reply(&mut self, id: u64, op_id: u64, reply: Arc<[u8]>) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        self.totals.heap_bytes += reply.len() as u64;
        session.replies.insert(op_id, reply).is_none()
    }

    pub fn remove_session(&mut self, id: u64) -> bool {
        let Some(session) = self.sessions.remove(&id) else { return false };
        let replies: usize = session.replies.values().map(|reply| reply.len()).sum();
        self.totals.heap_bytes -= replies as u64;
        let granted: Vec<u64> =
            self.grants().filter(|(_, writers)| writers.contains(&id)).map(|(chunk, _)| chunk).collect();
        for chunk in granted {
            self.abandon(chunk, id);
        }
        true
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }
}
