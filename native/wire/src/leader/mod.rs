//! The search for the leader among the masters, one for everybody that needs it. What is decided stands in `search`;
//! here it is carried out. Knows nothing of what is asked.

mod search;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind};
use parking_lot::Mutex;

use crate::backoff::random;
use crate::link::{Link, LinkConfig, Links};
use search::{Guess, Next, Search};

pub use search::{Miss, Pace};

/// What one master said to a question.
pub enum Answer<T> {
    /// From the leader, and final; its refusal too.
    Final(T),
    Miss(Miss),
}

/// What came of a question.
pub enum Found<T> {
    Answer(T),
    /// Nobody answered as the leader until the deadline; what each master said last.
    Nobody(String),
    /// Every master belongs to another cluster or speaks another protocol: asking again will not help.
    Foreign(Error),
}

pub struct Asked<T> {
    pub found: Found<T>,
    /// Another master answered as the leader the last time: it.
    pub before: Option<String>,
    /// A try without an answer may have been carried out.
    pub maybe_done: bool,
}

/// With less time than this a master is not asked any more: its silence would say nothing, and hide what it said before.
const LEAST_TRY: Duration = Duration::from_millis(50);

pub struct Leader {
    links: Links,
    guess: Mutex<Guess>,
}

impl Leader {
    pub fn new(config: LinkConfig, masters: Vec<String>) -> Leader {
        Leader { links: Links::new(config), guess: Mutex::new(Guess::new(masters, random())) }
    }

    /// Who is asked first.
    pub fn known(&self) -> Option<String> {
        self.guess.lock().leader()
    }

    /// `address` leads no more, and names `hint`, or does not even answer.
    pub fn lost(&self, address: &str, hint: Option<&str>, silent: bool) {
        let (now, mut guess) = (Instant::now(), self.guess.lock());
        if silent {
            guess.suspect(address, now);
        }
        guess.follow(address, hint, now);
    }

    /// Ask until a leader answers, or the deadline passes; at least once. `ask` sends the same question each time, over
    /// a checked connection, and says what the answer means. `missed` hears of every try that was none.
    pub async fn ask<T, F: Future<Output = Answer<T>>>(
        &self,
        pace: Pace,
        deadline: Option<Deadline>,
        ask: impl Fn(Arc<Link>, Deadline) -> F,
        mut missed: impl FnMut(&str, &Miss),
    ) -> Asked<T> {
        let mut search = Search::new(pace, Instant::now());
        let mut maybe_done = false;
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.left());
        loop {
            let (target, patience) = search.target(&mut self.guess.lock(), Instant::now());
            let miss = match self.try_once(&target, Deadline::after(patience.min(left())), &ask).await {
                Answer::Final(answer) => {
                    let before = self.guess.lock().confirm(&target);
                    return Asked { found: Found::Answer(answer), before, maybe_done };
                }
                Answer::Miss(miss) => miss,
            };
            missed(&target, &miss);
            match &miss {
                // A leader that could not serve may have begun to.
                Miss::Elsewhere(error) => maybe_done |= error.errno != libc::EAGAIN,
                Miss::Silent(_) => {
                    maybe_done = true;
                    self.links.forget(&target);
                }
                Miss::Foreign(_) | Miss::Unreached(_) => {}
            }
            let next = search.missed(&mut self.guess.lock(), &target, &miss, Instant::now(), random());
            let found = match next {
                Next::Never => Found::Foreign(miss.error().clone()),
                Next::After(wait) if left() < wait.saturating_add(LEAST_TRY) => {
                    tokio::time::sleep(left()).await;
                    Found::Nobody(search.said())
                }
                Next::After(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            return Asked { found, before: None, maybe_done };
        }
    }

    async fn try_once<T, F: Future<Output = Answer<T>>>(
        &self,
        target: &str,
        deadline: Deadline,
        ask: &impl Fn(Arc<Link>, Deadline) -> F,
    ) -> Answer<T> {
        match tokio::time::timeout(deadline.left(), self.links.get(target)).await {
            Ok(Ok(link)) => ask(link, deadline).await,
            Ok(Err(error)) if error.kind == ErrorKind::Namespace => Answer::Miss(Miss::Foreign(error)),
            Ok(Err(error)) => Answer::Miss(Miss::Unreached(error)),
            Err(_) => {
                let sentence = format!("{target} does not accept a connection");
                Answer::Miss(Miss::Unreached(Error::unavailable(sentence)))
            }
        }
    }
}
