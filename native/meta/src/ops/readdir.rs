//! List a directory in pages. Cookies are numbers of entries, never reused, so pages stay right while entries come and go.

use base::Result;
use wire::proto::{DirEntry, NameReply, ReadDir};

use crate::access::{Caller, READ};
use crate::tables::Tables;

/// Most entries of one page: with attributes and the longest names still below the message limit.
pub const MAX_ENTRIES: u32 = 4096;

pub(crate) fn readdir(tables: &Tables, caller: &Caller, op: &ReadDir) -> Result<NameReply> {
    let directory = tables.directory(op.inode)?;
    if !op.by_handle {
        caller.require(tables, op.inode, directory, READ)?;
    }
    let most = if op.max_entries == 0 { MAX_ENTRIES } else { op.max_entries.min(MAX_ENTRIES) };
    let mut listing = tables.list(op.inode, op.cookie);
    let mut entries = Vec::with_capacity(most.min(64) as usize);
    for (cookie, listed) in listing.by_ref().take(most as usize) {
        let inode = tables.inode(listed.inode)?;
        entries.push(DirEntry {
            name: listed.name.as_slice().to_vec(),
            inode: listed.inode,
            kind: inode.kind() as i32,
            cookie,
            attr: op.plus.then(|| tables.attr(listed.inode, inode)),
        });
    }
    let end = listing.next().is_none();
    Ok(NameReply { entries, end, ..NameReply::default() })
}
