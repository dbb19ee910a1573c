//! The C boundary of MooseNG: everything that another language calls, in one file. Integers, spans and handles only.
//! A result is a count, or -errno with the text in `mng_last_error`. Panics never cross, no call runs after a fork
//! (-ECHILD). The library keeps no pointer after it returned, except across -EINPROGRESS (see `mng_wait`).

mod guard;
mod logging;
mod memory;
mod runtime;

use base::{Error, crc};

use guard::guard;
use memory::{MngReply, bytes};

/// Rises with every change of a declaration below.
pub const MNG_ABI_VERSION: u32 = 1;

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
        let duration = std::time::Duration::from_millis(duration_ms.min(60_000));
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
