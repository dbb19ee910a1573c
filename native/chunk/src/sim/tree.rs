//! The file system on a simulated disk: names and bytes, each as a process sees it and as the medium has it, with the
//! changes in between. It knows nothing of processes and faults.
//!
//! Invariant: what the medium has plus all unsynced changes in order is what a process sees, except after a failed sync.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::{Change, Content};
use super::errno;
use super::power::Luck;
use crate::fs::Access;

type Names = BTreeMap<String, u64>;

/// A change that the medium lacks, with a number that grows over the whole disk.
#[derive(Clone)]
struct Unsynced<T> {
    number: u64,
    change: T,
}

#[derive(Clone)]
enum NameChange {
    Put(String, u64),
    Remove(String),
    /// At once, as POSIX has it.
    Move {
        from: String,
        to: String,
        inode: u64,
    },
}

#[derive(Clone)]
enum Node {
    File {
        seen: Content,
        durable: Content,
        unsynced: Vec<Unsynced<Change>>,
        /// A sync failed: the medium lacks something that is not among `unsynced`.
        diverged: bool,
    },
    Folder {
        seen: Names,
        durable: Names,
        unsynced: Vec<Unsynced<NameChange>>,
    },
}

const ROOT: u64 = 0;

#[derive(Clone)]
pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    /// Of the next change.
    number: u64,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { nodes: BTreeMap::from([(ROOT, Node::folder())]), next_inode: ROOT + 1, number: 0 }
    }
}

impl Node {
    fn file() -> Node {
        Node::File { seen: Content::default(), durable: Content::default(), unsynced: Vec::new(), diverged: false }
    }

    fn folder() -> Node {
        Node::Folder { seen: Names::new(), durable: Names::new(), unsynced: Vec::new() }
    }

    fn sync(&mut self) {
        match self {
            Node::File { seen, durable, unsynced, diverged } => {
                for Unsynced { change, .. } in unsynced.drain(..) {
                    if *diverged {
                        durable.apply(&change);
                    } else {
                        durable.follow(&change, seen);
                    }
                }
            }
            Node::Folder { seen, durable, unsynced } => {
                *durable = seen.clone();
                unsynced.clear();
            }
        }
    }

    /// What the medium has after some of the unsynced changes reached it.
    fn settle(&mut self, luck: &mut Luck) {
        luck.next_file();
        match self {
            Node::File { durable, unsynced, .. } => {
                for Unsynced { number, change } in unsynced.drain(..) {
                    match change {
                        Change::Write(offset, bytes) => write_pieces(durable, &bytes, offset, number, luck),
                        change if luck.keeps(number) => durable.apply(&change),
                        _ => {}
                    }
                }
            }
            Node::Folder { durable, unsynced, .. } => {
                for Unsynced { number, change } in unsynced.drain(..) {
                    if luck.keeps(number) {
                        rename(durable, change);
                    }
                }
            }
        }
    }

    /// From here on a process sees what the medium has.
    fn forget_cache(&mut self) {
        match self {
            Node::File { seen, durable, diverged, .. } => {
                *seen = durable.clone();
                *diverged = false;
            }
            Node::Folder { seen, durable, .. } => *seen = durable.clone(),
        }
    }

    fn numbers(&self) -> Vec<u64> {
        match self {
            Node::File { unsynced, .. } => unsynced.iter().map(|change| change.number).collect(),
            Node::Folder { unsynced, .. } => unsynced.iter().map(|change| change.number).collect(),
        }
    }
}

fn write_pieces(durable: &mut Content, bytes: &[u8], offset: u64, number: u64, luck: &mut Luck) {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done as u64;
        let step = luck.piece_bytes(at).min(bytes.len() - done);
        if luck.keeps(number) {
            durable.write(&bytes[done..done + step], at);
        }
        done += step;
    }
}

fn rename(names: &mut Names, change: NameChange) {
    match change {
        NameChange::Put(name, inode) => drop(names.insert(name, inode)),
        NameChange::Remove(name) => drop(names.remove(&name)),
        NameChange::Move { from, to, inode } => {
            names.remove(&from);
            names.insert(to, inode);
        }
    }
}

/// The last name of a path.
fn last_name(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_string).ok_or_else(|| errno(libc::EINVAL))
}

impl Tree {
    // ---- names ----

    /// The inode that a relative path names.
    pub fn find(&self, path: &Path) -> io::Result<u64> {
        let names = path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
        names.into_iter().try_fold(ROOT, |inode, part| {
            let name = part.as_os_str().to_str().ok_or_else(|| errno(libc::EINVAL))?;
            self.names(inode)?.get(name).copied().ok_or_else(|| errno(libc::ENOENT))
        })
    }

    fn names(&self, inode: u64) -> io::Result<&Names> {
        match self.nodes.get(&inode) {
            Some(Node::Folder { seen, .. }) => Ok(seen),
            Some(Node::File { .. }) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn change_names(&mut self, folder: u64, change: NameChange) -> io::Result<()> {
        let number = self.next_number();
        match self.nodes.get_mut(&folder) {
            Some(Node::Folder { seen, unsynced, .. }) => {
                unsynced.push(Unsynced { number, change: change.clone() });
                rename(seen, change);
                Ok(())
            }
            Some(Node::File { .. }) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<u64> {
        let folder = self.find(path.parent().unwrap_or(Path::new("")))?;
        let name = last_name(path)?;
        if self.names(folder)?.contains_key(&name) {
            return Err(errno(libc::EEXIST));
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        self.change_names(folder, NameChange::Put(name, inode))?;
        Ok(inode)
    }

    pub fn open(&mut self, path: &Path, access: Access) -> io::Result<u64> {
        let inode = match self.find(path) {
            Err(error) if access.create && error.kind() == io::ErrorKind::NotFound => self.add(path, Node::file())?,
            other => other?,
        };
        if access.truncate {
            self.change(inode, Change::Truncate(0))?;
        }
        Ok(inode)
    }

    pub fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, Node::folder()).map(drop)
    }

    /// Within one directory.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(errno(libc::EXDEV));
        }
        let inode = self.find(from)?;
        let folder = self.find(from.parent().unwrap_or(Path::new("")))?;
        self.change_names(folder, NameChange::Move { from: last_name(from)?, to: last_name(to)?, inode })
    }

    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.content(self.find(path)?)?;
        let folder = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.change_names(folder, NameChange::Remove(last_name(path)?))
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.names(self.find(path)?)?.keys().cloned().collect())
    }

    pub fn is_dir(&self, path: &Path) -> io::Result<bool> {
        Ok(matches!(self.nodes.get(&self.find(path)?), Some(Node::Folder { .. })))
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        self.walk(ROOT, &PathBuf::new(), &mut paths);
        paths
    }

    fn walk(&self, folder: u64, path: &Path, paths: &mut Vec<PathBuf>) {
        for (name, &inode) in self.names(folder).into_iter().flatten() {
            let path = path.join(name);
            match self.nodes.get(&inode) {
                Some(Node::Folder { .. }) => self.walk(inode, &path, paths),
                _ => paths.push(path),
            }
        }
    }

    // ---- bytes ----

    pub fn content(&self, inode: u64) -> io::Result<&Content> {
        match self.nodes.get(&inode) {
            Some(Node::File { seen, .. }) => Ok(seen),
            Some(Node::Folder { .. }) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        let number = self.next_number();
        match self.nodes.get_mut(&inode) {
            Some(Node::File { seen, unsynced, .. }) => {
                seen.apply(&change);
                unsynced.push(Unsynced { number, change });
                Ok(())
            }
            Some(Node::Folder { .. }) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(inode, Change::Write(offset, Arc::from(bytes)))
    }

    pub fn used_bytes(&self) -> u64 {
        let allocated = |node: &Node| match node {
            Node::File { seen, .. } => seen.allocated_bytes(),
            Node::Folder { .. } => 0,
        };
        self.nodes.values().map(allocated).sum()
    }

    pub fn flip(&mut self, inode: u64, offset: u64) -> bool {
        match self.nodes.get_mut(&inode) {
            Some(Node::File { seen, durable, .. }) => {
                durable.flip(offset);
                seen.flip(offset)
            }
            _ => false,
        }
    }

    // ---- durability ----

    /// Make a file's bytes, or a folder's names, durable.
    pub fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.nodes.get_mut(&inode).map(Node::sync).ok_or_else(|| errno(libc::ENOENT))
    }

    pub fn sync_all(&mut self) {
        self.nodes.values_mut().for_each(Node::sync);
    }

    /// A sync failed: some of it reached the medium, and the rest never will, though it is seen until the process ends
    /// and the cache is dropped.
    pub fn fail_sync(&mut self, inode: u64, luck: &mut Luck) {
        match self.nodes.get_mut(&inode) {
            Some(Node::Folder { .. }) | None => {}
            Some(node) => {
                node.settle(luck);
                if let Node::File { diverged, .. } = node {
                    *diverged = true;
                }
            }
        }
    }

    pub fn lose_power(&mut self, luck: &mut Luck) {
        let numbers: Vec<u64> = self.nodes.values().flat_map(Node::numbers).collect();
        let first = numbers.iter().min().copied().unwrap_or(self.number);
        luck.choose_mood(first..self.number);
        for node in self.nodes.values_mut() {
            node.settle(luck);
            node.forget_cache();
        }
    }

    /// Drop what has no name, now nor on the medium, once no handle is left.
    pub fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut left = vec![ROOT];
        while let Some(inode) = left.pop() {
            if !reached.insert(inode) {
                continue;
            }
            if let Some(Node::Folder { seen, durable, unsynced }) = self.nodes.get(&inode) {
                left.extend(seen.values().chain(durable.values()));
                // A name that was made and went again may come back with the power.
                left.extend(unsynced.iter().filter_map(|change| match change.change {
                    NameChange::Put(_, inode) | NameChange::Move { inode, .. } => Some(inode),
                    NameChange::Remove(_) => None,
                }));
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }

    /// A hash of all names and bytes, seen and durable.
    pub fn digest(&self) -> u64 {
        let mut hash = Hash(0);
        for (inode, node) in &self.nodes {
            hash.add(*inode);
            match node {
                Node::File { seen, durable, .. } => {
                    for content in [seen, durable] {
                        hash.add(content.length());
                        for (page, bytes) in content.pages() {
                            hash.add(page);
                            hash.add_bytes(bytes);
                        }
                    }
                }
                Node::Folder { seen, durable, .. } => {
                    for (name, inode) in seen.iter().chain(durable) {
                        hash.add_bytes(name.as_bytes());
                        hash.add(*inode);
                    }
                }
            }
        }
        hash.0
    }
}

struct Hash(u64);

impl Hash {
    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.add(u64::from_le_bytes(word));
        }
    }
}
