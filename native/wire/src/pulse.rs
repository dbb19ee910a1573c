//! Is a server alive that takes long to answer? Its pings are timed, and so are our own timers: time in which this process
//! itself ran late is no silence of others. Deciding is pure; `Pulses` remembers what was heard, for all that wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A hop that takes longer is asked for a sign of life. Smaller pings on every stall of the page cache, larger leaves
/// writers waiting: with `PATIENCE` a paused server is named after 0.6 to 0.85 s.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(300);
/// A ping is given this many times its usual, within these bounds. Shorter and a busy server looks paused; longer and
/// writers wait for one that is.
const PATIENCE: u32 = 20;
const MIN_PATIENCE: Duration = Duration::from_millis(300);
const MAX_PATIENCE: Duration = Duration::from_millis(500);
/// How often the wait for a ping is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// A tick that took this much longer is not counted: the answer may be here and nobody had time to read it.
const LATE: Duration = Duration::from_millis(20);
/// Unanswered for this long counts as silence whatever our timers did.
const LIMIT: Duration = Duration::from_secs(3);
/// Servers remembered; no cluster has more in chains of one server.
const KEPT: usize = 256;

/// How long a ping to a server may take that usually answers within `usual`.
pub(crate) fn patience(usual: Option<Duration>) -> Duration {
    usual.map_or(MAX_PATIENCE, |usual| (usual * PATIENCE).clamp(MIN_PATIENCE, MAX_PATIENCE))
}

/// How long a ping was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Silence {
    /// In ticks that were on time.
    counted: Duration,
    in_all: Duration,
}

impl Silence {
    /// One tick later, which took `slept`.
    pub(crate) fn and(self, slept: Duration) -> Silence {
        let on_time = slept <= TICK + LATE;
        Silence { counted: self.counted + if on_time { slept } else { Duration::ZERO }, in_all: self.in_all + slept }
    }

    /// Whether it is the server that is silent, and not this process that is late.
    pub(crate) fn is_death(self, usual: Option<Duration>) -> bool {
        self.counted >= patience(usual) || self.in_all >= LIMIT
    }
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    usual: Option<Duration>,
    alive: Option<Instant>,
    dead: Option<Instant>,
}

/// One server's pulse. Whoever holds `asking` pings for all.
#[derive(Default)]
pub(crate) struct Pulse {
    pub(crate) asking: tokio::sync::Mutex<()>,
    heard: Mutex<Heard>,
}

impl Pulse {
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.heard.lock().usual
    }

    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let mut heard = self.heard.lock();
        heard.usual = Some(heard.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        heard.alive = Some(now);
    }

    pub(crate) fn silent(&self, now: Instant) {
        self.heard.lock().dead = Some(now);
    }

    /// What others found out since `since`: Some(true) alive, Some(false) silent.
    pub(crate) fn since(&self, since: Instant) -> Option<bool> {
        let heard = *self.heard.lock();
        let recent = |at: Option<Instant>| at.filter(|at| *at >= since);
        match (recent(heard.alive), recent(heard.dead)) {
            (None, None) => None,
            (alive, dead) => Some(alive >= dead),
        }
    }
}

/// By server id; bounded.
#[derive(Default)]
pub(crate) struct Pulses(Mutex<HashMap<u32, Arc<Pulse>>>);

impl Pulses {
    pub(crate) fn of(&self, server_id: u32) -> Arc<Pulse> {
        let mut pulses = self.0.lock();
        if pulses.len() >= KEPT && !pulses.contains_key(&server_id) {
            pulses.retain(|_, pulse| Arc::strong_count(pulse) > 1);
        }
        pulses.entry(server_id).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Time until a server counts as dead when ticks take what `slept` says, from the ping on.
    fn named_after(usual: Option<Duration>, slept: impl Fn(u32) -> Duration) -> Duration {
        let mut silence = Silence::default();
        for tick in 0.. {
            silence = silence.and(slept(tick));
            if silence.is_death(usual) {
                return silence.in_all;
            }
        }
        unreachable!()
    }

    #[test]
    fn a_paused_server_is_named_within_nine_tenths_of_a_second() {
        for usual in [None, Some(MS / 10), Some(5 * MS), Some(100 * MS), Some(10_000 * MS)] {
            for slept in 50..=70 {
                let all = SUSPECT_AFTER + named_after(usual, |_| slept * MS);
                assert!(all <= 900 * MS, "{usual:?} {slept}: {all:?}");
            }
        }
    }

    #[test]
    fn a_server_is_given_what_it_usually_needs_within_bounds() {
        assert_eq!(patience(Some(MS / 5)), MIN_PATIENCE);
        assert_eq!(patience(Some(20 * MS)), 400 * MS);
        assert_eq!(patience(Some(200 * MS)), MAX_PATIENCE);
    }

    #[test]
    fn time_in_which_we_ran_late_ourselves_is_not_counted() {
        // A stall of two seconds in the middle.
        let stalled = named_after(None, |tick| if tick == 3 { 2000 * MS } else { 50 * MS });
        assert!(stalled >= 2000 * MS + 450 * MS, "{stalled:?}");
        // A machine that is late all the time blames nobody before the limit.
        assert!(named_after(None, |_| 120 * MS) >= LIMIT);
    }

    #[test]
    fn one_ping_answers_for_all_that_wait() {
        let (pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.since(start), None);
        pulse.silent(start + MS);
        assert_eq!(pulse.since(start), Some(false));
        pulse.answered(MS, start + 2 * MS);
        assert_eq!(pulse.since(start), Some(true));
        assert_eq!(pulse.since(start + 3 * MS), None);
    }

    #[test]
    fn servers_that_nobody_waits_for_are_forgotten() {
        let pulses = Pulses::default();
        let held = pulses.of(7);
        (100..10_000).for_each(|server| drop(pulses.of(server)));
        assert!(pulses.0.lock().len() <= KEPT && Arc::ptr_eq(&held, &pulses.of(7)));
    }
}
