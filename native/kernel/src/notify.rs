//! What the kernel is told without having asked. The kernel may wait for locks that a request in progress holds, so
//! none of this is for a thread that serves requests; `epoch`, `resend` and dropping attributes alone wait for nothing.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::abi::answers::{DeleteOut, InvalEntryOut, InvalInodeOut, OutHeader, StoreOut};
use crate::abi::layout::{Field, Out};
use crate::abi::{flag, notice};
use crate::device::Device;

#[derive(Clone, Debug)]
pub struct Notifier(Arc<Device>);

impl Notifier {
    pub fn new(device: Arc<Device>) -> Notifier {
        Notifier(device)
    }

    /// Drop the attributes of an inode and its cached bytes from `offset` on: `length` of them, 0 for all.
    pub fn inval_inode(&self, inode: u64, offset: i64, length: i64) -> io::Result<()> {
        known(self.send(notice::INVAL_INODE, &InvalInodeOut { ino: inode, off: offset, len: length }, &[]))
    }

    /// Drop the attributes only: takes no lock.
    pub fn inval_attributes(&self, inode: u64) -> io::Result<()> {
        self.inval_inode(inode, -1, 0)
    }

    /// Drop a name. `expire_only`: it is looked up again where it is used, and what uses it now goes on undisturbed.
    pub fn inval_entry(&self, parent: u64, name: &[u8], expire_only: bool) -> io::Result<()> {
        let flags = if expire_only { flag::EXPIRE_ONLY } else { 0 };
        let entry = InvalEntryOut { parent, namelen: length(name)?, flags };
        known(self.send(notice::INVAL_ENTRY, &entry, &[name, b"\0"]))
    }

    /// A name went, and with it `child`: who watches the directory hears of it.
    pub fn delete(&self, parent: u64, child: u64, name: &[u8]) -> io::Result<()> {
        let gone = DeleteOut { parent, child, namelen: length(name)?, padding: 0 };
        known(self.send(notice::DELETE, &gone, &[name, b"\0"]))
    }

    /// Put bytes into the cache of an inode.
    pub fn store(&self, inode: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let store = StoreOut { nodeid: inode, offset, size: length(data)?, padding: 0 };
        known(self.send(notice::STORE, &store, &[data]))
    }

    /// Every cached name is looked up again when it is next used. Linux 6.16; EINVAL before.
    pub fn epoch(&self) -> io::Result<()> {
        self.send(notice::INC_EPOCH, &[0u32; 0], &[])
    }

    /// Send again what was read and not answered, marked as such. Needs HAS_RESEND.
    pub fn resend(&self) -> io::Result<()> {
        self.send(notice::RESEND, &[0u32; 0], &[])
    }

    fn send(&self, code: i32, body: &impl Field, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = size_of::<OutHeader>() + size_of_val(body) + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // A number of 0 says that this is no reply; what would be the error is the code.
        let head = Out::empty().with(&OutHeader { len, error: code, unique: 0 }).with(body);
        let head = std::iter::once(IoSlice::new(head.as_slice()));
        self.0.send(&head.chain(parts.iter().map(|part| IoSlice::new(part))).collect::<Vec<_>>())
    }
}

/// What the kernel does not know it need not drop.
fn known(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        sent => sent,
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
