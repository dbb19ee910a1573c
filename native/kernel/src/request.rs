//! One request as the kernel wrote it: its header, its operation, what is appended. Borrowed from the reader's buffer.
//! Whatever the bytes are, parsing them ends with a request or with `Malformed`.

use std::fmt;

use crate::abi::layout::Reader;
use crate::abi::questions::{ExtHeader, InHeader};
use crate::abi::{UNIQUE_RESEND, extension, init};
use crate::operation::Operation;
use crate::parse::operation;

/// What the handshake decided about the form of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// SETXATTR is sent in its longer form.
    pub long_setxattr: bool,
}

impl Dialect {
    pub fn of(granted_flags: u64) -> Dialect {
        Dialect { long_setxattr: granted_flags & init::SETXATTR_EXT != 0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The reply carries exactly this number, a mark of sending again included.
    pub unique: u64,
    /// The inode that is asked about; the parent's where a name comes along.
    pub inode: u64,
    pub uid: u32,
    pub gid: u32,
    /// 0 for a process outside our pid name space.
    pub pid: u32,
    /// It was sent before, perhaps to another process that served this mount.
    pub is_resend: bool,
    pub operation: Operation<'a>,
    pub extensions: Extensions<'a>,
}

/// What may follow a request that creates something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    groups: &'a [u8],
    /// Security contexts as they came, without their header.
    pub security: &'a [u8],
}

impl Extensions<'_> {
    /// The caller's supplementary groups that matter here: at most the one of the directory's group. Needs
    /// CREATE_SUPP_GROUP.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.groups.chunks_exact(4).filter_map(|group| Reader(group).get())
    }
}

/// Bytes that are no request of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// To be answered with an error; none where not even the header could be read.
    pub unique: Option<u64>,
    pub opcode: u32,
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request of the kernel with opcode {} {}", self.opcode, self.why)
    }
}

impl std::error::Error for Malformed {}

impl<'a> Request<'a> {
    /// `bytes` is what one read of the device returned.
    pub fn parse(bytes: &'a [u8], dialect: Dialect) -> Result<Request<'a>, Malformed> {
        let mut reader = Reader(bytes);
        let no_header = Malformed { unique: None, opcode: 0, why: "is shorter than a header" };
        let header: InHeader = reader.get().ok_or(no_header)?;
        let malformed = |why| Malformed { unique: Some(header.unique), opcode: header.opcode, why };
        if header.len as usize != bytes.len() {
            return Err(malformed("has another length than it says"));
        }
        let extensions_bytes = usize::from(header.total_extlen) * 8;
        let body_bytes = reader.0.len().checked_sub(extensions_bytes);
        let body =
            body_bytes.and_then(|count| reader.bytes(count)).ok_or(malformed("has longer extensions than itself"))?;
        Ok(Request {
            unique: header.unique,
            inode: header.nodeid,
            uid: header.uid,
            gid: header.gid,
            pid: header.pid,
            is_resend: header.unique & UNIQUE_RESEND != 0,
            operation: operation(header.opcode, body, dialect).map_err(malformed)?,
            extensions: extensions(reader).ok_or(malformed("has broken extensions"))?,
        })
    }
}

fn extensions(mut reader: Reader<'_>) -> Option<Extensions<'_>> {
    let mut found = Extensions::default();
    while !reader.0.is_empty() {
        let header: ExtHeader = reader.get()?;
        let mut content = Reader(reader.bytes((header.size as usize).checked_sub(size_of::<ExtHeader>())?)?);
        match header.kind {
            0..=extension::MAX_SECURITY => found.security = content.rest(),
            extension::GROUPS => {
                let count: u32 = content.get()?;
                found.groups = content.bytes(usize::try_from(count).ok()?.checked_mul(4)?)?;
            }
            // Of a later protocol; it says how long it is, and that is enough.
            _ => {}
        }
    }
    Some(found)
}
