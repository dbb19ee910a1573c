//! The yardstick: what the disk gives to a plain loop, without checksums or tables.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use base::Buffer;

const STEP_BYTES: u64 = 1 << 20;

/// Time to write `bytes` to a new file in `directory` in steps of 1 MiB and fdatasync it once at the end, past the
/// page cache when `direct`. The file is removed afterwards (not timed).
pub fn plain_loop(directory: &Path, bytes: u64, direct: bool) -> io::Result<Duration> {
    let path = directory.join("mooseng-plain-loop");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    let timed = options.open(&path).and_then(|file| {
        let mut buffer = Buffer::zeroed(STEP_BYTES as usize);
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = (i as u32).wrapping_mul(0x9E37_79B9).to_le_bytes()[3];
        }
        let start = Instant::now();
        let mut offset = 0;
        while offset < bytes {
            file.write_all_at(&buffer, offset)?;
            offset += STEP_BYTES;
        }
        file.sync_data()?;
        Ok(start.elapsed())
    });
    let removed = fs::remove_file(&path);
    timed.and_then(|time| removed.map(|()| time))
}
