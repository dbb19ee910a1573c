//! Threads that read requests and hand them to a file system, from the handshake to the end of the mount.
//! Each has a descriptor and a buffer of its own. A request that cannot be read, or that makes the file system panic,
//! is answered with EIO and nothing else comes of it.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::abi::MIN_READ_BUFFER_BYTES;
use crate::abi::answers::OutHeader;
use crate::abi::layout::{Field, Out};
use crate::abi::questions::{InHeader, WriteIn};
use crate::device::Device;
use crate::init::{Granted, Refusal, Wanted, negotiate, our_version};
use crate::notify::Notifier;
use crate::operation::Operation;
use crate::reply::Replier;
use crate::request::{Dialect, Request};

const PAGE_BYTES: usize = 4096;

/// Called from several threads at once. Nothing here may wait for long: another request waits behind it.
pub trait FileSystem: Send + Sync + 'static {
    /// Anything that wants a reply. Operations that are not known are answered with ENOSYS: the kernel then does
    /// without.
    fn handle(&self, request: Request<'_>, reply: Replier);

    /// The kernel gives back `lookups` of an inode.
    fn forget(&self, _inode: u64, _lookups: u64) {}

    /// Who waits for the reply to `unique` got a signal. That request may be answered with EINTR, at once or never.
    fn interrupt(&self, _unique: u64) {}

    /// The mount is gone; no call comes after this one.
    fn destroyed(&self) {}
}

/// A mount that is served. Dropping it ends no thread: they end with the mount.
#[derive(Debug)]
pub struct Session {
    device: Arc<Device>,
    granted: Granted,
    threads: Vec<JoinHandle<()>>,
    finished: Arc<AtomicBool>,
}

impl Session {
    /// Agree with the kernel, then serve with `threads` threads.
    pub fn start(
        device: Arc<Device>,
        file_system: Arc<dyn FileSystem>,
        wanted: &Wanted,
        threads: usize,
    ) -> io::Result<Session> {
        let granted = handshake(&device, wanted)?;
        Session::resume(device, file_system, granted, threads)
    }

    /// Serve a connection that has agreed with the kernel before.
    pub fn resume(
        device: Arc<Device>,
        file_system: Arc<dyn FileSystem>,
        granted: Granted,
        threads: usize,
    ) -> io::Result<Session> {
        let mut devices = vec![device.clone()];
        while devices.len() < threads {
            devices.push(Arc::new(device.another()?));
        }
        let serving = Arc::new(AtomicUsize::new(devices.len()));
        let mut session = Session { device, granted, threads: Vec::new(), finished: Arc::default() };
        let worker = |device| Worker {
            device,
            granted,
            file_system: file_system.clone(),
            serving: serving.clone(),
            finished: session.finished.clone(),
        };
        let workers: Vec<Worker> = devices.into_iter().map(worker).collect();
        for (index, worker) in workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("fuse-{index}"));
            session.threads.push(thread.spawn(move || worker.serve())?);
        }
        Ok(session)
    }

    /// The mount is gone, and no thread serves it any more.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Wait for that.
    pub fn join(self) {
        for thread in self.threads {
            // Panics of a file system are caught where it is called.
            let _ = thread.join();
        }
    }

    pub fn notifier(&self) -> Notifier {
        Notifier::new(self.device.clone())
    }

    /// The descriptor that the mount was made with.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub fn granted(&self) -> &Granted {
        &self.granted
    }
}

/// The kernel's first request, and the answer to it.
fn handshake(device: &Device, wanted: &Wanted) -> io::Result<Granted> {
    let mut buffer = Buffer::new(MIN_READ_BUFFER_BYTES);
    loop {
        let bytes = match receive(device, buffer.space())? {
            Some(length) => &buffer.space()[..length],
            None => return Err(io::Error::new(io::ErrorKind::NotConnected, "it was unmounted before it answered")),
        };
        let request = Request::parse(bytes, Dialect::default()).map_err(io::Error::other)?;
        let Operation::Init(offer) = request.operation else {
            answer(device, request.unique, -libc::EIO, &[0u32; 0])?;
            return Err(io::Error::other("the kernel asked for something before the handshake"));
        };
        match negotiate(&offer, wanted) {
            Ok(granted) => {
                answer(device, request.unique, 0, &granted.raw())?;
                let missing = wanted.flags & !granted.flags;
                tracing::debug!(?granted, missing = format_args!("{missing:#x}"), "agreed with the kernel");
                return Ok(granted);
            }
            Err(Refusal::LaterMajor) => answer(device, request.unique, 0, &our_version())?,
            Err(refusal) => {
                answer(device, request.unique, -libc::EPROTO, &[0u32; 0])?;
                return Err(io::Error::new(io::ErrorKind::Unsupported, refusal.to_string()));
            }
        }
    }
}

fn answer(device: &Device, unique: u64, error: i32, body: &impl Field) -> io::Result<()> {
    let len = (size_of::<OutHeader>() + size_of_val(body)) as u32;
    let out = Out::empty().with(&OutHeader { len, error, unique }).with(body);
    device.send(&[IoSlice::new(out.as_slice())])
}

/// The next request's length; none when the mount is gone.
fn receive(device: &Device, space: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match device.receive(space) {
            Ok(0) => return Ok(None),
            Ok(length) => return Ok(Some(length)),
            Err(error) => match error.raw_os_error() {
                // A signal; another thread was faster; the request ended before it was read.
                Some(libc::EINTR | libc::EAGAIN | libc::ENOENT) => {}
                // Unmounted; cut.
                Some(libc::ENODEV | libc::ECONNABORTED) => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

/// One thread. Whichever goes last tells the file system.
struct Worker {
    device: Arc<Device>,
    granted: Granted,
    file_system: Arc<dyn FileSystem>,
    serving: Arc<AtomicUsize>,
    finished: Arc<AtomicBool>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.file_system.destroyed();
            self.finished.store(true, Ordering::Release);
        }
    }
}

impl Worker {
    fn serve(&self) {
        let mut buffer = Buffer::new(self.granted.max_write_bytes as usize);
        let dialect = Dialect::of(self.granted.flags);
        loop {
            let length = match receive(&self.device, buffer.space()) {
                Ok(Some(length)) => length,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "a thread stops serving: the kernel's requests cannot be read");
                    return;
                }
            };
            match Request::parse(&buffer.space()[..length], dialect) {
                Ok(request) => self.dispatch(request),
                Err(malformed) => {
                    tracing::error!("{malformed}; it is answered with EIO");
                    if let Some(unique) = malformed.unique {
                        self.replier(unique).error(libc::EIO);
                    }
                }
            }
        }
    }

    fn replier(&self, unique: u64) -> Replier {
        Replier::new(self.device.clone(), unique)
    }

    /// What the file system panics at has ended with EIO by then: its replier was dropped.
    fn dispatch(&self, request: Request<'_>) {
        if catch_unwind(AssertUnwindSafe(|| self.hand_over(request))).is_err() {
            tracing::error!(unique = request.unique, "a request was given up after a panic");
        }
    }

    fn hand_over(&self, request: Request<'_>) {
        match request.operation {
            Operation::Forget { lookups } => self.file_system.forget(request.inode, lookups),
            Operation::BatchForget(forgets) => {
                forgets.for_each(|(inode, lookups)| self.file_system.forget(inode, lookups));
            }
            Operation::Interrupt { unique } => self.file_system.interrupt(unique),
            // Nothing here asks for cached bytes.
            Operation::NotifyReply { .. } => {}
            Operation::Destroy => self.replier(request.unique).ok(),
            Operation::Init(_) => self.replier(request.unique).error(libc::EIO),
            _ => self.file_system.handle(request, self.replier(request.unique)),
        }
    }
}

/// Where one request at a time lies: the bytes of a WRITE begin at a page.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new(max_write_bytes: usize) -> Buffer {
        let head = size_of::<InHeader>() + size_of::<WriteIn>();
        let memory = vec![0; max_write_bytes.max(MIN_READ_BUFFER_BYTES) + 3 * PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES) + PAGE_BYTES - head;
        Buffer { memory, start }
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}
