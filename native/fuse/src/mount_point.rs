//! What is at a mount point: the checks before mounting, the state while mounted, and the ways to unmount.
//! Every call here may block on a dead server; run them where blocking is allowed and with a deadline outside.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Error, Result};
use kernel::Way;

/// What uses a dead mount has been told so by the kernel: this is short.
const DETACH_LIMIT: Duration = Duration::from_secs(5);
/// f_type of a FUSE file system. Source: statfs(2).
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// The absolute path of a directory that can be mounted on. A dead mount from before is detached first.
pub fn prepare(path: &Path) -> Result<PathBuf> {
    if std::fs::metadata(path).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN)) {
        tracing::warn!(mount_point = %path.display(), "a dead mount was left here; detaching it");
        kernel::unmount(path, Way::Lazily, DETACH_LIMIT)
            .map_err(|error| about(path, "detaching the dead mount that was left here", error))?;
    }
    let found = std::fs::metadata(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => refuse(libc::ENOENT, path, "does not exist; create the directory first"),
        _ => about(path, "looking at it", error),
    })?;
    if !found.is_dir() {
        return Err(refuse(libc::ENOTDIR, path, "is not a directory; name an empty one"));
    }
    let path = path.canonicalize().map_err(|error| about(path, "resolving it", error))?;
    if path.parent().and_then(|parent| parent.metadata().ok()).is_some_and(|parent| parent.dev() != found.dev())
        && is_fuse(&path).unwrap_or(false)
    {
        return Err(refuse(libc::EBUSY, &path, "has something mounted already; unmount it or name another one"));
    }
    let mut entries = path.read_dir().map_err(|error| about(&path, "listing it", error))?;
    if entries.next().is_some() {
        return Err(refuse(libc::ENOTEMPTY, &path, "is not empty; name an empty directory"));
    }
    Ok(path)
}

/// Is a FUSE file system mounted here that answers?
pub fn is_fuse(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type == FUSE_SUPER_MAGIC)
}

/// (major, minor) of the mounted file system.
pub fn device(path: &Path) -> io::Result<(u32, u32)> {
    let device = std::fs::metadata(path)?.dev();
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// The kernel offers 128 KiB of read-ahead; more keeps a distributed reader busy. Needs root; without it reads are
/// only slower.
pub fn raise_read_ahead((major, minor): (u32, u32), kib: u32) {
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&setting, kib.to_string()) {
        tracing::info!(setting, %error, "the kernel's read-ahead stays as it is; sequential reads may be slower");
    }
}

/// Cut the connection of a mount: whatever still uses it gets ENOTCONN instead of waiting for ever. Needs root.
pub fn abort((_, minor): (u32, u32)) -> io::Result<()> {
    std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1")
}

fn refuse(errno: i32, path: &Path, why: &str) -> Error {
    Error::namespace(errno, format!("the mount point {} {why}", path.display()))
}

pub fn about(path: &Path, what: &str, error: io::Error) -> Error {
    let mut error = Error::from(error).context(format!("the mount point {}: {what}", path.display()));
    error.kind = base::ErrorKind::Namespace;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_must_be_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(prepare(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        assert_eq!(prepare(&dir.path().join("none")).unwrap_err().errno, libc::ENOENT);
        std::fs::write(dir.path().join("file"), b"").unwrap();
        let error = prepare(dir.path()).unwrap_err();
        assert_eq!(error.errno, libc::ENOTEMPTY);
        assert!(error.message.contains("is not empty"), "{error}");
        assert_eq!(prepare(&dir.path().join("file")).unwrap_err().errno, libc::ENOTDIR);
    }

    #[test]
    fn an_ordinary_directory_is_no_fuse_mount() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_fuse(dir.path()).unwrap());
    }
}
