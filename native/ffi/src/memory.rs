//! Memory that crosses the boundary: spans that the caller owns, aligned buffers and replies that it gives back.
//! Nothing here is kept after a call returns, except what the caller took and has not yet released.

use std::collections::HashMap;
use std::sync::LazyLock;

use base::{Buffer, Error, Result};
use parking_lot::Mutex;

/// Bytes made by the library. Zero it before the call, hand it to `mng_reply_free` after reading.
#[repr(C)]
pub struct MngReply {
    pub data: *mut u8,
    pub len: u64,
}

/// Largest span of one call: far above any use, below every overflow.
const MAX_SPAN_BYTES: u64 = 1 << 40;

static TAKEN: LazyLock<Mutex<HashMap<usize, Buffer>>> = LazyLock::new(Mutex::default);

/// A span of the caller.
///
/// # Safety
/// `data` is readable for `len` bytes until the span's last use, or `len` is 0.
pub unsafe fn bytes<'a>(data: *const u8, len: u64) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    require_span(data.is_null(), len)?;
    // SAFETY: the caller vouches for the span; it is not null and its length fits in isize.
    Ok(unsafe { std::slice::from_raw_parts(data, len as usize) })
}

/// A span of the caller.
///
/// # Safety
/// `data` is writable for `len` bytes and used by nobody else until the span's last use, or `len` is 0.
pub unsafe fn bytes_mut<'a>(data: *mut u8, len: u64) -> Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    require_span(data.is_null(), len)?;
    // SAFETY: the caller vouches for the span; it is not null and its length fits in isize.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, len as usize) })
}

fn require_span(is_null: bool, len: u64) -> Result<()> {
    match (is_null, len > MAX_SPAN_BYTES) {
        (true, _) => Err(Error::namespace(libc::EFAULT, "a null pointer was given for a span with a length")),
        (_, true) => Err(Error::namespace(libc::EINVAL, format!("a span of {len} bytes is beyond the limit"))),
        _ => Ok(()),
    }
}

/// Hand `data` over to the caller.
///
/// # Safety
/// `reply` is null or writable.
pub unsafe fn give(reply: *mut MngReply, data: Vec<u8>) -> Result<i64> {
    if reply.is_null() {
        return Err(Error::namespace(libc::EFAULT, "a null pointer was given for the reply"));
    }
    let len = data.len() as u64;
    let data = Box::into_raw(data.into_boxed_slice()).cast::<u8>();
    // SAFETY: `reply` is not null, and the caller vouches for it.
    unsafe { reply.write(MngReply { data, len }) };
    Ok(len as i64)
}

/// Take back what `give` handed over; a second time changes nothing.
///
/// # Safety
/// `reply` is null, or as `give` or the caller's zeroing left it.
pub unsafe fn take_back(reply: *mut MngReply) {
    // SAFETY: `reply` is null or valid, says the caller.
    let Some(reply) = (unsafe { reply.as_mut() }) else { return };
    if !reply.data.is_null() {
        let span = std::ptr::slice_from_raw_parts_mut(reply.data, reply.len as usize);
        // SAFETY: made by `Box::into_raw` in `give` with this length, and nulled below, so freed once.
        drop(unsafe { Box::from_raw(span) });
        reply.data = std::ptr::null_mut();
        reply.len = 0;
    }
}

/// An aligned buffer that lives until `release_buffer`.
pub fn take_buffer(len: u64) -> Result<*mut u8> {
    require_span(false, len)?;
    let mut buffer = Buffer::zeroed(len as usize);
    let start = buffer.as_mut_ptr();
    TAKEN.lock().insert(start as usize, buffer);
    Ok(start)
}

pub fn release_buffer(start: *mut u8) -> Result<i64> {
    match TAKEN.lock().remove(&(start as usize)) {
        Some(buffer) => Ok(buffer.len() as i64),
        None => {
            Err(Error::namespace(libc::EINVAL, "this buffer was not taken from the library, or was released before"))
        }
    }
}
