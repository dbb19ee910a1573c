//! Mounting: by mount(2) where that is allowed, else by `fusermount3`, which may. A mount ends with its last name in
//! the tree and its last open file, not with this.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::Device;
use crate::unmount::{Way, unmount};

/// The helper reads from this variable which descriptor its answer goes to.
const ANSWER_FD: &str = "_FUSE_COMMFD";
/// Names another helper than those on the path.
const HELPER_PATH: &str = "FUSERMOUNT_PATH";
const HELPERS: [&str; 4] = ["fusermount3", "fusermount", "/bin/fusermount3", "/bin/fusermount"];
/// For unmounting what is dropped.
const DROP_LIMIT: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// The source that mount(8) and df(1) show.
    pub source: String,
    /// The type is `fuse.SUBTYPE` then, and `fuse` without.
    pub subtype: Option<String>,
    /// Other users may use it too. Off: the kernel refuses everybody but the one who mounted.
    pub allow_other: bool,
    /// The kernel checks permissions itself, by the attributes it is told.
    pub default_permissions: bool,
}

/// A mount that is taken out of the tree when this is dropped, unless it is gone by then.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    device: Arc<Device>,
    /// Out of the tree: what is at its path now is another's.
    taken: AtomicBool,
}

/// Mount at `path`. The kernel's first request waits in the device then, and everybody who looks at `path` waits for
/// its answer.
pub fn mount(path: &Path, options: &MountOptions) -> io::Result<Mounted> {
    options.check()?;
    let path = path.canonicalize()?;
    let device = match mount_directly(&path, options) {
        Err(error) if is_forbidden(&error) => mount_by_helper(&path, options)?,
        outcome => outcome?,
    };
    Ok(Mounted { path, device: Arc::new(device), taken: AtomicBool::new(false) })
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

impl MountOptions {
    /// An option could hide behind a comma, and a backslash could hide the comma.
    fn check(&self) -> io::Result<()> {
        let told = [Some(&self.source), self.subtype.as_ref()];
        match told.into_iter().flatten().find(|text| text.is_empty() || text.contains([',', '\\', '\0', '\n'])) {
            None => Ok(()),
            Some(text) => {
                let why = format!("{text:?} cannot name a mount: it is empty or holds a comma or a backslash");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }

    fn kind(&self) -> String {
        self.subtype.as_ref().map_or_else(|| "fuse".to_string(), |subtype| format!("fuse.{subtype}"))
    }

    fn switches(&self) -> String {
        let switch = |on: bool, text: &'static str| if on { text } else { "" };
        let others = switch(self.allow_other, ",allow_other");
        format!("{others}{}", switch(self.default_permissions, ",default_permissions"))
    }

    fn helper_options(&self) -> String {
        let subtype = self.subtype.as_ref().map_or_else(String::new, |subtype| format!(",subtype={subtype}"));
        format!("fsname={}{subtype}{}", self.source, self.switches())
    }
}

fn mount_directly(path: &Path, options: &MountOptions) -> io::Result<Device> {
    let device = Device::open()?;
    let (fd, mode) = (std::os::fd::AsFd::as_fd(&device).as_raw_fd(), path.metadata()?.mode());
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let data = format!("fd={fd},rootmode={mode:o},user_id={uid},group_id={gid}{}", options.switches());
    let (source, kind) = (CString::new(options.source.as_str())?, CString::new(options.kind())?);
    let (target, data) = (CString::new(path.as_os_str().as_bytes())?, CString::new(data)?);
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all four are NUL-terminated strings that outlive the call.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) } {
        0 => Ok(device),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The helper mounts as root and hands over the descriptor of the device through a socket.
fn mount_by_helper(path: &Path, options: &MountOptions) -> io::Result<Device> {
    let (ours, theirs) = UnixStream::pair()?;
    let start = |command: &mut Command| {
        command.arg("-o").arg(options.helper_options()).arg("--").arg(path);
        // The only descriptor that a child surely inherits without a moment in which others do too.
        command.env(ANSWER_FD, "0").stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let mut child = with_helper(start)?;
    drop(theirs);
    let received = receive_descriptor(&ours);
    drop(ours);
    let said = last_words(&mut child);
    received.map(Device::from).map_err(|error| match said {
        Ok(said) if !said.is_empty() => io::Error::new(io::ErrorKind::PermissionDenied, said),
        _ => error,
    })
}

pub(crate) fn with_helper(start: impl Fn(&mut Command) -> io::Result<Child>) -> io::Result<Child> {
    if let Some(helper) = std::env::var_os(HELPER_PATH) {
        return start(&mut Command::new(helper));
    }
    for helper in HELPERS {
        match start(&mut Command::new(helper)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    let why = "mounting needs root, or fusermount3 of the package fuse3, which is not there";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

pub(crate) fn last_words(child: &mut Child) -> io::Result<String> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    child.wait()?;
    Ok(said.trim().to_string())
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let found = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    found.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "fusermount ended without a mount"))
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Take it out of the tree. What somebody else has mounted there since is left alone.
    pub fn unmount(&self, way: Way, limit: Duration) -> io::Result<()> {
        if self.taken.load(Ordering::Acquire) || !self.device.is_connected() {
            return Ok(());
        }
        match unmount(&self.path, way, limit) {
            // Somebody was faster.
            Err(_) if !self.device.is_connected() => {}
            outcome => outcome?,
        }
        self.taken.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount(Way::Unused, DROP_LIMIT) {
            tracing::warn!(mount_point = %self.path.display(), %error, "unmounting failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_can_hide_in_a_name() {
        for name in ["", "a,suid", "a\\,suid", "a\0"] {
            let options = MountOptions { source: name.to_string(), ..MountOptions::default() };
            assert_eq!(options.check().unwrap_err().kind(), io::ErrorKind::InvalidInput);
            let options =
                MountOptions { source: "a".to_string(), subtype: Some(name.to_string()), ..MountOptions::default() };
            assert!(options.check().is_err());
        }
    }

    #[test]
    fn the_helper_is_told_what_mount_would_be() {
        let options = MountOptions {
            source: "here".to_string(),
            subtype: Some("tree".to_string()),
            allow_other: true,
            default_permissions: false,
        };
        assert_eq!(options.helper_options(), "fsname=here,subtype=tree,allow_other");
        assert_eq!(options.kind(), "fuse.tree");
    }
}
