//! Who waits to move the end of a file that another client adds to: first come, first served. In the leader's memory only;
//! whose turn it is is the state's. Without it a client that appends without a pause would take one turn after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

/// How long a request waits here. Then it is proposed all the same, and the state tells whether it may.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A turn also ends by time, which nobody tells.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Line {
    /// Held by whoever is first; tokio's mutex is fair.
    first: Arc<tokio::sync::Mutex<()>>,
    changed: Notify,
}

/// What the end of a file is to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Free,
    Own,
    /// Another session has the turn.
    Taken,
}

impl Line {
    /// -> the place at the head of the line; none for whoever got the turn meanwhile, or waited too long.
    async fn wait(&self, end: impl Fn() -> End) -> Option<OwnedMutexGuard<()>> {
        let until = Instant::now() + LONGEST_WAIT;
        let mut head = std::pin::pin!(self.first.clone().lock_owned());
        let mut first = None;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match end() {
                End::Own => return None,
                End::Free if first.is_some() => return first,
                _ if Instant::now() >= until => return first,
                _ => {}
            }
            tokio::select! {
                guard = &mut head, if first.is_none() => first = Some(guard),
                () = changed => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

#[derive(Default)]
pub struct Turns {
    lines: Mutex<HashMap<u64, Arc<Line>>>,
}

/// The place of one request in its line, until its command was carried out.
pub struct Place<'a> {
    turns: &'a Turns,
    inode: u64,
    line: Option<Arc<Line>>,
    first: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Wait until the end is free and who came before was served; not, if one has the turn oneself.
    pub async fn enter(&self, inode: u64, end: impl Fn() -> End) -> Place<'_> {
        let line = {
            let now = end();
            let mut lines = self.lines.lock();
            let line = lines.get(&inode).cloned();
            match now {
                End::Own => None,
                End::Free => line,
                End::Taken => line.or_else(|| Some(lines.entry(inode).or_default().clone())),
            }
        };
        let mut place = Place { turns: self, inode, line: line.clone(), first: None };
        if let Some(line) = line {
            place.first = line.wait(end).await;
        }
        place
    }

    /// Something was applied: turns may have ended.
    pub fn look(&self) {
        for line in self.lines.lock().values() {
            line.changed.notify_waiters();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        self.first = None;
        let mut lines = self.turns.lines.lock();
        drop(line);
        if lines.get(&self.inode).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn who_came_first_goes_first_once_the_turn_has_ended_and_no_line_stays() {
        let (turns, held) = (Arc::new(Turns::default()), Arc::new(AtomicBool::new(true)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..3)
            .map(|number| {
                let (turns, held, order) = (turns.clone(), held.clone(), order.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(number)).await;
                    let _place =
                        turns.enter(1, || if held.load(Ordering::Relaxed) { End::Taken } else { End::Free }).await;
                    order.lock().push(number);
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(order.lock().is_empty());
        turns.enter(2, || End::Free).await;
        held.store(false, Ordering::Relaxed);
        turns.look();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1, 2]);
        assert!(turns.lines.lock().is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_a_second_for_a_turn_that_does_not_end() {
        let turns = Turns::default();
        let began = Instant::now();
        let (_first, _second) = tokio::join!(turns.enter(1, || End::Taken), turns.enter(1, || End::Taken));
        assert!(began.elapsed() >= LONGEST_WAIT && began.elapsed() < 2 * LONGEST_WAIT);
    }

    #[tokio::test]
    async fn who_gets_the_turn_while_another_request_of_its_waits_does_not_wait_for_itself() {
        let (turns, own) = (Turns::default(), AtomicBool::new(false));
        let other = turns.enter(1, || End::Taken);
        let mine = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let place = turns.enter(1, || if own.load(Ordering::Relaxed) { End::Own } else { End::Taken }).await;
            assert!(place.first.is_none());
            Instant::now()
        };
        let gets_it = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            own.store(true, Ordering::Relaxed);
            turns.look();
        };
        let began = Instant::now();
        let (_other, passed, ()) = tokio::join!(other, mine, gets_it);
        assert!(passed - began < LONGEST_WAIT / 2);
    }
}
