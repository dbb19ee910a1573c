//! Extended attributes: getxattr(2), listxattr(2), setxattr(2), removexattr(2), by the rules of xattr(7), and access
//! control lists among them.

use std::sync::Arc;

use base::limits::{MAX_XATTR_BYTES, MAX_XATTRS_BYTES};
use base::{Error, Result};
use wire::proto::{GetXattr, ListXattr, NameReply, RemoveXattr, SetXattr};

use super::attr_reply;
use crate::access::{Caller, READ, WRITE};
use crate::acl::Acl;
use crate::errors;
use crate::inode::{Inode, S_ISGID, S_ISVTX};
use crate::name::Name;
use crate::state::Context;
use crate::tables::Tables;
use crate::xattrs::{Key, Space, bytes_of};

/// Source: setxattr(2).
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

pub(crate) fn get(tables: &Tables, caller: &Caller, op: &GetXattr) -> Result<NameReply> {
    let inode = tables.inode(op.inode)?;
    let key = Key::parse(&op.name)?;
    let missing = || errors::no_xattr(op.inode, &op.name);
    match key.space {
        Space::User if !has_user_xattrs(inode) => return Err(missing()),
        Space::User => caller.require(tables, op.inode, inode, READ)?,
        Space::Trusted if !caller.is_root() => return Err(missing()),
        space if space.is_acl() && inode.is_symlink() => return Err(errors::no_xattr_space(&op.name)),
        _ => {}
    }
    let value = tables.xattr(op.inode, &key).ok_or_else(missing)?;
    Ok(NameReply { value: value.to_vec(), ..NameReply::default() })
}

pub(crate) fn list(tables: &Tables, caller: &Caller, op: &ListXattr) -> Result<NameReply> {
    tables.inode(op.inode)?;
    let seen = |key: &Key| key.space != Space::Trusted || caller.is_root();
    let mut value = Vec::new();
    for (key, _) in tables.xattrs_of(op.inode).filter(|(key, _)| seen(key)) {
        value.extend_from_slice(&key.whole());
        value.push(0);
    }
    Ok(NameReply { value, ..NameReply::default() })
}

pub(crate) fn set(cx: &mut Context, op: &SetXattr) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    let key = Key::parse(&op.name)?;
    if op.value.len() > MAX_XATTR_BYTES {
        let message = format!("an attribute of {} bytes is larger than {MAX_XATTR_BYTES}", op.value.len());
        return Err(Error::namespace(libc::E2BIG, message));
    }
    if op.flags & !(CREATE | REPLACE) != 0 {
        return Err(errors::invalid(format!("the flags {:#x} of a setxattr are not known", op.flags)));
    }
    require_change(cx.tables, &cx.caller, op.inode, inode, &key, &op.name)?;
    if key.space.is_acl() {
        return set_acl(cx, op.inode, key.space, &op.value);
    }
    let found = cx.tables.xattr(op.inode, &key).is_some();
    if found && op.flags & CREATE != 0 {
        let message = format!("inode {} has the attribute {} already", op.inode, errors::show(&op.name));
        return Err(Error::namespace(libc::EEXIST, message));
    }
    if !found && op.flags & REPLACE != 0 {
        return Err(errors::no_xattr(op.inode, &op.name));
    }
    put(cx, op.inode, key, &op.value)?;
    Ok(changed(cx, op.inode))
}

pub(crate) fn remove(cx: &mut Context, op: &RemoveXattr) -> Result<NameReply> {
    let inode = cx.tables.inode(op.inode)?;
    let key = Key::parse(&op.name)?;
    require_change(cx.tables, &cx.caller, op.inode, inode, &key, &op.name)?;
    if !cx.tables.remove_xattr(op.inode, &key) && !key.space.is_acl() {
        return Err(errors::no_xattr(op.inode, &op.name));
    }
    Ok(changed(cx, op.inode))
}

/// Symbolic links and special files have none of users: anybody might fill the disk with those.
fn has_user_xattrs(inode: &Inode) -> bool {
    inode.is_file() || inode.is_directory()
}

fn require_change(tables: &Tables, caller: &Caller, id: u64, inode: &Inode, key: &Key, name: &[u8]) -> Result<()> {
    match key.space {
        Space::User if !has_user_xattrs(inode) => {
            let message = format!("inode {id} is neither file nor directory, and has no attributes of users");
            Err(Error::namespace(libc::EPERM, message))
        }
        Space::User if inode.is_directory() && inode.mode & S_ISVTX != 0 && !caller.owns(inode) => {
            Err(errors::not_owner(id))
        }
        Space::User => caller.require(tables, id, inode, WRITE),
        Space::Trusted | Space::Security if !caller.is_root() => {
            let message = format!("only root may change the attribute {}", errors::show(name));
            Err(Error::namespace(libc::EPERM, message))
        }
        Space::Trusted | Space::Security => Ok(()),
        Space::AccessAcl | Space::DefaultAcl if inode.is_symlink() => Err(errors::no_xattr_space(name)),
        Space::AccessAcl | Space::DefaultAcl => caller.require_owner(id, inode),
    }
}

/// A list that says no more than a mode becomes one.
fn set_acl(cx: &mut Context, id: u64, space: Space, value: &[u8]) -> Result<NameReply> {
    let acl = Acl::parse(value)?;
    let inode = cx.tables.inode(id)?;
    if space == Space::DefaultAcl && !inode.is_directory() {
        if acl.is_none() {
            return Ok(attr_reply(cx.tables, id));
        }
        let message = format!("inode {id} is no directory, and only those have a default access control list");
        return Err(Error::namespace(libc::EACCES, message));
    }
    let keeps_set_gid = cx.caller.is_root() || cx.caller.in_group(inode.gid);
    match acl {
        Some(acl) if space == Space::DefaultAcl => put(cx, id, Key::acl(space), &acl.encode())?,
        Some(acl) => {
            let (bits, is_minimal) = acl.mode();
            if is_minimal {
                cx.tables.remove_xattr(id, &Key::acl(space));
            } else {
                put(cx, id, Key::acl(space), &acl.encode())?;
            }
            cx.tables.edit(id, |inode| {
                let kept = if keeps_set_gid { inode.mode } else { inode.mode & !S_ISGID };
                inode.mode = kept & !0o777 | bits;
            });
        }
        None => {
            cx.tables.remove_xattr(id, &Key::acl(space));
        }
    }
    Ok(changed(cx, id))
}

/// ENOSPC when the inode would have too much; nothing has changed then.
fn put(cx: &mut Context, id: u64, key: Key, value: &[u8]) -> Result<()> {
    let others = cx.tables.xattrs_of(id).filter(|(other, _)| **other != key);
    let total = others.map(|(key, value)| bytes_of(key, value)).sum::<usize>() + bytes_of(&key, value);
    if total > MAX_XATTRS_BYTES {
        let message = format!("inode {id} would have {total} bytes of attributes; at most {MAX_XATTRS_BYTES} fit");
        return Err(Error::namespace(libc::ENOSPC, message));
    }
    cx.tables.put_xattr(id, key, Arc::from(value));
    Ok(())
}

fn changed(cx: &mut Context, id: u64) -> NameReply {
    let now_ns = cx.now_ns;
    cx.tables.edit(id, |inode| inode.ctime_ns = now_ns);
    attr_reply(cx.tables, id)
}

/// The mode of an inode was set: its list says the same.
pub(crate) fn follow_mode(tables: &mut Tables, id: u64) {
    let key = Key::acl(Space::AccessAcl);
    let Some(value) = tables.xattr(id, &key) else { return };
    let (mut acl, Ok(inode)) = (Acl::stored(value), tables.inode(id)) else { return };
    acl.set_mode(inode.mode);
    tables.put_xattr(id, key, Arc::from(acl.encode()));
}

/// What the directory's default list, if it has one, makes of the inode's `mode` before the umask; and the lists it gets.
pub(crate) fn inherited(tables: &Tables, directory: u64, mode: u32) -> Option<(u32, Option<Acl>, Arc<[u8]>)> {
    let default = tables.xattr(directory, &Key::acl(Space::DefaultAcl))?;
    let mut acl = Acl::stored(default);
    let mode = acl.inherit(mode);
    let (_, is_minimal) = acl.mode();
    Some((mode, (!is_minimal).then_some(acl), default.clone()))
}

/// The content of a file changed, or its owner: it is another program than the one that was given capabilities.
/// Returns whether there were any.
pub(crate) fn drop_capabilities(tables: &mut Tables, id: u64) -> bool {
    let key = Key { space: Space::Security, rest: Name::new(b"capability") };
    tables.remove_xattr(id, &key)
}
