//! What must hold in every state, checked the slow way: for tests, and for whoever doubts.

use std::collections::{BTreeMap, BTreeSet};

use base::limits::{CHUNK_BYTES, MAX_FILE_BYTES, MAX_XATTR_BYTES, MAX_XATTRS_BYTES};

use crate::acl::Acl;
use crate::chunk::SETTLING;
use crate::inode::{Body, Inode, ROOT};
use crate::session::MAX_REPLIES;
use crate::state::State;
use crate::tables::{ENDED, Tables};
use crate::xattrs::{self, Space};

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

impl State {
    /// The invariants of the name space, the chunks and the sessions; the error names the first that does not hold.
    pub fn check(&self) -> Result<(), String> {
        if self.tables.config.is_none() {
            ensure!(self.tables.inode_count() == 0, "there are inodes before a cluster");
            return Ok(());
        }
        check_entries(&self.tables)?;
        check_links(&self.tables)?;
        check_tree(&self.tables)?;
        check_chunks(&self.tables)?;
        check_writers(&self.tables)?;
        check_sessions(&self.tables)?;
        check_xattrs(&self.tables)?;
        check_unnamed(&self.tables)?;
        check_totals(&self.tables)
    }
}

/// Both entry tables hold the same; nothing dangles.
fn check_entries(tables: &Tables) -> Result<(), String> {
    let mut listed_count = 0;
    for (parent, cookie, listed) in tables.listing() {
        listed_count += 1;
        let entry = tables.entry(parent, listed.name.as_slice());
        ensure!(
            entry.is_some_and(|entry| entry.inode == listed.inode && entry.cookie == cookie),
            "{:?} of {parent} is listed as {listed:?} but indexed as {entry:?}",
            listed.name
        );
        ensure!(tables.directory(parent).is_ok(), "{parent} has entries but is no directory");
        ensure!(tables.inode(listed.inode).is_ok(), "{:?} of {parent} dangles", listed.name);
        ensure!(cookie < tables.next.cookie, "cookie {cookie} was never given out");
    }
    ensure!(listed_count == tables.entry_count(), "{listed_count} entries listed, {} indexed", tables.entry_count());
    Ok(())
}

/// Link counts are the numbers of names; what has no name is an orphan.
fn check_links(tables: &Tables) -> Result<(), String> {
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut subdirectories: BTreeMap<u64, u32> = BTreeMap::new();
    for (parent, _, entry) in tables.entries() {
        *names.entry(entry.inode).or_default() += 1;
        if let Ok(Body::Directory { parent: above }) = tables.inode(entry.inode).map(|inode| &inode.body) {
            *subdirectories.entry(parent).or_default() += 1;
            ensure!(*above == parent, "directory {} lies in {parent} but points to {above}", entry.inode);
        }
    }
    for (id, inode) in tables.inodes() {
        let named = names.get(&id).copied().unwrap_or(0);
        let expected = match inode.is_directory() {
            true if id != ROOT && named == 0 => 0,
            true => 2 + subdirectories.get(&id).copied().unwrap_or(0),
            false => named,
        };
        ensure!(inode.nlink == expected, "inode {id} has {} links, not {expected}", inode.nlink);
        ensure!(
            !inode.is_directory() || named == u32::from(id != ROOT && expected > 0),
            "directory {id}: {named} names"
        );
        ensure!(tables.is_orphan(id) == (inode.nlink == 0), "inode {id}: orphan mark and links disagree");
        ensure!(
            !(inode.is_directory() && inode.nlink == 0 && tables.has_entries(id)),
            "removed directory {id} is full"
        );
        ensure!(id < tables.next.inode && id > 0, "inode number {id} was never given out");
    }
    for id in tables.orphans() {
        ensure!(tables.inode(id).is_ok(), "orphan {id} does not exist");
    }
    Ok(())
}

/// From every named directory the root is above.
fn check_tree(tables: &Tables) -> Result<(), String> {
    ensure!(tables.directory(ROOT).is_ok(), "there is no root directory");
    let mut above_root: BTreeSet<u64> = BTreeSet::from([ROOT]);
    for (id, inode) in tables.inodes().filter(|(_, inode)| inode.is_directory() && inode.nlink > 0) {
        let (mut at, mut body, mut path) = (id, &inode.body, Vec::new());
        while !above_root.contains(&at) {
            ensure!(!path.contains(&at), "directory {id} lies in a loop");
            path.push(at);
            let Body::Directory { parent } = body else { return Err(format!("{at} is above {id} but no directory")) };
            at = *parent;
            body = &tables.inode(at).map_err(|error| error.message)?.body;
        }
        above_root.extend(path);
    }
    Ok(())
}

/// Grants belong to chunks, turns to files; whoever has one is registered, or has ended.
fn check_writers(tables: &Tables) -> Result<(), String> {
    for (chunk, writers) in tables.grants() {
        ensure!(tables.chunk(chunk).is_ok(), "chunk {chunk} is granted and does not exist");
        ensure!(
            !writers.is_empty() && writers.windows(2).all(|pair| pair[0] < pair[1]),
            "grants of {chunk}: {writers:?}"
        );
        let unknown = writers.iter().find(|writer| **writer != ENDED && tables.session(**writer).is_err());
        ensure!(unknown.is_none(), "chunk {chunk} is granted to {unknown:?}, which has ended");
    }
    for (inode, _) in tables.appenders() {
        ensure!(tables.inode(inode).is_ok_and(Inode::is_file), "inode {inode} is appended to and is no file");
    }
    Ok(())
}

fn check_chunks(tables: &Tables) -> Result<(), String> {
    let mut copies: BTreeMap<u32, u64> = BTreeMap::new();
    let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
    let healing: BTreeSet<u64> = tables.healing().collect();
    for (id, chunk) in tables.chunks_from(0) {
        ensure!(id < tables.next.chunk && id > 0, "chunk id {id} was never given out");
        ensure!(chunk.version > 0, "chunk {id} has no version");
        let inode = tables.inode(chunk.inode).map_err(|error| format!("chunk {id}: {}", error.message))?;
        ensure!(inode.is_file(), "chunk {id} belongs to inode {}, which is no file", chunk.inode);
        ensure!(
            matches!(inode.body, Body::Chunked { .. }) || !chunk.written,
            "chunk {id} of an inline file is written"
        );
        ensure!(u64::from(chunk.index) < MAX_FILE_BYTES / CHUNK_BYTES, "chunk {id} has index {}", chunk.index);
        ensure!(
            tables.chunk_at(chunk.inode, chunk.index).is_some_and(|(found, _)| found == id),
            "chunk {id} is not where its file has it"
        );
        ensure!(chunk.servers.len() > 0, "chunk {id} has no copies");
        for (at, &server) in chunk.servers.as_slice().iter().enumerate() {
            ensure!(tables.server(server).is_some(), "chunk {id} lies on unknown server {server}");
            ensure!(!chunk.servers.as_slice()[..at].contains(&server), "chunk {id} lies twice on server {server}");
            *copies.entry(server).or_default() += 1;
        }
        ensure!(healing.contains(&id) == chunk.heal.is_some(), "chunk {id}: healing marks disagree");
        if let Some(heal) = chunk.heal {
            ensure!(!chunk.servers.contains(heal.target), "chunk {id} is healed to where it lies");
            let known = heal.target == SETTLING || tables.server(heal.target).is_some();
            ensure!(known, "chunk {id} is healed to an unknown server");
            ensure!(heal.id < tables.next.heal && heal.id > 0, "heal {} was never given out", heal.id);
        }
        ensure!(chunk.trim.is_none_or(|trim| u64::from(trim) < CHUNK_BYTES), "chunk {id} is cut behind its end");
        ensure!(chunk.written || chunk.stored_bytes == 0, "chunk {id} stores bytes that nobody committed");
        *stored.entry(chunk.inode).or_default() += u64::from(chunk.stored_bytes);
    }
    ensure!(tables.file_chunks().count() as u64 == tables.chunk_count(), "files have more chunks than there are");
    for (id, server) in tables.servers() {
        let held = copies.get(&id).copied().unwrap_or(0);
        ensure!(server.chunks == held, "server {id} counts {} chunks, not {held}", server.chunks);
        ensure!(server.epoch < tables.next.epoch, "epoch {} was never given out", server.epoch);
    }
    for (id, inode) in tables.inodes() {
        if let Body::Chunked { stored: counted } = inode.body {
            let sum = stored.get(&id).copied().unwrap_or(0);
            ensure!(counted == sum, "inode {id} counts {counted} stored bytes, not {sum}");
        }
    }
    Ok(())
}

fn check_sessions(tables: &Tables) -> Result<(), String> {
    for (id, session) in tables.sessions() {
        ensure!(id < tables.next.session && id > 0, "session {id} was never given out");
        ensure!(session.replies.len() <= MAX_REPLIES, "session {id} remembers {} replies", session.replies.len());
        let first = session.replies.get_min().map(|(op_id, _)| *op_id);
        ensure!(first.is_none_or(|op_id| op_id >= session.acked_below), "session {id} remembers what was acknowledged");
    }
    Ok(())
}

fn check_unnamed(tables: &Tables) -> Result<(), String> {
    let named = tables.unnamed().find(|id| !tables.is_orphan(*id) || !tables.inode(*id).is_ok_and(Inode::is_file));
    ensure!(named.is_none(), "{named:?} counts as a file without a name");
    Ok(())
}

/// Of inodes that exist, not too much of each, and lists where they may be that say what the mode says.
fn check_xattrs(tables: &Tables) -> Result<(), String> {
    let mut bytes: BTreeMap<u64, usize> = BTreeMap::new();
    for (id, key, value) in tables.xattrs().all() {
        let name = String::from_utf8_lossy(&key.whole()).into_owned();
        let inode = tables.inode(id).map_err(|_| format!("{name} is of inode {id}, which is not there"))?;
        *bytes.entry(id).or_default() += xattrs::bytes_of(key, value);
        ensure!(value.len() <= MAX_XATTR_BYTES, "{name} of inode {id} has {} bytes", value.len());
        if key.space.is_acl() {
            let Ok(Some(acl)) = Acl::parse(value) else { return Err(format!("{name} of inode {id} is no list")) };
            let (mode, is_minimal) = acl.mode();
            let fits = match key.space {
                Space::AccessAcl => !is_minimal && mode == inode.mode & 0o777 && !inode.is_symlink(),
                _ => inode.is_directory(),
            };
            ensure!(fits, "{name} of inode {id} does not fit its mode {:o}", inode.mode);
        }
    }
    let most = bytes.iter().find(|(_, bytes)| **bytes > MAX_XATTRS_BYTES);
    ensure!(most.is_none(), "inode and bytes of attributes: {most:?}");
    Ok(())
}

fn check_totals(tables: &Tables) -> Result<(), String> {
    let limit = tables.config.as_ref().map_or(0, |config| u64::from(config.inline_limit));
    let (mut file_bytes, mut heap_bytes) = (0, 0);
    for (id, inode) in tables.inodes() {
        file_bytes += u128::from(inode.file_bytes());
        heap_bytes += inode.heap_bytes() as u64;
        ensure!(inode.mode <= 0o7777, "inode {id} has mode {:o}", inode.mode);
        ensure!(inode.size <= MAX_FILE_BYTES, "inode {id} has {} bytes", inode.size);
        if let Body::Inline { data, .. } = &inode.body {
            let length = data.len() as u64;
            ensure!(length <= inode.size && length <= limit, "inode {id}: {length} inline bytes are too many");
        }
    }
    heap_bytes += tables.entries().map(|(_, name, _)| name.heap_bytes() as u64).sum::<u64>();
    heap_bytes += tables.xattrs().all().map(|(_, key, value)| xattrs::heap_bytes(key, value)).sum::<u64>();
    for (_, session) in tables.sessions() {
        heap_bytes += session.replies.values().map(|reply| reply.len() as u64).sum::<u64>();
    }
    let totals = tables.totals();
    ensure!(totals.file_bytes == file_bytes, "files have {file_bytes} bytes, counted {}", totals.file_bytes);
    ensure!(totals.heap_bytes == heap_bytes, "records hold {heap_bytes} bytes, counted {}", totals.heap_bytes);
    Ok(())
}
