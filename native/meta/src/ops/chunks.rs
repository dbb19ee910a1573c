//! The place of a file's bytes, for whoever has it open: rights were checked at open.

use base::Result;
use wire::proto::{GetChunks, NameReply};

use super::{attr_reply, content};
use crate::errors;
use crate::tables::Tables;

/// Most chunks of one reply: 256 GiB of file, and below the message limit.
const MAX_CHUNKS: u32 = 4096;

pub(crate) fn get_chunks(tables: &Tables, op: &GetChunks) -> Result<NameReply> {
    if !tables.inode(op.inode)?.is_file() {
        return Err(errors::not_a_file(op.inode));
    }
    let mut reply = attr_reply(tables, op.inode);
    content::fill(tables, op.inode, op.first, op.count.min(MAX_CHUNKS), &mut reply);
    Ok(reply)
}
