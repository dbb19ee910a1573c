//! A state as bytes and back. FORMAT.md draws them. The same state always gives the same bytes, so their CRC-64 is the
//! state's hash. What follows from other records (name index, orphans, healing marks, counts) is not stored.

use std::io::{Read, Write};
use std::sync::Arc;

use base::Result;
use base::crc::crc32c;
use crc_fast::{CrcAlgorithm, Digest};
use wire::proto;

use crate::chunk::{Chunk, Heal, MAX_COPIES, ServerSet};
use crate::codec::{Decoder, Encoder, damaged};
use crate::history::{Accepted, Began, History};
use crate::inode::{Body, Inode, is_special};
use crate::name::{self, Name};
use crate::session::{MAX_REPLIES, Session, SessionInfo};
use crate::state::{ClusterConfig, State};
use crate::tables::{Appender, Entry, Next, Server, Tables};
use crate::xattrs::{Key, Space};

const MAGIC: [u8; 8] = *b"MNGSNAP\0";
/// Format 1 has no grants and no turns to append, format 2 no history and no confirmed epochs, format 3 no level and no
/// versions of inodes, format 4 no extended attributes.
const OLDEST_FORMAT: u32 = 1;
const UNVERSIONED_INODES: u32 = 3;
const WITHOUT_XATTRS: u32 = 4;
const NEWEST_FORMAT: u32 = 5;
/// Of an inode's record. 2 has the time of birth.
const NEWEST_INODE: u8 = 2;
const BLOCK_HEADER_BYTES: usize = 13;
/// A block is closed when it has this much.
const FULL_BLOCK_BYTES: usize = 64 << 10;
/// No block is longer, since no record is: the largest is a reply with inline bytes, or a session's texts.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// What the records of a block are. Blocks come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Section {
    Cluster = 1,
    Servers = 2,
    Sessions = 3,
    Replies = 4,
    Inodes = 5,
    Entries = 6,
    Chunks = 7,
    Grants = 8,
    Appenders = 9,
    Confirmed = 10,
    History = 11,
    Level = 12,
    Xattrs = 13,
    Unnamed = 14,
    End = 255,
}

impl Section {
    fn from_byte(byte: u8) -> Option<Section> {
        use Section::*;
        let all = [
            Cluster, Servers, Sessions, Replies, Inodes, Entries, Chunks, Grants, Appenders, Confirmed, History, Level,
            Xattrs, Unnamed, End,
        ];
        all.into_iter().find(|s| *s as u8 == byte)
    }
}

impl State {
    /// Write everything. Slow storage does not hold up the original: write a clone.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut header = Vec::from(MAGIC);
        header.extend_from_slice(&format_of(self.tables.level()).to_le_bytes());
        header.extend_from_slice(&crc32c(&header).to_le_bytes());
        out.write_all(&header)?;
        write_tables(&self.tables, &mut BlockWriter::new(out), true)
    }

    /// Read what `write_snapshot` wrote, and not a byte more. Any damage is one error.
    pub fn read_snapshot(input: &mut dyn Read) -> Result<State> {
        let mut header = [0; 16];
        read_exact(input, &mut header)?;
        let crc = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if header[..8] != MAGIC || crc32c(&header[..12]) != crc {
            return Err(damaged("it does not begin as one"));
        }
        let format = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if !(OLDEST_FORMAT..=NEWEST_FORMAT).contains(&format) {
            let message = format!(
                "the snapshot has format {format}, this software reads {OLDEST_FORMAT} to {NEWEST_FORMAT}; update it"
            );
            return Err(base::Error::integrity(message));
        }
        Ok(State::of(read_tables(input, format)?))
    }

    /// Same state, same hash, on every machine. Walks everything.
    pub fn hash(&self) -> u64 {
        hash_tables(&self.tables, true)
    }

    /// As `hash`, less the remembered replies: what a refused operation leaves as it was.
    pub fn content_hash(&self) -> u64 {
        hash_tables(&self.tables, false)
    }
}

/// Masters of a cluster level read this format, and write no other: a snapshot may go to any of them.
fn format_of(level: u32) -> u32 {
    match level {
        wire::level::FIRST => UNVERSIONED_INODES,
        2 => WITHOUT_XATTRS,
        _ => NEWEST_FORMAT,
    }
}

/// 0: no version is written.
fn inode_version(format: u32) -> u8 {
    match format {
        ..=UNVERSIONED_INODES => 0,
        WITHOUT_XATTRS => 1,
        _ => NEWEST_INODE,
    }
}

fn hash_tables(tables: &Tables, with_replies: bool) -> u64 {
    let mut sink = std::io::sink();
    let mut blocks = BlockWriter::new(&mut sink);
    // A sink takes everything, so this cannot fail.
    let _infallible = write_tables(tables, &mut blocks, with_replies);
    blocks.hash.finalize()
}

// ---- blocks ----

struct BlockWriter<'a> {
    out: &'a mut dyn Write,
    section: Section,
    count: u32,
    payload: Encoder,
    records: u64,
    /// Over section, count and payload of every block before the end block.
    hash: Digest,
}

impl<'a> BlockWriter<'a> {
    fn new(out: &'a mut dyn Write) -> BlockWriter<'a> {
        let payload = Encoder(Vec::with_capacity(FULL_BLOCK_BYTES * 2));
        let hash = Digest::new(CrcAlgorithm::Crc64Nvme);
        BlockWriter { out, section: Section::Cluster, count: 0, payload, records: 0, hash }
    }

    fn record(&mut self, section: Section, write: impl FnOnce(&mut Encoder)) -> std::io::Result<()> {
        if section != self.section || self.payload.0.len() >= FULL_BLOCK_BYTES {
            self.close_block()?;
            self.section = section;
        }
        write(&mut self.payload);
        self.count += 1;
        self.records += 1;
        Ok(())
    }

    fn close_block(&mut self) -> std::io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let header = block_header(self.section, self.count, &self.payload.0);
        if self.section != Section::End {
            self.hash.update(&header[..5]);
            self.hash.update(&self.payload.0);
        }
        self.out.write_all(&header)?;
        self.out.write_all(&self.payload.0)?;
        self.payload.0.clear();
        self.count = 0;
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.close_block()?;
        let (records, hash) = (self.records, self.hash.finalize());
        self.record(Section::End, |out| {
            out.u64(records);
            out.u64(hash);
        })?;
        self.close_block()
    }
}

fn block_header(section: Section, count: u32, payload: &[u8]) -> [u8; BLOCK_HEADER_BYTES] {
    let mut header = [0; BLOCK_HEADER_BYTES];
    header[0] = section as u8;
    header[1..5].copy_from_slice(&count.to_le_bytes());
    header[5..9].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = base::crc::crc32c_of(&[&header[..9], payload]);
    header[9..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn read_exact(input: &mut dyn Read, bytes: &mut [u8]) -> Result<()> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends early"),
        _ => base::Error::from(error).context("reading the snapshot"),
    })
}

/// The next block into `payload`. Returns its section and its number of records.
fn read_block(input: &mut dyn Read, payload: &mut Vec<u8>, hash: &mut Digest) -> Result<(Section, u32)> {
    let mut header = [0; BLOCK_HEADER_BYTES];
    read_exact(input, &mut header)?;
    let section = Section::from_byte(header[0]).ok_or_else(|| damaged("a block is of no known section"))?;
    let count = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let length = u32::from_le_bytes([header[5], header[6], header[7], header[8]]) as usize;
    if length > MAX_BLOCK_BYTES {
        return Err(damaged("a block is too long"));
    }
    payload.resize(length, 0);
    read_exact(input, payload)?;
    if block_header(section, count, payload) != header {
        return Err(damaged("the checksum of a block is wrong"));
    }
    if section != Section::End {
        hash.update(&header[..5]);
        hash.update(payload);
    }
    Ok((section, count))
}

// ---- records out ----

fn write_tables(tables: &Tables, blocks: &mut BlockWriter, with_replies: bool) -> std::io::Result<()> {
    blocks.record(Section::Cluster, |out| put_cluster(out, tables))?;
    for (id, server) in tables.servers() {
        blocks.record(Section::Servers, |out| {
            out.u32(id);
            out.u32(server.weight);
            out.u64(server.epoch);
            out.u64(server.boot_id);
            out.u8(u8::from(server.up));
            out.bytes(server.address.as_bytes());
        })?;
    }
    for (id, session) in tables.sessions() {
        blocks.record(Section::Sessions, |out| {
            out.u64(id);
            out.u64(session.acked_below);
            out.i64(session.info.registered_ns);
            out.bytes(session.info.name.as_bytes());
            out.bytes(session.info.host.as_bytes());
            out.bytes(session.info.mount_point.as_bytes());
        })?;
    }
    for (id, session) in tables.sessions().filter(|_| with_replies) {
        for (op_id, reply) in &session.replies {
            blocks.record(Section::Replies, |out| {
                out.u64(id);
                out.u64(*op_id);
                out.bytes(reply);
            })?;
        }
    }
    let format = format_of(tables.level());
    for (id, inode) in tables.inodes() {
        blocks.record(Section::Inodes, |out| put_inode(out, format, id, inode))?;
    }
    for (parent, cookie, listed) in tables.listing() {
        blocks.record(Section::Entries, |out| {
            out.u64(parent);
            out.u64(cookie);
            out.u64(listed.inode);
            out.u8(listed.name.as_slice().len() as u8);
            out.0.extend_from_slice(listed.name.as_slice());
        })?;
    }
    for (id, chunk) in tables.chunks_from(0) {
        blocks.record(Section::Chunks, |out| put_chunk(out, id, chunk))?;
    }
    for (chunk, sessions) in tables.grants() {
        blocks.record(Section::Grants, |out| {
            out.u64(chunk);
            out.u32(sessions.len() as u32);
            sessions.iter().for_each(|session| out.u64(*session));
        })?;
    }
    for (inode, appender) in tables.appenders() {
        blocks.record(Section::Appenders, |out| {
            out.u64(inode);
            out.u64(appender.session);
            out.i64(appender.since_ns);
        })?;
    }
    for (id, server) in tables.servers().filter(|(_, server)| server.confirmed != 0) {
        blocks.record(Section::Confirmed, |out| {
            out.u32(id);
            out.u64(server.confirmed);
            out.u64(server.remembered);
        })?;
    }
    if tables.history != History::default() {
        blocks.record(Section::History, |out| put_history(out, &tables.history))?;
    }
    if format > UNVERSIONED_INODES {
        blocks.record(Section::Level, |out| out.u32(tables.level()))?;
    }
    for (inode, key, value) in tables.xattrs().all() {
        blocks.record(Section::Xattrs, |out| {
            out.u64(inode);
            out.u8(key.space as u8);
            out.bytes(key.rest.as_slice());
            out.bytes(value);
        })?;
    }
    for id in tables.unnamed() {
        blocks.record(Section::Unnamed, |out| out.u64(id))?;
    }
    blocks.finish()
}

fn put_history(out: &mut Encoder, history: &History) {
    out.u64(history.keep_below);
    out.u8(u8::from(history.folded));
    out.u32(history.began.len() as u32);
    for began in history.began.iter() {
        out.u64(began.first);
        out.u64(began.mark);
    }
    out.u32(history.accepted.len() as u32);
    for accepted in history.accepted.iter() {
        out.u64(accepted.mark);
        out.u64(accepted.last);
    }
}

fn put_cluster(out: &mut Encoder, tables: &Tables) {
    let next = &tables.next;
    for number in [next.inode, next.chunk, next.session, next.epoch, next.heal, next.cookie] {
        out.u64(number);
    }
    out.u8(u8::from(tables.config.is_some()));
    if let Some(config) = &tables.config {
        out.u32(config.copies);
        out.u32(config.min_copies);
        out.u32(config.inline_limit);
        out.bytes(config.cluster_id.as_bytes());
    }
}

fn put_inode(out: &mut Encoder, format: u32, id: u64, inode: &Inode) {
    let version = inode_version(format);
    if version > 0 {
        out.u8(version);
    }
    out.u64(id);
    for number in [inode.mode, inode.uid, inode.gid, inode.nlink] {
        out.u32(number);
    }
    out.u64(inode.size);
    for time_ns in [inode.atime_ns, inode.mtime_ns, inode.ctime_ns] {
        out.i64(time_ns);
    }
    if version > 1 {
        out.i64(inode.btime_ns);
    }
    out.u64(inode.data_version);
    match &inode.body {
        Body::Directory { parent } => {
            out.u8(1);
            out.u64(*parent);
        }
        Body::Symlink(target) => {
            out.u8(2);
            out.bytes(target);
        }
        Body::Inline { data, converter } => {
            out.u8(3);
            out.u64(*converter);
            out.bytes(data);
        }
        Body::Chunked { .. } => out.u8(4),
        Body::Special { kind, rdev } => {
            out.u8(5);
            out.u8(*kind as u8);
            out.u32(*rdev);
        }
    }
}

fn put_chunk(out: &mut Encoder, id: u64, chunk: &Chunk) {
    out.u64(id);
    out.u64(chunk.inode);
    out.u32(chunk.index);
    out.u32(chunk.version);
    out.u32(chunk.stored_bytes);
    let marks = u8::from(chunk.written) | u8::from(chunk.trim.is_some()) << 1 | u8::from(chunk.heal.is_some()) << 2;
    out.u8(marks);
    out.u8(chunk.servers.len() as u8);
    for &server in chunk.servers.as_slice() {
        out.u32(server);
    }
    if let Some(trim) = chunk.trim {
        out.u32(trim);
    }
    if let Some(heal) = chunk.heal {
        out.u64(heal.id);
        out.u32(heal.target);
    }
}

// ---- records in ----

fn read_tables(input: &mut dyn Read, format: u32) -> Result<Tables> {
    let mut tables = Tables::default();
    let mut payload = Vec::new();
    let mut hash = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut records = 0;
    let mut last = Section::Cluster;
    loop {
        let (section, count) = read_block(input, &mut payload, &mut hash)?;
        if section < last || (records == 0) != (section == Section::Cluster) {
            return Err(damaged("its blocks are out of order"));
        }
        last = section;
        let mut from = Decoder(&payload);
        if section == Section::End {
            let (expected_records, expected_hash) = (from.u64()?, from.u64()?);
            let whole = count == 1 && from.0.is_empty();
            if !whole || expected_records != records || expected_hash != hash.finalize() {
                return Err(damaged("its end does not fit the rest"));
            }
            return settle(tables);
        }
        for _ in 0..count {
            get_record(&mut tables, format, section, &mut from)?;
        }
        if !from.0.is_empty() {
            return Err(damaged("a block holds more than its records"));
        }
        records += u64::from(count);
    }
}

/// What follows from the records: inodes without a name are orphans.
fn settle(mut tables: Tables) -> Result<Tables> {
    let orphans: Vec<u64> = tables.inodes().filter(|(_, inode)| inode.nlink == 0).map(|(id, _)| id).collect();
    for id in orphans {
        tables.put_orphan(id);
    }
    Ok(tables)
}

fn get_record(tables: &mut Tables, format: u32, section: Section, from: &mut Decoder) -> Result<()> {
    let fresh = match section {
        Section::Cluster => get_cluster(tables, from)?,
        Section::Servers => get_server(tables, from)?,
        Section::Sessions => get_session(tables, from)?,
        Section::Replies => {
            let (id, op_id) = (from.u64()?, from.u64()?);
            tables.put_reply(id, op_id, Arc::from(from.bytes()?))
                && tables.session(id).is_ok_and(|session| session.replies.len() <= MAX_REPLIES)
        }
        Section::Inodes => get_inode(tables, format, from)?,
        Section::Entries => get_entry(tables, from)?,
        Section::Chunks => get_chunk(tables, from)?,
        Section::Grants => get_grants(tables, from)?,
        Section::Appenders => {
            let (inode, session, since_ns) = (from.u64()?, from.u64()?, from.i64()?);
            tables.inode(inode).is_ok() && tables.put_appender(inode, Appender { session, since_ns })
        }
        Section::Confirmed => {
            let (id, epoch, remembered) = (from.u32()?, from.u64()?, from.u64()?);
            tables.server_mut(id).is_some_and(|server| {
                server.remembered = remembered;
                std::mem::replace(&mut server.confirmed, epoch) == 0
            })
        }
        Section::History => get_history(tables, from)?,
        Section::Level => get_level(tables, from)?,
        Section::Xattrs => get_xattr(tables, from)?,
        Section::Unnamed => {
            let id = from.u64()?;
            tables.inode(id).is_ok_and(|inode| inode.nlink == 0 && inode.is_file()) && tables.put_unnamed(id)
        }
        Section::End => false,
    };
    if fresh { Ok(()) } else { Err(damaged("two records contradict each other")) }
}

fn get_xattr(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (inode, space) = (from.u64()?, from.u8()?);
    let space = Space::from_byte(space).ok_or_else(|| damaged("an attribute is in an unknown name space"))?;
    let key = Key { space, rest: Name::new(from.bytes()?) };
    let value = Arc::from(from.bytes()?);
    Ok(tables.inode(inode).is_ok() && tables.put_xattr(inode, key, value))
}

fn get_level(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let level = from.u32()?;
    if level > wire::level::LEVEL {
        let message = format!(
            "the snapshot is of cluster level {level}, this software does {}; start this master with the software of the others",
            wire::level::LEVEL
        );
        return Err(base::Error::integrity(message));
    }
    let fresh = tables.level() < level;
    tables.raise_level(level);
    Ok(fresh)
}

fn get_history(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let fresh = tables.history == History::default();
    let (keep_below, folded) = (from.u64()?, from.u8()? != 0);
    let mut began = Vec::new();
    for _ in 0..from.u32()? {
        began.push(Began { first: from.u64()?, mark: from.u64()? });
    }
    let mut accepted = Vec::new();
    for _ in 0..from.u32()? {
        accepted.push(Accepted { mark: from.u64()?, last: from.u64()? });
    }
    tables.history = History { began: Arc::new(began), folded, accepted: Arc::new(accepted), keep_below };
    Ok(fresh)
}

fn get_cluster(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let fresh = tables.next == Next::default() && tables.config.is_none();
    tables.next = Next {
        inode: from.u64()?,
        chunk: from.u64()?,
        session: from.u64()?,
        epoch: from.u64()?,
        heal: from.u64()?,
        cookie: from.u64()?,
    };
    if from.u8()? != 0 {
        let (copies, min_copies, inline_limit) = (from.u32()?, from.u32()?, from.u32()?);
        tables.config = Some(Arc::new(ClusterConfig { cluster_id: from.text()?, copies, min_copies, inline_limit }));
    }
    Ok(fresh)
}

fn get_server(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (id, weight, epoch, boot_id) = (from.u32()?, from.u32()?, from.u64()?, from.u64()?);
    let up = from.u8()? != 0;
    let address = Arc::from(from.text()?);
    Ok(tables.put_server(id, Server { address, epoch, confirmed: 0, remembered: 0, boot_id, up, weight, chunks: 0 }))
}

fn get_session(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (id, acked_below, registered_ns) = (from.u64()?, from.u64()?, from.i64()?);
    let info = SessionInfo { name: from.text()?, host: from.text()?, mount_point: from.text()?, registered_ns };
    let mut session = Session::new(info);
    session.acked_below = acked_below;
    Ok(tables.put_session(id, session))
}

fn get_inode(tables: &mut Tables, format: u32, from: &mut Decoder) -> Result<bool> {
    let version = if format > UNVERSIONED_INODES { from.u8()? } else { 1 };
    if !(1..=NEWEST_INODE).contains(&version) {
        let message = format!(
            "an inode of the snapshot has version {version}, this software reads 1 to {NEWEST_INODE}; update it"
        );
        return Err(base::Error::integrity(message));
    }
    let id = from.u64()?;
    let (mode, uid, gid, nlink, size) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?, from.u64()?);
    let (atime_ns, mtime_ns, ctime_ns) = (from.i64()?, from.i64()?, from.i64()?);
    let btime_ns = if version > 1 { from.i64()? } else { 0 };
    let data_version = from.u64()?;
    let body = match from.u8()? {
        1 => Body::Directory { parent: from.u64()? },
        2 => Body::Symlink(Arc::from(from.bytes()?)),
        3 => {
            let converter = from.u64()?;
            Body::Inline { data: Arc::from(from.bytes()?), converter }
        }
        4 => Body::Chunked { stored: 0 },
        5 if format > UNVERSIONED_INODES => {
            let kind = proto::FileKind::try_from(i32::from(from.u8()?)).ok().filter(|kind| is_special(*kind));
            let kind = kind.ok_or_else(|| damaged("an inode is of no known kind"))?;
            Body::Special { kind, rdev: from.u32()? }
        }
        _ => return Err(damaged("an inode is of no known kind")),
    };
    let inode = Inode { mode, uid, gid, nlink, size, atime_ns, mtime_ns, ctime_ns, btime_ns, data_version, body };
    let fresh = tables.inode(id).is_err() && id < tables.next.inode;
    tables.put_inode(id, inode);
    Ok(fresh)
}

fn get_entry(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (parent, cookie, inode) = (from.u64()?, from.u64()?, from.u64()?);
    let length = from.u8()?;
    let mut bytes = Vec::with_capacity(usize::from(length));
    for _ in 0..length {
        bytes.push(from.u8()?);
    }
    name::check(&bytes).map_err(|error| damaged(&error.message))?;
    if tables.directory(parent).is_err() || tables.inode(inode).is_err() {
        return Err(damaged("an entry leads from or to nothing"));
    }
    Ok(cookie < tables.next.cookie && tables.put_entry(parent, Name::new(&bytes), Entry { inode, cookie }))
}

fn get_grants(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (chunk, count) = (from.u64()?, from.u32()?);
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(from.u64()?);
    }
    Ok(tables.put_writers(chunk, &sessions))
}

fn get_chunk(tables: &mut Tables, from: &mut Decoder) -> Result<bool> {
    let (id, inode, index) = (from.u64()?, from.u64()?, from.u32()?);
    let (version, stored_bytes, marks) = (from.u32()?, from.u32()?, from.u8()?);
    let copies = from.u8()?;
    if !(1..=MAX_COPIES).contains(&usize::from(copies)) {
        return Err(damaged("a chunk has no copies, or too many"));
    }
    let mut servers = ServerSet::default();
    for _ in 0..copies {
        let server = from.u32()?;
        if tables.server(server).is_none() || !servers.push(server) {
            return Err(damaged("a chunk lies on no known server, or twice on one"));
        }
    }
    let trim = if marks & 2 != 0 { Some(from.u32()?) } else { None };
    let heal = if marks & 4 != 0 { Some(Heal { id: from.u64()?, target: from.u32()? }) } else { None };
    if !tables.inode(inode).is_ok_and(Inode::is_file) || id >= tables.next.chunk {
        return Err(damaged("a chunk belongs to no file"));
    }
    let chunk = Chunk { version, inode, index, servers, written: marks & 1 != 0, heal, stored_bytes, trim };
    Ok(tables.put_chunk(id, chunk))
}
