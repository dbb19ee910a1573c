//! Access control lists in the form in which xattrs carry them: version 2, then entries of tag, permissions and id, little
//! endian. Source: acl(5); what Linux does where that leaves a choice.

use base::{Error, Result};

use crate::access::Caller;
use crate::errors;

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// What the kernel takes in one page.
const MOST_ENTRIES: usize = (4096 - HEADER_BYTES) / ENTRY_BYTES;

mod tag {
    pub const OWNER: u16 = 1;
    pub const USER: u16 = 2;
    pub const OWNING_GROUP: u16 = 4;
    pub const GROUP: u16 = 8;
    pub const MASK: u16 = 16;
    pub const OTHER: u16 = 32;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    /// Read 4, write 2, execute or search 1.
    permissions: u16,
    /// Of users and groups.
    id: u32,
}

impl Entry {
    fn from_bytes(bytes: [u8; ENTRY_BYTES]) -> Entry {
        let [t0, t1, p0, p1, id @ ..] = bytes;
        Entry {
            tag: u16::from_le_bytes([t0, t1]),
            permissions: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes(id),
        }
    }

    fn allows(&self, mask: u32) -> bool {
        u32::from(self.permissions) & mask == mask
    }
}

/// A list that was checked: owner, owning group and others once each, a mask where users or groups are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// What setxattr(2) brings; none where the list is empty, which takes the one that is there away.
    pub fn parse(value: &[u8]) -> Result<Option<Acl>> {
        let (version, entries) = value.split_at_checked(HEADER_BYTES).ok_or_else(malformed)?;
        if version != VERSION.to_le_bytes() {
            return Err(Error::namespace(libc::EOPNOTSUPP, "an access control list of another version than 2"));
        }
        if entries.len() % ENTRY_BYTES != 0 {
            return Err(malformed());
        }
        if entries.len() / ENTRY_BYTES > MOST_ENTRIES {
            let message = format!("an access control list of more than {MOST_ENTRIES} entries has no room");
            return Err(Error::namespace(libc::ENOSPC, message));
        }
        let acl = Acl(read(value).collect());
        if acl.0.is_empty() {
            return Ok(None);
        }
        if acl.is_valid() { Ok(Some(acl)) } else { Err(malformed()) }
    }

    /// One that was stored; it was checked then.
    pub fn stored(value: &[u8]) -> Acl {
        Acl(read(value).collect())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_BYTES + self.0.len() * ENTRY_BYTES);
        value.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.0 {
            value.extend_from_slice(&entry.tag.to_le_bytes());
            value.extend_from_slice(&entry.permissions.to_le_bytes());
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
        value
    }

    /// Entries come in the order of their tags.
    fn is_valid(&self) -> bool {
        let count = |tag: u16| self.0.iter().filter(|entry| entry.tag == tag).count();
        let once = [tag::OWNER, tag::OWNING_GROUP, tag::OTHER].into_iter().all(|tag| count(tag) == 1);
        let named = count(tag::USER) + count(tag::GROUP) > 0;
        let masked = count(tag::MASK) <= 1 && (!named || count(tag::MASK) == 1);
        let known = self.0.iter().all(|entry| entry.tag.count_ones() == 1 && entry.tag <= tag::OTHER);
        let allowed = self.0.iter().all(|entry| entry.permissions <= 7);
        once && masked && known && allowed && self.0.windows(2).all(|pair| pair[0].tag <= pair[1].tag)
    }

    /// The permission bits that stand for this list in the mode; and whether they say all of it.
    pub fn mode(&self) -> (u32, bool) {
        let mut mode = 0;
        let mut masked = None;
        for entry in &self.0 {
            let bits = u32::from(entry.permissions);
            match entry.tag {
                tag::OWNER => mode |= bits << 6,
                tag::OWNING_GROUP => mode |= bits << 3,
                tag::MASK => masked = Some(bits),
                tag::OTHER => mode |= bits,
                _ => {}
            }
        }
        let is_minimal = self.0.len() == 3;
        (masked.map_or(mode, |bits| mode & !0o070 | bits << 3), is_minimal)
    }

    /// chmod(2): owner and others get their bits, the mask the group's, which are the owning group's without a mask.
    pub fn set_mode(&mut self, mode: u32) {
        let group = self.group_class();
        for entry in &mut self.0 {
            match entry.tag {
                tag::OWNER => entry.permissions = (mode >> 6 & 7) as u16,
                tag::OTHER => entry.permissions = (mode & 7) as u16,
                tag if tag == group => entry.permissions = (mode >> 3 & 7) as u16,
                _ => {}
            }
        }
    }

    /// For an inode that is made with `mode` under this default list: at most what both allow. Returns its mode.
    pub fn inherit(&mut self, mode: u32) -> u32 {
        let group = self.group_class();
        for entry in &mut self.0 {
            let bits = match entry.tag {
                tag::OWNER => mode >> 6,
                tag::OTHER => mode,
                tag if tag == group => mode >> 3,
                _ => continue,
            };
            entry.permissions &= (bits & 7) as u16;
        }
        mode & !0o777 | self.mode().0
    }

    /// The tag whose entry the group's bits of the mode stand for.
    fn group_class(&self) -> u16 {
        if self.0.iter().any(|entry| entry.tag == tag::MASK) { tag::MASK } else { tag::OWNING_GROUP }
    }
}

/// Whether the stored list `value` of an inode of group `gid`, not the caller's, allows all of `mask`.
pub(crate) fn allows(value: &[u8], caller: &Caller, gid: u32, mask: u32) -> bool {
    let masked = |entry: &Entry| {
        let limit = read(value).find(|other| other.tag == tag::MASK);
        entry.allows(mask) && limit.is_none_or(|limit| limit.allows(mask))
    };
    let mut of_a_group = false;
    for entry in read(value) {
        match entry.tag {
            tag::USER if entry.id == caller.uid => return masked(&entry),
            tag::OWNING_GROUP | tag::GROUP => {
                let group = if entry.tag == tag::GROUP { entry.id } else { gid };
                if caller.in_group(group) {
                    of_a_group = true;
                    if entry.allows(mask) {
                        return masked(&entry);
                    }
                }
            }
            tag::OTHER => return !of_a_group && entry.allows(mask),
            _ => {}
        }
    }
    false
}

fn read(value: &[u8]) -> impl Iterator<Item = Entry> {
    let entries = value.get(HEADER_BYTES..).unwrap_or_default();
    entries.as_chunks::<ENTRY_BYTES>().0.iter().map(|bytes| Entry::from_bytes(*bytes))
}

fn malformed() -> Error {
    errors::invalid("this is no access control list as acl(5) has them")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::proto::Credentials;

    use super::*;

    const GROUP: u32 = 100;

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id }).collect())
    }

    fn named() -> Acl {
        list(&[
            (tag::OWNER, 7, u32::MAX),
            (tag::USER, 6, 7),
            (tag::OWNING_GROUP, 4, u32::MAX),
            (tag::GROUP, 5, 200),
            (tag::MASK, 5, u32::MAX),
            (tag::OTHER, 1, u32::MAX),
        ])
    }

    fn may(uid: u32, groups: &[u32], mask: u32) -> bool {
        let creds = Credentials { uid, gid: uid, groups: groups.to_vec() };
        allows(&named().encode(), &Caller::new(Some(&creds)), GROUP, mask)
    }

    #[test]
    fn a_named_user_and_groups_get_what_the_mask_leaves_and_others_the_rest() {
        assert!(may(7, &[], 4) && !may(7, &[], 2), "the mask takes writing away");
        assert!(!may(7, &[200], 1), "who is named as a user is looked at as nothing else");
        assert!(may(8, &[GROUP], 4) && !may(8, &[GROUP], 1));
        assert!(may(8, &[200], 5) && !may(8, &[200], 2));
        assert!(may(8, &[GROUP, 200], 1), "any group that allows it is enough");
        assert!(may(9, &[], 1) && !may(9, &[], 4));
        assert!(!may(8, &[GROUP], 2), "a group's member is no other");
    }

    #[test]
    fn the_mode_shows_the_mask_and_chmod_sets_it() {
        let mut acl = named();
        assert_eq!(acl.mode(), (0o751, false));
        acl.set_mode(0o640);
        assert_eq!(acl.mode(), (0o640, false));
        assert_eq!(acl.0[2].permissions, 4, "the owning group's own entry stays");
        let mut plain = list(&[(tag::OWNER, 7, 0), (tag::OWNING_GROUP, 5, 0), (tag::OTHER, 5, 0)]);
        assert_eq!(plain.mode(), (0o755, true));
        plain.set_mode(0o604);
        assert_eq!(plain.mode(), (0o604, true));
    }

    #[test]
    fn what_is_made_gets_what_the_mode_and_the_default_list_allow() {
        let mut acl = named();
        assert_eq!(acl.inherit(0o100666), 0o100640);
        assert_eq!(acl.mode(), (0o640, false));
        assert_eq!(acl.0[1].permissions, 6);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(Acl::parse(&named().encode()).unwrap(), Some(named()));
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()).unwrap(), None);
        let broken: [&[(u16, u16, u32)]; 6] = [
            &[(tag::OWNER, 7, 0)],
            &[(tag::OWNER, 7, 0), (tag::USER, 7, 1), (tag::OWNING_GROUP, 7, 0), (tag::OTHER, 7, 0)],
            &[(tag::OWNING_GROUP, 7, 0), (tag::OWNER, 7, 0), (tag::OTHER, 7, 0)],
            &[(tag::OWNER, 8, 0), (tag::OWNING_GROUP, 7, 0), (tag::OTHER, 7, 0)],
            &[(tag::OWNER, 7, 0), (3, 7, 0), (tag::OWNING_GROUP, 7, 0), (tag::OTHER, 7, 0)],
            &[(tag::OWNER, 7, 0), (tag::OWNING_GROUP, 7, 0), (tag::OTHER, 7, 0), (64, 7, 0)],
        ];
        for entries in broken {
            assert_eq!(Acl::parse(&list(entries).encode()).unwrap_err().errno, libc::EINVAL, "{entries:?}");
        }
        let mut other = named().encode();
        other[0] = 3;
        assert_eq!(Acl::parse(&other).unwrap_err().errno, libc::EOPNOTSUPP);
        let mut many = vec![(tag::OWNER, 7, 0)];
        many.extend((0..MOST_ENTRIES as u32).map(|id| (tag::USER, 7, id)));
        assert_eq!(Acl::parse(&list(&many).encode()).unwrap_err().errno, libc::ENOSPC);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(value in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some(acl)) = Acl::parse(&value) {
                prop_assert_eq!(acl.encode(), value);
            }
        }

        #[test]
        fn a_mode_that_was_set_is_the_mode(mode in 0u32..0o1000) {
            let mut acl = named();
            acl.set_mode(mode);
            prop_assert_eq!(acl.mode().0, mode);
        }
    }
}
