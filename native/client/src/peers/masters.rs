//! Questions to the leader, whoever that is now, and what its answers mean. Knows nothing of what is asked.

use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use prost::Message;
use tokio::sync::Notify;
use wire::leader::{Answer, Found, Miss, Pace};
use wire::proto::{self, NameReply, RenewReply};
use wire::{Leader, Link, LinkConfig, Method};

use crate::metrics::{Metrics, add};

/// A commit under load takes tens of milliseconds. What waits for a leader is an application: no pause gets longer.
const PACE: Pace = Pace {
    first_try: Duration::from_secs(1),
    longest_try: Duration::from_secs(8),
    pause: Duration::from_millis(200),
    later: Duration::from_millis(200),
};

/// A reply that can carry an error in-band.
pub trait Outcome: Message + Default {
    fn take_error(&mut self) -> Option<proto::Error>;
}

impl Outcome for NameReply {
    fn take_error(&mut self) -> Option<proto::Error> {
        self.error.take()
    }
}

impl Outcome for RenewReply {
    fn take_error(&mut self) -> Option<proto::Error> {
        self.error.take()
    }
}

/// What came of asking, and whether a try without an answer may have been carried out.
pub struct Verdict<M> {
    pub outcome: Result<M>,
    pub maybe_done: bool,
}

pub struct Masters {
    leader: Leader,
    addresses: Vec<String>,
    metrics: Arc<Metrics>,
    /// Rings when another master became the leader we talk to.
    pub changed: Notify,
}

impl Masters {
    pub fn new(link: LinkConfig, addresses: Vec<String>, metrics: Arc<Metrics>) -> Masters {
        Masters { leader: Leader::new(link, addresses.clone()), addresses, metrics, changed: Notify::new() }
    }

    pub fn leader(&self) -> Option<String> {
        self.leader.known()
    }

    /// Ask until the leader answers or the deadline passes. The same bytes are sent at each try.
    pub async fn ask<M: Outcome>(&self, method: Method, message: &[u8], deadline: Deadline) -> Verdict<M> {
        let ask = move |link: Arc<Link>, deadline| async move { ask_once(&link, method, message, deadline).await };
        let missed = |_: &str, _: &Miss| add(&self.metrics.counters.name_retries, 1);
        let asked = self.leader.ask(PACE, Some(deadline), ask, missed).await;
        if let Some(before) = asked.before {
            add(&self.metrics.counters.leader_changes, 1);
            tracing::info!(leader = self.leader.known(), before, "the leader is another master now");
            self.changed.notify_one();
        }
        let outcome = match asked.found {
            Found::Answer(outcome) => outcome,
            Found::Foreign(error) => Err(error),
            Found::Nobody(reasons) => Err(Error::unavailable(format!(
                "no leader among the masters {} answered {method:?} in time; check that a majority of them runs: {reasons}",
                self.addresses.join(", ")
            ))),
        };
        Verdict { outcome, maybe_done: asked.maybe_done }
    }
}

async fn ask_once<M: Outcome>(link: &Link, method: Method, message: &[u8], deadline: Deadline) -> Answer<Result<M>> {
    let elsewhere = |error: Error| Answer::Miss(Miss::Elsewhere(error.context(link.address())));
    let reply = match link.ask_raw(method, message, None, deadline).await {
        Err(error) => return Answer::Miss(Miss::Silent(error.context(link.address()))),
        Ok(Err(error)) if error.kind == ErrorKind::Unavailable => return elsewhere(error),
        Ok(Err(error)) => return Answer::Final(Err(error)),
        Ok(Ok(reply)) => reply,
    };
    match reply.decode::<M>() {
        Err(error) => Answer::Final(Err(error.context(link.address()))),
        Ok(mut answer) => match answer.take_error().map(Error::from) {
            None => Answer::Final(Ok(answer)),
            Some(error) if is_elsewhere(&error) => elsewhere(error),
            Some(error) => Answer::Final(Err(error)),
        },
    }
}

/// In-band errors come from the state machine and are final, but for the leader's own "not now".
fn is_elsewhere(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable
        && (matches!(error.errno, libc::EAGAIN | libc::ETIMEDOUT) || error.leader.is_some())
}
