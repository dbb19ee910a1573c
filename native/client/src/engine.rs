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

use crate::config::ClientConfig;
use crate::core::Core;
use crate::file::{Body, File, FileRef};
use crate::flush::flush_file;
use crate::metrics::{Metric, add};
use crate::pump::kick;
use crate::read::{ReadData, read_at};
use crate::readahead::ReadAhead;
use crate::releases;
use crate::write::{append, write_at};

/// Written bytes that nobody adds to are sent after this.
const IDLE_FLUSH: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(100);
/// How long `close` flushes before it gives up what is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

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
}

pub struct Engine {
    core: Arc<Core>,
    files: Mutex<HashMap<u64, FileRef>>,
    handles: RwLock<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Engine {
    /// Find the leader, register a session (tried until the deadline), start the background work.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Engine>> {
        let core = Core::connect(config).await?;
        let engine = Arc::new(Engine {
            core,
            files: Mutex::default(),
            handles: RwLock::default(),
            next_handle: AtomicU64::new(1),
            tasks: Mutex::default(),
        });
        let renewals = tokio::spawn(renew(Arc::downgrade(&engine))).abort_handle();
        let sealing = tokio::spawn(seal_idle(Arc::downgrade(&engine))).abort_handle();
        let telling = tokio::spawn(releases::tell(engine.core.clone())).abort_handle();
        *engine.tasks.lock() = vec![renewals, sealing, telling];
        Ok(engine)
    }

    /// Flush every file (bounded), give the session back, refuse what comes after.
    pub async fn close(&self) {
        if self.core.closed.load(Ordering::Acquire) {
            return;
        }
        let files: Vec<FileRef> = self.files.lock().values().cloned().collect();
        let flushed = futures::stream::iter(files).for_each_concurrent(16, |file| async move {
            flush_file(&self.core, &file).await;
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("written bytes were given up at close: the cluster did not take them in {CLOSE_TIMEOUT:?}");
        }
        let op = Op::CloseSession(proto::CloseSession {});
        let deadline = base::time::Deadline::after(Duration::from_secs(3));
        if let Err(error) = self.core.name_until(&Credentials::default(), op, deadline).await {
            tracing::info!(%error, "the session was not closed; it expires by itself");
        }
        self.core.closed.store(true, Ordering::Release);
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.handles.write().clear();
        self.files.lock().clear();
    }

    /// Any operation on names; an error reply is an `Err`.
    pub async fn name(&self, creds: &Credentials, op: Op) -> Result<NameReply> {
        self.core.name(creds, op).await
    }

    pub async fn getattr(&self, creds: &Credentials, inode: u64) -> Result<Attr> {
        let reply = self.core.name(creds, Op::Getattr(GetAttr { inode })).await?;
        self.seen(reply)
    }

    pub async fn lookup(&self, creds: &Credentials, parent: u64, name: &[u8]) -> Result<Attr> {
        let reply = self.core.name(creds, Op::Lookup(Lookup { parent, name: name.to_vec() })).await?;
        self.seen(reply)
    }

    /// Attributes from the leader as this mount sees them: with its own bytes that are not committed yet. For the
    /// replies of `name` that carry attributes.
    pub fn overlay(&self, attr: Attr) -> Attr {
        let Some(file) = self.files.lock().get(&attr.inode).cloned() else { return attr };
        let mut state = file.state.lock();
        state.absorb(&attr);
        state.seen()
    }

    /// How often another client was seen to have changed the content of this open inode; 0 when it is not open here.
    pub fn foreign_changes(&self, inode: u64) -> u64 {
        let file = self.files.lock().get(&inode).cloned();
        file.map_or(0, |file| file.state.lock().foreign_changes)
    }

    fn seen(&self, reply: NameReply) -> Result<Attr> {
        Ok(self.overlay(attr_of(reply)?))
    }

    /// A change of size takes effect after every write that came before it.
    pub async fn setattr(&self, creds: &Credentials, message: SetAttr) -> Result<Attr> {
        let Some(file) = self.files.lock().get(&message.inode).cloned() else {
            return attr_of(self.core.name(creds, Op::Setattr(message)).await?);
        };
        let (resizes, dates) = (message.size.is_some(), message.mtime_ns.is_some() || message.mtime_now);
        // The commit of a user's bytes takes them away: those written before must not undo what is set now.
        let sets_id = message.mode.is_some_and(|mode| mode & (libc::S_ISUID | libc::S_ISGID) != 0);
        let _order = if resizes || dates || sets_id { Some(file.order.lock().await) } else { None };
        if resizes || sets_id || (dates && matches!(file.state.lock().body, Body::Inline(_))) {
            let before = file.state.lock().faults;
            flush_file(&self.core, &file).await;
            let state = file.state.lock();
            if state.faults != before
                && let Some(error) = &state.fault
            {
                return Err(error.clone());
            }
        }
        let attr = attr_of(self.core.name(creds, Op::Setattr(message)).await?)?;
        let mut state = file.state.lock();
        if resizes {
            state.absorb_own(&attr);
            state.forget_all();
        } else {
            state.absorb(&attr);
            if dates && state.is_dirty() {
                // The commit that follows must not undo the date that was set.
                state.mtime_ns = Some(attr.mtime_ns);
            }
        }
        Ok(state.seen())
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
        let reply = self.core.name(creds, Op::Create(Create { truncate: false, ..message })).await?;
        let created = reply.created;
        let (file, handle) = self.add_handle(creds, &reply, flags)?;
        if truncate && !created {
            self.truncate(creds, handle, file.inode).await?;
        }
        let state = file.state.lock();
        Ok((state.seen(), handle))
    }

    pub async fn open(&self, creds: &Credentials, inode: u64, flags: OpenFlags) -> Result<(Attr, u64)> {
        let op = Op::Open(Open { inode, read: flags.read && !flags.execute, write: flags.write || flags.truncate });
        let reply = self.core.name(creds, op).await?;
        let (file, handle) = self.add_handle(creds, &reply, flags)?;
        if flags.truncate {
            self.truncate(creds, handle, inode).await?;
        }
        let state = file.state.lock();
        Ok((state.seen(), handle))
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
            let mut files = self.files.lock();
            let file = files.entry(attr.inode).or_insert_with(|| Arc::new(File::new(attr, creds.clone()))).clone();
            let mut state = file.state.lock();
            state.handles += 1;
            if flags.write {
                state.written_by(creds);
            }
            // Data is kept within a handle and looked at anew at open.
            state.readers.insert(handle, ReadAhead::default());
            if reply.created || reply.is_inline || !reply.chunks.is_empty() {
                let count = reply.chunks.last().map_or(0, |info| info.index + 1);
                state.learn(reply, 0, count);
            } else if let Some(attr) = &reply.attr {
                state.absorb(attr);
            }
            drop(state);
            file
        };
        let (session, seen_faults) = (self.core.session().id, AtomicU64::new(file.state.lock().faults));
        self.handles.write().insert(handle, Arc::new(Handle { file: file.clone(), flags, session, seen_faults }));
        Ok((file, handle))
    }

    fn handle(&self, handle: u64) -> Result<Arc<Handle>> {
        self.core.check_open()?;
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
        let data = read_at(&self.core, &opened.file, handle, offset, length).await?;
        self.core.metrics.read.since(start);
        add(&self.core.metrics.counters.read_bytes, data.len() as u64);
        Ok(data)
    }

    /// Who writes next through this handle, which another may have opened: what becomes of set-id bits depends on it.
    pub fn written_by(&self, handle: u64, writer: &Credentials) -> Result<()> {
        self.handle(handle)?.file.state.lock().written_by(writer);
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
        write_at(&self.core, &opened.file, offset, data).await?;
        self.after_write(&opened, start, data.len()).await
    }

    /// Write at the end of the file; the answer is the offset where `data` begins.
    pub async fn append(&self, handle: u64, data: &[u8]) -> Result<u64> {
        let (opened, start) = (self.handle(handle)?, Instant::now());
        self.before_write(handle, &opened)?;
        let offset = append(&self.core, &opened.file, data).await?;
        self.after_write(&opened, start, data.len()).await?;
        Ok(offset)
    }

    fn before_write(&self, handle: u64, opened: &Handle) -> Result<()> {
        if !opened.flags.write {
            return Err(Error::namespace(libc::EBADF, format!("handle {handle} is not open for writing")));
        }
        opened.report()
    }

    async fn after_write(&self, opened: &Handle, start: Instant, bytes: usize) -> Result<u32> {
        if opened.flags.sync {
            flush_file(&self.core, &opened.file).await;
            opened.report()?;
        }
        self.core.metrics.write.since(start);
        add(&self.core.metrics.counters.written_bytes, bytes as u64);
        Ok(bytes as u32)
    }

    /// close(2): everything written is durable and committed, or the failure is reported, once per handle.
    pub async fn flush(&self, handle: u64) -> Result<()> {
        let (opened, start) = (self.handle(handle)?, Instant::now());
        flush_file(&self.core, &opened.file).await;
        self.core.metrics.flush.since(start);
        opened.report()
    }

    /// fsync(2), fdatasync(2): the size is committed in both cases.
    pub async fn fsync(&self, handle: u64, _datasync: bool) -> Result<()> {
        self.flush(handle).await
    }

    /// The handle is gone, whatever the answer.
    pub async fn release(&self, handle: u64) -> Result<()> {
        let opened = self.handle(handle)?;
        let dirty = opened.file.state.lock().is_dirty();
        if dirty {
            // Bytes of a mapping may arrive after the last flush.
            flush_file(&self.core, &opened.file).await;
        }
        if self.handles.write().remove(&handle).is_none() {
            return Ok(());
        }
        {
            let mut files = self.files.lock();
            let mut state = opened.file.state.lock();
            state.readers.remove(&handle);
            state.handles -= 1;
            if state.handles == 0 {
                files.remove(&opened.file.inode);
            }
        }
        self.core.releases.add(opened.session, opened.file.inode);
        opened.report()
    }

    fn open_inodes(&self) -> Vec<u64> {
        self.files.lock().keys().copied().collect()
    }

    pub fn status(&self) -> serde_json::Value {
        let files: Vec<FileRef> = self.files.lock().values().cloned().collect();
        let dirty_bytes: usize = files.iter().map(|file| file.state.lock().unacked_bytes).sum();
        serde_json::json!({
            "leader": self.core.masters.leader(),
            "term": self.core.term.load(Ordering::Relaxed),
            "session": self.core.session().id,
            "open_files": files.len(),
            "handles": self.handles.read().len(),
            "dirty_bytes": dirty_bytes,
            "closed": self.core.closed.load(Ordering::Relaxed),
        })
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let mut list = self.core.metrics.list();
        let files: Vec<FileRef> = self.files.lock().values().cloned().collect();
        let dirty_bytes: usize = files.iter().map(|file| file.state.lock().unacked_bytes).sum();
        list.push(("mooseng_client_dirty_bytes", Vec::new(), dirty_bytes as f64));
        list.push(("mooseng_client_open_files", Vec::new(), files.len() as f64));
        list.push(("mooseng_client_open_handles", Vec::new(), self.handles.read().len() as f64));
        list
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }
}

impl Handle {
    /// A background failure that this handle has not reported yet.
    fn report(&self) -> Result<()> {
        let state = self.file.state.lock();
        if self.seen_faults.swap(state.faults, Ordering::AcqRel) < state.faults {
            return Err(state.fault.clone().unwrap_or_else(|| Error::unavailable("written bytes were lost")));
        }
        Ok(())
    }
}

fn attr_of(reply: NameReply) -> Result<Attr> {
    reply.attr.ok_or_else(|| Error::integrity("a reply came without attributes"))
}

/// Renews the session at a quarter of its time, and at once when the leader changed, so that it knows our open files.
async fn renew(engine: Weak<Engine>) {
    loop {
        let Some(core) = engine.upgrade().map(|engine| engine.core.clone()) else { return };
        let period = Duration::from_millis(u64::from(core.session().timeout_ms) / 4);
        tokio::select! {
            () = core.masters.changed.notified() => {}
            () = tokio::time::sleep(period) => {}
        }
        let Some(inodes) = engine.upgrade().map(|engine| engine.open_inodes()) else { return };
        if let Err(error) = core.renew(inodes).await {
            tracing::warn!(%error, "the session could not be renewed; trying again");
        }
    }
}

/// Sends what nobody adds to.
async fn seal_idle(engine: Weak<Engine>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let files: Vec<FileRef> = engine.files.lock().values().cloned().collect();
        let Some(before) = Instant::now().checked_sub(IDLE_FLUSH) else { continue };
        for file in files {
            let mut state = file.state.lock();
            if state.seal_idle(before) {
                kick(&engine.core, &file, &mut state);
            }
        }
    }
}
