//! The rights that open(2) needs, and what a handle starts with. Registering the handle is the leader's part.

use base::Result;
use wire::proto::{NameReply, Open};

use super::{attr_reply, content};
use crate::access::{Caller, READ, WRITE};
use crate::errors;
use crate::inode::Inode;
use crate::tables::Tables;

/// Chunks that come with an open: those of the first 4 GiB. More by GetChunks.
pub const OPEN_CHUNKS: u32 = 64;

pub(crate) fn open(tables: &Tables, caller: &Caller, op: &Open) -> Result<NameReply> {
    let inode = tables.inode(op.inode)?;
    check(tables, caller, op.inode, inode, op.read, op.write)?;
    Ok(handle_reply(tables, op.inode))
}

pub(crate) fn check(tables: &Tables, caller: &Caller, id: u64, inode: &Inode, read: bool, write: bool) -> Result<()> {
    if inode.is_symlink() {
        return Err(errors::is_a_symlink(id));
    }
    if inode.is_special() {
        return Err(errors::no_content(id));
    }
    if inode.is_directory() && write {
        return Err(errors::is_a_directory(id));
    }
    caller.require(tables, id, inode, if read { READ } else { 0 } | if write { WRITE } else { 0 })
}

pub(crate) fn handle_reply(tables: &Tables, inode: u64) -> NameReply {
    let mut reply = attr_reply(tables, inode);
    content::fill(tables, inode, 0, OPEN_CHUNKS, &mut reply);
    reply
}
