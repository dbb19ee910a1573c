//! What the other side of a connection sent unasked, until somebody takes it. In order, and bounded: nothing is dropped
//! in silence, so a connection whose pushes nobody takes is ended instead.

use std::collections::VecDeque;

use base::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::frame::Frame;

/// Frames that may wait. Fewer ends connections whose holder is busy for a moment.
const FRAMES: usize = 1024;
/// Bytes that may wait, so that few large ones are bounded too.
const BYTES: usize = 16 << 20;

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    over: bool,
}

#[derive(Default)]
pub(crate) struct Pushes {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Pushes {
    /// An error when too much waits already.
    pub(crate) fn put(&self, frame: Frame) -> Result<()> {
        let mut waiting = self.waiting.lock();
        waiting.bytes += bytes_of(&frame);
        if waiting.frames.len() >= FRAMES || waiting.bytes > BYTES {
            let (frames, bytes) = (waiting.frames.len() + 1, waiting.bytes);
            return Err(Error::unavailable(format!(
                "{frames} messages of {bytes} bytes were pushed and not taken; the connection was ended"
            )));
        }
        waiting.frames.push_back(frame);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest one, when there is one; `None` after the last of an ended connection. Each goes to one caller.
    pub(crate) async fn take(&self) -> Option<Frame> {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.waiting.lock();
                if let Some(frame) = waiting.frames.pop_front() {
                    waiting.bytes -= bytes_of(&frame);
                    return Some(frame);
                }
                if waiting.over {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// No more will come.
    pub(crate) fn end(&self) {
        self.waiting.lock().over = true;
        self.changed.notify_waiters();
    }
}

fn bytes_of(frame: &Frame) -> usize {
    frame.message.len() + frame.payload.as_ref().map_or(0, |payload| payload.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::frame::Kind;

    fn frame(number: u16, bytes: usize) -> Frame {
        Frame { kind: Kind::Push, method: number, id: 0, message: Bytes::from(vec![0; bytes]), payload: None }
    }

    #[tokio::test]
    async fn pushes_are_handed_over_in_order_and_those_before_the_end_too() {
        let pushes = Arc::new(Pushes::default());
        (0..3).for_each(|number| pushes.put(frame(number, 10)).unwrap());
        assert_eq!(pushes.take().await.unwrap().method, 0);
        pushes.end();
        assert_eq!(pushes.take().await.unwrap().method, 1);
        assert_eq!(pushes.take().await.unwrap().method, 2);
        assert!(pushes.take().await.is_none());
    }

    #[tokio::test]
    async fn all_that_wait_are_woken_by_a_push_each_or_by_the_end() {
        let pushes = Arc::new(Pushes::default());
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let pushes = pushes.clone();
                tokio::spawn(async move { pushes.take().await.is_some() })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..3).for_each(|number| pushes.put(frame(number, 10)).unwrap());
        tokio::task::yield_now().await;
        pushes.end();
        let mut took = 0;
        for taker in takers {
            took += usize::from(taker.await.unwrap());
        }
        assert_eq!(took, 3);
    }

    #[tokio::test]
    async fn more_than_fits_is_an_error_and_taking_makes_room() {
        let pushes = Pushes::default();
        (0..FRAMES).for_each(|_| pushes.put(frame(1, 10)).unwrap());
        assert!(pushes.put(frame(1, 10)).is_err());
        let pushes = Pushes::default();
        (0..4).for_each(|_| pushes.put(frame(1, 4 << 20)).unwrap());
        pushes.take().await.unwrap();
        pushes.put(frame(1, 4 << 20)).unwrap();
        assert!(pushes.put(frame(1, 1)).is_err());
    }
}
