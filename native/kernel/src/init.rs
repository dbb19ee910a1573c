//! The handshake: what the kernel offers against what the file system wants. Pure.
//! Invariant: nothing is agreed on that the kernel did not offer, and never one of `REFUSED`.

use std::fmt;

use crate::abi::answers::InitOut;
use crate::abi::questions::InitIn;
use crate::abi::{MAJOR, MINOR, OLDEST_MINOR, init};

/// Asked for in any case: without them a request carries no more than 4 KiB, or 128 KiB, and the second word of flags
/// is not looked at.
const ALWAYS: u64 = init::BIG_WRITES | init::MAX_PAGES | init::INIT_EXT;
/// Each changes who owns the data or the queue of requests, and nothing here is made for it.
const REFUSED: u64 = init::WRITEBACK_CACHE | init::PASSTHROUGH | init::OVER_IO_URING;
const PAGE_BYTES: u32 = 4096;
/// Without MAX_PAGES.
const OLD_MAX_PAGES: u16 = 32;

/// What a file system asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of `abi::init`. Each is granted if this kernel has it.
    pub flags: u64,
    /// Bytes of one READ or WRITE. Less costs more requests, more than the kernel's limit (1 MiB) is not sent.
    pub max_write_bytes: u32,
    /// Bytes that the kernel reads ahead; it offers a most, usually 128 KiB.
    pub max_readahead_bytes: u32,
    /// Reads ahead and other requests that nobody waits for, in flight at once. Too few leave a distant server idle.
    pub max_background: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    pub minor: u32,
    pub flags: u64,
    pub max_write_bytes: u32,
    pub max_readahead_bytes: u32,
    pub max_background: u16,
    pub max_pages: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks a later major version. Told ours, it asks again in that.
    LaterMajor,
    TooOld {
        major: u32,
        minor: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::LaterMajor => write!(f, "the kernel speaks a FUSE protocol later than {MAJOR}"),
            Refusal::TooOld { major, minor } => write!(
                f,
                "the kernel speaks version {major}.{minor} of the FUSE protocol, at least {MAJOR}.{OLDEST_MINOR} is needed \
                 (Linux 5.4)"
            ),
        }
    }
}

pub fn negotiate(offer: &InitIn, wanted: &Wanted) -> Result<Granted, Refusal> {
    if offer.major > MAJOR {
        return Err(Refusal::LaterMajor);
    }
    if offer.major < MAJOR || offer.minor < OLDEST_MINOR {
        return Err(Refusal::TooOld { major: offer.major, minor: offer.minor });
    }
    let flags = (wanted.flags | ALWAYS) & !REFUSED & offered_flags(offer);
    let max_readahead_bytes = wanted.max_readahead_bytes.min(offer.max_readahead);
    let pages = |bytes: u32| u16::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u16::MAX).max(1);
    let max_pages = if flags & init::MAX_PAGES == 0 {
        OLD_MAX_PAGES
    } else {
        pages(wanted.max_write_bytes.max(max_readahead_bytes))
    };
    Ok(Granted {
        minor: offer.minor.min(MINOR),
        flags,
        max_write_bytes: wanted.max_write_bytes.min(u32::from(max_pages) * PAGE_BYTES),
        max_readahead_bytes,
        max_background: wanted.max_background,
        max_pages,
    })
}

fn offered_flags(offer: &InitIn) -> u64 {
    let low = u64::from(offer.flags);
    if low & init::INIT_EXT == 0 { low } else { low | u64::from(offer.flags2) << 32 }
}

impl Granted {
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn raw(&self) -> InitOut {
        InitOut {
            major: MAJOR,
            minor: self.minor,
            max_readahead: self.max_readahead_bytes,
            flags: self.flags as u32,
            max_background: self.max_background,
            // The kernel's own measure for its default.
            congestion_threshold: (u32::from(self.max_background) * 3 / 4) as u16,
            max_write: self.max_write_bytes,
            // Times are kept to the nanosecond.
            time_gran: 1,
            max_pages: self.max_pages,
            flags2: (self.flags >> 32) as u32,
            ..InitOut::default()
        }
    }
}

/// The answer to a later major version.
pub(crate) fn our_version() -> InitOut {
    InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: Wanted = Wanted {
        flags: init::ASYNC_READ | init::DO_READDIRPLUS | init::DIRECT_IO_ALLOW_MMAP,
        max_write_bytes: 1 << 20,
        max_readahead_bytes: 1 << 20,
        max_background: 64,
    };

    fn offer(minor: u32, flags: u64) -> InitIn {
        InitIn { major: 7, minor, max_readahead: 128 << 10, flags: flags as u32, flags2: (flags >> 32) as u32 }
    }

    #[test]
    fn a_kernel_that_has_everything_grants_what_was_wanted_and_what_large_requests_need() {
        let granted = negotiate(&offer(45, u64::MAX), &WANTED).unwrap();
        assert_eq!(granted.flags, WANTED.flags | ALWAYS);
        let raw = granted.raw();
        assert_eq!((raw.minor, raw.max_write, raw.max_pages), (45, 1 << 20, 256));
        assert_eq!((raw.max_readahead, raw.max_background, raw.congestion_threshold), (128 << 10, 64, 48));
        assert_eq!(raw.flags2, (init::DIRECT_IO_ALLOW_MMAP >> 32) as u32);
    }

    #[test]
    fn without_the_extension_the_second_word_of_flags_is_not_believed() {
        let granted = negotiate(&offer(35, !init::INIT_EXT), &WANTED).unwrap();
        assert!(!granted.has(init::DIRECT_IO_ALLOW_MMAP) && granted.has(init::DO_READDIRPLUS));
        assert_eq!(granted.raw().flags2, 0);
    }

    #[test]
    fn versions_meet_at_the_lower_one_and_old_kernels_are_told_why_not() {
        assert_eq!(negotiate(&offer(99, u64::MAX), &WANTED).unwrap().minor, MINOR);
        assert_eq!(negotiate(&offer(31, u64::MAX), &WANTED).unwrap().minor, 31);
        let refusal = negotiate(&offer(30, u64::MAX), &WANTED).unwrap_err();
        assert!(refusal.to_string().contains("7.30"), "{refusal}");
        let later = InitIn { major: 8, ..offer(0, 0) };
        assert_eq!(negotiate(&later, &WANTED).unwrap_err(), Refusal::LaterMajor);
        assert!(negotiate(&InitIn { major: 6, ..offer(45, 0) }, &WANTED).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_agreed_on_that_was_not_offered_or_must_never_be(
            flags: u64, wanted_flags: u64, readahead: u32, write in 4096u32..16 << 20, minor in 31u32..60,
        ) {
            let wanted = Wanted { flags: wanted_flags, max_write_bytes: write, ..WANTED };
            let offer = InitIn { max_readahead: readahead, ..offer(minor, flags) };
            let granted = negotiate(&offer, &wanted).unwrap();
            prop_assert_eq!(granted.flags & !flags, 0);
            prop_assert_eq!(granted.flags & REFUSED, 0);
            prop_assert_eq!(granted.flags & !(wanted_flags | ALWAYS), 0);
            prop_assert!(granted.max_readahead_bytes <= readahead);
            prop_assert!(granted.max_write_bytes <= u32::from(granted.max_pages) * PAGE_BYTES);
        }
    }
}
