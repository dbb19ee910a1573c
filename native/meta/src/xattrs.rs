//! Extended attributes beside the inodes: by inode, name space and name. Inodes without any take no room here.

use std::ops::Bound;
use std::sync::Arc;

use base::limits::MAX_XATTR_NAME_BYTES;
use base::{Error, Result};
use imbl::OrdMap;

use crate::errors;
use crate::name::Name;

/// Source: xattr(7). The order is that of keys, records and listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Space {
    /// The access control list beside the mode.
    AccessAcl = 1,
    /// Of directories: what new entries get.
    DefaultAcl = 2,
    Security = 3,
    Trusted = 4,
    User = 5,
}

const PREFIXES: [(&str, Space); 3] =
    [("security.", Space::Security), ("trusted.", Space::Trusted), ("user.", Space::User)];
const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

impl Space {
    pub fn from_byte(byte: u8) -> Option<Space> {
        use Space::*;
        [AccessAcl, DefaultAcl, Security, Trusted, User].into_iter().find(|space| *space as u8 == byte)
    }

    pub fn is_acl(self) -> bool {
        matches!(self, Space::AccessAcl | Space::DefaultAcl)
    }
}

/// A whole name. `rest` is what follows the prefix; empty for access control lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub space: Space,
    pub rest: Name,
}

impl Key {
    /// EOPNOTSUPP: a name space that is not here. `security.selinux` is the kernel's own, and no file system over FUSE
    /// has it.
    pub fn parse(name: &[u8]) -> Result<Key> {
        if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES || name.contains(&0) {
            let message = format!(
                "the attribute name {} is empty, longer than {MAX_XATTR_NAME_BYTES} bytes or holds a NUL",
                errors::show(name)
            );
            return Err(Error::namespace(libc::ERANGE, message));
        }
        match name {
            name if name == ACCESS_ACL.as_bytes() => return Ok(Key::acl(Space::AccessAcl)),
            name if name == DEFAULT_ACL.as_bytes() => return Ok(Key::acl(Space::DefaultAcl)),
            b"security.selinux" => return Err(errors::no_xattr_space(name)),
            _ => {}
        }
        let found = PREFIXES.iter().find_map(|(prefix, space)| Some((*space, name.strip_prefix(prefix.as_bytes())?)));
        match found {
            Some((_, [])) => Err(errors::invalid(format!("the attribute name {} ends early", errors::show(name)))),
            Some((space, rest)) => Ok(Key { space, rest: Name::new(rest) }),
            None => Err(errors::no_xattr_space(name)),
        }
    }

    pub fn acl(space: Space) -> Key {
        Key { space, rest: Name::new(b"") }
    }

    pub fn whole(&self) -> Vec<u8> {
        let prefix = match self.space {
            Space::AccessAcl => ACCESS_ACL,
            Space::DefaultAcl => DEFAULT_ACL,
            space => PREFIXES.iter().find(|(_, of)| *of == space).map_or("", |(prefix, _)| prefix),
        };
        [prefix.as_bytes(), self.rest.as_slice()].concat()
    }

    fn first() -> Key {
        Key::acl(Space::AccessAcl)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Xattrs(OrdMap<(u64, Key), Arc<[u8]>>);

impl Xattrs {
    pub fn get(&self, inode: u64, key: &Key) -> Option<&Arc<[u8]>> {
        if self.0.is_empty() { None } else { self.0.get(&(inode, key.clone())) }
    }

    /// Returns what was there.
    pub fn put(&mut self, inode: u64, key: Key, value: Arc<[u8]>) -> Option<Arc<[u8]>> {
        self.0.insert((inode, key), value)
    }

    pub fn remove(&mut self, inode: u64, key: &Key) -> Option<Arc<[u8]>> {
        if self.0.is_empty() { None } else { self.0.remove(&(inode, key.clone())) }
    }

    pub fn of(&self, inode: u64) -> impl Iterator<Item = (&Key, &Arc<[u8]>)> {
        // Nearly always.
        (!self.0.is_empty()).then(|| self.range(inode)).into_iter().flatten()
    }

    fn range(&self, inode: u64) -> impl Iterator<Item = (&Key, &Arc<[u8]>)> {
        let bounds = (Bound::Included((inode, Key::first())), Bound::Excluded((inode.saturating_add(1), Key::first())));
        self.0.range(bounds).map(|((_, key), value)| (key, value))
    }

    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn all(&self) -> impl Iterator<Item = (u64, &Key, &Arc<[u8]>)> {
        self.0.iter().map(|((inode, key), value)| (*inode, key, value))
    }
}

/// What one counts as against the most that an inode may have: the whole name and the value.
pub(crate) fn bytes_of(key: &Key, value: &[u8]) -> usize {
    key.whole().len() + value.len()
}

/// Held outside of the table's nodes.
pub(crate) fn heap_bytes(key: &Key, value: &[u8]) -> u64 {
    (key.rest.heap_bytes() + value.len() + 16) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_space_and_the_rest_and_comes_back_whole() {
        for name in [
            "user.a",
            "trusted.overlay.opaque",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ] {
            assert_eq!(Key::parse(name.as_bytes()).unwrap().whole(), name.as_bytes());
        }
        let refused = |name: &str| Key::parse(name.as_bytes()).unwrap_err().errno;
        assert_eq!(refused("user."), libc::EINVAL);
        for name in ["user", "system.other", "other.name", "security.selinux", "USER.a"] {
            assert_eq!(refused(name), libc::EOPNOTSUPP, "{name}");
        }
        assert_eq!(refused(""), libc::ERANGE);
        assert_eq!(refused(&format!("user.{}", "x".repeat(251))), libc::ERANGE);
        assert!(Key::parse(format!("user.{}", "x".repeat(250)).as_bytes()).is_ok());
    }

    #[test]
    fn each_inode_has_its_own() {
        let mut table = Xattrs::default();
        let key = |name: &str| Key::parse(name.as_bytes()).unwrap();
        for (inode, name) in [(1, "user.a"), (2, "user.b"), (2, "security.c"), (3, "trusted.d")] {
            assert!(table.put(inode, key(name), Arc::from(*b"v")).is_none());
        }
        let names: Vec<Vec<u8>> = table.of(2).map(|(key, _)| key.whole()).collect();
        assert_eq!(names, [b"security.c".to_vec(), b"user.b".to_vec()]);
        assert_eq!(table.of(4).count(), 0);
        assert!(table.remove(2, &key("user.b")).is_some() && table.get(2, &key("user.b")).is_none());
    }
}
