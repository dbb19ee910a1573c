//! Group commit: mutations wait in one bounded queue; whatever waits becomes one Raft entry while earlier ones are on
//! their way, with what is about to come. Stamps each command with the leader's clock and randomness. Never decides
//! what a command may do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use raft::Consensus;
use tokio::sync::{mpsc, oneshot};
use wire::proto::{AdminCommand, AdminReply, Batch, BatchReply, Command, NameRequest, admin_command, command::What};

use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::patience::Patience;
use crate::stamps::Stamps;

/// Mutations that may wait. More only adds latency: at 10,000 a second the last one waits 0.4 s already.
const QUEUE: usize = 4096;
/// Commands of one entry, and their bytes: well below what one frame between masters carries.
const BATCH_COMMANDS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// Largest single mutation; names, targets and inline data are far below.
pub const COMMAND_BYTES: usize = 256 << 10;
/// How long a caller waits for its commit. Without a quorum the answer is then "unknown": the operation id makes a retry exact.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

struct Waiting {
    what: What,
    bytes: usize,
    since: Instant,
    reply: oneshot::Sender<Result<Bytes>>,
}

pub struct Committer {
    queue: mpsc::Sender<Waiting>,
    task: tokio::task::AbortHandle,
}

impl Committer {
    /// `window`: entries on their way at a time.
    pub fn start(
        consensus: Arc<Consensus>,
        machine: Arc<Machine>,
        metrics: Arc<Metrics>,
        window: usize,
        moment: Moment,
    ) -> Committer {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(propose(consensus, machine, metrics, window, waiting, moment)).abort_handle();
        Committer { queue, task }
    }

    /// Commit one request of a client; the reply is an encoded `NameReply`.
    pub async fn name(&self, request: NameRequest, bytes: usize) -> Result<Bytes> {
        self.commit(What::Name(request), bytes).await
    }

    /// Commit one of the leader's own orders. An error in the reply is an error here.
    pub async fn admin(&self, expected_term: u64, op: admin_command::Op) -> Result<AdminReply> {
        let command = AdminCommand { expected_term, op: Some(op) };
        let bytes = command.encoded_len();
        let reply: AdminReply = wire::link::decode(&self.commit(What::Admin(command), bytes).await?)?;
        match reply.error {
            Some(error) => Err(error.into()),
            None => Ok(reply),
        }
    }

    async fn commit(&self, what: What, bytes: usize) -> Result<Bytes> {
        if bytes > COMMAND_BYTES {
            return Err(Error::namespace(
                libc::EMSGSIZE,
                format!("a request of {bytes} bytes was refused; at most {COMMAND_BYTES}"),
            ));
        }
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Waiting { what, bytes, since: Instant::now(), reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorKind::Unavailable,
                libc::EAGAIN,
                format!("{QUEUE} changes wait for the log already; try again shortly"),
            ),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        match tokio::time::timeout(COMMIT_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                libc::ETIMEDOUT,
                "the change was not committed in time, it may be yet: do most masters run and reach each other?",
            )),
        }
    }

    /// Changes that wait to be proposed.
    pub fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    pub fn stop(&self) {
        self.task.abort();
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, libc::EAGAIN, "this master is stopping; ask another one")
}

async fn propose(
    consensus: Arc<Consensus>,
    machine: Arc<Machine>,
    metrics: Arc<Metrics>,
    window: usize,
    mut queue: mpsc::Receiver<Waiting>,
    moment: Moment,
) {
    let (mut stamps, mut patience) = (Stamps::new(), Patience::default());
    let mut on_the_way = FuturesUnordered::new();
    let mut held = VecDeque::new();
    loop {
        let may_begin = on_the_way.len() < window;
        tokio::select! {
            // First, so that a new entry is polled, and thereby submitted, before the next one is made.
            biased;
            Some(()) = on_the_way.next() => continue,
            () = std::future::ready(()), if may_begin && !held.is_empty() => {}
            first = queue.recv(), if may_begin => match first {
                Some(first) => hold(first, &mut held, &mut patience),
                None => return,
            },
        }
        while held.len() < BATCH_COMMANDS
            && let Ok(more) = queue.try_recv()
        {
            hold(more, &mut held, &mut patience);
        }
        let wait_for = patience.wait_for(Instant::now(), held.len());
        if wait_for > 0 && on_the_way.is_empty() {
            let enough = held.len() + wait_for;
            await_more(&mut queue, enough, &moment, &mut held, &mut patience).await;
        }
        let now_ns = stamps.now_ns(base::time::wall_ns(), machine.last_stamp_ns());
        let (batch, replies) = gather(&mut held, now_ns, &mut stamps);
        metrics.batch(replies.len());
        on_the_way.push(carry(&consensus, &machine, &metrics, batch, replies));
    }
}

fn hold(waiting: Waiting, held: &mut VecDeque<Waiting>, patience: &mut Patience) {
    patience.saw(waiting.since);
    held.push_back(waiting);
}

/// Take what comes until there are `enough`, a moment at most.
async fn await_more(
    queue: &mut mpsc::Receiver<Waiting>,
    enough: usize,
    moment: &Moment,
    held: &mut VecDeque<Waiting>,
    patience: &mut Patience,
) {
    let mut over = std::pin::pin!(moment.pass());
    while held.len() < enough.min(BATCH_COMMANDS) {
        tokio::select! {
            biased;
            more = queue.recv() => match more {
                Some(more) => hold(more, held, patience),
                None => return,
            },
            () = &mut over => return,
        }
    }
}

type Replies = Vec<(Instant, oneshot::Sender<Result<Bytes>>)>;

/// An entry of what is held, up to the limits. What no longer fits stays for the next one.
fn gather(held: &mut VecDeque<Waiting>, now_ns: i64, stamps: &mut Stamps) -> (Bytes, Replies) {
    let (mut commands, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(waiting) = held.pop_front() {
        if !commands.is_empty() && (commands.len() == BATCH_COMMANDS || bytes + waiting.bytes > BATCH_BYTES) {
            held.push_front(waiting);
            break;
        }
        // A caller that gave up may retry under its operation id; its change is not started any more.
        if !waiting.reply.is_closed() {
            bytes += waiting.bytes;
            commands.push(Command { now_ns, seed: stamps.seed(), what: Some(waiting.what) });
            replies.push((waiting.since, waiting.reply));
        }
    }
    (Batch { commands }.encode_to_vec().into(), replies)
}

/// Commit one entry and hand each caller its reply.
async fn carry(consensus: &Consensus, machine: &Machine, metrics: &Metrics, batch: Bytes, replies: Replies) {
    if replies.is_empty() {
        return;
    }
    machine.awaited.fetch_add(1, Ordering::AcqRel);
    let outcome = consensus.propose(batch).await;
    machine.awaited.fetch_sub(1, Ordering::AcqRel);
    let answers = outcome.and_then(|proposed| split(&proposed.reply, replies.len()));
    let now = Instant::now();
    match answers {
        Ok(answers) => {
            for ((since, reply), answer) in replies.into_iter().zip(answers) {
                metrics.committed(now.saturating_duration_since(since));
                let _ = reply.send(Ok(answer));
            }
        }
        Err(error) => {
            for (_, reply) in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn split(reply: &Bytes, expected: usize) -> Result<Vec<Bytes>> {
    let reply: BatchReply = wire::link::decode(reply)?;
    if reply.replies.len() != expected {
        return Err(Error::integrity(format!(
            "an entry of {expected} changes was answered with {} replies; retry, and report this as a bug",
            reply.replies.len()
        )));
    }
    Ok(reply.replies.into_iter().map(Bytes::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: usize) -> (Waiting, oneshot::Receiver<Result<Bytes>>) {
        let (reply, answer) = oneshot::channel();
        (Waiting { what: What::Name(NameRequest::default()), bytes, since: Instant::now(), reply }, answer)
    }

    #[test]
    fn all_that_waits_becomes_one_entry_up_to_the_limit_of_bytes() {
        let (mut held, answers): (VecDeque<_>, Vec<_>) = [10, 10, BATCH_BYTES].map(waiting).into_iter().unzip();
        let (batch, replies) = gather(&mut held, 1, &mut Stamps::new());
        assert_eq!((Batch::decode(batch).unwrap().commands.len(), replies.len()), (2, 2));
        assert_eq!(held.front().unwrap().bytes, BATCH_BYTES);
        let (batch, _) = gather(&mut held, 1, &mut Stamps::new());
        assert_eq!(Batch::decode(batch).unwrap().commands.len(), 1, "alone it may be as large");
        drop(answers);
    }

    #[test]
    fn a_change_whose_caller_left_is_not_started() {
        let (first, answer) = waiting(10);
        drop(answer);
        let (_, replies) = gather(&mut VecDeque::from([first]), 1, &mut Stamps::new());
        assert!(replies.is_empty());
    }
}
