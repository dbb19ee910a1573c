//! Names of directory entries: short ones without an allocation, long ones shared by both tables that hold them.

use std::cmp::Ordering;
use std::sync::Arc;

use base::limits::MAX_NAME_BYTES;
use base::{Error, Result};

use crate::errors;

const SHORT_BYTES: usize = 22;

#[derive(Clone)]
pub(crate) enum Name {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Arc<[u8]>),
}

impl Name {
    pub fn new(name: &[u8]) -> Name {
        if name.len() > SHORT_BYTES {
            return Name::Long(name.into());
        }
        let mut bytes = [0; SHORT_BYTES];
        bytes[..name.len()].copy_from_slice(name);
        Name::Short { len: name.len() as u8, bytes }
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Name::Short { len, bytes } => &bytes[..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }

    /// Bytes held outside of the value itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Name::Short { .. } => 0,
            Name::Long(bytes) => bytes.len() + 16,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&errors::show(self.as_slice()))
    }
}

/// Any bytes but `/` and NUL, 1 to 255 of them. `.` and `..` pass: what they mean depends on the operation.
pub(crate) fn check(name: &[u8]) -> Result<()> {
    if name.is_empty() {
        return Err(Error::namespace(libc::ENOENT, "an empty name names nothing"));
    }
    if name.len() > MAX_NAME_BYTES {
        let message = format!("a name of {} bytes is longer than {MAX_NAME_BYTES}", name.len());
        return Err(Error::namespace(libc::ENAMETOOLONG, message));
    }
    if name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(errors::invalid(format!("the name {} contains / or NUL", errors::show(name))));
    }
    Ok(())
}

pub(crate) fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}
