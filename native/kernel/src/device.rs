//! /dev/fuse as a descriptor: opened, cloned, read, written. One read is one request, one write is one reply or notice.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const PATH: &str = "/dev/fuse";
/// _IOR(229, 0, u32)
const IOC_CLONE: libc::Ioctl = 0x8004_e500_u32 as libc::Ioctl;

/// The kernel ends the connection when the last descriptor of it is closed.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    /// Not connected to any mount yet.
    pub fn open() -> io::Result<Device> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(PATH)?;
        Ok(Device(file.into()))
    }

    /// One more descriptor of the same connection, with a queue of its own: a reply goes to the one that its request
    /// came from.
    pub fn another(&self) -> io::Result<Device> {
        let device = Device::open()?;
        let mut source = self.0.as_raw_fd();
        // SAFETY: this request reads one 32-bit number, which outlives the call.
        match unsafe { libc::ioctl(device.0.as_raw_fd(), IOC_CLONE, &raw mut source) } {
            0 => Ok(device),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Wait for a request; -> its length.
    pub fn receive(&self, space: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, space)?)
    }

    /// The kernel takes all of it or nothing.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        rustix::io::writev(&self.0, parts)?;
        Ok(())
    }

    /// False once it was unmounted or its connection was cut.
    pub fn is_connected(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::ERR)
    }
}

impl From<OwnedFd> for Device {
    fn from(fd: OwnedFd) -> Device {
        Device(fd)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
