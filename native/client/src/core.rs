//! What every part of one engine shares: the way to the masters with its session, the chunkservers, budgets, counters.
//! Knows nothing of files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use prost::Message;
use tokio::sync::Semaphore;
use wire::link::PROTOCOL_VERSION;
use wire::proto::name_request::Op;
use wire::proto::{self, Credentials, NameReply, NameRequest, RenewReply, RenewSession};
use wire::{LinkConfig, Method};

use crate::backoff::random;
use crate::config::ClientConfig;
use crate::masters::{Masters, Verdict};
use crate::metrics::{Metrics, add};
use crate::releases::Releases;
use crate::servers::Servers;
use crate::session::{Session, may_be_expired};

/// Unacknowledged bytes of all files together. Less stalls many parallel writers, more is only memory.
pub const DIRTY_BUDGET_BYTES: usize = 160 << 20;
/// Bytes fetched ahead for all handles together.
pub const READ_AHEAD_BUDGET_BYTES: usize = 96 << 20;
/// Permits count KiB.
pub const PERMIT_BYTES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Core {
    pub config: ClientConfig,
    pub masters: Masters,
    pub servers: Servers,
    pub metrics: Arc<Metrics>,
    pub releases: Releases,
    pub dirty_budget: Arc<Semaphore>,
    pub read_budget: Arc<Semaphore>,
    pub closed: AtomicBool,
    pub term: AtomicU64,
    /// Random, so that not every client reads the same copy first.
    pub turn: u64,
    session: RwLock<Arc<Session>>,
    registering: tokio::sync::Mutex<()>,
}

impl Core {
    /// Finds the leader and registers.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Core>> {
        config.check()?;
        let hello = proto::Hello {
            protocol: PROTOCOL_VERSION,
            cluster_id: config.cluster_id.clone(),
            role: proto::Role::Client as i32,
            node_id: 0,
            name: config.name.clone(),
        };
        let link = LinkConfig { hello, connect_timeout: CONNECT_TIMEOUT };
        let metrics = Arc::new(Metrics::default());
        let core = Core {
            masters: Masters::new(link.clone(), config.masters.clone(), metrics.clone()),
            servers: Servers::new(link, metrics.clone()),
            metrics,
            releases: Releases::default(),
            dirty_budget: Arc::new(Semaphore::new(DIRTY_BUDGET_BYTES / PERMIT_BYTES)),
            read_budget: Arc::new(Semaphore::new(READ_AHEAD_BUDGET_BYTES / PERMIT_BYTES)),
            closed: AtomicBool::new(false),
            term: AtomicU64::new(0),
            turn: random(),
            session: RwLock::new(Arc::new(Session::new(0, 0, 0))),
            registering: tokio::sync::Mutex::new(()),
            config,
        };
        core.register(0).await?;
        Ok(Arc::new(core))
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
        let counted = needs_id(&op);
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
            if !may_be_expired(&error) || !self.is_expired(&session, deadline).await {
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
        let renewal = RenewSession { session: session.id, open_inodes: Vec::new() };
        // An expired session has nothing to lose by the empty list; a living one is renewed in full right after.
        let verdict: Verdict<RenewReply> = self.masters.ask(Method::Renew, &renewal.encode_to_vec(), deadline).await;
        self.masters.changed.notify_one();
        matches!(verdict.outcome, Err(error) if error.errno == libc::ESTALE)
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
        let verdict: Verdict<NameReply> =
            self.masters.ask(Method::Name, &request.encode_to_vec(), self.deadline()).await;
        let reply = verdict.outcome?;
        if old != 0 {
            tracing::warn!(old, new = reply.session, "the session had expired; a new one is registered");
        }
        add(&self.metrics.counters.sessions, 1);
        let timeout_ms = reply.session_timeout_ms.max(1000);
        *self.session.write() = Arc::new(Session::new(reply.session, timeout_ms, reply.inline_limit));
        self.masters.changed.notify_one();
        Ok(())
    }

    /// Tell the leader that we live and what we hold open.
    pub async fn renew(&self, open_inodes: Vec<u64>) -> Result<()> {
        let session = self.session();
        let deadline = Deadline::after(Duration::from_millis(u64::from(session.timeout_ms)));
        let renewal = RenewSession { session: session.id, open_inodes };
        let verdict: Verdict<RenewReply> = self.masters.ask(Method::Renew, &renewal.encode_to_vec(), deadline).await;
        match verdict.outcome {
            Ok(reply) => {
                self.term.store(reply.term, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.errno == libc::ESTALE => self.register(session.id).await,
            Err(error) => Err(error),
        }
    }
}

/// Mutations, and the release of handles: a retry must count once.
fn needs_id(op: &Op) -> bool {
    !matches!(
        op,
        Op::Lookup(_)
            | Op::Getattr(_)
            | Op::Readlink(_)
            | Op::Access(_)
            | Op::Readdir(_)
            | Op::Open(_)
            | Op::GetChunks(_)
            | Op::Resolve(_)
            | Op::Statfs(_)
            | Op::RegisterSession(_)
    )
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_string()).unwrap_or_default()
}
