//! The client engine: one registration with a cluster, its open files, and the background work for them. Everything a
//! mount or an SDK does goes through here; paths and kernel types are theirs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base::{Error, Result};
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::task::AbortHandle;
use wire::proto::name_request::Op;
use wire::proto::{self, Attr, Create, Credentials, GetAttr, Lookup, NameReply, Open, SetAttr};

use super::accessed;
use super::allocate::{Allocate, allocate};
use super::append::append;
use super::duplicate::{Place, duplicate};
use super::read::{ReadData, read_at};
use super::seek::seek;
use super::write::write_at;
use super::{Drive, FileRef};
use crate::config::ClientConfig;
use crate::file::{Event, ReadAhead};
use crate::metrics::{Metric, add};
use crate::peers::{Peers, releases};

/// What writers are counted by: how often a client that writes says that it lives.
const ALIVE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
/// How long `close` flushes before it gives up what is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at whether reads through a handle move the time of access.
const NOTE_EVERY_MS: u64 = 1000;
/// For telling times of access at close.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Files that `sync` waits for at a time.
const SYNCS_AT_ONCE: usize = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    pub read: bool,
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    pub truncate: bool,
    /// Every write is durable when it returns.
    pub sync: bool,
    /// To be run: reading needs the right to execute only, which the caller has checked. Source: execve(2).
    pub execute: bool,
}

struct Handle {
    file: FileRef,
    flags: OpenFlags,
    /// That counts the handle at the leader.
    session: u64,
    /// Faults of the file that this handle has reported, or that were there before it.
    seen_faults: AtomicU64,
    /// When a read was last looked at for the time of access; 0: never.
    noted_ms: AtomicU64,
}

pub struct Engine {
    drive: Arc<Drive>,
    peers: Arc<Peers>,
    handles: RwLock<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Engine {
    /// Find the leader, register a session (tried until the deadline), start the background work.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Engine>> {
        let peers = Peers::connect(config).await?;
        let engine = Arc::new(Engine {
            drive: Arc::new(Drive::new(peers.clone())),
            peers,
            handles: RwLock::default(),
            next_handle: AtomicU64::new(1),
            tasks: Mutex::default(),
        });
        let renewals = tokio::spawn(renew(Arc::downgrade(&engine))).abort_handle();
        let ticking = tokio::spawn(tick(Arc::downgrade(&engine))).abort_handle();
        let telling = tokio::spawn(releases::tell(engine.peers.clone())).abort_handle();
        let accessed = (engine.drive.accessed.clone(), engine.peers.clone());
        let accesses = tokio::spawn(accessed::tell(accessed.0, accessed.1)).abort_handle();
        *engine.tasks.lock() = vec![renewals, ticking, telling, accesses];
        Ok(engine)
    }

    /// Flush every file (bounded), give the session back, refuse what comes after.
    pub async fn close(&self) {
        if self.peers.closed.load(Ordering::Acquire) {
            return;
        }
        let files: Vec<FileRef> = self.drive.open.lock().values().cloned().collect();
        let flushed = futures::stream::iter(files).for_each_concurrent(16, |file| async move {
            self.drive.flush(&file, true).await;
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("written bytes were given up at close: the cluster did not take them in {CLOSE_TIMEOUT:?}");
        }
        let _ = tokio::time::timeout(LAST_WORD, self.drive.accessed.tell(&self.peers)).await;
        let op = Op::CloseSession(proto::CloseSession {});
        let deadline = base::time::Deadline::after(Duration::from_secs(3));
        if let Err(error) = self.peers.name_until(&Credentials::default(), op, deadline).await {
            tracing::info!(%error, "the session was not closed; it expires by itself");
        }
        self.peers.closed.store(true, Ordering::Release);
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.handles.write().clear();
        self.drive.open.lock().clear();
    }

    /// Any operation on names; an error reply is an `Err`.
    pub async fn name(&self, creds: &Credentials, op: Op) -> Result<NameReply> {
        self.peers.name(creds, op).await
    }

    pub async fn getattr(&self, creds: &Credentials, inode: u64) -> Result<Attr> {
        let reply = self.peers.name(creds, Op::Getattr(GetAttr { inode })).await?;
        self.seen(reply)
    }

    pub async fn lookup(&self, creds: &Credentials, parent: u64, name: &[u8]) -> Result<Attr> {
        let reply = self.peers.name(creds, Op::Lookup(Lookup { parent, name: name.to_vec() })).await?;
        self.seen(reply)
    }

    /// Attributes from the leader as this mount sees them: with its own bytes that are not committed yet. For the
    /// replies of `name` that carry attributes.
    pub fn overlay(&self, attr: Attr) -> Attr {
        let attr = self.drive.accessed.laid_over(attr);
        let Some(file) = self.drive.open.lock().get(&attr.inode).cloned() else { return attr };
        self.drive.tell(&file, Event::Seen(attr));
        self.drive.with(&file, |inner| inner.file.attr())
    }

    /// The attributes of an inode that is open here, as of the last answer.
    pub fn open_attr(&self, inode: u64) -> Option<Attr> {
        let file = self.drive.open.lock().get(&inode).cloned()?;
        Some(self.drive.with(&file, |inner| inner.file.attr()))
    }

    /// How often another client was seen to have changed the content of this open inode; 0 when it is not open here.
    pub fn foreign_changes(&self, inode: u64) -> u64 {
        let file = self.drive.open.lock().get(&inode).cloned();
        file.map_or(0, |file| self.drive.with(&file, |inner| inner.file.foreign_changes()))
    }

    fn seen(&self, reply: NameReply) -> Result<Attr> {
        Ok(self.overlay(attr_of(reply)?))
    }

    /// A change of size takes effect after every write that came before it.
    pub async fn setattr(&self, creds: &Credentials, message: SetAttr) -> Result<Attr> {
        if message.atime_ns.is_some() || message.atime_now {
            self.drive.accessed.forget(message.inode);
        }
        let Some(file) = self.drive.open.lock().get(&message.inode).cloned() else {
            return attr_of(self.peers.name(creds, Op::Setattr(message)).await?);
        };
        let (resizes, dates) = (message.size.is_some(), message.mtime_ns.is_some() || message.mtime_now);
        // The commit of a user's bytes takes them away: those written before must not undo what is set now.
        let sets_id = message.mode.is_some_and(|mode| mode & (libc::S_ISUID | libc::S_ISGID) != 0);
        let _order = if resizes || dates || sets_id { Some(file.order.lock().await) } else { None };
        if resizes || sets_id || (dates && self.drive.with(&file, |inner| inner.file.is_inline())) {
            self.drive.committed(&file, resizes).await?;
        }
        let attr = attr_of(self.peers.name(creds, Op::Setattr(message)).await?)?;
        if resizes {
            self.drive.tell(&file, Event::Resized(attr));
        } else if dates {
            self.drive.tell(&file, Event::Dated(attr));
        } else {
            self.drive.tell(&file, Event::Seen(attr));
        }
        Ok(self.drive.with(&file, |inner| inner.file.attr()))
    }

    /// Create a file and open it as the message says.
    pub async fn create(&self, creds: &Credentials, message: Create) -> Result<(Attr, u64)> {
        let flags = OpenFlags { read: message.read, write: message.write, ..OpenFlags::default() };
        self.create_with(creds, message, flags).await
    }

    /// As `create`, with `append` and `sync` of `flags` for the handle.
    pub async fn create_with(&self, creds: &Credentials, message: Create, flags: OpenFlags) -> Result<(Attr, u64)> {
        let flags = OpenFlags { read: message.read, write: message.write, ..flags };
        let truncate = message.truncate || flags.truncate;
        // An existing file is cut by `setattr`, in order with what this mount has written to it.
        let reply = self.peers.name(creds, Op::Create(Create { truncate: false, ..message })).await?;
        let created = reply.created;
        let (file, handle) = self.add_handle(creds, &reply, flags)?;
        if truncate && !created {
            self.truncate(creds, handle, file.inode).await?;
        }
        Ok((self.drive.with(&file, |inner| inner.file.attr()), handle))
    }

    pub async fn open(&self, creds: &Credentials, inode: u64, flags: OpenFlags) -> Result<(Attr, u64)> {
        let op = Op::Open(Open { inode, read: flags.read && !flags.execute, write: flags.write || flags.truncate });
        let reply = self.peers.name(creds, op).await?;
        let (file, handle) = self.add_handle(creds, &reply, flags)?;
        if flags.truncate {
            self.truncate(creds, handle, inode).await?;
        }
        Ok((self.drive.with(&file, |inner| inner.file.attr()), handle))
    }

    /// O_TRUNC: the right was checked at open.
    async fn truncate(&self, creds: &Credentials, handle: u64, inode: u64) -> Result<()> {
        let cut = SetAttr { inode, size: Some(0), by_handle: true, ..SetAttr::default() };
        if let Err(error) = self.setattr(creds, cut).await {
            let _ = self.release(handle).await;
            return Err(error);
        }
        Ok(())
    }

    fn add_handle(&self, creds: &Credentials, reply: &NameReply, flags: OpenFlags) -> Result<(FileRef, u64)> {
        let attr = reply.attr.ok_or_else(|| Error::integrity("an open was answered without attributes"))?;
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let file = {
            let mut files = self.drive.open.lock();
            let file = files.entry(attr.inode).or_insert_with(|| self.drive.new_file(attr, creds)).clone();
            self.drive.with(&file, |inner| {
                inner.handles += 1;
                inner.readers.insert(handle, ReadAhead::default());
                if flags.write {
                    inner.file.written_by(creds);
                }
            });
            file
        };
        let knows = reply.created || reply.is_inline || !reply.chunks.is_empty();
        let count = if knows { reply.chunks.last().map_or(0, |info| info.index + 1) } else { 0 };
        let event = match knows {
            true => Event::Learned { reply: Box::new(reply.clone()), first: 0, count },
            false => Event::Seen(attr),
        };
        self.drive.tell(&file, event);
        let faults = self.drive.with(&file, |inner| inner.file.faults());
        let (session, seen_faults) = (self.peers.session().id, AtomicU64::new(faults));
        let opened = Handle { file: file.clone(), flags, session, seen_faults, noted_ms: AtomicU64::new(0) };
        self.handles.write().insert(handle, Arc::new(opened));
        Ok((file, handle))
    }

    fn handle(&self, handle: u64) -> Result<Arc<Handle>> {
        self.peers.check_open()?;
        let found = self.handles.read().get(&handle).cloned();
        found.ok_or_else(|| Error::namespace(libc::EBADF, format!("handle {handle} is not open")))
    }

    /// Up to `length` bytes from `offset`; short only at the end of the file.
    pub async fn read(&self, handle: u64, offset: u64, length: u32) -> Result<ReadData> {
        let opened = self.handle(handle)?;
        if !opened.flags.read {
            return Err(Error::namespace(libc::EBADF, format!("handle {handle} is not open for reading")));
        }
        let start = Instant::now();
        let data = read_at(&self.drive, &opened.file, handle, offset, length).await?;
        if !data.is_empty() {
            self.note_read(&opened);
        }
        self.peers.metrics.read.since(start);
        add(&self.peers.metrics.counters.read_bytes, data.len() as u64);
        Ok(data)
    }

    /// Looked at once a second for each handle.
    fn note_read(&self, opened: &Handle) {
        let (mono_ms, looked_at_ms) = (self.drive.mono_ms(), opened.noted_ms.load(Ordering::Relaxed));
        if looked_at_ms != 0 && mono_ms < looked_at_ms + NOTE_EVERY_MS {
            return;
        }
        opened.noted_ms.store(mono_ms.max(1), Ordering::Relaxed);
        let attr = self.drive.with(&opened.file, |inner| inner.file.attr());
        if let Some(atime_ns) = self.accessed(&attr) {
            self.drive.with(&opened.file, |inner| inner.file.accessed(atime_ns));
        }
    }

    /// A directory or a link with these attributes was read, or a file where nobody told. Returns when, if that moved its
    /// time of access.
    pub fn accessed(&self, attr: &Attr) -> Option<i64> {
        let now_ns = self.drive.now().wall_ns;
        self.drive.accessed.note(attr, now_ns).then_some(now_ns)
    }

    /// The first byte at or behind `offset` that is data, or a hole: lseek(2) with SEEK_DATA, SEEK_HOLE.
    pub async fn seek(&self, handle: u64, offset: u64, data: bool) -> Result<u64> {
        let opened = self.handle(handle)?;
        seek(&self.drive, &opened.file, offset, data).await
    }

    /// fallocate(2): space promised or given back for `length` bytes at `offset`, durably.
    pub async fn allocate(&self, handle: u64, offset: u64, length: u64, what: Allocate) -> Result<()> {
        let opened = self.handle(handle)?;
        self.before_write(handle, &opened)?;
        allocate(&self.drive, &opened.file, (offset, length), what).await
    }

    /// copy_file_range(2): up to `length` bytes from an offset of one handle to an offset of another, durably. -> how many
    pub async fn copy_range(&self, source: (u64, u64), target: (u64, u64), length: u64) -> Result<u64> {
        let (from, to) = (self.handle(source.0)?, self.handle(target.0)?);
        if !from.flags.read {
            return Err(Error::namespace(libc::EBADF, format!("handle {} is not open for reading", source.0)));
        }
        self.before_write(target.0, &to)?;
        let from = Place { file: &from.file, handle: source.0, offset: source.1 };
        let to = Place { file: &to.file, handle: target.0, offset: target.1 };
        duplicate(&self.drive, from, to, length).await
    }

    /// Who writes next through this handle, which another may have opened: what becomes of set-id bits depends on it.
    pub fn written_by(&self, handle: u64, writer: &Credentials) -> Result<()> {
        let opened = self.handle(handle)?;
        self.drive.with(&opened.file, |inner| inner.file.written_by(writer));
        Ok(())
    }

    /// Take `data` for `offset` (an append handle: for the end). Waits while the window is full.
    pub async fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<u32> {
        let opened = self.handle(handle)?;
        if opened.flags.append {
            return self.append(handle, data).await.map(|_| data.len() as u32);
        }
        let start = Instant::now();
        self.before_write(handle, &opened)?;
        write_at(&self.drive, &opened.file, offset, data).await?;
        self.after_write(&opened, start, data.len()).await
    }

    /// Write at the end of the file; the answer is the offset where `data` begins.
    pub async fn append(&self, handle: u64, data: &[u8]) -> Result<u64> {
        let (opened, start) = (self.handle(handle)?, Instant::now());
        self.before_write(handle, &opened)?;
        let offset = append(&self.drive, &opened.file, data).await?;
        self.after_write(&opened, start, data.len()).await?;
        Ok(offset)
    }

    fn before_write(&self, handle: u64, opened: &Handle) -> Result<()> {
        if !opened.flags.write {
            return Err(Error::namespace(libc::EBADF, format!("handle {handle} is not open for writing")));
        }
        self.report(opened)
    }

    async fn after_write(&self, opened: &Handle, start: Instant, bytes: usize) -> Result<u32> {
        if opened.flags.sync {
            self.drive.flush(&opened.file, false).await;
            self.report(opened)?;
        }
        self.peers.metrics.write.since(start);
        add(&self.peers.metrics.counters.written_bytes, bytes as u64);
        Ok(bytes as u32)
    }

    /// close(2): everything written is durable and committed, or the failure is reported, once per handle.
    pub async fn flush(&self, handle: u64) -> Result<()> {
        self.commit(handle, true).await
    }

    /// fsync(2), fdatasync(2): the size is committed in both cases.
    pub async fn fsync(&self, handle: u64, _datasync: bool) -> Result<()> {
        self.commit(handle, false).await
    }

    /// syncfs(2): what was written before, through any handle, is durable and committed, or one failure is told. Each
    /// handle tells its own all the same.
    pub async fn sync(&self) -> Result<()> {
        let files: Vec<FileRef> = self.drive.open.lock().values().cloned().collect();
        let one = |file: FileRef| async move { self.drive.committed(&file, false).await };
        let mut done = futures::stream::iter(files.into_iter().map(one)).buffer_unordered(SYNCS_AT_ONCE);
        let mut outcome = Ok(());
        while let Some(file) = done.next().await {
            outcome = outcome.and(file);
        }
        outcome
    }

    /// `settle`: nothing is expected to follow soon.
    async fn commit(&self, handle: u64, settle: bool) -> Result<()> {
        let (opened, start) = (self.handle(handle)?, Instant::now());
        self.drive.flush(&opened.file, settle).await;
        self.peers.metrics.flush.since(start);
        self.report(&opened)
    }

    /// The handle is gone, whatever the answer.
    pub async fn release(&self, handle: u64) -> Result<()> {
        let opened = self.handle(handle)?;
        let dirty = self.drive.with(&opened.file, |inner| inner.file.is_dirty());
        if dirty {
            // Bytes of a mapping may arrive after the last flush.
            self.drive.flush(&opened.file, true).await;
        }
        if self.handles.write().remove(&handle).is_none() {
            return Ok(());
        }
        {
            let mut files = self.drive.open.lock();
            let last = self.drive.with(&opened.file, |inner| {
                inner.readers.remove(&handle);
                inner.handles -= 1;
                inner.handles == 0
            });
            if last {
                files.remove(&opened.file.inode);
                self.drive.act(&opened.file, |state| ((), state.closing()));
            }
        }
        self.peers.releases.add(opened.session, opened.file.inode);
        self.report(&opened)
    }

    /// A background failure that this handle has not reported yet.
    fn report(&self, handle: &Handle) -> Result<()> {
        self.drive.with(&handle.file, |inner| {
            let faults = inner.file.faults();
            if handle.seen_faults.swap(faults, Ordering::AcqRel) < faults {
                let fault = inner.file.fault().cloned();
                return Err(fault.unwrap_or_else(|| Error::unavailable("written bytes were lost")));
            }
            Ok(())
        })
    }

    fn is_writing(&self) -> bool {
        let files: Vec<FileRef> = self.drive.open.lock().values().cloned().collect();
        files.iter().any(|file| self.drive.with(file, |inner| inner.file.needs_ticks()))
    }

    fn open_inodes(&self) -> Vec<u64> {
        self.drive.open.lock().keys().copied().collect()
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "leader": self.peers.masters.leader(),
            "term": self.peers.term.load(Ordering::Relaxed),
            "session": self.peers.session().id,
            "open_files": self.drive.open.lock().len(),
            "handles": self.handles.read().len(),
            "dirty_bytes": self.drive.dirty_bytes(),
            "closed": self.peers.closed.load(Ordering::Relaxed),
        })
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let mut list = self.peers.metrics.list();
        list.push(("mooseng_client_dirty_bytes", Vec::new(), self.drive.dirty_bytes() as f64));
        list.push(("mooseng_client_open_files", Vec::new(), self.drive.open.lock().len() as f64));
        list.push(("mooseng_client_open_handles", Vec::new(), self.handles.read().len() as f64));
        list
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }
}

fn attr_of(reply: NameReply) -> Result<Attr> {
    reply.attr.ok_or_else(|| Error::integrity("a reply came without attributes"))
}

/// Renews the session at a quarter of its time, and at once when the leader changed, so that it knows our open files.
/// In between it says that we live as long as anything is being written.
async fn renew(engine: Weak<Engine>) {
    let mut told = Instant::now();
    loop {
        let Some(peers) = engine.upgrade().map(|engine| engine.peers.clone()) else { return };
        let period = Duration::from_millis(u64::from(peers.session().timeout_ms) / 4);
        let changed = tokio::select! {
            () = peers.masters.changed.notified() => true,
            () = tokio::time::sleep(period.min(ALIVE)) => false,
        };
        let Some(engine) = engine.upgrade() else { return };
        let full = changed || told.elapsed() + ALIVE > period;
        if !full && !engine.is_writing() {
            continue;
        }
        let inodes = full.then(|| engine.open_inodes());
        drop(engine);
        if full {
            told = Instant::now();
        }
        if let Err(error) = peers.renew(inodes).await {
            tracing::warn!(%error, "the session could not be renewed; trying again");
        }
    }
}

/// Sends what nobody adds to, and commits it after a while.
async fn tick(engine: Weak<Engine>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let files: Vec<FileRef> = engine.drive.open.lock().values().cloned().collect();
        for file in files {
            if engine.drive.with(&file, |inner| inner.file.needs_ticks()) {
                engine.drive.tell(&file, Event::Tick);
            }
        }
    }
}
