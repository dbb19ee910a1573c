//! Unmounting, by a process of its own. The kernel may need answers of the mount's server to end the mount, or to end
//! what is mounted below it, and no signal ends that wait: a server that waited itself could not be killed.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::mount::{last_words, with_helper};

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a mount goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Refused while somebody uses a file or a directory there, or something is mounted below.
    Unused,
    /// Out of the tree now, with what is mounted below; it ends with its last open file.
    Lazily,
}

/// Unmount what is on top at `path`. Errors: what the process says that tried; TimedOut when it has not ended within
/// `limit`: it is killed, and may still wait for an answer.
pub fn unmount(path: &Path, way: Way, limit: Duration) -> io::Result<()> {
    let mut child = start(path, way)?;
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(io::Error::other(last_words(&mut child)?)),
            None if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            None => {
                let _ = child.kill();
                // It ends when the kernel lets it.
                std::thread::spawn(move || child.wait());
                return Err(io::Error::new(io::ErrorKind::TimedOut, "unmounting it does not come to its end"));
            }
        }
    }
}

fn start(path: &Path, way: Way) -> io::Result<Child> {
    let run = |command: &mut Command| {
        let command = command.arg("--").arg(path).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let lazily = way == Way::Lazily;
    if rustix::process::geteuid().is_root() {
        // As given and by no helper: nothing may look at the path, which may not answer.
        let mut command = Command::new("umount");
        return run(command.args(["-c", "-i"]).args(lazily.then_some("-l")));
    }
    with_helper(|command| run(command.arg("-u").args(lazily.then_some("-z"))))
}
