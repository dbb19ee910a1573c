//! The asking side of a connection: many requests in flight, answers in any order, each with a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::frame::{Frame, Kind, read_frame};
use crate::method::Method;
use crate::outbox::{Outbox, When, closed};
use crate::proto;
use crate::pushes::Pushes;
use crate::stream::{self, Reader};

/// The newest protocol that this side speaks; rises with any change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 2;
/// The oldest that it speaks too.
pub const OLDEST_PROTOCOL: u32 = 2;
/// Requests that one connection may have in flight. More only queue at the other side.
const CREDITS: usize = 256;

#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Ours; an empty cluster id takes the other side's.
    pub hello: proto::Hello,
    pub connect_timeout: Duration,
}

pub struct Reply {
    pub message: Bytes,
    pub payload: Option<Buffer>,
}

impl Reply {
    pub fn decode<M: Message + Default>(&self) -> Result<M> {
        decode(&self.message)
    }
}

/// Decode a message; garbage is an integrity error, never a panic.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| Error::integrity(format!("a message could not be read: {error}")))
}

type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Frame>>>>>;

pub struct Link {
    address: String,
    outbox: Arc<Outbox>,
    waiting: Arc<Waiting>,
    next_id: AtomicU64,
    credits: Semaphore,
    /// What the other side said of itself.
    pub peer: proto::Hello,
    pushes: Arc<Pushes>,
    over: watch::Receiver<bool>,
    reader: tokio::task::AbortHandle,
}

impl Link {
    /// Connect, exchange hellos, refuse another cluster.
    pub async fn connect(address: &str, config: &LinkConfig) -> Result<Arc<Link>> {
        let deadline = Deadline::after(config.connect_timeout);
        let (reader, writer) = stream::connect(address, deadline).await?;
        let outbox = Outbox::new(writer);
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let pushes: Arc<Pushes> = Arc::default();
        let (over_sender, over) = watch::channel(false);
        let task = tokio::spawn(receive(reader, waiting.clone(), outbox.clone(), pushes.clone(), over_sender));
        let mut link = Link {
            address: address.to_string(),
            outbox,
            waiting,
            next_id: AtomicU64::new(1),
            credits: Semaphore::new(CREDITS),
            peer: proto::Hello::default(),
            pushes,
            over,
            reader: task.abort_handle(),
        };
        let reply = link.call(Method::Hello, &config.hello, None, deadline).await?;
        let peer: proto::Hello = reply.decode()?;
        check_hello(&config.hello, &peer).map_err(|error| error.context(format!("{address} was refused")))?;
        link.peer = peer;
        Ok(Arc::new(link))
    }

    /// Send one request and wait for its answer. A passed deadline means *unknown*: it may have been carried out.
    pub async fn call<M: Message>(
        &self,
        method: Method,
        message: &M,
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> Result<Reply> {
        self.call_raw(method, &message.encode_to_vec(), payload, deadline).await
    }

    pub async fn call_raw(
        &self,
        method: Method,
        message: &[u8],
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> Result<Reply> {
        let outcome = self.ask_raw(method, message, payload, deadline).await.and_then(|answer| answer);
        outcome.map_err(|error| if is_local(&error) { error.context(&self.address) } else { error })
    }

    /// As `call_raw`, but keeps apart who says no. The outer error: no answer came, so the request may or may not
    /// have been carried out. The inner error is the other side's own answer.
    pub async fn ask_raw(
        &self,
        method: Method,
        message: &[u8],
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> Result<Result<Reply>> {
        let exchange = async {
            let _credit = self.credits.acquire().await.map_err(|_| closed())?;
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let (sender, receiver) = oneshot::channel();
            self.waiting.lock().as_mut().ok_or_else(closed)?.insert(id, sender);
            let _forget = Forget { waiting: &self.waiting, id };
            self.outbox.send(When::Now, Kind::Request, method as u16, id, message, payload, None).await?;
            receiver.await.map_err(|_| closed())?
        };
        match tokio::time::timeout(deadline.left(), exchange).await {
            Ok(frame) => Ok(answer(frame?)),
            Err(_) => Err(Error::new(
                base::ErrorKind::Unavailable,
                libc::ETIMEDOUT,
                format!("{} did not answer {method:?} in time", self.address),
            )),
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn is_closed(&self) -> bool {
        *self.over.borrow()
    }

    /// The next frame that the other side sent unasked; each goes to one caller. `None` after the connection's last one.
    /// Too many that nobody takes end the connection.
    pub async fn pushed(&self) -> Option<Frame> {
        self.pushes.take().await
    }

    /// Wait for the end of the connection.
    pub async fn closed(&self) {
        let _ = self.over.clone().wait_for(|over| *over).await;
    }
}

fn is_local(error: &Error) -> bool {
    error.kind == base::ErrorKind::Unavailable && error.leader.is_none()
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.outbox.close();
    }
}

struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

async fn receive(
    mut reader: Reader,
    waiting: Arc<Waiting>,
    outbox: Arc<Outbox>,
    pushes: Arc<Pushes>,
    over: watch::Sender<bool>,
) {
    let error = loop {
        match read_frame(&mut reader).await {
            Ok(Some(frame)) => {
                if frame.kind == Kind::Push {
                    if let Err(error) = pushes.put(frame) {
                        tracing::warn!(%error, "connection ended");
                        break error;
                    }
                } else if let Some(sender) = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&frame.id)) {
                    let _ = sender.send(Ok(frame));
                }
            }
            Ok(None) => break closed(),
            Err(error) => break error,
        }
    };
    outbox.close();
    pushes.end();
    for (_, sender) in waiting.lock().take().unwrap_or_default() {
        let _ = sender.send(Err(error.clone()));
    }
    let _ = over.send(true);
}

fn answer(frame: Frame) -> Result<Reply> {
    match frame.kind {
        Kind::Reply => Ok(Reply { message: frame.message, payload: frame.payload }),
        Kind::Failure => Err(decode::<proto::Error>(&frame.message)?.into()),
        Kind::Request | Kind::Push => Err(Error::integrity("a request arrived where a reply was due")),
    }
}

/// The protocols that this side speaks, for the rest of a greeting.
pub fn hello() -> proto::Hello {
    proto::Hello { protocol: PROTOCOL_VERSION, oldest_protocol: OLDEST_PROTOCOL, ..proto::Hello::default() }
}

/// The protocols that one side speaks, oldest and newest.
fn spoken(hello: &proto::Hello) -> (u32, u32) {
    let oldest = if hello.oldest_protocol == 0 { hello.protocol } else { hello.oldest_protocol };
    (oldest, hello.protocol)
}

/// Both sides must speak one protocol, of which the newest counts, and where both know their cluster, be of one. Returns
/// the protocol.
pub fn check_hello(ours: &proto::Hello, theirs: &proto::Hello) -> Result<u32> {
    let ((our_oldest, our_newest), (their_oldest, their_newest)) = (spoken(ours), spoken(theirs));
    let protocol = our_newest.min(their_newest);
    if protocol < our_oldest.max(their_oldest) {
        return Err(Error::namespace(
            libc::EPROTONOSUPPORT,
            format!(
                "it speaks protocols {their_oldest} to {their_newest}, this side {our_oldest} to {our_newest}; run releases that have one in common"
            ),
        ));
    }
    if !ours.cluster_id.is_empty() && !theirs.cluster_id.is_empty() && ours.cluster_id != theirs.cluster_id {
        return Err(Error::namespace(
            libc::EREMCHG,
            format!(
                "cluster id {:?} is not {:?}: this node belongs to another cluster; point it at its own masters",
                theirs.cluster_id, ours.cluster_id
            ),
        ));
    }
    Ok(protocol)
}

fn node_name(role: proto::Role, node_id: u32) -> String {
    match role {
        proto::Role::Client => "a client".to_string(),
        proto::Role::Master => format!("master {node_id}"),
        proto::Role::Chunkserver => format!("chunkserver {node_id}"),
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Link>>>>;

/// Connections kept at most; the longest unused goes first. Far above the servers of any cluster.
const KEPT_LINKS: usize = 1024;
/// Unused for this long, a connection is closed when another one is made.
const IDLE: Duration = Duration::from_secs(300);

struct Kept {
    slot: Slot,
    used: Instant,
}

/// Connections by address, made when first needed and made anew after they broke. Bounded.
pub struct Links {
    config: LinkConfig,
    slots: Mutex<HashMap<(String, usize), Kept>>,
}

impl Links {
    pub fn new(config: LinkConfig) -> Links {
        Links { config, slots: Mutex::default() }
    }

    /// The live connection to `address`, or a new one. Concurrent callers share one attempt at a time.
    pub async fn get(&self, address: &str) -> Result<Arc<Link>> {
        self.get_lane(address, 0).await
    }

    /// As `get`; requests of different lanes never stand behind each other.
    pub async fn get_lane(&self, address: &str, lane: usize) -> Result<Arc<Link>> {
        let key = (address.to_string(), lane);
        let slot = self.slot(&key, Instant::now());
        let mut held = slot.lock().await;
        if let Some(link) = held.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        *held = None;
        match Link::connect(address, &self.config).await {
            Ok(link) => {
                *held = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                // Addresses that nobody answers at leave nothing behind; who waits for the slot tries with it.
                let mut slots = self.slots.lock();
                if slots.get(&key).is_some_and(|kept| Arc::ptr_eq(&kept.slot, &slot)) && Arc::strong_count(&slot) == 2 {
                    slots.remove(&key);
                }
                Err(error)
            }
        }
    }

    /// As `get_lane`, but only to the node that is meant: another one may listen at its address by now.
    pub async fn get_node(&self, role: proto::Role, node_id: u32, address: &str, lane: usize) -> Result<Arc<Link>> {
        let link = self.get_lane(address, lane).await?;
        if (link.peer.role(), link.peer.node_id) == (role, node_id) {
            return Ok(link);
        }
        self.forget(address);
        let (found, wanted) = (node_name(link.peer.role(), link.peer.node_id), node_name(role, node_id));
        let mend = match role {
            proto::Role::Chunkserver => "refresh the chunk map",
            proto::Role::Master | proto::Role::Client => "correct the addresses of the masters",
        };
        Err(Error::unavailable(format!("{address} is {found} and not {wanted}; {mend}")))
    }

    fn slot(&self, key: &(String, usize), now: Instant) -> Slot {
        let mut slots = self.slots.lock();
        if let Some(kept) = slots.get_mut(key) {
            kept.used = now;
            return kept.slot.clone();
        }
        slots.retain(|_, kept| now.saturating_duration_since(kept.used) < IDLE);
        if slots.len() >= KEPT_LINKS
            && let Some(oldest) = slots.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone())
        {
            slots.remove(&oldest);
        }
        slots.entry(key.clone()).or_insert(Kept { slot: Slot::default(), used: now }).slot.clone()
    }

    /// Forget the connections to `address`, for example after it stopped answering; calls in flight keep theirs.
    pub fn forget(&self, address: &str) {
        self.slots.lock().retain(|(kept, _), _| kept != address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let hello = hello();
        Links::new(LinkConfig { hello, connect_timeout: Duration::from_secs(1) })
    }

    #[test]
    fn the_newest_protocol_that_both_sides_speak_counts_and_none_in_common_is_refused() {
        let speaks = |oldest_protocol, protocol| proto::Hello { oldest_protocol, protocol, ..proto::Hello::default() };
        let agreed = |ours, theirs| check_hello(&ours, &theirs).map_err(|error| error.errno);
        assert_eq!(agreed(speaks(2, 4), speaks(3, 7)), Ok(4));
        assert_eq!(agreed(speaks(3, 7), speaks(2, 4)), Ok(4));
        // As masters said it before there were ranges.
        assert_eq!(agreed(speaks(2, 4), speaks(0, 2)), Ok(2));
        assert_eq!(agreed(speaks(2, 4), speaks(0, 5)), Err(libc::EPROTONOSUPPORT));
        assert_eq!(agreed(speaks(5, 7), speaks(2, 4)), Err(libc::EPROTONOSUPPORT));
    }

    #[tokio::test]
    async fn addresses_that_nobody_answers_at_leave_nothing_behind() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let links = Arc::new(links());
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let (links, closed) = (links.clone(), closed.clone());
                tokio::spawn(async move { assert!(links.get(&closed).await.is_err()) })
            })
            .collect();
        for one in asking {
            one.await.unwrap();
        }
        assert!(links.slots.lock().is_empty());
    }

    #[test]
    fn connections_are_bounded_and_unused_ones_go() {
        let (links, start) = (links(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let key = |number: usize| (format!("host-{number}:1"), number % 2);
        for number in 0..5000 {
            links.slot(&key(number), at(number as u64));
            links.slot(&key(0), at(number as u64));
        }
        assert_eq!(links.slots.lock().len(), KEPT_LINKS);
        assert!(links.slots.lock().contains_key(&key(0)) && links.slots.lock().contains_key(&key(4999)));
        assert!(!links.slots.lock().contains_key(&key(1)));
        links.slot(&key(9999), at(4999) + IDLE);
        assert_eq!(links.slots.lock().len(), 1);
    }
}
