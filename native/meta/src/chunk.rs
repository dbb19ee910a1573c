//! One chunk's record: version, write set, marks. Which bytes it holds is the chunkservers' matter.

use wire::proto;

/// Most servers in one write set.
pub const MAX_COPIES: usize = 7;

/// A write set: few servers, in chain order, none twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerSet {
    ids: [u32; MAX_COPIES],
    len: u8,
}

impl ServerSet {
    pub fn as_slice(&self) -> &[u32] {
        &self.ids[..usize::from(self.len)]
    }

    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub fn contains(&self, server: u32) -> bool {
        self.as_slice().contains(&server)
    }

    /// False when it is full or has the server already.
    pub fn push(&mut self, server: u32) -> bool {
        if self.len() == MAX_COPIES || self.contains(server) {
            return false;
        }
        self.ids[self.len()] = server;
        self.len += 1;
        true
    }

    /// The set less `gone`, order kept.
    pub fn without(&self, gone: &[u32]) -> ServerSet {
        self.as_slice().iter().copied().filter(|server| !gone.contains(server)).collect()
    }
}

impl FromIterator<u32> for ServerSet {
    fn from_iter<I: IntoIterator<Item = u32>>(servers: I) -> ServerSet {
        let mut set = ServerSet::default();
        for server in servers {
            set.push(server);
        }
        set
    }
}

/// The target of a heal that adds nothing and compares what is there.
pub(crate) const SETTLING: u32 = 0;

/// A copy being added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heal {
    pub id: u64,
    pub target: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub version: u32,
    pub inode: u64,
    pub index: u32,
    pub servers: ServerSet,
    /// A committed write put bytes here; before, it reads as zeros.
    pub written: bool,
    pub heal: Option<Heal>,
    pub stored_bytes: u32,
    /// Bytes from here on read as zeros.
    pub trim: Option<u32>,
}

impl Chunk {
    /// A new version with this write set. Whatever copy was being added is not of this version.
    pub fn advance(&mut self, servers: ServerSet) {
        self.version += 1;
        self.servers = servers;
        self.heal = None;
    }

    pub fn state(&self, id: u64, writers: &[u64]) -> proto::ChunkState {
        proto::ChunkState {
            id,
            version: self.version,
            inode: self.inode,
            index: u64::from(self.index),
            servers: self.servers.as_slice().to_vec(),
            written: self.written,
            heal_id: self.heal.map_or(0, |heal| heal.id),
            heal_target: self.heal.map_or(0, |heal| heal.target),
            stored_bytes: self.stored_bytes,
            trim: self.trim,
            writers: writers.to_vec(),
        }
    }
}
