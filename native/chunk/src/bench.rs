//! The yardstick: what the disk gives to a plain loop, without checksums or tables.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const STEP_BYTES: usize = 1 << 20;

/// Time to write `data` to a new file in `directory` in steps of 1 MiB and fdatasync it once at the end, past the page
/// cache when `direct` (`data` is aligned then). The file is removed afterwards (not timed).
pub fn plain_loop(directory: &Path, data: &[u8], direct: bool) -> io::Result<Duration> {
    let path = directory.join("mooseng-plain-loop");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    let timed = options.open(&path).and_then(|file| {
        let start = Instant::now();
        for (step, piece) in data.chunks(STEP_BYTES).enumerate() {
            file.write_all_at(piece, (step * STEP_BYTES) as u64)?;
        }
        file.sync_data()?;
        Ok(start.elapsed())
    });
    let removed = fs::remove_file(&path);
    timed.and_then(|time| removed.map(|()| time))
}
