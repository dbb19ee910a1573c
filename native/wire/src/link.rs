//! The asking side of a connection: many requests in flight, answers in any order, each with a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::time::Deadline;
use base::{Buffer, Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::frame::{Frame, Kind, read_frame};
use crate::method::Method;
use crate::outbox::{Outbox, When, closed};
use crate::proto;

/// Rises with any change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 2;
/// Requests that one connection may have in flight. More only queue at the other side.
const CREDITS: usize = 256;
/// Pushes that may wait for the receiver; past that the connection stops reading.
const PUSHES: usize = 1024;

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
    over: watch::Receiver<bool>,
    reader: tokio::task::AbortHandle,
}

impl Link {
    /// Connect, exchange hellos, refuse another cluster.
    pub async fn connect(address: &str, config: &LinkConfig) -> Result<Arc<Link>> {
        Ok(Link::connect_with_pushes(address, config).await?.0)
    }

    /// As `connect`; frames that the other side pushes arrive on the receiver.
    pub async fn connect_with_pushes(address: &str, config: &LinkConfig) -> Result<(Arc<Link>, mpsc::Receiver<Frame>)> {
        let deadline = Deadline::after(config.connect_timeout);
        let stream = tokio::time::timeout(deadline.left(), TcpStream::connect(address))
            .await
            .map_err(|_| Error::unavailable(format!("no answer from {address} within {:?}", config.connect_timeout)))?
            .map_err(|error| Error::from(error).context(format!("connecting to {address}")))?;
        tune(&stream)?;
        let (reader, writer) = stream.into_split();
        let outbox = Outbox::new(writer);
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (pushes, pushed) = mpsc::channel(PUSHES);
        let (over_sender, over) = watch::channel(false);
        let task = tokio::spawn(receive(reader, waiting.clone(), outbox.clone(), pushes, over_sender));
        let mut link = Link {
            address: address.to_string(),
            outbox,
            waiting,
            next_id: AtomicU64::new(1),
            credits: Semaphore::new(CREDITS),
            peer: proto::Hello::default(),
            over,
            reader: task.abort_handle(),
        };
        let reply = link.call(Method::Hello, &config.hello, None, deadline).await?;
        let peer: proto::Hello = reply.decode()?;
        check_hello(&config.hello, &peer).map_err(|error| error.context(format!("{address} was refused")))?;
        link.peer = peer;
        Ok((Arc::new(link), pushed))
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
            self.outbox.send(When::Now, Kind::Request, method as u16, id, message, payload).await?;
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
    reader: tokio::net::tcp::OwnedReadHalf,
    waiting: Arc<Waiting>,
    outbox: Arc<Outbox>,
    pushes: mpsc::Sender<Frame>,
    over: watch::Sender<bool>,
) {
    let mut reader = tokio::io::BufReader::with_capacity(32 << 10, reader);
    let error = loop {
        match read_frame(&mut reader).await {
            Ok(Some(frame)) => {
                if frame.kind == Kind::Push {
                    let _ = pushes.send(frame).await;
                } else if let Some(sender) = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&frame.id)) {
                    let _ = sender.send(Ok(frame));
                }
            }
            Ok(None) => break closed(),
            Err(error) => break error,
        }
    };
    outbox.close();
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

pub(crate) fn tune(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    // A peer whose machine vanished is noticed without waiting for the kernel's two hours.
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(10)))?;
    Ok(())
}

/// Both sides must speak one protocol and, where both know theirs, be of one cluster.
pub fn check_hello(ours: &proto::Hello, theirs: &proto::Hello) -> Result<()> {
    if ours.protocol != theirs.protocol {
        return Err(Error::namespace(
            libc::EPROTONOSUPPORT,
            format!("it speaks protocol {}, this side {}; run one release on both", theirs.protocol, ours.protocol),
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
    Ok(())
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Link>>>>;

/// Connections by address, made when first needed and made anew after they broke.
pub struct Links {
    config: LinkConfig,
    slots: Mutex<HashMap<String, Slot>>,
}

impl Links {
    pub fn new(config: LinkConfig) -> Links {
        Links { config, slots: Mutex::default() }
    }

    /// The live connection to `address`, or a new one. Concurrent callers share one attempt at a time.
    pub async fn get(&self, address: &str) -> Result<Arc<Link>> {
        let slot = self.slots.lock().entry(address.to_string()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Link::connect(address, &self.config).await?;
        *slot = Some(link.clone());
        Ok(link)
    }

    /// Forget the connection to `address`, for example after it stopped answering; calls in flight keep it.
    pub fn forget(&self, address: &str) {
        self.slots.lock().remove(address);
    }
}
