//! Replies. Each request has one `Replier`, which is answered once, at any time, from any thread; dropped unanswered it
//! says EIO, so that no application waits for ever.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crate::abi::ERRNO_END;
use crate::abi::answers::*;
use crate::abi::layout::{Field, OUT_BYTES, Out};
use crate::abi::questions::FileLock;
use crate::attributes::{Attributes, Entry, Lock, Opened, StatFs, Statx};
use crate::device::Device;
use crate::listing::Listing;

const NOTHING: [u32; 0] = [];
/// A header and the longest structure.
const _: () = assert!(OUT_BYTES >= size_of::<OutHeader>() + size_of::<StatxOut>());

/// Whoever waits for a reply, apart from the reply itself.
#[derive(Clone, Debug)]
pub struct Waiter {
    device: Arc<Device>,
    unique: u64,
}

impl Waiter {
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Let it go with EINTR, unless it has its answer. The one that comes later is for nobody.
    pub fn interrupt(&self) {
        let len = size_of::<OutHeader>() as u32;
        let head = Out::empty().with(&OutHeader { len, error: -libc::EINTR, unique: self.unique });
        // Refused: it was answered meanwhile.
        let _ = self.device.send(&[IoSlice::new(head.as_slice())]);
    }
}

#[derive(Debug)]
pub struct Replier {
    /// The descriptor that the request was read from.
    device: Arc<Device>,
    unique: u64,
    answered: bool,
}

/// Two structures, one after the other.
struct Pair<A, B>(A, B);

impl<A: Field, B: Field> Field for Pair<A, B> {
    fn get(reader: &mut crate::abi::layout::Reader<'_>) -> Option<Pair<A, B>> {
        Some(Pair(reader.get()?, reader.get()?))
    }

    fn put(&self, out: &mut Out) {
        self.0.put(out);
        self.1.put(out);
    }
}

impl Replier {
    pub fn new(device: Arc<Device>, unique: u64) -> Replier {
        Replier { device, unique, answered: false }
    }

    /// The request's number, by which an INTERRUPT names it.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    pub fn waiter(&self) -> Waiter {
        Waiter { device: self.device.clone(), unique: self.unique }
    }

    pub fn ok(self) {
        self.bytes(&[]);
    }

    /// A positive errno. What is none becomes EIO.
    pub fn error(mut self, errno: i32) {
        self.fail(errno);
    }

    pub fn entry(self, entry: &Entry) {
        self.structure(&entry.raw());
    }

    pub fn attributes(self, valid: Duration, attributes: &Attributes) {
        let (attr_valid, attr_valid_nsec) = (valid.as_secs(), valid.subsec_nanos());
        self.structure(&AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: attributes.raw() });
    }

    pub fn statx(self, valid: Duration, statx: &Statx) {
        self.structure(&statx.raw(valid));
    }

    /// False: nobody waited any more, and no RELEASE will come.
    pub fn opened(self, opened: Opened) -> bool {
        self.structure(&opened.raw())
    }

    /// CREATE and TMPFILE; as `opened`.
    pub fn created(self, entry: &Entry, opened: Opened) -> bool {
        self.structure(&Pair(entry.raw(), opened.raw()))
    }

    pub fn written(self, size: u32) {
        self.structure(&WriteOut { size, padding: 0 });
    }

    /// COPY_FILE_RANGE_64.
    pub fn copied(self, bytes_copied: u64) {
        self.structure(&CopyFileRangeOut { bytes_copied });
    }

    pub fn statfs(self, stats: &StatFs) {
        self.structure(&stats.raw());
    }

    pub fn lseek(self, offset: i64) {
        self.structure(&LseekOut { offset });
    }

    /// How long an attribute's value, or the list of names, is.
    pub fn xattr_size(self, size: u32) {
        self.structure(&GetxattrOut { size, padding: 0 });
    }

    pub fn lock(self, lock: &Lock) {
        let lk = FileLock { start: lock.start, end: lock.end, kind: lock.kind as u32, pid: lock.pid };
        self.structure(&LkOut { lk });
    }

    pub fn bmap(self, block: u64) {
        self.structure(&BmapOut { block });
    }

    pub fn poll(self, revents: u32) {
        self.structure(&PollOut { revents, padding: 0 });
    }

    /// `data` goes to the caller's memory; only for ioctls that say in their number how much that is.
    pub fn ioctl(self, result: i32, data: &[u8]) {
        let out = Out::empty().with(&IoctlOut { result, ..IoctlOut::default() });
        self.bytes(&[out.as_slice(), data]);
    }

    pub fn listing(self, listing: &Listing) {
        self.bytes(&[listing.as_slice()]);
    }

    /// What was read. The kernel takes it from where it is.
    pub fn data(self, data: &[u8]) {
        self.bytes(&[data]);
    }

    fn structure(mut self, structure: &impl Field) -> bool {
        self.send(0, structure, &[])
    }

    /// Parts that follow each other, at most 1,023.
    pub fn bytes(mut self, parts: &[&[u8]]) {
        self.send(0, &NOTHING, parts);
    }

    fn fail(&mut self, errno: i32) {
        let errno = if (1..ERRNO_END).contains(&errno) { errno } else { libc::EIO };
        self.send(-errno, &NOTHING, &[]);
    }

    /// Whether it reached somebody.
    fn send(&mut self, error: i32, structure: &impl Field, parts: &[&[u8]]) -> bool {
        self.answered = true;
        let device = &self.device;
        let bytes =
            size_of::<OutHeader>() + size_of_val(structure) + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(bytes).unwrap_or(u32::MAX);
        let head = Out::empty().with(&OutHeader { len, error, unique: self.unique }).with(structure);
        let head = IoSlice::new(head.as_slice());
        let sent = match parts {
            [] => device.send(&[head]),
            [part] => device.send(&[head, IoSlice::new(part)]),
            _ => {
                let parts = parts.iter().map(|part| IoSlice::new(part));
                device.send(&std::iter::once(head).chain(parts).collect::<Vec<_>>())
            }
        };
        if let Err(failure) = &sent {
            self.not_sent(error, failure);
        }
        sent.is_ok()
    }

    fn not_sent(&self, error: i32, failure: &io::Error) {
        match failure.raw_os_error() {
            // Nobody waits any more: interrupted, or the mount is gone.
            Some(libc::ENOENT | libc::ENODEV) => {}
            _ => {
                tracing::warn!(unique = self.unique, error, %failure, "the kernel refused a reply");
                let len = size_of::<OutHeader>() as u32;
                let head = Out::empty().with(&OutHeader { len, error: -libc::EIO, unique: self.unique });
                // Where this is refused too, the request has ended.
                let _ = self.device.send(&[IoSlice::new(head.as_slice())]);
            }
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            tracing::warn!(unique = self.unique, "a request was given up without an answer; it gets EIO");
            self.fail(libc::EIO);
        }
    }
}
