//! Small helpers for files that must survive a power cut. No knowledge of what they hold. Every sync and every change of
//! a name goes through here, so that the tests can cut the power at each (`power_cut`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

#[cfg(not(test))]
use std::fs::rename as rename_now;

#[cfg(test)]
use crate::power_cut::{self, rename as rename_now};

/// Make names in `directory` durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    #[cfg(test)]
    power_cut::after_sync_of_names(directory);
    Ok(())
}

/// Make a file durable.
pub fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    power_cut::before_sync(file);
    file.sync_all()?;
    durable(file);
    Ok(())
}

/// Make a file's bytes durable; its size was before.
pub fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(test)]
    power_cut::before_sync(file);
    file.sync_data()?;
    durable(file);
    Ok(())
}

/// All of `file` is durable: it was written past the page cache.
pub fn durable(_file: &File) {
    #[cfg(test)]
    power_cut::after_sync(_file);
}

/// Durable once the directory is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rename_now(from, to)
}

/// Have the next read come from the disk: after a failed sync the cache holds what the disk does not. Call it synced.
pub fn forget_cached(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Replace `path` by `bytes` so that after any cut either the old or the new content is there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    sync(&file)?;
    rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// From the kernel's generator.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What this process may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(path)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}
