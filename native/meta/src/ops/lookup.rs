//! Reads of one inode: lookup, getattr, readlink, access.

use base::Result;
use wire::proto::{Access, GetAttr, Lookup, NameReply, ReadLink};

use super::attr_reply;
use crate::access::{Caller, SEARCH};
use crate::errors;
use crate::inode::Body;
use crate::name;
use crate::tables::Tables;

pub(crate) fn lookup(tables: &Tables, caller: &Caller, op: &Lookup) -> Result<NameReply> {
    let found = step(tables, caller, op.parent, &op.name)?;
    Ok(NameReply { attr: Some(tables.attr(found, tables.inode(found)?)), ..NameReply::default() })
}

/// The inode that `name` leads to from directory `parent`, `.` and `..` included.
pub(crate) fn step(tables: &Tables, caller: &Caller, parent: u64, name: &[u8]) -> Result<u64> {
    name::check(name)?;
    let directory = tables.directory(parent)?;
    caller.require(tables, parent, directory, SEARCH)?;
    match (name, &directory.body) {
        (b".", _) => Ok(parent),
        (b"..", Body::Directory { parent: above }) => Ok(*above),
        _ => tables.entry(parent, name).map(|entry| entry.inode).ok_or_else(|| errors::no_entry(parent, name)),
    }
}

pub(crate) fn getattr(tables: &Tables, op: &GetAttr) -> Result<NameReply> {
    tables.inode(op.inode)?;
    Ok(attr_reply(tables, op.inode))
}

pub(crate) fn readlink(tables: &Tables, op: &ReadLink) -> Result<NameReply> {
    match &tables.inode(op.inode)?.body {
        Body::Symlink(target) => Ok(NameReply { value: target.to_vec(), ..attr_reply(tables, op.inode) }),
        _ => Err(errors::invalid(format!("inode {} is not a symbolic link", op.inode))),
    }
}

pub(crate) fn access(tables: &Tables, caller: &Caller, op: &Access) -> Result<NameReply> {
    let inode = tables.inode(op.inode)?;
    if op.mask > 7 {
        return Err(errors::invalid(format!("access mask {} is not made of R 4, W 2, X 1", op.mask)));
    }
    caller.require(tables, op.inode, inode, op.mask)?;
    Ok(attr_reply(tables, op.inode))
}
