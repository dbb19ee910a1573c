//! Opening the log after a start: read every segment, cut a torn tail off, refuse damage. What was read is durable
//! before it counts; no byte of a segment is changed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use base::{Error, Result};

use super::index::{Index, Place};
use super::progress::Progress;
use super::record::{Head, Kind};
use super::scan::{DATA_START, scan};
use super::segment::{Folder, Segment, SegmentHead, file_name};
use crate::files::{forget_cached, sync as sync_file, sync_directory};
use crate::types::{LogId, log_id};

/// What the log on disk amounts to.
#[derive(Debug)]
pub struct Opened {
    pub index: Index,
    pub segments: BTreeMap<u64, Arc<Segment>>,
    /// Where the next batch goes, in the last segment.
    pub end: u64,
    pub last_batch: u64,
}

#[derive(Debug)]
pub enum OpenError {
    /// Something that was durable is unreadable. The sentence names it.
    Damaged(String),
    /// An earlier run noted that the directory was replaced by a newer one. The sentence says by which.
    Outdated(String),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for OpenError {
    fn from(error: E) -> OpenError {
        OpenError::Failed(error.into())
    }
}

pub fn open(folder: &Folder, progress: &Progress) -> std::result::Result<Opened, OpenError> {
    folder.tidy()?;
    let mut opened = Opened { index: Index::default(), segments: BTreeMap::new(), end: 0, last_batch: 0 };
    let sequences = folder.sequences()?;
    check_consecutive(&sequences, progress)?;
    make_durable(folder, sequences.last())?;
    let (mut bytes, mut purge) = (Vec::new(), None);
    for (position, sequence) in sequences.iter().enumerate() {
        let segment = read_segment(folder, *sequence, &mut bytes)?;
        if position == 0 {
            opened.last_batch = segment.head.previous_batch;
        } else if (segment.head.previous_end, segment.head.previous_batch) != (opened.end, opened.last_batch) {
            return Err(damaged(*sequence - 1, opened.end, "the log goes on in the next file"));
        }
        let mut hole = None;
        let index = &mut opened.index;
        let purge = &mut purge;
        let scanned = scan(&bytes, &segment.head.salt, opened.last_batch, |offset, head, _| {
            if hole.is_none() && !replay(index, purge, *sequence, offset, head) {
                hole = Some(offset);
            }
        });
        if let Some(offset) = hole {
            return Err(damaged(*sequence, offset as u64, "entries before it are missing"));
        }
        if scanned.rot {
            return Err(damaged(*sequence, scanned.end as u64, "a later batch is there"));
        }
        if progress.synced_segment == *sequence && (scanned.end as u64) < progress.synced_offset {
            return Err(damaged(*sequence, scanned.end as u64, "it was durable"));
        }
        (opened.end, opened.last_batch) = (scanned.end as u64, scanned.last_batch);
        opened.segments.insert(*sequence, Arc::new(segment));
    }
    let first = opened.index.first();
    if !opened.index.loaded(purge) {
        return Err(OpenError::Damaged(format!(
            "the log in {} begins at entry {first} and nothing says that those before were compacted",
            folder.path.display(),
        )));
    }
    Ok(opened)
}

/// What will be read may be in memory only: its writer may have been killed before its sync, or before that of the name
/// of the last segment. The segments before that one were durable when it was begun.
fn make_durable(folder: &Folder, last: Option<&u64>) -> Result<()> {
    let sync = |path: &Path| {
        if path == folder.path {
            return sync_directory(path);
        }
        let file = File::open(path)?;
        sync_file(&file)?;
        forget_cached(&file)
    };
    let tail = last.map(|sequence| folder.path.join(file_name(*sequence)));
    for path in tail.iter().chain([&folder.path]) {
        sync(path).map_err(|error| Error::from(error).context(format!("syncing {}", path.display())))?;
    }
    Ok(())
}

fn check_consecutive(sequences: &[u64], progress: &Progress) -> std::result::Result<(), OpenError> {
    let gap = sequences.windows(2).find(|pair| pair[0] + 1 != pair[1]).map(|pair| pair[0] + 1);
    let missing_end = progress.synced_segment > sequences.last().copied().unwrap_or(0);
    match gap.or(missing_end.then_some(progress.synced_segment)) {
        Some(sequence) => Err(OpenError::Damaged(format!("log file {} is missing", file_name(sequence)))),
        None => Ok(()),
    }
}

fn read_segment(folder: &Folder, sequence: u64, bytes: &mut Vec<u8>) -> std::result::Result<Segment, OpenError> {
    let path = folder.path.join(file_name(sequence));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| Error::from(error).context(path.display()))?;
    bytes.clear();
    file.read_to_end(bytes).map_err(|error| Error::from(error).context(path.display()))?;
    let head = SegmentHead::decode(bytes)
        .filter(|head| head.sequence == sequence && head.incarnation == folder.incarnation)
        .ok_or_else(|| damaged(sequence, 0, "its head is not one of this data directory"))?;
    if bytes.len() < DATA_START {
        return Err(damaged(sequence, 0, "it is cut short"));
    }
    Ok(Segment::new(head, path, file, bytes.len() as u64)?)
}

/// False when the record leaves a hole.
fn replay(index: &mut Index, purge: &mut Option<LogId>, segment: u64, offset: usize, head: &Head) -> bool {
    let id = log_id(head.term, head.index);
    match head.kind {
        Kind::Batch | Kind::Members | Kind::Blank => {
            return index.load(id, Place { segment, offset: offset as u64, size: head.size() as u32 });
        }
        Kind::Truncate => index.truncate((!head.nothing_kept).then_some(head.index)),
        Kind::Purge => {
            *purge = Some(id);
            if index.next() <= id.index + 1 {
                // The log ended before a snapshot that was installed.
                index.truncate(None);
            }
        }
    }
    true
}

fn damaged(sequence: u64, offset: u64, evidence: &str) -> OpenError {
    OpenError::Damaged(format!("log file {} is unreadable at byte {offset} although {evidence}", file_name(sequence)))
}
