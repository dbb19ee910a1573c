//! The way to the masters, with one session, and to the chunkservers; counters. Knows nothing of files.

mod clock;
mod masters;
pub mod releases;
mod servers;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Reason, Result};
use parking_lot::RwLock;
use prost::Message;
use wire::backoff::{jittered, random};
use wire::proto::name_request::Op;
use wire::proto::{self, Credentials, NameReply, NameRequest, RenewReply, RenewSession};
use wire::{LinkConfig, Method};

use crate::config::ClientConfig;
use crate::metrics::{Metrics, add};
use clock::LeaderClock;
use masters::{Masters, Verdict};
use releases::Releases;
use servers::Servers;
use session::Session;

pub use servers::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two questions of whoever waits for another client's turn at the end of a file.
const ASK_AGAIN: Duration = Duration::from_millis(4);

pub struct Peers {
    pub config: ClientConfig,
    pub masters: Masters,
    pub servers: Servers,
    pub metrics: Arc<Metrics>,
    pub releases: Releases,
    pub closed: AtomicBool,
    pub term: AtomicU64,
    pub clock: LeaderClock,
    /// Random, so that not every client reads the same copy first.
    pub turn: u64,
    /// Names this client to chunkservers among the writers of a chunk; random.
    pub writer: u64,
    session: RwLock<Arc<Session>>,
    registering: tokio::sync::Mutex<()>,
}

impl Peers {
    /// Finds the leader and registers.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Peers>> {
        config.check()?;
        let hello = proto::Hello {
            cluster_id: config.cluster_id.clone(),
            role: proto::Role::Client as i32,
            node_id: 0,
            name: config.name.clone(),
            ..wire::link::hello()
        };
        let link = LinkConfig { hello, connect_timeout: CONNECT_TIMEOUT };
        let metrics = Arc::new(Metrics::default());
        let peers = Peers {
            masters: Masters::new(link.clone(), config.masters.clone(), metrics.clone()),
            servers: Servers::new(link, metrics.clone()),
            metrics,
            releases: Releases::default(),
            closed: AtomicBool::new(false),
            term: AtomicU64::new(0),
            clock: LeaderClock::default(),
            turn: random(),
            writer: random().max(1),
            session: RwLock::new(Arc::new(Session::new(0, 0, 0))),
            registering: tokio::sync::Mutex::new(()),
            config,
        };
        peers.register(0).await?;
        Ok(Arc::new(peers))
    }

    pub fn deadline(&self) -> Deadline {
        Deadline::after(Duration::from_millis(self.config.deadline_ms))
    }

    pub fn session(&self) -> Arc<Session> {
        self.session.read().clone()
    }

    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, libc::EIO, "this client is closed; connect anew"));
        }
        Ok(())
    }

    /// Any operation on names: to the leader, retried, mutations applied exactly once.
    pub async fn name(&self, creds: &Credentials, op: Op) -> Result<NameReply> {
        self.check_open()?;
        let start = Instant::now();
        let outcome = self.name_until(creds, op, self.deadline()).await;
        self.metrics.name.since(start);
        outcome
    }

    pub async fn name_until(&self, creds: &Credentials, op: Op, deadline: Deadline) -> Result<NameReply> {
        let counted = wire::op::is_once(&op);
        let mut request = NameRequest { creds: Some(creds.clone()), op: Some(op), ..NameRequest::default() };
        loop {
            let session = self.session();
            let ticket = counted.then(|| session.ticket());
            request.session = session.id;
            request.op_id = ticket.as_ref().map_or(0, |ticket| ticket.op_id);
            request.acked_below = ticket.as_ref().map_or(0, |ticket| ticket.acked_below);
            let verdict: Verdict<NameReply> = self.masters.ask(Method::Name, &request.encode_to_vec(), deadline).await;
            let error = match verdict.outcome {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if error.reason == Reason::TurnTaken && waits_for_turn(&request) && !deadline.passed() {
                tokio::time::sleep(jittered(ASK_AGAIN)).await;
                continue;
            }
            if error.reason != Reason::NoSession || !self.is_expired(&session, deadline).await {
                return Err(error);
            }
            self.register(session.id).await?;
            if counted && verdict.maybe_done {
                return Err(Error::unavailable(format!(
                    "session {} expired before the outcome of an operation was known; look whether it was carried out",
                    session.id
                )));
            }
        }
    }

    async fn is_expired(&self, session: &Session, deadline: Deadline) -> bool {
        let renewal = RenewSession { session: session.id, open_inodes: Vec::new(), alive: true };
        let verdict: Verdict<RenewReply> = self.masters.ask(Method::Renew, &renewal.encode_to_vec(), deadline).await;
        self.masters.changed.notify_one();
        matches!(verdict.outcome, Err(error) if error.reason == Reason::NoSession)
    }

    /// Register anew unless somebody already replaced session `old`.
    pub async fn register(&self, old: u64) -> Result<()> {
        let _one = self.registering.lock().await;
        if self.session().id != old {
            return Ok(());
        }
        let op = Op::RegisterSession(proto::RegisterSession {
            name: self.config.name.clone(),
            host: host_name(),
            mount_point: self.config.mount_point.clone(),
        });
        let request = NameRequest { creds: Some(Credentials::default()), op: Some(op), ..NameRequest::default() };
        let asked = Instant::now();
        let verdict: Verdict<NameReply> =
            self.masters.ask(Method::Name, &request.encode_to_vec(), self.deadline()).await;
        let reply = verdict.outcome?;
        self.clock.told(reply.now_ns, asked);
        if old != 0 {
            tracing::warn!(old, new = reply.session, "the session had expired; a new one is registered");
        }
        add(&self.metrics.counters.sessions, 1);
        let timeout_ms = reply.session_timeout_ms.max(1000);
        *self.session.write() = Arc::new(Session::new(reply.session, timeout_ms, reply.inline_limit));
        self.masters.changed.notify_one();
        Ok(())
    }

    /// Tell the leader that we live and what we hold open; `None`: that is as before.
    pub async fn renew(&self, open_inodes: Option<Vec<u64>>) -> Result<()> {
        let session = self.session();
        let deadline = Deadline::after(Duration::from_millis(u64::from(session.timeout_ms)));
        let alive = open_inodes.is_none();
        let renewal = RenewSession { session: session.id, open_inodes: open_inodes.unwrap_or_default(), alive };
        let asked = Instant::now();
        let verdict: Verdict<RenewReply> = self.masters.ask(Method::Renew, &renewal.encode_to_vec(), deadline).await;
        match verdict.outcome {
            Ok(reply) => {
                if self.term.swap(reply.term, Ordering::Relaxed) != reply.term {
                    self.clock.forget(); // another leader, another clock
                }
                self.clock.told(reply.now_ns, asked);
                Ok(())
            }
            Err(error) if error.reason == Reason::NoSession => self.register(session.id).await,
            Err(error) => Err(error),
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_string()).unwrap_or_default()
}

/// What moves the end of a file in one operation. An open file has its own rules for the rest.
fn waits_for_turn(request: &NameRequest) -> bool {
    match &request.op {
        Some(Op::Setattr(_) | Op::Create(_)) => true,
        Some(Op::WriteInline(op)) => op.append,
        _ => false,
    }
}
