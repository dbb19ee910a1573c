//! A simulated disk as one process sees it: what `Fs` and `FileHandle` call. Of a process that ended every call fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Change;
use super::{SimDisk, SimOp, State, Verdict, errno};
use crate::fs::{Access, Statvfs};

#[derive(Clone)]
pub(crate) struct Mount {
    disk: SimDisk,
    root: PathBuf,
    process: u64,
}

/// An open file or directory.
pub(crate) struct SimFile {
    disk: SimDisk,
    process: u64,
    inode: u64,
    path: String,
    writable: bool,
    /// Holds the disk's lock.
    locks: std::sync::atomic::AtomicBool,
}

impl Mount {
    pub(super) fn new(disk: SimDisk, root: &Path, process: u64) -> Mount {
        Mount { disk, root: root.to_path_buf(), process }
    }

    /// Run `act` on the disk with the path relative to it.
    fn with<T>(&self, path: &Path, act: impl FnOnce(&mut State, &Path) -> io::Result<T>) -> io::Result<T> {
        let path = path.strip_prefix(&self.root).map_err(|_| errno(libc::ENOENT))?;
        let mut state = self.disk.0.lock();
        state.check_alive(self.process)?;
        act(&mut state, path)
    }

    /// `with` for what changes a name.
    fn rename_with(&self, path: &Path, act: impl FnOnce(&mut State, &Path) -> io::Result<()>) -> io::Result<()> {
        self.with(path, |state, path| {
            state.enter(self.process, SimOp::Name, &path.to_string_lossy())?;
            act(state, path)
        })
    }

    fn handle(&self, path: &Path, inode: u64, writable: bool) -> SimFile {
        SimFile {
            disk: self.disk.clone(),
            process: self.process,
            inode,
            path: path.to_string_lossy().into_owned(),
            writable,
            locks: false.into(),
        }
    }

    pub fn open(&self, path: &Path, access: Access) -> io::Result<SimFile> {
        self.with(path, |state, path| {
            let is_new = access.create && state.tree.find(path).is_err();
            if is_new || access.truncate {
                state.enter(self.process, SimOp::Name, &path.to_string_lossy())?;
            }
            let inode = state.tree.open(path, access)?;
            state.tree.content(inode)?;
            Ok(self.handle(path, inode, access.write))
        })
    }

    pub fn open_dir(&self, path: &Path) -> io::Result<SimFile> {
        self.with(path, |state, path| match state.tree.is_dir(path)? {
            true => Ok(self.handle(path, state.tree.find(path)?, false)),
            false => Err(errno(libc::ENOTDIR)),
        })
    }

    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        // One that is there already is no change.
        if self.with(path, |state, path| state.tree.is_dir(path)).is_ok() {
            return Err(errno(libc::EEXIST));
        }
        self.rename_with(path, |state, path| state.tree.create_dir(path))
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.strip_prefix(&self.root).map_err(|_| errno(libc::EXDEV))?;
        self.rename_with(from, |state, from| state.tree.rename(from, to))
    }

    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        self.rename_with(path, |state, path| state.tree.unlink(path))
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.with(path, |state, path| state.tree.list(path))?;
        Ok(names.into_iter().map(|name| path.join(name)).collect())
    }

    pub fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.with(path, |state, path| state.tree.is_dir(path))
    }

    pub fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.check_alive(self.process)?;
        for piece in bytes.chunks_mut(8) {
            let word = state.luck.draw().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}

impl SimFile {
    fn alive(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.disk.0.lock();
        state.check_alive(self.process)?;
        Ok(state)
    }

    pub fn length(&self) -> io::Result<u64> {
        Ok(self.alive()?.tree.content(self.inode)?.length())
    }

    pub fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.alive()?.tree.content(self.inode)?.allocated_bytes())
    }

    pub fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.alive()?;
        state.enter(self.process, SimOp::Read, &self.path)?;
        Ok(state.tree.content(self.inode)?.read(buffer, offset))
    }

    /// For writing; EBADF when it was opened for reading only.
    fn changing(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        if self.writable { self.alive() } else { Err(errno(libc::EBADF)) }
    }

    pub fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        let (outcome, bytes) = match state.judge(self.process, SimOp::Write, &self.path)? {
            Verdict::Done => (Ok(()), bytes),
            Verdict::Fails { errno: number, short_bytes } => {
                (Err(errno(number)), &bytes[..short_bytes.min(bytes.len())])
            }
        };
        let wanted = state.tree.content(self.inode)?.new_bytes(offset, bytes.len());
        if state.tree.used_bytes() + wanted > state.capacity_bytes {
            return Err(errno(libc::ENOSPC));
        }
        if !bytes.is_empty() {
            state.tree.write(self.inode, bytes, offset)?;
        }
        outcome
    }

    pub fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        state.enter(self.process, SimOp::Cut, &self.path)?;
        state.tree.change(self.inode, Change::Truncate(length))
    }

    pub fn punch_hole(&self, from: u64, length: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        state.enter(self.process, SimOp::Cut, &self.path)?;
        state.tree.change(self.inode, Change::Hole(from, length))
    }

    pub fn sync(&self) -> io::Result<()> {
        let mut guard = self.alive()?;
        let state = &mut *guard;
        let entered = state.enter(self.process, SimOp::Sync, &self.path);
        // Not when the process ended instead.
        if entered.is_err() && state.process == self.process {
            state.tree.fail_sync(self.inode, &mut state.luck);
        }
        entered?;
        state.tree.sync(self.inode)?;
        let act = state.act_while_syncing(&self.path);
        drop(guard);
        if let Some(act) = act {
            act();
        }
        Ok(())
    }

    pub fn statvfs(&self) -> io::Result<Statvfs> {
        let state = self.alive()?;
        let available_bytes = state.capacity_bytes.saturating_sub(state.tree.used_bytes());
        Ok(Statvfs { total_bytes: state.capacity_bytes, available_bytes })
    }

    pub fn device(&self) -> u64 {
        Arc::as_ptr(&self.disk.0) as usize as u64
    }

    pub fn lock(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(errno(libc::EWOULDBLOCK));
        }
        self.locks.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.locks.get_mut()
            && let Ok(mut state) = self.alive()
        {
            state.locked = false;
        }
    }
}
