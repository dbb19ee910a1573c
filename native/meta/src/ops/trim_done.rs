//! Every copy of a cut chunk has zeros behind the cut now: the mark can go. The next version fences the trim itself: one
//! that arrives late must not zero what was written behind the cut since.

use base::Result;
use wire::proto::{NameReply, TrimDone};

use super::{attr_reply, content};
use crate::errors;
use crate::state::{Context, Event};

/// A mark that is gone already is no error; another version or another mark is (ESTALE): zero again.
pub(crate) fn trim_done(cx: &mut Context, op: &TrimDone) -> Result<NameReply> {
    cx.tables.inode(op.inode)?;
    let asked = op.chunk.unwrap_or_default();
    let chunk = cx.tables.chunk(asked.id)?;
    if chunk.inode != op.inode || u64::from(chunk.index) != op.index {
        return Err(errors::no_chunk(asked.id));
    }
    if chunk.version != asked.version {
        return Err(errors::other_version(asked.id, asked.version, chunk.version));
    }
    match chunk.trim {
        None => {}
        Some(trim) if trim == op.trim => {
            cx.tables.edit_chunk(asked.id, |chunk| {
                chunk.advance(chunk.servers);
                chunk.trim = None;
            });
            cx.events.push(Event::ChunkChanged(asked.id));
        }
        Some(trim) => {
            let message = format!("chunk {} is cut at {trim}, not {}; ask for the map again", asked.id, op.trim);
            return Err(base::Error::stale(message).because(base::Reason::ChunkMoved));
        }
    }
    let chunks = vec![content::chunk_info(cx.tables, asked.id, cx.tables.chunk(asked.id)?)];
    Ok(NameReply { chunks, ..attr_reply(cx.tables, op.inode) })
}
