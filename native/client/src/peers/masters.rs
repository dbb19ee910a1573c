//! Asks the leader, whoever that is now: follows hints, goes round the masters, waits between rounds, gives up at the
//! deadline. Knows nothing of what is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;
use wire::proto::{self, NameReply, RenewReply};
use wire::{LinkConfig, Links, Method};

use super::backoff::{Backoff, random};
use crate::metrics::{Metrics, add};

/// First wait for one master's answer; doubles up to `LONGEST_TRY`. A commit under load takes tens of milliseconds.
const FIRST_TRY: Duration = Duration::from_secs(1);
const LONGEST_TRY: Duration = Duration::from_secs(8);
/// How long hints to a master that did not answer are not believed: about one election.
const SUSPECT: Duration = Duration::from_secs(2);
/// Between rounds while nobody leads. Longer adds to the stall of an election, shorter to its load.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// Hints followed at once before backing off: masters that point at each other are between leaders.
const HOPS: u32 = 3;

/// A reply that can carry an error in-band.
pub trait Answer: Message + Default {
    fn take_error(&mut self) -> Option<proto::Error>;
}

impl Answer for NameReply {
    fn take_error(&mut self) -> Option<proto::Error> {
        self.error.take()
    }
}

impl Answer for RenewReply {
    fn take_error(&mut self) -> Option<proto::Error> {
        self.error.take()
    }
}

/// What came of asking, and whether a try without an answer may have been carried out.
pub struct Verdict<M> {
    pub outcome: Result<M>,
    pub maybe_done: bool,
}

enum Try<M> {
    Answered(M),
    /// The leader's own no: final.
    Refused(Error),
    /// Not the leader, or a leader that cannot serve now.
    Elsewhere(Error),
    /// No connection: nothing was sent.
    Unreached(Error),
    /// Sent, no answer.
    Silent(Error),
}

#[derive(Default)]
struct Guess {
    leader: Option<String>,
    next: usize,
    suspects: HashMap<String, Instant>,
}

pub struct Masters {
    links: Links,
    addresses: Vec<String>,
    guess: Mutex<Guess>,
    metrics: Arc<Metrics>,
    /// Rings when another master became the leader we talk to.
    pub changed: Notify,
}

impl Masters {
    pub fn new(link: LinkConfig, addresses: Vec<String>, metrics: Arc<Metrics>) -> Masters {
        let next = random() as usize % addresses.len().max(1);
        let guess = Mutex::new(Guess { next, ..Guess::default() });
        Masters { links: Links::new(link), addresses, guess, metrics, changed: Notify::new() }
    }

    pub fn leader(&self) -> Option<String> {
        self.guess.lock().leader.clone()
    }

    /// Ask until the leader answers or the deadline passes. The same bytes are sent at each try.
    pub async fn ask<M: Answer>(&self, method: Method, message: &[u8], deadline: Deadline) -> Verdict<M> {
        let (mut maybe_done, mut hops, mut patience) = (false, 0, FIRST_TRY);
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        // What each master said last: one knows what is missing, another is not there.
        let mut said = BTreeMap::new();
        loop {
            let target = self.guess.lock().pick(&self.addresses);
            let last =
                match self.try_once(&target, method, message, Deadline::after(patience.min(deadline.left()))).await {
                    Try::Answered(reply) => {
                        self.confirm(&target);
                        return Verdict { outcome: Ok(reply), maybe_done };
                    }
                    Try::Refused(error) => {
                        self.confirm(&target);
                        return Verdict { outcome: Err(error), maybe_done };
                    }
                    Try::Elsewhere(error) => {
                        maybe_done |= error.errno != libc::EAGAIN;
                        if self.guess.lock().follow(&target, error.leader.as_deref()) && hops < HOPS {
                            hops += 1;
                            continue;
                        }
                        error
                    }
                    // Another cluster, another protocol: asking again will not help.
                    Try::Unreached(error) if error.kind == ErrorKind::Namespace => {
                        return Verdict { outcome: Err(error), maybe_done };
                    }
                    Try::Unreached(error) => {
                        self.guess.lock().suspect(&target);
                        error
                    }
                    Try::Silent(error) => {
                        maybe_done = true;
                        self.links.forget(&target);
                        self.guess.lock().suspect(&target);
                        patience = (patience * 2).min(LONGEST_TRY);
                        error
                    }
                };
            add(&self.metrics.counters.name_retries, 1);
            said.insert(target, last.message);
            if deadline.passed() {
                let masters = self.addresses.join(", ");
                let reasons = said.into_values().collect::<Vec<_>>().join("; ");
                let sentence = format!(
                    "no leader among the masters {masters} answered {method:?} in time; check that a majority of them runs: {reasons}"
                );
                return Verdict { outcome: Err(Error::unavailable(sentence)), maybe_done };
            }
            hops = 0;
            tokio::select! {
                () = backoff.wait() => {}
                () = tokio::time::sleep(deadline.left()) => {}
            }
        }
    }

    async fn try_once<M: Answer>(&self, target: &str, method: Method, message: &[u8], deadline: Deadline) -> Try<M> {
        let link = match tokio::time::timeout(deadline.left(), self.links.get(target)).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Try::Unreached(error),
            Err(_) => return Try::Unreached(Error::unavailable(format!("{target} does not accept a connection"))),
        };
        match link.ask_raw(method, message, None, deadline).await {
            Err(error) => Try::Silent(error.context(target)),
            Ok(Err(error)) if error.kind == ErrorKind::Unavailable => Try::Elsewhere(error.context(target)),
            Ok(Err(error)) => Try::Refused(error),
            Ok(Ok(reply)) => match reply.decode::<M>() {
                Err(error) => Try::Refused(error.context(target)),
                Ok(mut answer) => match answer.take_error().map(Error::from) {
                    None => Try::Answered(answer),
                    Some(error) if is_elsewhere(&error) => Try::Elsewhere(error.context(target)),
                    Some(error) => Try::Refused(error),
                },
            },
        }
    }

    fn confirm(&self, target: &str) {
        let mut guess = self.guess.lock();
        guess.suspects.remove(target);
        if guess.leader.as_deref() != Some(target) {
            let first = guess.leader.is_none() && guess.suspects.is_empty();
            guess.leader = Some(target.to_string());
            if !first {
                add(&self.metrics.counters.leader_changes, 1);
                tracing::info!(leader = target, "the leader is another master now");
            }
            self.changed.notify_one();
        }
    }
}

/// In-band errors come from the state machine and are final, but for the leader's own "not now".
fn is_elsewhere(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable
        && (matches!(error.errno, libc::EAGAIN | libc::ETIMEDOUT) || error.leader.is_some())
}

impl Guess {
    fn pick(&mut self, addresses: &[String]) -> String {
        if let Some(leader) = &self.leader {
            return leader.clone();
        }
        let now = Instant::now();
        self.suspects.retain(|_, until| *until > now);
        for _ in 0..addresses.len() {
            let address = &addresses[self.next % addresses.len()];
            self.next = self.next.wrapping_add(1);
            if !self.suspects.contains_key(address) {
                return address.clone();
            }
        }
        let address = addresses[self.next % addresses.len()].clone();
        self.next = self.next.wrapping_add(1);
        address
    }

    /// `from` says that another one leads; whether that one is worth asking at once.
    fn follow(&mut self, from: &str, hint: Option<&str>) -> bool {
        let now = Instant::now();
        let believed = hint.filter(|hint| *hint != from && self.suspects.get(*hint).is_none_or(|until| *until <= now));
        self.leader = believed.map(str::to_string);
        believed.is_some()
    }

    fn suspect(&mut self, target: &str) {
        self.suspects.insert(target.to_string(), Instant::now() + SUSPECT);
        if self.leader.as_deref() == Some(target) {
            self.leader = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_followed_unless_that_master_just_stayed_silent() {
        let addresses: Vec<String> = ["a:1", "b:1", "c:1"].map(String::from).into();
        let mut guess = Guess::default();
        assert!(guess.follow("a:1", Some("b:1")));
        assert_eq!(guess.pick(&addresses), "b:1");
        guess.suspect("b:1");
        assert!(!guess.follow("a:1", Some("b:1")));
        assert!((0..6).all(|_| guess.pick(&addresses) != "b:1"));
    }

    #[test]
    fn with_every_master_suspect_they_are_still_asked_in_turn() {
        let addresses: Vec<String> = ["a:1", "b:1"].map(String::from).into();
        let mut guess = Guess::default();
        addresses.iter().for_each(|address| guess.suspect(address));
        assert_ne!(guess.pick(&addresses), guess.pick(&addresses));
    }
}
