//! How many payload bytes one process holds: taken before a payload is read into memory, given back when its request
//! is answered. It counts and lets wait; it allocates nothing.
//!
//! Requests that wait for other servers while they hold bytes could wait in a circle: A for B's budget, B for A's. So
//! each request has a rank: how many servers are still behind it. Rank 0 waits for nobody, rank r only for rank r - 1.
//! Each rank may fill the budget only up to a limit of its own, the lower the higher.
//!
//! Invariant: what is held by ranks above r is never more than r + 1's limit, so rank r always has room for a frame once
//! its own kind has finished; by induction every request ends. It needs that a request of one rank never stands behind
//! one of another rank on the same connection: see `Chain` of the chunkserver.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Buffer;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::frame::MAX_FRAME_PAYLOAD_BYTES;

/// Ranks: 0 to 15 servers behind this one, and those who ask the head of a chain.
pub const RANKS: usize = 17;
/// The rank of everybody who is no link of a chain.
pub const OUTSIDE: usize = RANKS - 1;
/// Each rank has this share of the budget less than the one before, so outsiders have three quarters.
const STEP: u64 = 64;
/// The smallest budget: each step must fit the largest frame.
pub const MIN_BYTES: u64 = STEP * (MAX_FRAME_PAYLOAD_BYTES as u64 + (8 << 10));
/// One outsider's connection gets at most this share: a client that stalls leaves room for seven more like it.
const CONNECTION_SHARE: u64 = 8;

#[derive(Default)]
struct State {
    in_use: u64,
    waiting: [VecDeque<Waiter>; RANKS],
}

struct Waiter {
    bytes: u64,
    granted: oneshot::Sender<Held>,
}

pub struct Budget {
    bytes: u64,
    state: Mutex<State>,
    waits: AtomicU64,
}

/// Bytes taken; given back when dropped.
pub struct Held {
    budget: Arc<Budget>,
    bytes: u64,
    _credit: Option<OwnedSemaphorePermit>,
}

/// What one connection may take of a budget.
pub struct Share {
    budget: Arc<Budget>,
    credits: Option<Arc<Semaphore>>,
}

impl Budget {
    /// `bytes` below `MIN_BYTES` count as that.
    pub fn new(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget { bytes: bytes.max(MIN_BYTES), state: Mutex::default(), waits: AtomicU64::new(0) })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn in_use(&self) -> u64 {
        self.state.lock().in_use
    }

    /// How often somebody had to wait.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// The share of a new connection. An insider's is the whole: it carries what many writers sent to another server.
    pub fn share(self: &Arc<Budget>, outsider: bool) -> Share {
        let credits = outsider.then(|| Arc::new(Semaphore::new((self.bytes / CONNECTION_SHARE) as usize)));
        Share { budget: self.clone(), credits }
    }

    fn limit(&self, rank: usize) -> u64 {
        self.bytes - self.bytes / STEP * rank as u64
    }

    fn held(self: &Arc<Budget>, bytes: u64) -> Held {
        Held { budget: self.clone(), bytes, _credit: None }
    }

    /// Wait for room; first come, first served within a rank.
    async fn take(self: &Arc<Budget>, rank: usize, bytes: u64) -> Held {
        let granted = {
            let mut state = self.state.lock();
            if state.waiting[rank].is_empty() && state.in_use + bytes <= self.limit(rank) {
                state.in_use += bytes;
                return self.held(bytes);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting[rank].push_back(Waiter { bytes, granted: sender });
            receiver
        };
        self.waits.fetch_add(1, Ordering::Relaxed);
        // The sender lives in the budget, which this call keeps alive, until it grants.
        granted.await.unwrap_or_else(|_| self.held(0))
    }

    fn give_back(self: &Arc<Budget>, bytes: u64) {
        let mut granted = Vec::new();
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            state.in_use -= bytes;
            for (rank, waiting) in state.waiting.iter_mut().enumerate() {
                while let Some(first) = waiting.front() {
                    let gone = first.granted.is_closed();
                    if !gone && state.in_use + first.bytes > self.limit(rank) {
                        break;
                    }
                    let Some(first) = waiting.pop_front() else { break };
                    if !gone {
                        state.in_use += first.bytes;
                        granted.push(first);
                    }
                }
            }
        }
        // Who went away meanwhile drops what it got, which comes back here.
        for waiter in granted {
            let _ = waiter.granted.send(self.held(waiter.bytes));
        }
    }
}

impl Share {
    /// Room for a payload of `length` bytes; None needs none. Waits.
    pub async fn take(&self, rank: usize, length: usize) -> Option<Held> {
        if length == 0 {
            return None;
        }
        let bytes = Buffer::capacity_for(length) as u64;
        let credit = match &self.credits {
            Some(credits) => credits.clone().acquire_many_owned(bytes as u32).await.ok(),
            None => None,
        };
        let mut held = self.budget.take(rank.min(OUTSIDE), bytes).await;
        held._credit = credit;
        Some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;

    const FRAME: u64 = MAX_FRAME_PAYLOAD_BYTES as u64;

    fn tiny() -> Arc<Budget> {
        Budget::new(0)
    }

    #[tokio::test]
    async fn each_rank_keeps_room_for_a_frame_of_the_one_below() {
        let budget = tiny();
        let mut held = Vec::new();
        for rank in (0..RANKS).rev() {
            loop {
                let mut next = Box::pin(budget.take(rank, FRAME));
                match poll!(&mut next) {
                    std::task::Poll::Ready(more) => held.push(more),
                    std::task::Poll::Pending => break,
                }
            }
            assert!(budget.in_use() <= budget.limit(rank));
            assert!(rank == 0 || budget.limit(rank - 1) - budget.limit(rank) >= FRAME);
        }
        held.clear();
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn who_waits_is_served_in_turn_and_who_gave_up_leaves_nothing_behind() {
        let budget = tiny();
        let all = budget.take(OUTSIDE, budget.limit(OUTSIDE)).await;
        let mut first = Box::pin(budget.take(OUTSIDE, FRAME));
        let mut second = Box::pin(budget.take(OUTSIDE, 4096));
        let mut third = Box::pin(budget.take(OUTSIDE, 4096));
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(budget.waits(), 3);
        drop(second);
        drop(all);
        let (first, third) = (first.await, third.await);
        assert_eq!(budget.in_use(), FRAME + 4096);
        drop((first, third));
        assert_eq!(budget.in_use(), 0);
        // Granted and given up before it was looked at.
        let all = budget.take(OUTSIDE, budget.limit(OUTSIDE)).await;
        let mut late = Box::pin(budget.take(OUTSIDE, FRAME));
        assert!(poll!(&mut late).is_pending());
        drop(all);
        drop(late);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn one_connection_cannot_take_it_all() {
        let budget = tiny();
        let share = budget.share(true);
        let mut held = Vec::new();
        loop {
            let mut next = Box::pin(share.take(OUTSIDE, 1 << 20));
            match poll!(&mut next) {
                std::task::Poll::Ready(more) => held.push(more),
                std::task::Poll::Pending => break,
            }
        }
        assert!(!held.is_empty() && budget.in_use() <= budget.bytes() / CONNECTION_SHARE);
        assert!(poll!(Box::pin(budget.share(true).take(OUTSIDE, 1 << 20))).is_ready());
    }

    /// Servers in a ring, each the head, the middle and the tail of chains, with budgets that are full all the time.
    #[tokio::test]
    async fn chains_in_a_circle_end() {
        async fn pass(servers: Arc<Vec<Arc<Budget>>>, at: usize, outside: bool, behind: usize) {
            let rank = if outside { OUTSIDE } else { behind };
            let budget = servers[at % servers.len()].clone();
            let _held = budget.take(rank, FRAME).await;
            tokio::task::yield_now().await;
            if behind > 0 {
                Box::pin(pass(servers, at + 1, false, behind - 1)).await;
            }
        }
        let servers: Arc<Vec<_>> = Arc::new((0..4).map(|_| tiny()).collect());
        let writers: Vec<_> =
            (0..2000).map(|writer| tokio::spawn(pass(servers.clone(), writer, true, writer % 4))).collect();
        for writer in writers {
            tokio::time::timeout(std::time::Duration::from_secs(20), writer)
                .await
                .expect("nobody waits for ever")
                .unwrap();
        }
        assert!(servers.iter().all(|budget| budget.in_use() == 0 && budget.waits() > 0));
    }
}
