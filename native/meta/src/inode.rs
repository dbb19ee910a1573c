//! One inode: attributes, and what its kind adds.

use std::sync::Arc;

use base::time::later;
use wire::proto;

/// The root directory.
pub const ROOT: u64 = 1;
/// What stat(2) shows as the size of a directory.
const DIRECTORY_BYTES: u64 = 4096;

/// How far ahead of the leader's a client's clock may be.
pub(crate) const MOST_AHEAD_NS: i64 = 1_000_000_000;

pub(crate) const S_ISGID: u32 = 0o2000;
pub(crate) const S_ISVTX: u32 = 0o1000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Directory {
        parent: u64,
    },
    Symlink(Arc<[u8]>),
    /// The bytes lie here; those between `data` and the size are zeros. `converter`: the session that was granted
    /// chunk 0 to move them there, 0 for none.
    Inline {
        data: Arc<[u8]>,
        converter: u64,
    },
    /// The bytes lie in chunks, `stored` of them in blocks that exist.
    Chunked {
        stored: u64,
    },
    /// A fifo, a socket or a device: nothing but a name for something that a kernel keeps. `rdev`: of devices, else 0.
    Special {
        kind: proto::FileKind,
        rdev: u32,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inode {
    /// Permission bits, 07777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// Of regular files and symlinks; 0 for directories.
    pub size: u64,
    pub atime_ns: i64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    /// When it was made; 0: not known.
    pub btime_ns: i64,
    /// Starts at 1, grows with every committed change of content or size.
    pub data_version: u64,
    pub body: Body,
}

impl Inode {
    pub fn new(body: Body, mode: u32, uid: u32, gid: u32, now_ns: i64) -> Inode {
        let (nlink, size) = match &body {
            Body::Directory { .. } => (2, 0),
            Body::Symlink(target) => (1, target.len() as u64),
            Body::Inline { .. } | Body::Chunked { .. } | Body::Special { .. } => (1, 0),
        };
        Inode {
            mode,
            uid,
            gid,
            nlink,
            size,
            atime_ns: now_ns,
            mtime_ns: now_ns,
            ctime_ns: now_ns,
            btime_ns: 0,
            data_version: 1,
            body,
        }
    }

    pub fn empty_file() -> Body {
        Body::Inline { data: Arc::from([]), converter: 0 }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    pub fn is_file(&self) -> bool {
        matches!(self.body, Body::Inline { .. } | Body::Chunked { .. })
    }

    pub fn is_symlink(&self) -> bool {
        matches!(self.body, Body::Symlink(_))
    }

    /// A fifo, a socket or a device.
    pub fn is_special(&self) -> bool {
        matches!(self.body, Body::Special { .. })
    }

    pub fn kind(&self) -> proto::FileKind {
        match self.body {
            Body::Directory { .. } => proto::FileKind::FileDirectory,
            Body::Symlink(_) => proto::FileKind::FileSymlink,
            Body::Inline { .. } | Body::Chunked { .. } => proto::FileKind::FileRegular,
            Body::Special { kind, .. } => kind,
        }
    }

    /// Bytes of a regular file's content, holes included; 0 for everything else.
    pub fn file_bytes(&self) -> u64 {
        if self.is_file() { self.size } else { 0 }
    }

    pub fn heap_bytes(&self) -> usize {
        match &self.body {
            Body::Symlink(data) | Body::Inline { data, .. } => data.len() + 16,
            Body::Directory { .. } | Body::Chunked { .. } | Body::Special { .. } => 0,
        }
    }

    /// What stat(2) shows.
    pub fn attr(&self, id: u64) -> proto::Attr {
        let (size, blocks, parent) = match &self.body {
            Body::Directory { parent } => (DIRECTORY_BYTES, 0, *parent),
            Body::Symlink(_) => (self.size, 0, 0),
            Body::Inline { data, .. } => (self.size, (data.len() as u64).div_ceil(512), 0),
            Body::Chunked { stored } => (self.size, stored / 512, 0),
            Body::Special { .. } => (0, 0, 0),
        };
        proto::Attr {
            inode: id,
            generation: 1,
            kind: self.kind() as i32,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            size,
            blocks,
            atime_ns: self.atime_ns,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
            btime_ns: self.btime_ns,
            data_version: self.data_version,
            parent,
            rdev: if let Body::Special { rdev, .. } = self.body { rdev } else { 0 },
            has_xattr: false,
            has_acl: false,
        }
    }

    /// The content changed at `now_ns`.
    pub fn touch_data(&mut self, now_ns: i64) {
        self.mtime_ns = now_ns;
        self.ctime_ns = now_ns;
        self.data_version += 1;
    }

    /// The content changed at the times that applications were told, unless something came after that.
    pub fn touch_data_at(&mut self, told: &proto::Times, now_ns: i64) {
        // A client's clock that is far ahead is wrong.
        let latest = now_ns.saturating_add(MOST_AHEAD_NS);
        let ctime_ns = told.ctime_ns.min(latest);
        let mtime_ns = if told.mtime_ns == told.ctime_ns { ctime_ns } else { told.mtime_ns };
        self.mtime_ns = if self.ctime_ns <= ctime_ns { mtime_ns } else { later(self.mtime_ns, mtime_ns) };
        self.ctime_ns = self.ctime_ns.max(ctime_ns);
        self.data_version += 1;
    }

    /// An entry of this directory came, went or changed.
    pub fn touch_entries(&mut self, now_ns: i64) {
        self.mtime_ns = now_ns;
        self.ctime_ns = now_ns;
    }
}

/// Whether files of this kind are no more than a name for something that a kernel keeps.
pub(crate) fn is_special(kind: proto::FileKind) -> bool {
    match kind {
        proto::FileKind::FileRegular | proto::FileKind::FileDirectory | proto::FileKind::FileSymlink => false,
        proto::FileKind::FileFifo
        | proto::FileKind::FileSocket
        | proto::FileKind::FileCharacterDevice
        | proto::FileKind::FileBlockDevice => true,
    }
}
