//! Does O_DIRECT work in a directory, and does it win? A short measurement, bounded in time and bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use base::Buffer;

use crate::types::DirectIo;

const STEP_BYTES: usize = 1 << 20;
/// Per way of writing and round: 4 MiB tell a disk's rate from a queue's, and a slow disk stops after 20 ms.
const MAX_STEPS: u64 = 4;
const MAX_TIME: Duration = Duration::from_millis(20);
/// The best of this many alternating rounds counts: one round alone measures whoever else used the disk.
const ROUNDS: usize = 3;
/// Past the page cache wins unless it is slower than this share of the other way: it takes a third of the processor time,
/// and the few MiB of a probe do not show what a page cache costs once it is full of what waits for the disk.
const TIE: f64 = 0.5;
/// Disks that read at least this fast gain nothing from a page cache that long reads fill and never use again.
const FAST_READ_BYTES_PER_S: f64 = 400e6;
const FILE_NAME: &str = "mooseng-probe";

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// O_DIRECT with 4 KiB alignment works.
    pub works: bool,
    /// Long writes should use it.
    pub wins: bool,
    /// Long reads should use it: a slow disk's page cache is worth more than the processor time saved.
    pub reads: bool,
}

impl Probe {
    pub const NONE: Probe = Probe { works: false, wins: false, reads: false };
}

/// Measure in `directory`; a full or read-only one answers without a winner.
pub fn probe(directory: &Path, wish: DirectIo) -> Probe {
    let path = directory.join(FILE_NAME);
    let found = measure(&path, wish).unwrap_or(Probe::NONE);
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
        _ => return Ok(Probe::NONE),
    };
    let (wins, reads) = match wish {
        DirectIo::On => (true, true),
        DirectIo::Off => (false, false),
        DirectIo::Auto => {
            let (mut direct_rate, mut buffered_rate, mut read_rate) = (0f64, 0f64, 0f64);
            for _ in 0..ROUNDS {
                direct_rate = direct_rate.max(write_rate(&direct, &buffer, 0)?);
                buffered_rate = buffered_rate.max(write_rate(&buffered, &buffer, MAX_STEPS)?);
                read_rate = read_rate.max(read_rate_of(&direct)?);
            }
            tracing::debug!(direct_rate, buffered_rate, read_rate, "bytes per second of 1 MiB steps, writes synced");
            (direct_rate >= TIE * buffered_rate, read_rate >= FAST_READ_BYTES_PER_S)
        }
    };
    Ok(Probe { works: true, wins, reads })
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

/// Bytes per second of writes from step `first` by as many threads as there are steps, the sync included.
fn write_rate(file: &File, buffer: &[u8], first: u64) -> io::Result<f64> {
    let start = Instant::now();
    let put = |step: u64| match start.elapsed() < MAX_TIME {
        true => file.write_all_at(buffer, (first + step) * STEP_BYTES as u64).map(|()| STEP_BYTES),
        false => Ok(0),
    };
    let bytes = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..MAX_STEPS).map(|step| scope.spawn(move || put(step))).collect();
        let joined =
            writers.into_iter().map(|writer| writer.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))));
        joined.sum::<io::Result<usize>>()
    })?;
    file.sync_data()?;
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

/// Bytes per second of reads of what `write_rate` wrote from step 0.
fn read_rate_of(direct: &File) -> io::Result<f64> {
    let mut buffer = Buffer::take(STEP_BYTES);
    let start = Instant::now();
    let mut bytes = 0;
    for step in 0..MAX_STEPS {
        let read = direct.read_at(&mut buffer, step * STEP_BYTES as u64)?;
        bytes += read;
        if read < STEP_BYTES || start.elapsed() >= MAX_TIME {
            break;
        }
    }
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}
