//! Extended attributes: passed on to the masters, which know the rules.

use base::Result;
use wire::proto::name_request::Op;
use wire::proto::{Credentials, GetXattr, ListXattr, RemoveXattr, SetXattr};

use crate::core::Core;

/// A security module asks for it with every listing; what a file system over FUSE answers is not used.
const NEVER_KEPT: &[u8] = b"security.selinux";

/// The kernel asks for it before a write, to take it away. The masters do that themselves.
const CAPABILITY: &[u8] = b"security.capability";

/// Set on any path, it syncs all of the mount: the kernel does not hand sync(2) and syncfs(2) on. `mooseng sync` does it.
const SYNC: &[u8] = b"system.mooseng.sync";

/// What the kernel asked for: the bytes, or how many they are.
pub enum Answer {
    Bytes(Vec<u8>),
    Length(u32),
}

impl Answer {
    /// As getxattr(2) and listxattr(2) say: size 0 asks for the length, and what does not fit is ERANGE.
    fn of(bytes: Vec<u8>, size: u32) -> Result<Answer> {
        match size {
            0 => Ok(Answer::Length(bytes.len() as u32)),
            size if bytes.len() <= size as usize => Ok(Answer::Bytes(bytes)),
            size => {
                let message = format!("{} bytes do not fit in {size}", bytes.len());
                Err(base::Error::namespace(libc::ERANGE, message))
            }
        }
    }
}

impl Core {
    pub async fn get_xattr(&self, creds: Credentials, inode: u64, name: Vec<u8>, size: u32) -> Result<Answer> {
        if name == NEVER_KEPT {
            return Err(base::Error::namespace(libc::EOPNOTSUPP, "security.selinux is not kept here"));
        }
        if self.recent.lacks(inode, &name) || name == CAPABILITY && self.is_open_without_any(inode) {
            return Err(base::Error::namespace(libc::ENODATA, "the inode has no such attribute"));
        }
        let reply = self.engine.name(&creds, Op::GetXattr(GetXattr { inode, name })).await?;
        Answer::of(reply.value, size)
    }

    /// A write must not wait for the masters only because the kernel asks. Who asks by path has the attributes looked up
    /// before, so it is by descriptor alone that an older answer can be had.
    fn is_open_without_any(&self, inode: u64) -> bool {
        self.engine.open_attr(inode).is_some_and(|attr| !attr.has_xattr)
    }

    /// The names, each with a NUL behind it.
    pub async fn list_xattr(&self, creds: Credentials, inode: u64, size: u32) -> Result<Answer> {
        if self.recent.has_none(inode) {
            return Answer::of(Vec::new(), size);
        }
        let reply = self.engine.name(&creds, Op::ListXattr(ListXattr { inode })).await?;
        Answer::of(reply.value, size)
    }

    pub async fn set_xattr(
        &self,
        creds: Credentials,
        inode: u64,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: u32,
    ) -> Result<()> {
        if name == SYNC {
            return self.engine.sync().await;
        }
        let outcome = self.engine.name(&creds, Op::SetXattr(SetXattr { inode, name, value, flags })).await;
        self.recent.changed();
        outcome.map(drop)
    }

    pub async fn remove_xattr(&self, creds: Credentials, inode: u64, name: Vec<u8>) -> Result<()> {
        let outcome = self.engine.name(&creds, Op::RemoveXattr(RemoveXattr { inode, name })).await;
        self.recent.changed();
        outcome.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_erange_and_size_0_asks_for_the_length() {
        assert!(matches!(Answer::of(vec![1, 2], 0), Ok(Answer::Length(2))));
        assert!(matches!(Answer::of(vec![1, 2], 2), Ok(Answer::Bytes(bytes)) if bytes == [1, 2]));
        assert!(matches!(Answer::of(vec![1, 2], 1), Err(error) if error.errno == libc::ERANGE));
    }
}
