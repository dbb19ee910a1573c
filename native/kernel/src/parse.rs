//! From a body's bytes to the operation. Every byte of it must be accounted for: what is missing, and what is left
//! over, is an error of one sentence.

use crate::abi::layout::{Field, Reader};
use crate::abi::opcode::*;
use crate::abi::questions::*;
use crate::abi::{fattr, flag, write};
use crate::attributes::{Lock, Time};
use crate::operation::{CopyRange, Forgets, LockRequest, Operation, SetAttr, SetTime};
use crate::request::Dialect;

type Parsed<T> = Result<T, &'static str>;

const TRUNCATED: &str = "is cut short";
const LEFT_OVER: &str = "has bytes left over";
const MISCOUNTED: &str = "counts more or less than it carries";
const BAD_NAME: &str = "has a name that is no name";

/// Only the dispatch; groups of bodies have their functions below.
pub fn operation(opcode: u32, body: &[u8], dialect: Dialect) -> Parsed<Operation<'_>> {
    let mut body = Body(Reader(body));
    let parsed = match opcode {
        LOOKUP | UNLINK | RMDIR | SYMLINK | MKNOD | MKDIR | RENAME | RENAME2 | LINK => body.names(opcode)?,
        GETATTR | SETATTR | STATX | ACCESS | STATFS | READLINK | FORGET | BATCH_FORGET => body.attributes(opcode)?,
        OPEN | OPENDIR | CREATE | TMPFILE | RELEASE | RELEASEDIR | FLUSH | FSYNC | FSYNCDIR => body.handles(opcode)?,
        READ | READDIR | READDIRPLUS => body.read(opcode)?,
        WRITE => body.write()?,
        FALLOCATE | LSEEK | COPY_FILE_RANGE | COPY_FILE_RANGE_64 | SETUPMAPPING | REMOVEMAPPING | BMAP => {
            body.ranges(opcode)?
        }
        SETXATTR | GETXATTR | LISTXATTR | REMOVEXATTR => body.xattrs(opcode, dialect)?,
        GETLK | SETLK | SETLKW => body.locks(opcode)?,
        IOCTL | POLL | NOTIFY_REPLY => body.device(opcode)?,
        INIT => body.init()?,
        INTERRUPT => Operation::Interrupt { unique: body.get::<InterruptIn>()?.unique },
        SYNCFS => body.get::<SyncfsIn>().map(|_| Operation::SyncFs)?,
        DESTROY => Operation::Destroy,
        // Of a later protocol: how its body looks is not known here.
        unknown => return Ok(Operation::Unknown(unknown)),
    };
    if body.0.0.is_empty() { Ok(parsed) } else { Err(LEFT_OVER) }
}

struct Body<'a>(Reader<'a>);

impl<'a> Body<'a> {
    fn get<T: Field>(&mut self) -> Parsed<T> {
        self.0.get().ok_or(TRUNCATED)
    }

    fn string(&mut self) -> Parsed<&'a [u8]> {
        self.0.string().ok_or("has a name without an end")
    }

    /// One component of a path.
    fn name(&mut self) -> Parsed<&'a [u8]> {
        let name = self.string()?;
        if name.is_empty() || name.contains(&b'/') { Err(BAD_NAME) } else { Ok(name) }
    }

    /// Exactly `count` bytes, and nothing behind them.
    fn data(&mut self, count: u32) -> Parsed<&'a [u8]> {
        let data = self.0.rest();
        if data.len() == count as usize { Ok(data) } else { Err(MISCOUNTED) }
    }

    fn names(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        Ok(match opcode {
            UNLINK => Operation::Unlink { name: self.name()? },
            RMDIR => Operation::RmDir { name: self.name()? },
            SYMLINK => Operation::Symlink { name: self.name()?, target: self.string()? },
            MKNOD => {
                let MknodIn { mode, rdev, umask, .. } = self.get()?;
                Operation::MkNod { name: self.name()?, mode, rdev, umask }
            }
            MKDIR => {
                let MkdirIn { mode, umask } = self.get()?;
                Operation::MkDir { name: self.name()?, mode, umask }
            }
            RENAME => {
                let RenameIn { newdir } = self.get()?;
                Operation::Rename { new_parent: newdir, flags: 0, name: self.name()?, new_name: self.name()? }
            }
            RENAME2 => {
                let Rename2In { newdir, flags, .. } = self.get()?;
                Operation::Rename { new_parent: newdir, flags, name: self.name()?, new_name: self.name()? }
            }
            LINK => Operation::Link { inode: self.get::<LinkIn>()?.oldnodeid, new_name: self.name()? },
            _ => Operation::Lookup { name: self.name()? },
        })
    }

    fn attributes(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        Ok(match opcode {
            GETATTR => {
                let GetattrIn { getattr_flags, fh, .. } = self.get()?;
                Operation::GetAttr { handle: given(getattr_flags, flag::GETATTR_FH, fh) }
            }
            SETATTR => Operation::SetAttr(set_attr(&self.get()?)),
            STATX => {
                let StatxIn { getattr_flags, fh, sx_flags, sx_mask, .. } = self.get()?;
                Operation::Statx { handle: given(getattr_flags, flag::GETATTR_FH, fh), flags: sx_flags, mask: sx_mask }
            }
            ACCESS => Operation::Access { mask: self.get::<AccessIn>()?.mask },
            FORGET => Operation::Forget { lookups: self.get::<ForgetIn>()?.nlookup },
            BATCH_FORGET => {
                let BatchForgetIn { count, .. } = self.get()?;
                let bytes = count.checked_mul(size_of::<ForgetOne>() as u32).ok_or(MISCOUNTED)?;
                Operation::BatchForget(Forgets(self.data(bytes)?))
            }
            READLINK => Operation::ReadLink,
            _ => Operation::StatFs,
        })
    }

    fn handles(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        let kills = |open_flags: u32| open_flags & flag::OPEN_KILL_SUIDGID != 0;
        Ok(match opcode {
            OPEN => {
                let OpenIn { flags, open_flags } = self.get()?;
                Operation::Open { flags, kill_suidgid: kills(open_flags) }
            }
            OPENDIR => Operation::OpenDir { flags: self.get::<OpenIn>()?.flags },
            CREATE => {
                let CreateIn { flags, mode, umask, open_flags } = self.get()?;
                Operation::Create { name: self.name()?, flags, mode, umask, kill_suidgid: kills(open_flags) }
            }
            TMPFILE => {
                let CreateIn { flags, mode, umask, open_flags } = self.get()?;
                // A file without a name comes with the name "/".
                self.string()?;
                Operation::TmpFile { flags, mode, umask, kill_suidgid: kills(open_flags) }
            }
            RELEASE => {
                let ReleaseIn { fh, flags, release_flags, lock_owner } = self.get()?;
                let flush = release_flags & flag::RELEASE_FLUSH != 0;
                let flock_unlock = release_flags & flag::RELEASE_FLOCK_UNLOCK != 0;
                Operation::Release { handle: fh, flags, flush, flock_unlock, lock_owner }
            }
            RELEASEDIR => {
                let ReleaseIn { fh, flags, .. } = self.get()?;
                Operation::ReleaseDir { handle: fh, flags }
            }
            FLUSH => {
                let FlushIn { fh, lock_owner, .. } = self.get()?;
                Operation::Flush { handle: fh, lock_owner }
            }
            _ => {
                let FsyncIn { fh, fsync_flags, .. } = self.get()?;
                let data_only = fsync_flags & flag::FSYNC_FDATASYNC != 0;
                match opcode {
                    FSYNCDIR => Operation::FsyncDir { handle: fh, data_only },
                    _ => Operation::Fsync { handle: fh, data_only },
                }
            }
        })
    }

    fn read(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        let ReadIn { fh: handle, offset, size, read_flags, lock_owner, flags, .. } = self.get()?;
        Ok(match opcode {
            READDIR => Operation::ReadDir { handle, cookie: offset, size, flags },
            READDIRPLUS => Operation::ReadDirPlus { handle, cookie: offset, size, flags },
            _ => {
                let lock_owner = given(read_flags, flag::READ_LOCKOWNER, lock_owner);
                Operation::Read { handle, offset, size, lock_owner, flags }
            }
        })
    }

    fn write(&mut self) -> Parsed<Operation<'a>> {
        let WriteIn { fh: handle, offset, size, write_flags, lock_owner, flags, .. } = self.get()?;
        let lock_owner = given(write_flags, write::LOCKOWNER, lock_owner);
        Ok(Operation::Write { handle, offset, data: self.data(size)?, write_flags, lock_owner, flags })
    }

    fn ranges(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        Ok(match opcode {
            FALLOCATE => {
                let FallocateIn { fh, offset, length, mode, .. } = self.get()?;
                Operation::Fallocate { handle: fh, offset, length, mode }
            }
            LSEEK => {
                let LseekIn { fh, offset, whence, .. } = self.get()?;
                Operation::Lseek { handle: fh, offset, whence }
            }
            SETUPMAPPING => {
                let SetupMappingIn { fh, foffset, len, flags, moffset } = self.get()?;
                Operation::SetupMapping { handle: fh, offset: foffset, length: len, flags, window_offset: moffset }
            }
            REMOVEMAPPING => {
                let RemoveMappingIn { count } = self.get()?;
                let bytes = count.checked_mul(size_of::<RemoveMappingOne>() as u32).ok_or(MISCOUNTED)?;
                Operation::RemoveMapping { ranges: self.data(bytes)? }
            }
            BMAP => {
                let BmapIn { block, blocksize, .. } = self.get()?;
                Operation::Bmap { block, block_bytes: blocksize }
            }
            _ => {
                let copy: CopyFileRangeIn = self.get()?;
                Operation::CopyFileRange(CopyRange {
                    handle: copy.fh_in,
                    offset: copy.off_in,
                    target_inode: copy.nodeid_out,
                    target_handle: copy.fh_out,
                    target_offset: copy.off_out,
                    length: copy.len,
                    flags: copy.flags,
                    wide: opcode == COPY_FILE_RANGE_64,
                })
            }
        })
    }

    /// Names of attributes may hold a slash.
    fn xattr_name(&mut self) -> Parsed<&'a [u8]> {
        let name = self.string()?;
        if name.is_empty() { Err(BAD_NAME) } else { Ok(name) }
    }

    fn xattrs(&mut self, opcode: u32, dialect: Dialect) -> Parsed<Operation<'a>> {
        Ok(match opcode {
            SETXATTR => {
                let (size, flags, more) = if dialect.long_setxattr {
                    let SetxattrIn { size, flags, setxattr_flags, .. } = self.get()?;
                    (size, flags, setxattr_flags)
                } else {
                    let ShortSetxattrIn { size, flags } = self.get()?;
                    (size, flags, 0)
                };
                let (name, acl_kills_sgid) = (self.xattr_name()?, more & flag::SETXATTR_ACL_KILL_SGID != 0);
                Operation::SetXattr { name, value: self.data(size)?, flags, acl_kills_sgid }
            }
            GETXATTR => {
                let GetxattrIn { size, .. } = self.get()?;
                Operation::GetXattr { name: self.xattr_name()?, size }
            }
            LISTXATTR => Operation::ListXattr { size: self.get::<GetxattrIn>()?.size },
            _ => Operation::RemoveXattr { name: self.xattr_name()? },
        })
    }

    fn locks(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        let LkIn { fh, owner, lk, lk_flags, .. } = self.get()?;
        let lock = Lock { start: lk.start, end: lk.end, kind: lk.kind as i32, pid: lk.pid };
        let request = LockRequest { handle: fh, owner, lock, flock: lk_flags & flag::LK_FLOCK != 0 };
        Ok(match opcode {
            GETLK => Operation::GetLock(request),
            _ => Operation::SetLock { request, wait: opcode == SETLKW },
        })
    }

    fn device(&mut self, opcode: u32) -> Parsed<Operation<'a>> {
        Ok(match opcode {
            IOCTL => {
                let IoctlIn { fh, flags, cmd, arg, in_size, out_size } = self.get()?;
                let data = self.data(in_size)?;
                Operation::Ioctl { handle: fh, flags, command: cmd, argument: arg, data, out_size }
            }
            POLL => {
                let PollIn { fh, kh, flags, events } = self.get()?;
                Operation::Poll { handle: fh, poll_handle: kh, flags, events }
            }
            _ => {
                let RetrieveIn { offset, size, .. } = self.get()?;
                Operation::NotifyReply { offset, data: self.data(size)? }
            }
        })
    }

    /// Grew twice, so what is behind the known fields is of no interest, and what is missing at the end is 0.
    fn init(&mut self) -> Parsed<Operation<'a>> {
        let (major, minor, max_readahead, flags) = (self.get()?, self.get()?, self.get()?, self.get()?);
        let flags2 = self.get().unwrap_or(0);
        self.0.rest();
        Ok(Operation::Init(InitIn { major, minor, max_readahead, flags, flags2 }))
    }
}

/// A value that counts only where its flag is set.
fn given(flags: u32, flag: u32, value: u64) -> Option<u64> {
    (flags & flag != 0).then_some(value)
}

fn set_attr(raw: &SetattrIn) -> SetAttr {
    let has = |flag: u32| raw.valid & flag != 0;
    let time = |flag: u32, now: u32, seconds: i64, nanoseconds: u32| {
        let to = SetTime::To(Time { seconds, nanoseconds });
        has(flag).then_some(if has(now) { SetTime::Now } else { to })
    };
    SetAttr {
        mode: has(fattr::MODE).then_some(raw.mode),
        uid: has(fattr::UID).then_some(raw.uid),
        gid: has(fattr::GID).then_some(raw.gid),
        size: has(fattr::SIZE).then_some(raw.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, raw.atime, raw.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, raw.mtime, raw.mtimensec),
        ctime: has(fattr::CTIME).then_some(Time { seconds: raw.ctime, nanoseconds: raw.ctimensec }),
        handle: has(fattr::FH).then_some(raw.fh),
        lock_owner: has(fattr::LOCKOWNER).then_some(raw.lock_owner),
        kill_suidgid: has(fattr::KILL_SUIDGID),
    }
}
