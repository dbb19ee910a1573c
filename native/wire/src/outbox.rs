//! The sending half of one connection: frames go out in order, whole, and never block the caller's thread.
//! A frame is written at once when the socket takes it; what is left goes through a bounded queue and one task. So do
//! frames that others will join soon: one write carries them all.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use base::{Buffer, Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::budget::Held;
use crate::frame::{HEADER_BYTES, Kind, encode_header};
use crate::stream::Writer;

/// Bytes that may wait in one connection before senders wait themselves: 16 full frames. Smaller starves a fast
/// link, larger only hides a slow one.
const QUEUE_BYTES: usize = 16 << 20;

/// When a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// With those that the tasks which are ready to run send.
    Soon,
}

enum Piece {
    Small(Vec<u8>),
    /// With what it holds of a budget until it is out.
    Large {
        buffer: Arc<Buffer>,
        _held: Option<Held>,
    },
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Small(bytes) => bytes,
            Piece::Large { buffer, .. } => buffer,
        }
    }
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are out already.
    sent: usize,
    waiting_bytes: usize,
    closed: bool,
}

pub struct Outbox {
    stream: Writer,
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
}

impl Outbox {
    pub fn new(stream: Writer) -> Arc<Outbox> {
        let outbox =
            Arc::new(Outbox { stream, queue: Mutex::default(), filled: Notify::new(), drained: Notify::new() });
        tokio::spawn(outbox.clone().drain());
        outbox
    }

    #[allow(clippy::too_many_arguments)] // A frame is what it is; a struct of the same fields would only rename them.
    /// Hand over one frame; waits only while the queue is full. Cancelling leaves no half frame.
    pub async fn send(
        &self,
        when: When,
        kind: Kind,
        method: u16,
        id: u64,
        message: &[u8],
        payload: Option<Arc<Buffer>>,
        held: Option<Held>,
    ) -> Result<()> {
        let mut head = Vec::with_capacity(HEADER_BYTES + message.len());
        head.extend_from_slice(&encode_header(kind, method, id, message, payload.as_ref().map_or(0, |it| it.len())));
        head.extend_from_slice(message);
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let queue = self.queue.lock();
                if queue.closed {
                    return Err(closed());
                }
                if queue.waiting_bytes < QUEUE_BYTES {
                    return self.post(queue, when, head, payload, held);
                }
            }
            drained.await;
        }
    }

    fn post(
        &self,
        mut queue: parking_lot::MutexGuard<'_, Queue>,
        when: When,
        head: Vec<u8>,
        payload: Option<Arc<Buffer>>,
        held: Option<Held>,
    ) -> Result<()> {
        let was_empty = queue.pieces.is_empty();
        queue.waiting_bytes += head.len() + payload.as_ref().map_or(0, |payload| payload.len());
        queue.pieces.push_back(Piece::Small(head));
        if let Some(payload) = payload {
            queue.pieces.push_back(Piece::Large { buffer: payload, _held: held });
        }
        if was_empty
            && when == When::Now
            && let Err(error) = self.write_some(&mut queue)
        {
            queue.closed = true;
            return Err(Error::from(error).context("sending a frame"));
        }
        if was_empty && !queue.pieces.is_empty() {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Write until the queue is empty or the socket is full.
    fn write_some(&self, queue: &mut Queue) -> io::Result<()> {
        while !queue.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(&queue.pieces) {
                let skip = if count == 0 { queue.sent } else { 0 };
                *slot = IoSlice::new(&piece.bytes()[skip..]);
                count += 1;
            }
            match self.stream.try_write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => queue.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn drain(self: Arc<Outbox>) {
        loop {
            self.filled.notified().await;
            // Let those that are about to send do it first.
            tokio::task::yield_now().await;
            loop {
                let ready = self.stream.writable().await;
                let mut queue = self.queue.lock();
                let outcome = ready.and_then(|()| self.write_some(&mut queue));
                if outcome.is_err() {
                    queue.closed = true;
                }
                if queue.waiting_bytes < QUEUE_BYTES || queue.closed {
                    self.drained.notify_waiters();
                }
                if queue.closed {
                    return;
                }
                if queue.pieces.is_empty() {
                    break;
                }
            }
        }
    }

    /// Refuse further frames and end the task; the peer sees the end of the stream.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.stream.shutdown();
        self.filled.notify_one();
        self.drained.notify_waiters();
    }
}

impl Queue {
    fn advance(&mut self, mut written: usize) {
        self.waiting_bytes -= written;
        while written > 0 {
            let left = self.pieces[0].bytes().len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.pieces.pop_front();
        }
    }
}

pub fn closed() -> Error {
    Error::unavailable("the connection is closed")
}
