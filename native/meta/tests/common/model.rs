//! A plain, slow model of the name space, written from the manual pages and not from the state machine: link counts are
//! counted, content is bytes.

use std::collections::BTreeMap;

use libc::*;
use wire::proto::Credentials;

const ROOT: u64 = 1;

#[derive(Clone, Debug)]
pub enum Kind {
    Dir { parent: u64, entries: BTreeMap<Vec<u8>, u64> },
    File { data: Vec<u8> },
    Symlink,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: BTreeMap<u64, Node>,
    next: u64,
    now: i64,
    who: Credentials,
    limit: usize,
}

type Done = Result<u64, i32>;

impl Model {
    pub fn new(limit: usize, now: i64) -> Model {
        let kind = Kind::Dir { parent: ROOT, entries: BTreeMap::new() };
        let root = Node { kind, mode: 0o755, uid: 0, gid: 0, atime: now, mtime: now, ctime: now };
        Model { nodes: BTreeMap::from([(ROOT, root)]), next: 2, now, who: Credentials::default(), limit }
    }

    pub fn at(&mut self, now: i64, who: &Credentials) -> &mut Model {
        self.now = now;
        self.who = who.clone();
        self
    }

    pub fn nlink(&self, id: u64) -> u32 {
        let named = self.entries_of_all().filter(|(_, child)| *child == id).count() as u32;
        let is_dir = |id: u64| matches!(self.nodes[&id].kind, Kind::Dir { .. });
        if !is_dir(id) {
            return named;
        }
        if named == 0 && id != ROOT {
            return 0;
        }
        2 + self.entries_of_all().filter(|(parent, child)| *parent == id && is_dir(*child)).count() as u32
    }

    fn entries_of_all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.nodes.iter().flat_map(|(id, node)| match &node.kind {
            Kind::Dir { entries, .. } => entries.values().map(|child| (*id, *child)).collect::<Vec<_>>(),
            _ => Vec::new(),
        })
    }

    // ---- rights ----

    fn root(&self) -> bool {
        self.who.uid == 0
    }

    fn member(&self, gid: u32) -> bool {
        self.who.gid == gid || self.who.groups.contains(&gid)
    }

    fn owner(&self, id: u64) -> bool {
        self.root() || self.nodes[&id].uid == self.who.uid
    }

    fn may(&self, id: u64, read: bool, write: bool, execute: bool) -> Result<(), i32> {
        if self.root() {
            return Ok(()); // the model only asks execution of directories
        }
        let node = &self.nodes[&id];
        let class = match () {
            _ if node.uid == self.who.uid => 6,
            _ if self.member(node.gid) => 3,
            _ => 0,
        };
        let has = |bit: u32| node.mode & (bit << class) != 0;
        if (read && !has(4)) || (write && !has(2)) || (execute && !has(1)) { Err(EACCES) } else { Ok(()) }
    }

    fn sticky(&self, dir: u64, victim: u64) -> Result<(), i32> {
        self.may(dir, false, true, true)?;
        let sticky = self.nodes[&dir].mode & 0o1000 != 0;
        if sticky && !self.owner(dir) && !self.owner(victim) { Err(EPERM) } else { Ok(()) }
    }

    // ---- finding ----

    fn dir(&self, id: u64) -> Result<&BTreeMap<Vec<u8>, u64>, i32> {
        match self.nodes.get(&id).map(|node| &node.kind) {
            None => Err(ESTALE),
            Some(Kind::Dir { entries, .. }) => Ok(entries),
            Some(_) => Err(ENOTDIR),
        }
    }

    fn is_dir(&self, id: u64) -> bool {
        self.dir(id).is_ok()
    }

    fn child(&self, dir: u64, name: &[u8]) -> Result<Option<u64>, i32> {
        let entries = self.dir(dir)?;
        self.may(dir, false, false, true)?;
        Ok(entries.get(name).copied())
    }

    pub fn lookup(&self, dir: u64, name: &[u8]) -> Done {
        let found = self.child(dir, name)?;
        match (name, &self.nodes[&dir].kind) {
            (b".", _) => Ok(dir),
            (b"..", Kind::Dir { parent, .. }) => Ok(*parent),
            _ => found.ok_or(ENOENT),
        }
    }

    // ---- changing ----

    fn put(&mut self, dir: u64, name: &[u8], id: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&dir).unwrap();
        let Kind::Dir { entries, .. } = &mut node.kind else { panic!("{dir} is no directory") };
        entries.insert(name.to_vec(), id);
        (node.mtime, node.ctime) = (now, now);
    }

    fn take(&mut self, dir: u64, name: &[u8]) {
        let now = self.now;
        let node = self.nodes.get_mut(&dir).unwrap();
        let Kind::Dir { entries, .. } = &mut node.kind else { panic!("{dir} is no directory") };
        entries.remove(name);
        (node.mtime, node.ctime) = (now, now);
    }

    fn touch(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().ctime = self.now;
    }

    fn creatable(&self, dir: u64, name: &[u8]) -> Result<(), i32> {
        if self.child(dir, name)?.is_some() || name == b"." || name == b".." {
            return Err(EEXIST);
        }
        self.writable(dir)
    }

    fn writable(&self, dir: u64) -> Result<(), i32> {
        if self.nlink(dir) == 0 {
            return Err(ENOENT);
        }
        self.may(dir, false, true, true)
    }

    fn make(&mut self, dir: u64, name: &[u8], kind: Kind, mut mode: u32) -> Done {
        let parent = &self.nodes[&dir];
        let inherits = parent.mode & 0o2000 != 0;
        let gid = if inherits { parent.gid } else { self.who.gid };
        if matches!(kind, Kind::Dir { .. }) {
            mode = mode & 0o1777 | if inherits { 0o2000 } else { 0 };
        } else if !self.root() && !self.member(gid) {
            mode &= !0o2000;
        }
        let (id, now) = (self.next, self.now);
        self.next += 1;
        self.nodes.insert(id, Node { kind, mode, uid: self.who.uid, gid, atime: now, mtime: now, ctime: now });
        self.put(dir, name, id);
        Ok(id)
    }

    pub fn mkdir(&mut self, dir: u64, name: &[u8], mode: u32) -> Done {
        self.creatable(dir, name)?;
        self.make(dir, name, Kind::Dir { parent: dir, entries: BTreeMap::new() }, mode)
    }

    pub fn symlink(&mut self, dir: u64, name: &[u8]) -> Done {
        self.creatable(dir, name)?;
        self.make(dir, name, Kind::Symlink, 0o777)
    }

    pub fn create(&mut self, dir: u64, name: &[u8], mode: u32, exclusive: bool, truncate: bool) -> Done {
        let found = self.child(dir, name)?;
        if name == b"." || name == b".." {
            return Err(if exclusive { EEXIST } else { EISDIR });
        }
        let Some(id) = found else {
            self.writable(dir)?;
            return self.make(dir, name, Kind::File { data: Vec::new() }, mode);
        };
        if exclusive {
            return Err(EEXIST);
        }
        match self.nodes[&id].kind {
            Kind::Dir { .. } => return Err(EISDIR),
            Kind::Symlink => return Err(ELOOP),
            Kind::File { .. } => {}
        }
        self.may(id, true, truncate, false)?;
        if truncate {
            self.resize(id, 0);
        }
        Ok(id)
    }

    pub fn unlink(&mut self, dir: u64, name: &[u8]) -> Done {
        let found = self.child(dir, name)?;
        if name == b"." || name == b".." {
            return Err(EISDIR);
        }
        let id = found.ok_or(ENOENT)?;
        self.sticky(dir, id)?;
        if self.is_dir(id) {
            return Err(EISDIR);
        }
        self.take(dir, name);
        self.touch(id);
        Ok(id)
    }

    pub fn rmdir(&mut self, dir: u64, name: &[u8]) -> Done {
        let found = self.child(dir, name)?;
        match name {
            b"." => return Err(EINVAL),
            b".." => return Err(ENOTEMPTY),
            _ => {}
        }
        let id = found.ok_or(ENOENT)?;
        self.sticky(dir, id)?;
        if !self.dir(id)?.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.take(dir, name);
        self.touch(id);
        Ok(id)
    }

    pub fn link(&mut self, id: u64, dir: u64, name: &[u8]) -> Done {
        if !self.nodes.contains_key(&id) {
            return Err(ESTALE);
        }
        self.creatable(dir, name)?;
        if self.is_dir(id) {
            return Err(EPERM);
        }
        if self.nlink(id) == 0 {
            return Err(ENOENT);
        }
        self.put(dir, name, id);
        self.touch(id);
        Ok(id)
    }

    fn above(&self, mut id: u64) -> Vec<u64> {
        let mut path = vec![id];
        while id != ROOT {
            let Some(Node { kind: Kind::Dir { parent, .. }, .. }) = self.nodes.get(&id) else { break };
            id = *parent;
            path.push(id);
        }
        path
    }

    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), flags: u32) -> Done {
        if flags > 2 {
            return Err(EINVAL);
        }
        let (noreplace, exchange) = (flags == 1, flags == 2);
        let (source, target) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        if [from.1, to.1].iter().any(|name| *name == b"." || *name == b"..") {
            return Err(EBUSY);
        }
        let source = source.ok_or(ENOENT)?;
        match target {
            Some(_) if noreplace => return Err(EEXIST),
            None if exchange => return Err(ENOENT),
            Some(target) if target == source => return Ok(source),
            _ => {}
        }
        if self.above(to.0).contains(&source) {
            return Err(EINVAL);
        }
        if target.is_some_and(|target| self.above(from.0).contains(&target)) {
            return Err(if exchange { EINVAL } else { ENOTEMPTY });
        }
        self.sticky(from.0, source)?;
        match target {
            None => self.writable(to.0)?,
            Some(target) => {
                self.sticky(to.0, target)?;
                match (self.is_dir(source), self.is_dir(target)) {
                    (true, false) if !exchange => return Err(ENOTDIR),
                    (false, true) if !exchange => return Err(EISDIR),
                    _ => {}
                }
                if exchange && from.0 != to.0 && self.is_dir(target) {
                    self.may(target, false, true, false)?;
                }
            }
        }
        if from.0 != to.0 && self.is_dir(source) {
            self.may(source, false, true, false)?;
        }
        if !exchange && target.is_some_and(|target| self.dir(target).is_ok_and(|entries| !entries.is_empty())) {
            return Err(ENOTEMPTY);
        }
        self.take(from.0, from.1);
        self.put(to.0, to.1, source);
        self.moved(source, to.0);
        if let Some(target) = target {
            if exchange {
                self.put(from.0, from.1, target);
                self.moved(target, from.0);
            } else {
                self.touch(target);
            }
        }
        Ok(source)
    }

    fn moved(&mut self, id: u64, to: u64) {
        self.touch(id);
        if let Kind::Dir { parent, .. } = &mut self.nodes.get_mut(&id).unwrap().kind {
            *parent = to;
        }
    }

    fn drop_set_id(&mut self, id: u64) {
        let stranger = !self.root() && !self.member(self.nodes[&id].gid);
        let node = self.nodes.get_mut(&id).unwrap();
        node.mode &= !0o4000;
        if node.mode & 0o010 != 0 || stranger {
            node.mode &= !0o2000;
        }
    }

    fn resize(&mut self, id: u64, size: usize) {
        if !self.root() {
            self.drop_set_id(id);
        }
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let Kind::File { data } = &mut node.kind else { panic!("{id} is no file") };
        data.resize(size, 0);
        (node.mtime, node.ctime) = (now, now);
    }

    pub fn write(&mut self, id: u64, offset: usize, bytes: &[u8]) -> Done {
        match self.nodes.get(&id).map(|node| &node.kind) {
            None => return Err(ESTALE),
            Some(Kind::File { .. }) => {}
            Some(_) => return Err(EINVAL),
        }
        if bytes.is_empty() {
            return Ok(id);
        }
        let end = offset + bytes.len();
        if end > self.limit {
            return Err(EFBIG);
        }
        let Kind::File { data } = &self.nodes[&id].kind else { unreachable!() };
        self.resize(id, data.len().max(end));
        let Kind::File { data } = &mut self.nodes.get_mut(&id).unwrap().kind else { unreachable!() };
        data[offset..end].copy_from_slice(bytes);
        Ok(id)
    }

    pub fn truncate(&mut self, id: u64, size: usize, by_handle: bool) -> Done {
        match self.nodes.get(&id).map(|node| &node.kind) {
            None => return Err(ESTALE),
            Some(Kind::Dir { .. }) => return Err(EISDIR),
            Some(Kind::Symlink) => return Err(EINVAL),
            Some(Kind::File { .. }) => {}
        }
        if !by_handle {
            self.may(id, false, true, false)?;
        }
        self.resize(id, size);
        Ok(id)
    }

    pub fn chmod(&mut self, id: u64, mode: u32) -> Done {
        match self.nodes.get(&id).map(|node| &node.kind) {
            None => return Err(ESTALE),
            Some(Kind::Symlink) => return Err(EOPNOTSUPP),
            Some(_) => {}
        }
        if !self.owner(id) {
            return Err(EPERM);
        }
        let keeps = self.root() || self.member(self.nodes[&id].gid);
        self.nodes.get_mut(&id).unwrap().mode = if keeps { mode } else { mode & !0o2000 };
        self.touch(id);
        Ok(id)
    }

    pub fn chown(&mut self, id: u64, uid: Option<u32>, gid: Option<u32>) -> Done {
        let node = self.nodes.get(&id).ok_or(ESTALE)?;
        let keeps_uid = uid.is_none_or(|uid| uid == node.uid);
        let own_group = gid.is_none_or(|gid| gid == node.gid || self.member(gid));
        if uid.is_none() && gid.is_none() {
            return Ok(id);
        }
        if !(self.root() || self.owner(id) && keeps_uid && own_group) {
            return Err(EPERM);
        }
        if !self.is_dir(id) {
            self.drop_set_id(id);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        self.touch(id);
        Ok(id)
    }

    pub fn utimes(&mut self, id: u64, time: Option<i64>) -> Done {
        if !self.nodes.contains_key(&id) {
            return Err(ESTALE);
        }
        if !self.owner(id) {
            match time {
                Some(_) => return Err(EPERM),
                None => self.may(id, false, true, false)?,
            }
        }
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        (node.atime, node.mtime, node.ctime) = (time.unwrap_or(now), time.unwrap_or(now), now);
        Ok(id)
    }

    pub fn purge(&mut self, id: u64) {
        if self.nodes.contains_key(&id) && self.nlink(id) == 0 {
            self.nodes.remove(&id);
        }
    }
}
