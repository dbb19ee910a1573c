//! Requests about names and attributes: each builds one operation of the schema and hands its reply back.

use base::{Error, Result};
use kernel::SetAttr;
use wire::proto::name_request::Op;
use wire::proto::{self, Attr, Credentials, NameReply};

use crate::attributes::wanted_time;
use crate::core::Core;

/// What a new inode is asked for with. The masters apply the umask, or a default access control list instead.
#[derive(Clone, Copy)]
pub struct Mode {
    pub full: u32,
    pub umask: u32,
}

impl Mode {
    pub fn masked(self) -> u32 {
        self.full & 0o7777 & !self.umask
    }

    pub fn full(self) -> Option<u32> {
        Some(self.full & 0o7777)
    }
}

impl Core {
    /// The attributes that an operation answers with, as this mount sees them.
    async fn name_attr(&self, creds: &Credentials, op: Op) -> Result<Attr> {
        let attr = attr_of(self.engine.name(creds, op).await?)?;
        self.known.tell(&attr);
        Ok(self.engine.overlay(attr))
    }

    pub async fn lookup(&self, creds: Credentials, parent: u64, name: Vec<u8>) -> Result<Attr> {
        if name == b"." {
            // A file handle (open_by_handle_at(2), an NFS server) of an inode that the kernel has dropped.
            return self.getattr(creds, parent).await;
        }
        let changes = self.recent.changes();
        let attr = self.engine.lookup(&creds, parent, &name).await?;
        self.recent.look(&attr, changes);
        Ok(self.told(attr).await)
    }

    pub async fn getattr(&self, creds: Credentials, inode: u64) -> Result<Attr> {
        let changes = self.recent.changes();
        match self.engine.getattr(&creds, inode).await {
            Ok(attr) => {
                self.recent.look(&attr, changes);
                Ok(self.told(attr).await)
            }
            Err(error) => self.known.removed(inode, error),
        }
    }

    /// What another mount made durable is seen from the next stat on, also through descriptors that stay open: pages
    /// that are older than `attr` go before the kernel hears of it.
    async fn told(&self, attr: Attr) -> Attr {
        self.known.tell(&attr);
        if self.pages.told(attr.inode, self.engine.foreign_changes(attr.inode), attr.size) {
            self.notices.pages_dropped(attr.inode).await;
        }
        attr
    }

    pub async fn setattr(&self, creds: Credentials, inode: u64, changes: SetAttr) -> Result<Attr> {
        let (atime_ns, atime_now) = wanted_time(changes.atime);
        let (mtime_ns, mtime_now) = wanted_time(changes.mtime);
        let set = proto::SetAttr {
            inode,
            mode: changes.mode.map(|mode| mode & 0o7777),
            uid: changes.uid,
            gid: changes.gid,
            size: changes.size,
            atime_ns,
            mtime_ns,
            atime_now,
            mtime_now,
            by_handle: changes.handle.is_some_and(|handle| self.files.may_write(handle)),
        };
        let attr = self.engine.setattr(&creds, set).await?;
        self.pages.resized(inode, attr.size);
        Ok(attr)
    }

    pub async fn make_node(
        &self,
        creds: Credentials,
        parent: u64,
        name: Vec<u8>,
        mode: Mode,
        kind: proto::FileKind,
        rdev: u32,
    ) -> Result<Attr> {
        let (mode, full_mode) = (mode.masked(), mode.full());
        let node = proto::MakeNode { parent, name, mode, kind: kind as i32, rdev, full_mode };
        self.name_attr(&creds, Op::MakeNode(node)).await
    }

    pub async fn readlink(&self, creds: Credentials, inode: u64) -> Result<Vec<u8>> {
        let reply = self.engine.name(&creds, Op::Readlink(proto::ReadLink { inode })).await?;
        if let Some(attr) = &reply.attr {
            self.engine.accessed(attr);
        }
        Ok(reply.value)
    }

    pub async fn mkdir(&self, creds: Credentials, parent: u64, name: Vec<u8>, mode: Mode) -> Result<Attr> {
        let make = proto::MkDir { parent, name, mode: mode.masked(), full_mode: mode.full() };
        self.name_attr(&creds, Op::Mkdir(make)).await
    }

    pub async fn unlink(&self, creds: Credentials, parent: u64, name: Vec<u8>) -> Result<()> {
        self.engine.name(&creds, Op::Unlink(proto::Unlink { parent, name })).await.map(drop)
    }

    pub async fn rmdir(&self, creds: Credentials, parent: u64, name: Vec<u8>) -> Result<()> {
        self.engine.name(&creds, Op::Rmdir(proto::RmDir { parent, name })).await.map(drop)
    }

    pub async fn symlink(&self, creds: Credentials, parent: u64, name: Vec<u8>, target: Vec<u8>) -> Result<Attr> {
        self.name_attr(&creds, Op::Symlink(proto::Symlink { parent, name, target })).await
    }

    pub async fn link(&self, creds: Credentials, inode: u64, parent: u64, name: Vec<u8>) -> Result<Attr> {
        self.name_attr(&creds, Op::Link(proto::Link { inode, parent, name })).await
    }

    /// `source` and `target`: parent and name. Flags per renameat2(2).
    pub async fn rename(
        &self,
        creds: Credentials,
        source: (u64, Vec<u8>),
        target: (u64, Vec<u8>),
        flags: u32,
    ) -> Result<()> {
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) != 0 {
            return Err(Error::namespace(libc::EINVAL, format!("rename flags {flags:#x} are not supported")));
        }
        let rename = proto::Rename {
            source_parent: source.0,
            source_name: source.1,
            target_parent: target.0,
            target_name: target.1,
            flags,
        };
        self.engine.name(&creds, Op::Rename(rename)).await.map(drop)
    }

    pub async fn access(&self, creds: Credentials, inode: u64, mask: u32) -> Result<()> {
        self.engine.name(&creds, Op::Access(proto::Access { inode, mask })).await.map(drop)
    }

    pub async fn statfs(&self, creds: Credentials) -> Result<proto::FsStats> {
        let reply = self.engine.name(&creds, Op::Statfs(proto::StatFs {})).await?;
        reply.statfs.ok_or_else(|| Error::integrity("a statfs reply came without its numbers"))
    }
}

fn attr_of(reply: NameReply) -> Result<Attr> {
    reply.attr.ok_or_else(|| Error::integrity("a reply came without the attributes it should carry"))
}
