//! The frame: 24 bytes of header, a protobuf message, raw payload bytes. Layout: FORMAT.md, "Frame".
//! Lengths are checked before anything is allocated. The header's CRC covers header and message; payload bytes carry
//! their own checksums in the message.

use base::limits::{MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES};
use base::{Buffer, Error, Result, crc};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

pub const HEADER_BYTES: usize = 24;
/// Payloads are a megabyte, read replies up to two blocks more (rounded out to block boundaries).
pub const MAX_FRAME_PAYLOAD_BYTES: usize = MAX_PAYLOAD_BYTES + 8192;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request = 1,
    Reply = 2,
    /// A reply whose message is `Error`.
    Failure = 3,
    /// From the accepting side, unasked and unanswered.
    Push = 4,
}

pub struct Frame {
    pub kind: Kind,
    pub method: u16,
    pub id: u64,
    pub message: Bytes,
    pub payload: Option<Buffer>,
}

/// length u32 | kind u8 | flags u8 (0) | method u16 | id u64 | message length u32 | crc u32; little endian.
pub fn encode_header(kind: Kind, method: u16, id: u64, message: &[u8], payload_len: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    let mut out = &mut header[..];
    out.put_u32_le((message.len() + payload_len) as u32);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u16_le(method);
    out.put_u64_le(id);
    out.put_u32_le(message.len() as u32);
    let crc = header_crc(&header, message);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn header_crc(header: &[u8; HEADER_BYTES], message: &[u8]) -> u32 {
    crc::crc32c_of(&[&header[..20], message])
}

/// What the header says, lengths checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub method: u16,
    pub id: u64,
    pub message_len: usize,
    pub payload_len: usize,
    crc: u32,
}

pub fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<Header> {
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let (length, message_len) = (u32_at(0) as usize, u32_at(16) as usize);
    if message_len > MAX_MESSAGE_BYTES || length < message_len || length - message_len > MAX_FRAME_PAYLOAD_BYTES {
        return Err(bad(format!("lengths {length} and {message_len} are beyond the limits")));
    }
    let kind = match header[4] {
        1 => Kind::Request,
        2 => Kind::Reply,
        3 => Kind::Failure,
        4 => Kind::Push,
        other => return Err(bad(format!("kind {other} is unknown"))),
    };
    if header[5] != 0 {
        return Err(bad(format!("flags {} are unknown", header[5])));
    }
    Ok(Header {
        kind,
        method: u16::from_le_bytes([header[6], header[7]]),
        id: u64::from_le_bytes(header[8..16].try_into().expect("8 bytes")),
        message_len,
        payload_len: length - message_len,
        crc: u32_at(20),
    })
}

/// A frame whose payload is still in the stream.
pub struct Head {
    pub kind: Kind,
    pub method: u16,
    pub id: u64,
    /// Empty when it was longer than the reader takes.
    pub message: Bytes,
    pub payload_len: usize,
    /// Bytes of a message that was longer: it was skipped, unchecked.
    pub skipped: usize,
}

impl Head {
    pub async fn read_payload<R: AsyncRead + Unpin>(self, stream: &mut R) -> Result<Frame> {
        let payload = if self.payload_len == 0 {
            None
        } else {
            let mut payload = Buffer::take(self.payload_len);
            stream.read_exact(&mut payload).await?;
            Some(payload)
        };
        Ok(Frame { kind: self.kind, method: self.method, id: self.id, message: self.message, payload })
    }
}

/// Read one frame; `None` at a clean end between frames.
pub async fn read_frame<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Option<Frame>> {
    match read_head(stream, MAX_MESSAGE_BYTES).await? {
        Some(head) => Ok(Some(head.read_payload(stream).await?)),
        None => Ok(None),
    }
}

/// Read a frame up to its payload; `None` at a clean end between frames. A message of more than `longest` bytes is skipped
/// without room for it, so that who sent it can be told.
pub async fn read_head<R: AsyncRead + Unpin>(stream: &mut R, longest: usize) -> Result<Option<Head>> {
    let mut raw = [0u8; HEADER_BYTES];
    let first = stream.read(&mut raw).await?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut raw[first..]).await?;
    let header = decode_header(&raw)?;
    if header.message_len > longest {
        skip(stream, header.message_len).await?;
        let Header { kind, method, id, message_len, payload_len, .. } = header;
        return Ok(Some(Head { kind, method, id, message: Bytes::new(), payload_len, skipped: message_len }));
    }
    let mut message = BytesMut::zeroed(header.message_len);
    stream.read_exact(&mut message).await?;
    if header_crc(&raw, &message) != header.crc {
        return Err(bad("the header's checksum does not match".to_string()));
    }
    Ok(Some(Head {
        kind: header.kind,
        method: header.method,
        id: header.id,
        message: message.freeze(),
        payload_len: header.payload_len,
        skipped: 0,
    }))
}

async fn skip<R: AsyncRead + Unpin>(stream: &mut R, mut bytes: usize) -> Result<()> {
    let mut room = [0u8; 4096];
    while bytes > 0 {
        let part = bytes.min(room.len());
        stream.read_exact(&mut room[..part]).await?;
        bytes -= part;
    }
    Ok(())
}

fn bad(why: String) -> Error {
    Error::integrity(format!("a frame was refused and its connection closed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn encode(message: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = encode_header(Kind::Request, 40, 7, message, payload.len());
        [&header[..], message, payload].concat()
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was_sent(message in prop::collection::vec(any::<u8>(), 0..300), payload in prop::collection::vec(any::<u8>(), 0..9000)) {
            let raw = encode(&message, &payload);
            let frame = runtime().block_on(read_frame(&mut &raw[..])).unwrap().unwrap();
            prop_assert_eq!(&frame.message[..], &message[..]);
            prop_assert_eq!(frame.payload.as_deref().unwrap_or(&[]), &payload[..]);
            prop_assert_eq!((frame.kind, frame.method, frame.id), (Kind::Request, 40, 7));
        }

        #[test]
        fn a_cut_frame_is_an_error_at_every_byte(message in prop::collection::vec(any::<u8>(), 0..40), cut: prop::sample::Index) {
            let raw = encode(&message, b"payload");
            let cut = 1 + cut.index(raw.len() - 1);
            prop_assert!(runtime().block_on(read_frame(&mut &raw[..cut])).is_err());
        }

        #[test]
        fn a_flipped_bit_in_header_or_message_is_refused(message in prop::collection::vec(any::<u8>(), 1..40), at: prop::sample::Index, bit in 0u8..8) {
            let mut raw = encode(&message, b"");
            let at = at.index(raw.len());
            raw[at] ^= 1 << bit;
            prop_assert!(runtime().block_on(read_frame(&mut &raw[..])).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = runtime().block_on(read_frame(&mut &raw[..]));
        }
    }
}
