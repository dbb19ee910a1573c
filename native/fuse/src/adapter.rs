//! The FUSE protocol's side: what each request carries goes to a task, what the task returns goes into the reply.
//! One function per request and nothing in them but that.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::Buffer;
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use wire::proto::{Attr, FsStats};

use crate::attributes::{file_attr, file_type};
use crate::core::Core;
use crate::metrics::Operation;
use crate::names::Changes;

/// Until leases exist the kernel may remember neither names nor attributes.
const NOT_AT_ALL: Duration = Duration::ZERO;
/// One request's data: what one frame carries.
const MAX_WRITE_BYTES: u32 = base::limits::MAX_PAYLOAD_BYTES as u32;
/// Reads ahead and other background requests in flight. The kernel's 12 leave a distributed reader idle.
const MAX_BACKGROUND: u16 = 64;
const STATFS_BLOCK_BYTES: u32 = 4096;

pub struct Adapter {
    pub core: Arc<Core>,
}

type Outcome<T> = Result<T, Errno>;

fn entry(reply: ReplyEntry, outcome: Outcome<Attr>) {
    match outcome {
        Ok(attr) => reply.entry(&NOT_AT_ALL, &file_attr(&attr), Generation(attr.generation)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: ReplyAttr, outcome: Outcome<Attr>) {
    match outcome {
        Ok(attr) => reply.attr(&NOT_AT_ALL, &file_attr(&attr)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn data(reply: ReplyData, outcome: Outcome<impl AsRef<[u8]>>) {
    match outcome {
        Ok(data) => reply.data(data.as_ref()),
        Err(errno) => reply.error(errno),
    }
}

fn statfs(reply: ReplyStatfs, outcome: Outcome<FsStats>) {
    match outcome {
        Ok(stats) => {
            let block = u64::from(STATFS_BLOCK_BYTES);
            let (blocks, free) = (stats.total_bytes / block, stats.free_bytes / block);
            let name_max = base::limits::MAX_NAME_BYTES as u32;
            let files = stats.inodes.saturating_add(stats.free_inodes);
            reply.statfs(
                blocks,
                free,
                free,
                files,
                stats.free_inodes,
                STATFS_BLOCK_BYTES,
                name_max,
                STATFS_BLOCK_BYTES,
            );
        }
        Err(errno) => reply.error(errno),
    }
}

fn owned(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// What is not here (extended attributes, locks, fallocate, ioctl, poll, bmap, lseek, copy_file_range) is answered with
/// ENOSYS by the trait: the kernel then does it itself, or tells the application EOPNOTSUPP, and does not ask again.
impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // One bit that this kernel lacks would lose all of them, so each is asked for alone.
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            if let Err(missing) = config.add_capabilities(wanted) {
                tracing::debug!(?missing, "this kernel's FUSE lacks a capability");
            }
        }
        let refused = |what: &str| std::io::Error::other(format!("fuser refused {what}"));
        config.set_max_write(MAX_WRITE_BYTES).map_err(|_| refused("the request size"))?;
        config.set_max_background(MAX_BACKGROUND).map_err(|_| refused("the number of background requests"))?;
        if let Err(most) = config.set_max_readahead(MAX_WRITE_BYTES) {
            config.set_max_readahead(most).map_err(|_| refused("the kernel's own read-ahead"))?;
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.lookup(creds, parent.0, name).await };
        self.core.run(Operation::Lookup, work, |outcome| entry(reply, outcome));
    }

    fn forget(&self, _request: &Request, inode: INodeNo, _lookups: u64) {
        self.core.pages.forgotten(inode.0);
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.getattr(creds, inode.0).await };
        self.core.run(Operation::GetAttr, work, |outcome| attr(reply, outcome));
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let changes = Changes { mode, uid, gid, size, atime, mtime, handle: handle.map(|handle| handle.0) };
        let work = async move { core.setattr(creds, inode.0, changes).await };
        self.core.run(Operation::SetAttr, work, |outcome| attr(reply, outcome));
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.readlink(creds, inode.0).await };
        self.core.run(Operation::ReadLink, work, |outcome| data(reply, outcome));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.mknod(creds, parent.0, name, mode).await };
        self.core.run(Operation::MkNod, work, |outcome| entry(reply, outcome));
    }

    // The kernel applies the umask itself (FUSE_DONT_MASK is not asked for).
    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.mkdir(creds, parent.0, name, mode).await };
        self.core.run(Operation::MkDir, work, |outcome| entry(reply, outcome));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.unlink(creds, parent.0, name).await };
        self.core.run(Operation::Unlink, work, |outcome| empty(reply, outcome));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.rmdir(creds, parent.0, name).await };
        self.core.run(Operation::RmDir, work, |outcome| empty(reply, outcome));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let target = owned(target.as_os_str());
        let work = async move { core.symlink(creds, parent.0, name, target).await };
        self.core.run(Operation::Symlink, work, |outcome| entry(reply, outcome));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let (source, target) = ((parent.0, owned(name)), (new_parent.0, owned(new_name)));
        let work = async move { core.rename(creds, source, target, flags).await };
        self.core.run(Operation::Rename, work, |outcome| empty(reply, outcome));
    }

    fn link(&self, request: &Request, inode: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(new_name));
        let work = async move { core.link(creds, inode.0, new_parent.0, name).await };
        self.core.run(Operation::Link, work, |outcome| entry(reply, outcome));
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.open(creds, inode.0, flags).await };
        self.core.run(Operation::Open, work, |outcome| match outcome {
            Ok(opened) => reply.opened(FileHandle(opened.handle), opened.flags),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (core, creds, name) = (self.core.clone(), self.core.creds(request), owned(name));
        let work = async move { core.create(creds, parent.0, name, mode, OpenFlags(flags)).await };
        self.core.run(Operation::Create, work, |outcome| match outcome {
            Ok(opened) => {
                let (attr, generation) = (file_attr(&opened.attr), Generation(opened.attr.generation));
                reply.created(&NOT_AT_ALL, &attr, generation, FileHandle(opened.handle), opened.flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let core = self.core.clone();
        let work = async move { core.read(handle.0, offset, size).await };
        self.core.run(Operation::Read, work, |outcome| data(reply, outcome));
    }

    fn write(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The bytes lie in the FUSE thread's buffer, which the next request reuses.
        let (core, data) = (self.core.clone(), Buffer::copy_of(data));
        let writer = self.core.writer(request, write_flags);
        let work = async move { core.write(handle.0, offset, data, flags, writer).await };
        self.core.run(Operation::Write, work, |outcome| match outcome {
            Ok(size) => reply.written(size),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, _request: &Request, _inode: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let core = self.core.clone();
        let work = async move { core.flush(handle.0).await };
        self.core.run(Operation::Flush, work, |outcome| empty(reply, outcome));
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let core = self.core.clone();
        let work = async move { core.release(handle.0).await };
        self.core.run(Operation::Release, work, |outcome| empty(reply, outcome));
    }

    fn fsync(&self, _request: &Request, _inode: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let core = self.core.clone();
        let work = async move { core.fsync(handle.0, data_only).await };
        self.core.run(Operation::Fsync, work, |outcome| empty(reply, outcome));
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.opendir(creds, inode.0).await };
        self.core.run(Operation::OpenDir, work, |outcome| match outcome {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, _request: &Request, _inode: INodeNo, handle: FileHandle, cookie: u64, reply: ReplyDirectory) {
        let core = self.core.clone();
        let work = async move {
            let mut reply = reply;
            let outcome = core
                .readdir(handle.0, cookie, false, |listed| {
                    let name = OsStr::from_bytes(&listed.name);
                    reply.add(INodeNo(listed.inode), listed.cookie, file_type(listed.kind), name)
                })
                .await;
            Ok((reply, outcome.map_err(|error| core.failed(Operation::ReadDir, &error))))
        };
        self.core.run(Operation::ReadDir, work, |outcome| match outcome {
            Ok((reply, Ok(()))) => reply.ok(),
            Ok((reply, Err(errno))) => reply.error(errno),
            Err(_) => {}
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        cookie: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let core = self.core.clone();
        let work = async move {
            let mut reply = reply;
            let outcome = core
                .readdir(handle.0, cookie, true, |listed| {
                    // The kernel makes no inode of the dot entries; number and kind are all it takes.
                    let bare = Attr { inode: listed.inode, kind: listed.kind as i32, ..Attr::default() };
                    let attr = listed.attr.as_ref().unwrap_or(&bare);
                    let (name, inode) = (OsStr::from_bytes(&listed.name), INodeNo(listed.inode));
                    let generation = Generation(attr.generation);
                    reply.add(inode, listed.cookie, name, &NOT_AT_ALL, &file_attr(attr), generation)
                })
                .await;
            Ok((reply, outcome.map_err(|error| core.failed(Operation::ReadDirPlus, &error))))
        };
        self.core.run(Operation::ReadDirPlus, work, |outcome| match outcome {
            Ok((reply, Ok(()))) => reply.ok(),
            Ok((reply, Err(errno))) => reply.error(errno),
            Err(_) => {}
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.core.releasedir(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        // A name operation that returned is durable; nothing is left to do.
        reply.ok();
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.statfs(creds).await };
        self.core.run(Operation::StatFs, work, |outcome| statfs(reply, outcome));
    }

    fn access(&self, request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.access(creds, inode.0, mask.bits() as u32).await };
        self.core.run(Operation::Access, work, |outcome| empty(reply, outcome));
    }
}
