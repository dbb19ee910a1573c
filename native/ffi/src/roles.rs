//! Numbers that both sides of the boundary use.

pub(crate) const MASTER: u32 = crate::MNG_ROLE_MASTER;
pub(crate) const CHUNKSERVER: u32 = crate::MNG_ROLE_CHUNKSERVER;
pub(crate) const MOUNT: u32 = crate::MNG_ROLE_MOUNT;
pub(crate) const CLIENT: u32 = crate::MNG_ROLE_CLIENT;
pub(crate) const STORE: u32 = crate::MNG_ROLE_STORE;
pub(crate) const NAME_SPACE: u32 = crate::MNG_ROLE_NAME_SPACE;
pub(crate) const LINK: u32 = crate::MNG_ROLE_LINK;

pub(crate) const APPLY: u16 = crate::MNG_METHOD_APPLY as u16;
pub(crate) const QUERY: u16 = crate::MNG_METHOD_QUERY as u16;
