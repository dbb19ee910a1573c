//! Reading a segment after a start: which records count, where they end, and whether that end is a torn tail (cut off)
//! or rot (refused). Pure: works on the bytes of one segment.

use super::record::{BATCH_ALIGN, Head, Salt, decode};

/// Where records of a segment start, after its header.
pub const DATA_START: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Offset after the last good batch, aligned to batches.
    pub end: usize,
    pub last_batch: u64,
    /// A later batch is there although something before it is unreadable. A batch is written only when all before it
    /// is durable, so this is damage and never a torn write.
    pub rot: bool,
}

/// Hand every good record with its offset to `take`, in order.
pub fn scan(segment: &[u8], salt: &Salt, previous_batch: u64, mut take: impl FnMut(usize, &Head, &[u8])) -> Scanned {
    let mut at = DATA_START;
    let (mut batch, mut life) = (previous_batch, None);
    loop {
        match segment.get(at..).and_then(|rest| decode(rest, salt)) {
            Some((head, payload)) if continues(&head, at, batch, life) => {
                (batch, life) = (head.batch, Some(head.life));
                take(at, &head, payload);
                at += head.size();
            }
            _ if !at.is_multiple_of(BATCH_ALIGN) => {
                // The end of a batch, padded with zeros. Anything else there is the rest of a torn batch.
                let end = at.next_multiple_of(BATCH_ALIGN).min(segment.len());
                let padding = segment.get(at..end).unwrap_or(&[]);
                if padding.iter().any(|byte| *byte != 0) {
                    return ended(segment, salt, at, batch);
                }
                at = end;
            }
            _ => return ended(segment, salt, at, batch),
        }
    }
}

fn continues(head: &Head, at: usize, batch: u64, life: Option<u32>) -> bool {
    if head.first {
        at.is_multiple_of(BATCH_ALIGN) && head.batch > batch
    } else {
        head.batch == batch && life == Some(head.life)
    }
}

fn ended(segment: &[u8], salt: &Salt, at: usize, last_batch: u64) -> Scanned {
    let end = at.next_multiple_of(BATCH_ALIGN);
    let mut later = at / BATCH_ALIGN * BATCH_ALIGN + BATCH_ALIGN;
    let mut rot = false;
    while !rot && later < segment.len() {
        rot = decode(&segment[later..], salt).is_some_and(|(head, _)| head.first && head.batch > last_batch);
        later += BATCH_ALIGN;
    }
    Scanned { end, last_batch, rot }
}
