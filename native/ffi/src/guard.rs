//! What stands around every call from outside: no panic crosses, no call runs after a fork, every failure leaves its
//! text. The text and what the caller can do about it wait in the calling thread until its next failure.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use base::{Error, Result};

thread_local! {
    static LAST_ERROR: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The process that used the library first.
static HOME_PROCESS: OnceLock<u32> = OnceLock::new();

/// Run one call: a count when it succeeds, else -errno with the text remembered.
pub fn guard(call: impl FnOnce() -> Result<i64>) -> i64 {
    match catch_unwind(AssertUnwindSafe(|| require_same_process().and_then(|()| call()))) {
        Ok(Ok(count)) => count,
        Ok(Err(error)) => fail(&error),
        Err(panic) => fail(&Error::namespace(
            libc::ENOTRECOVERABLE,
            format!("the native library panicked: {}; please report it as a bug", panic_text(panic.as_ref())),
        )),
    }
}

/// The threads and connections of this library stay behind in the parent, and its locks may be held for ever.
pub fn require_same_process() -> Result<()> {
    let (home, here) = (*HOME_PROCESS.get_or_init(std::process::id), std::process::id());
    if home == here {
        return Ok(());
    }
    Err(Error::namespace(
        libc::ECHILD,
        format!(
            "the native library was loaded in process {home} and does not work in its fork {here}; start workers with the spawn method"
        ),
    ))
}

/// The text of this thread's last failure, as JSON; empty when there was none.
pub fn last_error<T>(read: impl FnOnce(&[u8]) -> T) -> T {
    LAST_ERROR.with_borrow(|text| read(text))
}

fn fail(error: &Error) -> i64 {
    let text = serde_json::json!({
        "errno": error.errno,
        "kind": error.kind as u32,
        "message": error.message,
        "leader": error.leader,
        "failed_servers": error.failed_servers,
    });
    LAST_ERROR.set(text.to_string().into_bytes());
    -i64::from(error.errno.clamp(1, 4095))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no text",
    }
}
