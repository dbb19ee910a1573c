//! The answering side: accepts connections, checks hellos, runs one handler for each request, bounded per connection.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::limits::MAX_MESSAGE_BYTES;
use base::{Buffer, Error, Result};
use bytes::Bytes;
use prost::Message;
use tokio::sync::{Semaphore, watch};

use crate::budget::{Budget, OUTSIDE};
use crate::frame::{Frame, Kind, read_head};
use crate::link::{check_hello, decode};
use crate::method::Method;
use crate::outbox::{Outbox, When};
use crate::proto;
use crate::stream::{Accepted, Listener};

/// Requests of one connection that run at a time; then its socket is not read.
const IN_FLIGHT: usize = 256;
/// Connections of one server; further ones are closed at once.
const CONNECTIONS: usize = 4096;
/// How long a new connection may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest hello: room for an identity. Nobody knows yet who sends it, so it gets no more.
const HELLO_BYTES: usize = 64 << 10;
/// How long a payload may take to arrive once it has its part of the budget: a sender that stalls must give it back.
const PAYLOAD_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Request {
    pub method: Method,
    pub message: Bytes,
    pub payload: Option<Buffer>,
    pub peer: Arc<Peer>,
}

impl Request {
    pub fn decode<M: Message + Default>(&self) -> Result<M> {
        decode(&self.message)
    }
}

#[derive(Default)]
pub struct Response {
    pub message: Vec<u8>,
    pub payload: Option<Arc<Buffer>>,
}

impl<M: Message> From<&M> for Response {
    fn from(message: &M) -> Response {
        Response { message: message.encode_to_vec(), payload: None }
    }
}

/// The other end of one accepted connection.
pub struct Peer {
    /// Unique in this process.
    pub id: u64,
    pub address: SocketAddr,
    pub hello: proto::Hello,
    outbox: Arc<Outbox>,
    over: watch::Receiver<bool>,
}

impl Peer {
    /// Send something unasked; an error means that the connection is gone.
    pub async fn push<M: Message>(&self, method: Method, message: &M) -> Result<()> {
        self.outbox.send(When::Now, Kind::Push, method as u16, 0, &message.encode_to_vec(), None, None).await
    }

    pub fn is_closed(&self) -> bool {
        *self.over.borrow()
    }

    pub fn close(&self) {
        self.outbox.close();
    }
}

/// Apart, so that readers and writers do not wait for each other.
pub struct Budgets {
    pub requests: Arc<Budget>,
    pub replies: Arc<Budget>,
}

/// What a request needs of the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// See `budget`.
    pub rank: usize,
    /// Payload of the reply, in bytes.
    pub reply_bytes: usize,
}

pub trait Handler: Send + Sync + 'static {
    /// Our side of the hello; asked for each connection because the cluster id may become known late.
    fn hello(&self) -> proto::Hello;

    fn handle(self: Arc<Self>, request: Request) -> impl Future<Output = Result<Response>> + Send;

    /// Where payload bytes of requests and of replies are counted while they are in memory; None: nowhere.
    fn budgets(&self) -> Option<&Budgets> {
        None
    }

    /// What a request needs of the budgets. Asked before its payload is read.
    fn weigh(&self, _method: u16, _message: &[u8], _peer: &Peer) -> Weight {
        Weight { rank: OUTSIDE, reply_bytes: 0 }
    }

    /// The longest message of a request, in bytes.
    fn longest_message(&self) -> usize {
        MAX_MESSAGE_BYTES
    }

    /// The connection is over; called once, after its hello was accepted.
    fn disconnected(&self, _peer: &Arc<Peer>) {}
}

pub struct Server {
    listener: Listener,
    stop: watch::Sender<bool>,
}

impl Server {
    pub async fn bind(address: &str) -> Result<Server> {
        let listener = Listener::bind(address).await?;
        Ok(Server { listener, stop: watch::channel(false).0 })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.address()
    }

    /// Ends `run` and every connection.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    pub async fn run<H: Handler>(self, handler: Arc<H>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut stop = self.stop.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok(accepted) => {
                    let Ok(permit) = room.clone().try_acquire_owned() else {
                        tracing::warn!(address = %accepted.address, "connection refused: {CONNECTIONS} are open");
                        continue;
                    };
                    let (handler, mut stop) = (handler.clone(), self.stop.subscribe());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve(accepted, handler) => {}
                            _ = stop.wait_for(|stop| *stop) => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for connections to end instead of spinning.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[derive(Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    pub fn stop(&self) {
        let _ = self.0.send(true);
    }
}

static NEXT_PEER: AtomicU64 = AtomicU64::new(1);

/// Closes the connection and tells the handler, however `serve` ends.
struct Closing<H: Handler> {
    handler: Arc<H>,
    peer: Arc<Peer>,
    over: watch::Sender<bool>,
}

impl<H: Handler> Drop for Closing<H> {
    fn drop(&mut self) {
        self.peer.outbox.close();
        let _ = self.over.send(true);
        self.handler.disconnected(&self.peer);
    }
}

async fn serve<H: Handler>(accepted: Accepted, handler: Arc<H>) {
    let address = accepted.address;
    let Ok((mut reader, writer)) = accepted.open() else { return };
    let outbox = Outbox::new(writer);
    let theirs = match tokio::time::timeout(HELLO_TIMEOUT, greet(&mut reader, &outbox, &*handler)).await {
        Ok(Ok(theirs)) => theirs,
        Ok(Err(error)) => {
            tracing::warn!(%address, %error, "connection refused");
            // The refusal is on its way; let the other side read it before the reset.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return outbox.close();
        }
        Err(_) => return outbox.close(),
    };
    let (over, over_receiver) = watch::channel(false);
    let id = NEXT_PEER.fetch_add(1, Ordering::Relaxed);
    let peer = Arc::new(Peer { id, address, hello: theirs, outbox: outbox.clone(), over: over_receiver });
    let _closing = Closing { handler: handler.clone(), peer: peer.clone(), over };
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let insider = peer.hello.role == proto::Role::Chunkserver as i32;
    let shares = handler.budgets().map(|of| (of.requests.share(!insider), Arc::new(of.replies.share(!insider))));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let head = match read_head(&mut reader, handler.longest_message()).await {
            Ok(Some(head)) if head.kind == Kind::Request => head,
            Ok(Some(_)) => return,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%address, %error, "connection ended");
                return;
            }
        };
        let skipped = head.skipped;
        let weight = match &shares {
            Some(_) => handler.weigh(head.method, &head.message, &peer),
            None => Weight { rank: OUTSIDE, reply_bytes: 0 },
        };
        let held = match &shares {
            Some((requests, _)) => requests.take(weight.rank, head.payload_len).await,
            None => None,
        };
        let arriving =
            async {
                match held.is_some() {
                    true => tokio::time::timeout(PAYLOAD_TIMEOUT, head.read_payload(&mut reader)).await.unwrap_or_else(
                        |_| Err(Error::unavailable(format!("a payload did not arrive within {PAYLOAD_TIMEOUT:?}"))),
                    ),
                    false => head.read_payload(&mut reader).await,
                }
            };
        let frame = match arriving.await {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%address, %error, "connection ended");
                return;
            }
        };
        let replies = shares.as_ref().filter(|_| weight.reply_bytes > 0).map(|(_, replies)| replies.clone());
        let (handler, peer, outbox, room) = (handler.clone(), peer.clone(), outbox.clone(), room.clone());
        tokio::spawn(async move {
            let (method, id) = (frame.method, frame.id);
            let reply_held = match replies {
                Some(replies) => replies.take(weight.rank, weight.reply_bytes).await,
                None => None,
            };
            let (kind, message, payload) = match dispatch(handler, peer, frame, skipped).await {
                Ok(response) => (Kind::Reply, response.message, response.payload),
                Err(error) => (Kind::Failure, proto::Error::from(error).encode_to_vec(), None),
            };
            // Requests that came together are mostly answered together: changes of one commit, reads of one moment.
            // One more permit is with the reader, for the next one.
            let alone = room.available_permits() + 2 >= IN_FLIGHT;
            let when = if alone { When::Now } else { When::Soon };
            let sent = outbox.send(when, kind, method, id, &message, payload, reply_held).await;
            drop((sent, permit, held));
        });
    }
}

async fn dispatch<H: Handler>(handler: Arc<H>, peer: Arc<Peer>, frame: Frame, skipped: usize) -> Result<Response> {
    if skipped > 0 {
        let most = handler.longest_message();
        return Err(Error::namespace(
            libc::EMSGSIZE,
            format!("a message of {skipped} bytes is longer than the {most} that are taken here; send less at a time"),
        ));
    }
    match Method::try_from(frame.method)? {
        Method::Ping => Ok(Response::default()),
        method => handler.handle(Request { method, message: frame.message, payload: frame.payload, peer }).await,
    }
}

async fn greet<H: Handler>(
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    outbox: &Outbox,
    handler: &H,
) -> Result<proto::Hello> {
    let frame = read_head(reader, HELLO_BYTES).await?.ok_or_else(crate::outbox::closed)?;
    let outcome = (|| {
        if frame.skipped > 0 || frame.payload_len > 0 {
            let sent = frame.skipped + frame.payload_len;
            return Err(Error::namespace(
                libc::EMSGSIZE,
                format!("a hello of {sent} bytes is longer than {HELLO_BYTES}"),
            ));
        }
        if frame.kind != Kind::Request || frame.method != Method::Hello as u16 {
            return Err(Error::namespace(libc::EPROTO, "the first frame must be a hello"));
        }
        let theirs: proto::Hello = decode(&frame.message)?;
        check_hello(&handler.hello(), &theirs)?;
        Ok(theirs)
    })();
    let (kind, message) = match &outcome {
        Ok(_) => (Kind::Reply, handler.hello().encode_to_vec()),
        Err(error) => (Kind::Failure, proto::Error::from(error.clone()).encode_to_vec()),
    };
    outbox.send(When::Now, kind, frame.method, frame.id, &message, None, None).await?;
    outcome
}
