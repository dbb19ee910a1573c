//! The FUSE protocol's side: what each request carries goes to a task, what the task returns goes into the reply.
//! One function per request and nothing in them but that.

use std::sync::Arc;
use std::time::Duration;

use base::Buffer;
use kernel::abi::init;
use kernel::{FileSystem, Listing, Operation as Asked, Replier, Request, StatFs, Wanted};
use wire::proto::{Attr, FsStats};

use crate::attributes::{attributes, entry_of, file_mode, statx_of};
use crate::core::Core;
use crate::files::Opened;
use crate::metrics::Operation;
use crate::names::Mode;
use crate::xattrs::Answer;

/// Until leases exist the kernel may remember no attributes.
const NOT_AT_ALL: Duration = Duration::ZERO;
/// One request's data: what one frame carries.
const MAX_WRITE_BYTES: u32 = base::limits::MAX_PAYLOAD_BYTES as u32;
/// Reads ahead and other background requests in flight. The kernel's 12 leave a distributed reader idle.
const MAX_BACKGROUND: u16 = 64;
const STATFS_BLOCK_BYTES: u32 = 4096;

/// What the kernel is asked for; what it lacks is done without.
pub const WANTED: Wanted = Wanted {
    flags: init::ASYNC_READ
        | init::PARALLEL_DIROPS
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ATOMIC_O_TRUNC
        | init::HANDLE_KILLPRIV_V2
        | init::ASYNC_DIO
        | init::DIRECT_IO_ALLOW_MMAP
        | init::DONT_MASK
        | init::EXPORT_SUPPORT
        | init::CREATE_SUPP_GROUP,
    max_write_bytes: MAX_WRITE_BYTES,
    max_readahead_bytes: MAX_WRITE_BYTES,
    max_background: MAX_BACKGROUND,
};

pub struct Adapter {
    pub core: Arc<Core>,
}

/// What a request came to, or the errno that the application sees.
type Outcome<T> = Result<T, i32>;

fn entry(reply: Replier, outcome: Outcome<Attr>) {
    match outcome {
        Ok(attr) => reply.entry(&entry_of(&attr, NOT_AT_ALL)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: Replier, outcome: Outcome<Attr>) {
    match outcome {
        Ok(attr) => reply.attributes(NOT_AT_ALL, &attributes(&attr)),
        Err(errno) => reply.error(errno),
    }
}

/// What was made and opened; closed again where nobody waited any more.
fn created(core: Arc<Core>) -> impl FnOnce(Replier, Outcome<Opened>) {
    move |reply, outcome| match outcome {
        Ok(Opened { handle, flags, attr }) => {
            if !reply.created(&entry_of(&attr, NOT_AT_ALL), kernel::Opened { handle, flags }) {
                core.forsake(handle);
            }
        }
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: Replier, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn data(reply: Replier, outcome: Outcome<impl AsRef<[u8]>>) {
    match outcome {
        Ok(data) => reply.data(data.as_ref()),
        Err(errno) => reply.error(errno),
    }
}

fn listing(reply: Replier, outcome: Outcome<Listing>) {
    match outcome {
        Ok(listing) => reply.listing(&listing),
        Err(errno) => reply.error(errno),
    }
}

fn xattr(reply: Replier, outcome: Outcome<Answer>) {
    match outcome {
        Ok(Answer::Bytes(bytes)) => reply.data(&bytes),
        Ok(Answer::Length(length)) => reply.xattr_size(length),
        Err(errno) => reply.error(errno),
    }
}

fn statfs(reply: Replier, outcome: Outcome<FsStats>) {
    match outcome {
        Ok(stats) => {
            let block = u64::from(STATFS_BLOCK_BYTES);
            let free_blocks = stats.free_bytes / block;
            reply.statfs(&StatFs {
                blocks: stats.total_bytes / block,
                free_blocks,
                available_blocks: free_blocks,
                files: stats.inodes,
                free_files: stats.free_inodes,
                block_bytes: STATFS_BLOCK_BYTES,
                fragment_bytes: STATFS_BLOCK_BYTES,
                max_name_bytes: base::limits::MAX_NAME_BYTES as u32,
            });
        }
        Err(errno) => reply.error(errno),
    }
}

impl FileSystem for Adapter {
    /// What is not here (locks, ioctl, poll, bmap, syncfs) is answered with ENOSYS: the kernel then does it itself, or tells the application
    /// EOPNOTSUPP, and does not ask again.
    fn handle(&self, request: Request<'_>, reply: Replier) {
        match request.operation {
            Asked::Lookup { name } => self.lookup(&request, name, reply),
            Asked::GetAttr { .. } => self.getattr(&request, reply),
            Asked::SetAttr(changes) => self.setattr(&request, changes, reply),
            Asked::ReadLink => self.readlink(&request, reply),
            Asked::MkNod { name, mode, rdev, umask } => {
                self.mknod(&request, name, Mode { full: mode, umask }, rdev, reply)
            }
            Asked::MkDir { name, mode, umask } => self.mkdir(&request, name, Mode { full: mode, umask }, reply),
            Asked::Unlink { name } => self.unlink(&request, name, reply),
            Asked::RmDir { name } => self.rmdir(&request, name, reply),
            Asked::Symlink { name, target } => self.symlink(&request, name, target, reply),
            Asked::Rename { name, new_parent, new_name, flags } => {
                self.rename(&request, name, (new_parent, new_name), flags, reply);
            }
            Asked::Link { inode, new_name } => self.link(&request, inode, new_name, reply),
            Asked::Open { flags, .. } => self.open(&request, flags, reply),
            Asked::Create { name, mode, umask, flags, .. } => {
                self.create(&request, name, Mode { full: mode, umask }, flags, reply);
            }
            Asked::TmpFile { mode, umask, flags, .. } => {
                self.tmpfile(&request, Mode { full: mode, umask }, flags, reply);
            }
            Asked::Lseek { handle, offset, whence } => self.lseek(&request, handle, offset, whence, reply),
            Asked::Fallocate { handle, offset, length, mode } => {
                self.fallocate(&request, handle, (offset, length), mode, reply);
            }
            Asked::CopyFileRange(copy) => self.copy_range(&request, copy, reply),
            Asked::Statx { .. } => self.statx(&request, reply),
            Asked::Read { handle, offset, size, .. } => self.read(&request, handle, offset, size, reply),
            Asked::Write { .. } => self.write(&request, reply),
            Asked::Flush { handle, .. } => self.flush(&request, handle, reply),
            Asked::Release { handle, .. } => self.release(&request, handle, reply),
            Asked::Fsync { handle, data_only } => self.fsync(&request, handle, data_only, reply),
            Asked::OpenDir { .. } => self.opendir(&request, reply),
            Asked::ReadDir { handle, cookie, size, .. } => self.readdir(&request, handle, cookie, size, reply),
            Asked::ReadDirPlus { handle, cookie, size, .. } => self.readdirplus(&request, handle, cookie, size, reply),
            Asked::ReleaseDir { handle, .. } => self.releasedir(handle, reply),
            // A name operation that returned is durable; nothing is left to do.
            Asked::FsyncDir { .. } => reply.ok(),
            Asked::StatFs => self.statfs(&request, reply),
            Asked::Access { mask } => self.access(&request, mask, reply),
            Asked::GetXattr { name, size } => self.getxattr(&request, name, size, reply),
            Asked::SetXattr { name, value, flags, .. } => self.setxattr(&request, name, value, flags, reply),
            Asked::ListXattr { size } => self.listxattr(&request, size, reply),
            Asked::RemoveXattr { name } => self.removexattr(&request, name, reply),
            _ => reply.error(libc::ENOSYS),
        }
    }

    fn forget(&self, inode: u64, _lookups: u64) {
        self.core.pages.forgotten(inode);
        self.core.known.forget(inode);
    }

    fn interrupt(&self, unique: u64) {
        self.core.interrupted(unique);
    }
}

impl Adapter {
    fn lookup(&self, request: &Request<'_>, name: &[u8], reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.lookup(creds, parent, name).await };
        self.core.run(Operation::Lookup, request.pid, reply, work, entry);
    }

    fn getattr(&self, request: &Request<'_>, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.getattr(creds, inode).await };
        self.core.run(Operation::GetAttr, request.pid, reply, work, attr);
    }

    fn setattr(&self, request: &Request<'_>, changes: kernel::SetAttr, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.setattr(creds, inode, changes).await };
        self.core.run(Operation::SetAttr, request.pid, reply, work, attr);
    }

    fn readlink(&self, request: &Request<'_>, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.readlink(creds, inode).await };
        self.core.run(Operation::ReadLink, request.pid, reply, work, data);
    }

    fn mknod(&self, request: &Request<'_>, name: &[u8], mode: Mode, rdev: u32, reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.mknod(creds, parent, name, mode, rdev).await };
        self.core.run(Operation::MkNod, request.pid, reply, work, entry);
    }

    fn mkdir(&self, request: &Request<'_>, name: &[u8], mode: Mode, reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.mkdir(creds, parent, name, mode).await };
        self.core.run(Operation::MkDir, request.pid, reply, work, entry);
    }

    fn unlink(&self, request: &Request<'_>, name: &[u8], reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.unlink(creds, parent, name).await };
        self.core.run(Operation::Unlink, request.pid, reply, work, empty);
    }

    fn rmdir(&self, request: &Request<'_>, name: &[u8], reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.rmdir(creds, parent, name).await };
        self.core.run(Operation::RmDir, request.pid, reply, work, empty);
    }

    fn symlink(&self, request: &Request<'_>, name: &[u8], target: &[u8], reply: Replier) {
        let (core, creds, parent) = (self.core.clone(), self.core.creds(request), request.inode);
        let (name, target) = (name.to_vec(), target.to_vec());
        let work = async move { core.symlink(creds, parent, name, target).await };
        self.core.run(Operation::Symlink, request.pid, reply, work, entry);
    }

    fn rename(&self, request: &Request<'_>, name: &[u8], target: (u64, &[u8]), flags: u32, reply: Replier) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let (source, target) = ((request.inode, name.to_vec()), (target.0, target.1.to_vec()));
        let work = async move { core.rename(creds, source, target, flags).await };
        self.core.run(Operation::Rename, request.pid, reply, work, empty);
    }

    fn link(&self, request: &Request<'_>, inode: u64, new_name: &[u8], reply: Replier) {
        let (core, creds, parent) = (self.core.clone(), self.core.creds(request), request.inode);
        let name = new_name.to_vec();
        let work = async move { core.link(creds, inode, parent, name).await };
        self.core.run(Operation::Link, request.pid, reply, work, entry);
    }

    fn open(&self, request: &Request<'_>, flags: i32, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.open(creds, inode, flags).await };
        let core = self.core.clone();
        self.core.run(Operation::Open, request.pid, reply, work, move |reply, outcome| match outcome {
            Ok(Opened { handle, flags, .. }) => {
                if !reply.opened(kernel::Opened { handle, flags }) {
                    core.forsake(handle);
                }
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn create(&self, request: &Request<'_>, name: &[u8], mode: Mode, flags: i32, reply: Replier) {
        let (core, creds, parent, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.create(creds, parent, name, mode, flags).await };
        self.core.run(Operation::Create, request.pid, reply, work, created(self.core.clone()));
    }

    fn tmpfile(&self, request: &Request<'_>, mode: Mode, flags: i32, reply: Replier) {
        let (core, creds, parent) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.create_unnamed(creds, parent, mode, flags).await };
        self.core.run(Operation::TmpFile, request.pid, reply, work, created(self.core.clone()));
    }

    fn lseek(&self, request: &Request<'_>, handle: u64, offset: i64, whence: i32, reply: Replier) {
        let core = self.core.clone();
        let work = async move { core.seek(handle, offset, whence).await };
        self.core.run(Operation::Lseek, request.pid, reply, work, |reply, outcome| match outcome {
            Ok(offset) => reply.lseek(offset),
            Err(errno) => reply.error(errno),
        });
    }

    fn fallocate(&self, request: &Request<'_>, handle: u64, span: (u64, u64), mode: i32, reply: Replier) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.allocate(creds, handle, span, mode).await };
        self.core.run(Operation::Fallocate, request.pid, reply, work, empty);
    }

    fn copy_range(&self, request: &Request<'_>, copy: kernel::CopyRange, reply: Replier) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.copy_range(creds, copy).await };
        self.core.run(Operation::CopyFileRange, request.pid, reply, work, move |reply, outcome| match outcome {
            Ok(copied) if copy.wide => reply.copied(copied),
            // One call never copies more than fits.
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        });
    }

    fn statx(&self, request: &Request<'_>, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.getattr(creds, inode).await };
        self.core.run(Operation::Statx, request.pid, reply, work, |reply, outcome| match outcome {
            Ok(attr) => reply.statx(NOT_AT_ALL, &statx_of(&attr)),
            Err(errno) => reply.error(errno),
        });
    }

    fn read(&self, request: &Request<'_>, handle: u64, offset: u64, size: u32, reply: Replier) {
        let core = self.core.clone();
        let work = async move { core.read(handle, offset, size).await };
        self.core.run(Operation::Read, request.pid, reply, work, data);
    }

    fn write(&self, request: &Request<'_>, reply: Replier) {
        let Asked::Write { handle, offset, data, write_flags, flags, .. } = request.operation else { return };
        // The bytes lie in the FUSE thread's buffer, which the next request reuses.
        let (core, data) = (self.core.clone(), Buffer::copy_of(data));
        let writer = self.core.writer(request, write_flags);
        let work = async move { core.write(handle, offset, data, flags, writer).await };
        self.core.run(Operation::Write, request.pid, reply, work, |reply, outcome| match outcome {
            Ok(size) => reply.written(size),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, request: &Request<'_>, handle: u64, reply: Replier) {
        let core = self.core.clone();
        let work = async move { core.flush(handle).await };
        self.core.run(Operation::Flush, request.pid, reply, work, empty);
    }

    fn release(&self, request: &Request<'_>, handle: u64, reply: Replier) {
        let core = self.core.clone();
        let work = async move { core.release(handle).await };
        self.core.run(Operation::Release, request.pid, reply, work, empty);
    }

    fn fsync(&self, request: &Request<'_>, handle: u64, data_only: bool, reply: Replier) {
        let core = self.core.clone();
        let work = async move { core.fsync(handle, data_only).await };
        self.core.run(Operation::Fsync, request.pid, reply, work, empty);
    }

    fn opendir(&self, request: &Request<'_>, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.opendir(creds, inode).await };
        let core = self.core.clone();
        self.core.run(Operation::OpenDir, request.pid, reply, work, move |reply, outcome| match outcome {
            Ok(handle) => {
                if !reply.opened(kernel::Opened { handle, flags: 0 }) {
                    core.releasedir(handle);
                }
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, request: &Request<'_>, handle: u64, cookie: u64, size: u32, reply: Replier) {
        let core = self.core.clone();
        let work = async move {
            let mut entries = Listing::new(size);
            core.readdir(handle, cookie, false, |listed| {
                !entries.add(listed.inode, listed.cookie, file_mode(listed.kind), &listed.name)
            })
            .await?;
            Ok(entries)
        };
        self.core.run(Operation::ReadDir, request.pid, reply, work, listing);
    }

    fn readdirplus(&self, request: &Request<'_>, handle: u64, cookie: u64, size: u32, reply: Replier) {
        let core = self.core.clone();
        let work = async move {
            let mut entries = Listing::new(size);
            core.readdir(handle, cookie, true, |listed| {
                // The kernel makes no inode of the dot entries; number and kind are all it takes.
                let bare = Attr { inode: listed.inode, kind: listed.kind as i32, ..Attr::default() };
                if let Some(attr) = &listed.attr {
                    core.known.tell(attr);
                }
                let entry = entry_of(listed.attr.as_ref().unwrap_or(&bare), NOT_AT_ALL);
                !entries.add_plus(&entry, listed.cookie, &listed.name)
            })
            .await?;
            Ok(entries)
        };
        self.core.run(Operation::ReadDirPlus, request.pid, reply, work, listing);
    }

    fn releasedir(&self, handle: u64, reply: Replier) {
        self.core.releasedir(handle);
        reply.ok();
    }

    fn statfs(&self, request: &Request<'_>, reply: Replier) {
        let (core, creds) = (self.core.clone(), self.core.creds(request));
        let work = async move { core.statfs(creds).await };
        self.core.run(Operation::StatFs, request.pid, reply, work, statfs);
    }

    fn access(&self, request: &Request<'_>, mask: u32, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.access(creds, inode, mask).await };
        self.core.run(Operation::Access, request.pid, reply, work, empty);
    }

    fn getxattr(&self, request: &Request<'_>, name: &[u8], size: u32, reply: Replier) {
        let (core, creds, inode, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.get_xattr(creds, inode, name, size).await };
        self.core.run(Operation::GetXattr, request.pid, reply, work, xattr);
    }

    fn setxattr(&self, request: &Request<'_>, name: &[u8], value: &[u8], flags: u32, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let (name, value) = (name.to_vec(), value.to_vec());
        let work = async move { core.set_xattr(creds, inode, name, value, flags).await };
        self.core.run(Operation::SetXattr, request.pid, reply, work, empty);
    }

    fn listxattr(&self, request: &Request<'_>, size: u32, reply: Replier) {
        let (core, creds, inode) = (self.core.clone(), self.core.creds(request), request.inode);
        let work = async move { core.list_xattr(creds, inode, size).await };
        self.core.run(Operation::ListXattr, request.pid, reply, work, xattr);
    }

    fn removexattr(&self, request: &Request<'_>, name: &[u8], reply: Replier) {
        let (core, creds, inode, name) = (self.core.clone(), self.core.creds(request), request.inode, name.to_vec());
        let work = async move { core.remove_xattr(creds, inode, name).await };
        self.core.run(Operation::RemoveXattr, request.pid, reply, work, empty);
    }
}
