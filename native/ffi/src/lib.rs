//! The C boundary of MooseNG: everything that another language calls, in one file. Integers, spans and handles only.
//! A result is a count, or -errno with the text in `mng_last_error`. Panics never cross, no call runs after a fork
//! (-ECHILD). The library keeps no pointer after it returned, except across -EINPROGRESS (see `mng_wait`).

mod facts;
mod files;
mod guard;
mod logging;
mod memory;
mod objects;
mod roles;
mod runtime;

use std::path::Path;
use std::time::Duration;

use base::{Error, crc};
use chunk::ChunkRef;

use guard::guard;
use memory::{MngReply, bytes, bytes_mut};

/// Rises with every change of a declaration below.
pub const MNG_ABI_VERSION: u32 = 4;

/// What `mng_start` can make.
pub const MNG_ROLE_MASTER: u32 = 1;
pub const MNG_ROLE_CHUNKSERVER: u32 = 2;
pub const MNG_ROLE_MOUNT: u32 = 3;
pub const MNG_ROLE_CLIENT: u32 = 4;
pub const MNG_ROLE_STORE: u32 = 5;
pub const MNG_ROLE_NAME_SPACE: u32 = 6;
pub const MNG_ROLE_LINK: u32 = 7;

/// Methods of a name space for `mng_call`: a Command changes it, a NameRequest asks it.
pub const MNG_METHOD_APPLY: u32 = 1;
pub const MNG_METHOD_QUERY: u32 = 2;

/// Fill `target` with up to `count` numbers: ABI version, size of MngReply, size of a pointer. Returns how many there
/// are. To be called first: it also marks this process as the library's home.
///
/// # Safety
/// `target` is writable for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_abi(target: *mut u32, count: u64) -> i64 {
    guard(|| {
        let facts = [MNG_ABI_VERSION, size_of::<MngReply>() as u32, size_of::<*mut u8>() as u32];
        if target.is_null() && count > 0 {
            return Err(Error::namespace(libc::EFAULT, "a null pointer was given for the numbers"));
        }
        for (at, fact) in facts.iter().take(count.min(facts.len() as u64) as usize).enumerate() {
            // SAFETY: `at < count`, and the caller vouches for that many numbers.
            unsafe { target.add(at).write(*fact) };
        }
        Ok(facts.len() as i64)
    })
}

/// Copy this thread's last error, a JSON object with errno, kind, message, leader and failed_servers, into `target`.
/// Returns its length, of which `capacity` bytes were copied; 0 when nothing failed yet. Works after a fork too.
///
/// # Safety
/// `target` is writable for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_last_error(target: *mut u8, capacity: u64) -> i64 {
    guard::last_error(|text| {
        let count = text.len().min(capacity as usize);
        if count > 0 && !target.is_null() {
            // SAFETY: `count <= capacity`, for which the caller vouches.
            unsafe { target.copy_from_nonoverlapping(text.as_ptr(), count) };
        }
        text.len() as i64
    })
}

/// Wait on, at most half a second, for the call of this thread that returned -EINPROGRESS. Returns what that call
/// would have, or -EINPROGRESS again. Until then its spans stay the library's; any other waiting call of this thread
/// gives the result up.
#[unsafe(no_mangle)]
pub extern "C" fn mng_wait() -> i64 {
    guard(runtime::go_on)
}

/// Panic inside: the test that it does not cross. Returns -ENOTRECOVERABLE.
#[unsafe(no_mangle)]
pub extern "C" fn mng_test_panic() -> i64 {
    guard(|| panic!("asked to by mng_test_panic"))
}

/// Stay away `duration_ms` milliseconds in the runtime: the test of waiting in slices. Returns `duration_ms`.
#[unsafe(no_mangle)]
pub extern "C" fn mng_test_sleep(duration_ms: u64) -> i64 {
    guard(|| {
        let duration = Duration::from_millis(duration_ms.min(60_000));
        let sleep = async move {
            tokio::time::sleep(duration).await;
            Ok(duration.as_millis() as i64)
        };
        runtime::wait(sleep, Ok)
    })
}

/// CRC-32C of a span, as a number below 2^32.
///
/// # Safety
/// `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_crc32c(data: *const u8, len: u64) -> i64 {
    // SAFETY: as promised by the caller.
    guard(|| Ok(i64::from(crc::crc32c(unsafe { bytes(data, len) }?))))
}

/// CRC-32C of two spans behind each other, from the CRCs of both and the length of the second.
#[unsafe(no_mangle)]
pub extern "C" fn mng_crc32c_combine(crc_a: u32, crc_b: u32, length_b: u64) -> i64 {
    guard(|| Ok(i64::from(crc::combine(crc_a, crc_b, length_b))))
}

/// A zeroed buffer of `len` bytes whose address is a multiple of 4096; null when it cannot be had.
#[unsafe(no_mangle)]
pub extern "C" fn mng_buffer_take(len: u64) -> *mut u8 {
    let mut start = std::ptr::null_mut();
    guard(|| {
        start = memory::take_buffer(len)?;
        Ok(0)
    });
    start
}

/// Give a buffer back. Returns its length; -EINVAL for an address that `mng_buffer_take` did not give.
#[unsafe(no_mangle)]
pub extern "C" fn mng_buffer_release(start: *mut u8) -> i64 {
    guard(|| memory::release_buffer(start))
}

/// Free what a call put into `reply`, and zero it.
///
/// # Safety
/// `reply` is null, zeroed, or as a call of this library left it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_reply_free(reply: *mut MngReply) {
    // SAFETY: as promised by the caller.
    unsafe { memory::take_back(reply) }
}

/// Start the native log on standard error: `{"format": "json"|"console", "level": "info"}`. Once per process.
///
/// # Safety
/// `config` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_log_start(config: *const u8, len: u64) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        logging::start(unsafe { bytes(config, len) }?)?;
        Ok(0)
    })
}

/// What the library says of itself, as JSON: `{"methods": {name: number}, "operations": [{"name", "number", "kind",
/// "once", "level"}, ...], "limits": {role: {setting: {"least", "most", "default"}}}}`.
///
/// # Safety
/// `reply` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_facts(reply: *mut MngReply) -> i64 {
    // SAFETY: as promised by the caller.
    guard(|| unsafe { memory::give(reply, facts::facts().to_string().into_bytes()) })
}

/// Refuse what `mng_start` would refuse of the `config` of a node or a client alone; opens nothing. Returns 0.
///
/// # Safety
/// `config` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_check(role: u32, config: *const u8, len: u64) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        objects::check(role, unsafe { bytes(config, len) }?)?;
        Ok(0)
    })
}

/// Start a node, a client, a chunk store or a name space: `role` is one of MNG_ROLE_*, `config` JSON. Returns its
/// handle once it works.
///
/// # Safety
/// `config` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_start(role: u32, config: *const u8, len: u64) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let config = unsafe { bytes(config, len) }?.to_vec();
        runtime::wait(objects::start(role, config), |object| Ok(objects::insert(object)))
    })
}

/// End what `handle` stands for: nodes stop, clients flush, mounts unmount. The handle is gone even when this fails.
#[unsafe(no_mangle)]
pub extern "C" fn mng_close(handle: u64, timeout_ms: u64) -> i64 {
    guard(|| {
        let object = objects::remove(handle)?;
        runtime::wait(object.stop(Duration::from_millis(timeout_ms)), |()| Ok(0))
    })
}

/// Status and metrics as JSON: `{"status": {...}, "metrics": [[name, [[label, value], ...], number], ...]}`.
///
/// # Safety
/// `reply` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_status(handle: u64, reply: *mut MngReply) -> i64 {
    guard(|| {
        let object = objects::get(handle)?;
        let finish = move |status: Vec<u8>| {
            // SAFETY: as promised by the caller.
            unsafe { memory::give(reply, status) }
        };
        runtime::wait_blocking(move || Ok(object.status().to_string().into_bytes()), finish)
    })
}

/// One request, encoded, to what `handle` stands for. Masters and links: any method of crate wire. Clients: Name, with `creds`
/// and `op` set. Name spaces: MNG_METHOD_*.
///
/// # Safety
/// `message` is readable for `len` bytes, `reply` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_call(handle: u64, method: u16, message: *const u8, len: u64, reply: *mut MngReply) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let message = unsafe { bytes(message, len) }?.to_vec();
        let finish = move |answer: Vec<u8>| {
            // SAFETY: as promised by the caller; still so in `mng_wait`, by its contract.
            unsafe { memory::give(reply, answer) }
        };
        runtime::wait(objects::get(handle)?.call(method, message), finish)
    })
}

/// Open or create a file of a client: `request` is a NameRequest with `creds` and Open or Create, `flags` are those of
/// open(2). Returns the file's number; `reply` gets its Attr.
///
/// # Safety
/// `request` is readable for `len` bytes, `reply` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_file_open(
    client: u64,
    request: *const u8,
    len: u64,
    flags: i32,
    reply: *mut MngReply,
) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let request = unsafe { bytes(request, len) }?.to_vec();
        let finish = move |(file, attr): (u64, Vec<u8>)| {
            // SAFETY: as promised by the caller; still so in `mng_wait`, by its contract.
            unsafe { memory::give(reply, attr) }?;
            Ok(file as i64)
        };
        runtime::wait(files::open(objects::get(client)?.engine()?, request, flags), finish)
    })
}

/// Fill `target` from byte `offset`. Returns the bytes read: 0 at the end of the file, else short only there and
/// beyond a few MiB.
///
/// # Safety
/// `target` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_file_read(client: u64, file: u64, offset: u64, target: *mut u8, len: u64) -> i64 {
    guard(|| {
        let finish = move |parts: Vec<client::ReadData>| {
            // SAFETY: as promised by the caller; still so in `mng_wait`, by its contract.
            let target = unsafe { bytes_mut(target, len) }?;
            let mut at = 0;
            for part in parts {
                target[at..at + part.len()].copy_from_slice(&part);
                at += part.len();
            }
            Ok(at as i64)
        };
        runtime::wait(files::read(objects::get(client)?.engine()?, file, offset, len), finish)
    })
}

/// Write `data` at byte `offset`. Returns the bytes taken, fewer than `len` only beyond a few MiB.
///
/// # Safety
/// `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_file_write(client: u64, file: u64, offset: u64, data: *const u8, len: u64) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let pieces = files::pieces(unsafe { bytes(data, len) }?);
        runtime::wait(files::write(objects::get(client)?.engine()?, file, offset, pieces), Ok)
    })
}

/// Write all of `data`, at most 1 MiB, at the end of the file, whoever else appends. Returns where it begins.
///
/// # Safety
/// `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_file_append(client: u64, file: u64, data: *const u8, len: u64) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let data = unsafe { bytes(data, len) }?;
        if data.len() > base::limits::MAX_PAYLOAD_BYTES {
            return Err(Error::namespace(libc::EINVAL, "one append takes at most 1 MiB"));
        }
        let data = base::Buffer::copy_of(data);
        runtime::wait(files::append(objects::get(client)?.engine()?, file, data), Ok)
    })
}

/// Make everything written to the file safe: on stable storage on all copies, and its length committed.
#[unsafe(no_mangle)]
pub extern "C" fn mng_file_sync(client: u64, file: u64) -> i64 {
    guard(|| {
        let engine = objects::get(client)?.engine()?;
        runtime::wait(async move { engine.fsync(file, false).await }, |()| Ok(0))
    })
}

/// Close the file, making everything written safe first. It is closed even when that fails.
#[unsafe(no_mangle)]
pub extern "C" fn mng_file_close(client: u64, file: u64) -> i64 {
    guard(|| {
        let engine = objects::get(client)?.engine()?;
        let close = async move {
            let flushed = engine.flush(file).await;
            let released = engine.release(file).await;
            flushed.and(released)
        };
        runtime::wait(close, |()| Ok(0))
    })
}

/// Write one span of a chunk, creating the chunk when it is missing. Returns the bytes the chunk then holds.
///
/// # Safety
/// `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_store_write(
    handle: u64,
    chunk: u64,
    version: u32,
    offset: u32,
    data: *const u8,
    len: u64,
) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let data = unsafe { bytes(data, len) }?;
        let stored = objects::get(handle)?.store()?.write_own(ChunkRef { id: chunk, version }, offset, data, true)?;
        Ok(i64::from(stored))
    })
}

/// Fill `target` from byte `offset` of a chunk; every block touched was verified. Returns `len`.
///
/// # Safety
/// `target` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_store_read(
    handle: u64,
    chunk: u64,
    version: u32,
    offset: u32,
    target: *mut u8,
    len: u64,
) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let target = unsafe { bytes_mut(target, len) }?;
        let length =
            u32::try_from(len).map_err(|_| Error::namespace(libc::EINVAL, "a chunk is shorter than this read"))?;
        let read = objects::get(handle)?.store()?.read(ChunkRef { id: chunk, version }, offset, length)?;
        let start = (offset - read.offset) as usize;
        target.copy_from_slice(&read.data[start..start + length as usize]);
        Ok(len as i64)
    })
}

/// Make everything written to a chunk stable. Returns the bytes the chunk holds.
#[unsafe(no_mangle)]
pub extern "C" fn mng_store_sync(handle: u64, chunk: u64, version: u32) -> i64 {
    guard(|| Ok(i64::from(objects::get(handle)?.store()?.sync(ChunkRef { id: chunk, version })?)))
}

/// The yardstick for the store: nanoseconds to write and sync `data` in `directory` without any of its care, past the
/// page cache when `direct` is not 0.
///
/// # Safety
/// `directory` is readable for `directory_len` bytes, `data` for `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mng_plain_loop(
    directory: *const u8,
    directory_len: u64,
    data: *const u8,
    len: u64,
    direct: u32,
) -> i64 {
    guard(|| {
        // SAFETY: as promised by the caller.
        let (directory, data) = unsafe { (bytes(directory, directory_len)?, bytes(data, len)?) };
        let directory = std::str::from_utf8(directory)
            .map_err(|_| Error::namespace(libc::EINVAL, "the directory's name is not UTF-8"))?;
        let time = chunk::bench::plain_loop(Path::new(directory), data, direct != 0)?;
        Ok(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    })
}
