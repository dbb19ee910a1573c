//! Does O_DIRECT work in a directory, and does it win? A short measurement, bounded in time and bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use base::Buffer;

use crate::types::DirectIo;

const STEP_BYTES: usize = 1 << 20;
/// Per way of writing: 8 MiB tell a disk's rate from a queue's, and a slow disk stops after 40 ms.
const MAX_STEPS: u64 = 8;
const MAX_TIME: Duration = Duration::from_millis(40);
const FILE_NAME: &str = "mooseng-probe";

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// O_DIRECT with 4 KiB alignment works.
    pub works: bool,
    /// Long writes should use it.
    pub wins: bool,
}

/// Measure in `directory`; a full or read-only one answers without a winner.
pub fn probe(directory: &Path, wish: DirectIo) -> Probe {
    let path = directory.join(FILE_NAME);
    let found = measure(&path, wish).unwrap_or(Probe { works: false, wins: false });
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the probe file stays; remove it by hand");
    }
    found
}

fn measure(path: &Path, wish: DirectIo) -> io::Result<Probe> {
    let buffered = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let buffer = Buffer::zeroed(STEP_BYTES);
    let direct = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path) {
        Ok(direct) if works(&direct)? => direct,
        _ => return Ok(Probe { works: false, wins: false }),
    };
    let wins = match wish {
        DirectIo::On => true,
        DirectIo::Off => false,
        DirectIo::Auto => {
            let direct_rate = rate(&direct, &buffer, 0)?;
            let buffered_rate = rate(&buffered, &buffer, MAX_STEPS)?;
            tracing::debug!(direct_rate, buffered_rate, "bytes per second of 1 MiB writes, synced");
            direct_rate >= buffered_rate
        }
    };
    Ok(Probe { works: true, wins })
}

/// Whether one block goes out and comes back whole.
fn works(direct: &File) -> io::Result<bool> {
    let mut block = Buffer::zeroed(base::limits::BLOCK_BYTES);
    block.fill(0x5A);
    if direct.write_all_at(&block, 0).is_err() {
        return Ok(false);
    }
    block.fill(0);
    Ok(direct.read_exact_at(&mut block, 0).is_ok() && block.iter().all(|&byte| byte == 0x5A))
}

/// Bytes per second of fresh writes from step `first`, the sync included.
fn rate(file: &File, buffer: &[u8], first: u64) -> io::Result<f64> {
    let start = Instant::now();
    let mut steps = 0;
    while steps < MAX_STEPS && start.elapsed() < MAX_TIME {
        file.write_all_at(buffer, (first + steps) * STEP_BYTES as u64)?;
        steps += 1;
    }
    file.sync_data()?;
    Ok((steps as f64 * STEP_BYTES as f64) / start.elapsed().as_secs_f64())
}
