//! Open files of a client: bytes in and out in spans of at most a few MiB, so that a caller can be interrupted between.

use std::sync::Arc;

use base::{Buffer, Error, Result};
use client::{Engine, OpenFlags};
use prost::Message;
use wire::proto::name_request::Op;
use wire::proto::{Attr, NameRequest};

/// Most bytes of one call; longer ones come back short, as read(2) and write(2) may.
pub(crate) const MAX_SPAN_BYTES: u64 = 4 << 20;
const PIECE_BYTES: usize = base::limits::MAX_PAYLOAD_BYTES;

/// Open or create: `request` carries `creds` and Open or Create, `flags` those of open(2). -> (file, attributes)
pub async fn open(engine: Arc<Engine>, request: Vec<u8>, flags: i32) -> Result<(u64, Vec<u8>)> {
    let request: NameRequest = decode(&request)?;
    let creds = request.creds.unwrap_or_default();
    let (attr, file): (Attr, u64) = match request.op {
        Some(Op::Open(open)) => {
            let flags = OpenFlags { read: open.read, write: open.write, ..open_flags(flags) };
            engine.open(&creds, open.inode, flags).await?
        }
        Some(Op::Create(create)) => {
            let flags = OpenFlags { read: create.read, write: create.write, ..open_flags(flags) };
            engine.create_with(&creds, create, flags).await?
        }
        _ => return Err(Error::namespace(libc::EINVAL, "opening a file takes Open or Create")),
    };
    Ok((file, attr.encode_to_vec()))
}

/// Any other operation on names. -> NameReply
pub async fn name(engine: Arc<Engine>, request: Vec<u8>) -> Result<Vec<u8>> {
    let request: NameRequest = decode(&request)?;
    let creds = request.creds.unwrap_or_default();
    let op = request.op.ok_or_else(|| Error::namespace(libc::EINVAL, "the request names no operation"))?;
    let mut reply = match op {
        // Sizes must fit with what this client wrote before.
        Op::Setattr(set) => {
            let attr = engine.setattr(&creds, set).await?;
            return Ok(wire::proto::NameReply { attr: Some(attr), ..Default::default() }.encode_to_vec());
        }
        op => engine.name(&creds, op).await?,
    };
    reply.attr = reply.attr.map(|attr| engine.overlay(attr));
    for entry in &mut reply.entries {
        entry.attr = entry.attr.map(|attr| engine.overlay(attr));
    }
    Ok(reply.encode_to_vec())
}

/// Bytes from `offset`, at most `length` and MAX_SPAN_BYTES; none at the end of the file.
pub async fn read(engine: Arc<Engine>, file: u64, offset: u64, length: u64) -> Result<Vec<client::ReadData>> {
    let mut left = length.min(MAX_SPAN_BYTES) as usize;
    let (mut parts, mut at) = (Vec::new(), offset);
    while left > 0 {
        let wanted = left.min(PIECE_BYTES);
        let part = engine.read(file, at, wanted as u32).await?;
        let got = part.len();
        parts.push(part);
        if got < wanted {
            break;
        }
        (left, at) = (left - got, at + got as u64);
    }
    Ok(parts)
}

/// Copies of what is to be written, so that nothing points into the caller's memory while it may go away.
pub fn pieces(data: &[u8]) -> Vec<Buffer> {
    data[..data.len().min(MAX_SPAN_BYTES as usize)].chunks(PIECE_BYTES).map(Buffer::copy_of).collect()
}

pub async fn write(engine: Arc<Engine>, file: u64, offset: u64, pieces: Vec<Buffer>) -> Result<i64> {
    let mut written = 0;
    for piece in pieces {
        engine.write(file, offset + written, &piece).await?;
        written += piece.len() as u64;
    }
    Ok(written as i64)
}

/// At the end of the file, in one piece. -> where it begins
pub async fn append(engine: Arc<Engine>, file: u64, data: Buffer) -> Result<i64> {
    let offset = engine.append(file, &data).await?;
    Ok(i64::try_from(offset).unwrap_or(i64::MAX))
}

fn open_flags(flags: i32) -> OpenFlags {
    OpenFlags {
        append: flags & libc::O_APPEND != 0,
        truncate: flags & libc::O_TRUNC != 0,
        sync: flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
        ..OpenFlags::default()
    }
}

fn decode(request: &[u8]) -> Result<NameRequest> {
    NameRequest::decode(request)
        .map_err(|error| Error::namespace(libc::EINVAL, format!("this is no NameRequest: {error}")))
}
