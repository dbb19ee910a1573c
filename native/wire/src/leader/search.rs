//! Which master is asked next, which hint is followed, how long to pause. Pure: times and randomness are arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use base::Error;

use crate::backoff::pause;

/// How long hints to a master that did not answer are not believed: about one election.
const SUSPECT: Duration = Duration::from_secs(2);
/// Hints followed at once before a pause: masters that point at each other are between leaders.
const HOPS: u32 = 3;
/// When nobody led for this long, it is no election that is waited for.
const ELECTION: Duration = Duration::from_secs(15);

/// How patiently a leader is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For one master's answer; doubles with each that stays out, up to `longest_try`.
    pub first_try: Duration,
    pub longest_try: Duration,
    /// Longest pause between two tries. Longer adds to the stall of an election, shorter to its load.
    pub pause: Duration,
    /// The same once no election takes that long.
    pub later: Duration,
}

/// Why the one that was asked is not the leader that answers.
#[derive(Clone, Debug)]
pub enum Miss {
    /// It is alive, and not the leader, or a leader that cannot serve now.
    Elsewhere(Error),
    /// Another cluster's, or of another protocol.
    Foreign(Error),
    /// No connection: nothing was sent.
    Unreached(Error),
    /// Asked, and no answer: it may have been carried out.
    Silent(Error),
}

impl Miss {
    pub fn error(&self) -> &Error {
        match self {
            Miss::Elsewhere(error) | Miss::Foreign(error) | Miss::Unreached(error) | Miss::Silent(error) => error,
        }
    }
}

/// What is known of the masters, for all questions.
#[derive(Debug, Default)]
pub(crate) struct Guess {
    addresses: Vec<String>,
    /// Who is asked first: it answered as the leader, or another one said that it leads.
    leader: Option<String>,
    /// The last one that answered as the leader.
    served: Option<String>,
    next: usize,
    suspects: HashMap<String, Instant>,
}

impl Guess {
    pub(crate) fn new(addresses: Vec<String>, random: u64) -> Guess {
        let next = random as usize % addresses.len().max(1);
        Guess { addresses, next, ..Guess::default() }
    }

    pub(crate) fn leader(&self) -> Option<String> {
        self.leader.clone()
    }

    fn pick(&mut self, now: Instant) -> String {
        if let Some(leader) = &self.leader {
            return leader.clone();
        }
        self.suspects.retain(|_, until| *until > now);
        for _ in 0..self.addresses.len() {
            let address = self.turn();
            if !self.suspects.contains_key(&address) {
                return address;
            }
        }
        self.turn()
    }

    fn turn(&mut self) -> String {
        let address = self.addresses.get(self.next % self.addresses.len().max(1)).cloned().unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        address
    }

    /// `from` is not the leader; whether the one it names is worth asking at once.
    pub(crate) fn follow(&mut self, from: &str, hint: Option<&str>, now: Instant) -> bool {
        let believed = hint.filter(|hint| *hint != from && self.suspects.get(*hint).is_none_or(|until| *until <= now));
        match believed {
            Some(hint) => self.leader = Some(hint.to_string()),
            // Another question may have found the leader meanwhile: that stays.
            None => self.dismiss(from),
        }
        believed.is_some()
    }

    pub(crate) fn suspect(&mut self, target: &str, now: Instant) {
        self.suspects.insert(target.to_string(), now + SUSPECT);
        self.dismiss(target);
    }

    fn dismiss(&mut self, target: &str) {
        if self.leader.as_deref() == Some(target) {
            self.leader = None;
        }
    }

    /// `target` answered as the leader; the one that did before, if that was another.
    pub(crate) fn confirm(&mut self, target: &str) -> Option<String> {
        self.suspects.remove(target);
        if self.leader.as_deref() != Some(target) {
            self.leader = Some(target.to_string());
        }
        if self.served.as_deref() == Some(target) {
            return None;
        }
        self.served.replace(target.to_string())
    }
}

/// One question on its way to the leader.
#[derive(Debug)]
pub(crate) struct Search {
    pace: Pace,
    begun: Instant,
    patience: Duration,
    hops: u32,
    tries: u32,
    foreign: BTreeSet<String>,
    /// What each master said last: one knows what is missing, another is not there.
    said: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    After(Duration),
    /// Every master is another cluster's.
    Never,
}

impl Search {
    pub(crate) fn new(pace: Pace, now: Instant) -> Search {
        Search {
            pace,
            begun: now,
            patience: pace.first_try,
            hops: 0,
            tries: 0,
            foreign: BTreeSet::new(),
            said: BTreeMap::new(),
        }
    }

    /// Who is asked now, and how long its answer is waited for.
    pub(crate) fn target(&self, guess: &mut Guess, now: Instant) -> (String, Duration) {
        (guess.pick(now), self.patience)
    }

    /// `target` did not answer as the leader: when to ask again.
    pub(crate) fn missed(&mut self, guess: &mut Guess, target: &str, miss: &Miss, now: Instant, random: u64) -> Next {
        self.said.insert(target.to_string(), miss.error().message.clone());
        match miss {
            Miss::Elsewhere(error) => {
                if guess.follow(target, error.leader.as_deref(), now) && self.hops < HOPS {
                    self.hops += 1;
                    return Next::After(Duration::ZERO);
                }
            }
            Miss::Foreign(_) => {
                self.foreign.insert(target.to_string());
                guess.suspect(target, now);
                if guess.addresses.iter().all(|address| self.foreign.contains(address)) {
                    return Next::Never;
                }
            }
            Miss::Unreached(_) | Miss::Silent(_) => {
                guess.suspect(target, now);
                self.patience = (self.patience * 2).min(self.pace.longest_try);
            }
        }
        self.hops = 0;
        let electing = now.saturating_duration_since(self.begun) < ELECTION;
        let longest = if electing { self.pace.pause } else { self.pace.later };
        let wait = pause(self.tries, longest, random);
        self.tries = self.tries.saturating_add(1);
        Next::After(wait)
    }

    pub(crate) fn said(self) -> String {
        self.said.into_values().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use base::random::SplitMix;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PACE: Pace = Pace {
        first_try: Duration::from_secs(1),
        longest_try: Duration::from_secs(8),
        pause: Duration::from_millis(200),
        later: Duration::from_millis(800),
    };

    fn guess(addresses: &[&str]) -> Guess {
        Guess::new(addresses.iter().map(|address| address.to_string()).collect(), 0)
    }

    fn elsewhere(hint: Option<&str>) -> Miss {
        Miss::Elsewhere(Error::not_leader(hint.map(str::to_string)))
    }

    #[test]
    fn a_hint_is_followed_at_once_unless_that_master_just_stayed_silent() {
        let (mut guess, now) = (guess(&["a:1", "b:1", "c:1"]), Instant::now());
        let mut search = Search::new(PACE, now);
        let next = search.missed(&mut guess, "a:1", &elsewhere(Some("d:1")), now, 0);
        assert_eq!((next, search.target(&mut guess, now).0), (Next::After(Duration::ZERO), "d:1".to_string()));
        search.missed(&mut guess, "d:1", &Miss::Silent(Error::unavailable("no answer")), now, 0);
        assert_ne!(search.missed(&mut guess, "a:1", &elsewhere(Some("d:1")), now, 0), Next::After(Duration::ZERO));
        assert!((0..6).all(|_| search.target(&mut guess, now).0 != "d:1"));
        let next = search.missed(&mut guess, "a:1", &elsewhere(Some("d:1")), now + SUSPECT, 0);
        assert_eq!(next, Next::After(Duration::ZERO));
    }

    #[test]
    fn masters_that_point_at_each_other_are_not_asked_in_a_circle_without_a_pause() {
        let (mut guess, now) = (guess(&["a:1", "b:1"]), Instant::now());
        let mut search = Search::new(PACE, now);
        let mut pauses = 0;
        for asked in 1..=100 {
            let (from, to) = if asked % 2 == 0 { ("a:1", "b:1") } else { ("b:1", "a:1") };
            let next = search.missed(&mut guess, from, &elsewhere(Some(to)), now, 0);
            pauses += u32::from(next != Next::After(Duration::ZERO));
        }
        assert_eq!(pauses, 100 / (HOPS + 1));
    }

    #[test]
    fn with_every_master_suspect_they_are_still_asked_in_turn() {
        let (mut guess, now) = (guess(&["a:1", "b:1"]), Instant::now());
        ["a:1", "b:1"].iter().for_each(|address| guess.suspect(address, now));
        assert_ne!(guess.pick(now), guess.pick(now));
    }

    #[test]
    fn pauses_grow_to_that_of_an_election_and_later_beyond_and_patience_with_silence_only() {
        let (mut guess, start) = (guess(&["a:1", "b:1"]), Instant::now());
        let mut search = Search::new(PACE, start);
        let mut wait = |search: &mut Search, now| match search.missed(&mut guess, "a:1", &elsewhere(None), now, 1023) {
            Next::After(wait) => wait,
            Next::Never => unreachable!(),
        };
        assert!(wait(&mut search, start) <= 10 * MS);
        let waits: Vec<Duration> = (0..20).map(|_| wait(&mut search, start + 1000 * MS)).collect();
        assert!(waits.is_sorted() && *waits.last().unwrap() <= PACE.pause && waits[19] > PACE.pause / 2);
        assert!(wait(&mut search, start + ELECTION) > PACE.pause);
        assert_eq!(search.patience, PACE.first_try);
        for _ in 0..9 {
            search.missed(&mut guess, "a:1", &Miss::Silent(Error::unavailable("no answer")), start, 0);
        }
        assert_eq!(search.patience, PACE.longest_try);
    }

    #[test]
    fn one_master_of_another_cluster_is_passed_over_and_none_but_such_end_the_search() {
        let (mut guess, now) = (guess(&["a:1", "b:1"]), Instant::now());
        let mut search = Search::new(PACE, now);
        let foreign = Miss::Foreign(Error::namespace(libc::EREMCHG, "another cluster"));
        assert!(matches!(search.missed(&mut guess, "a:1", &foreign, now, 0), Next::After(_)));
        assert_eq!(search.target(&mut guess, now).0, "b:1");
        assert_eq!(search.missed(&mut guess, "b:1", &foreign, now, 0), Next::Never);
    }

    #[test]
    fn another_leader_is_noticed_also_when_a_hint_led_there() {
        let (mut guess, now) = (guess(&["a:1", "b:1"]), Instant::now());
        assert_eq!(guess.confirm("a:1"), None, "the first one is no change");
        assert_eq!(guess.confirm("a:1"), None);
        assert!(guess.follow("a:1", Some("b:1"), now));
        assert_eq!(guess.confirm("b:1"), Some("a:1".to_string()));
    }

    #[test]
    fn a_late_answer_of_a_master_that_knows_no_leader_does_not_undo_what_another_question_found() {
        let (mut guess, now) = (guess(&["a:1", "b:1", "c:1"]), Instant::now());
        guess.confirm("b:1");
        Search::new(PACE, now).missed(&mut guess, "a:1", &elsewhere(None), now, 0);
        assert_eq!(guess.leader().as_deref(), Some("b:1"));
        Search::new(PACE, now).missed(&mut guess, "b:1", &elsewhere(None), now, 0);
        assert_eq!(guess.leader(), None);
    }

    /// Three masters on a clock of their own.
    struct Group {
        leads: Option<usize>,
        elected_at: Duration,
        /// What followers say before they hear of the new leader.
        stale: Option<usize>,
        hangs: Option<usize>,
    }

    const NAMES: [&str; 3] = ["a:1", "b:1", "c:1"];
    const ROUND_TRIP: Duration = Duration::from_millis(1);

    impl Group {
        /// What `target` says at `now`, and how long that takes.
        fn ask(&self, target: &str, now: Duration, patience: Duration) -> (Option<Miss>, Duration) {
            let at = NAMES.iter().position(|name| *name == target).unwrap();
            let elected = self.leads.filter(|_| now >= self.elected_at);
            if self.hangs == Some(at) {
                return (Some(Miss::Silent(Error::unavailable("no answer"))), patience);
            }
            if elected == Some(at) {
                return (None, ROUND_TRIP);
            }
            (Some(elsewhere(elected.or(self.stale).map(|leader| NAMES[leader]))), ROUND_TRIP)
        }
    }

    #[test]
    fn a_new_leader_is_found_within_a_pause_and_one_hanging_master_costs_one_patience_more() {
        for seed in 0..3000 {
            let mut random = SplitMix(seed);
            let leads = random.draw() as usize % 3;
            let other = |random: &mut SplitMix| (leads + 1 + random.draw() as usize % 2) % 3;
            let hangs = random.draw().is_multiple_of(2).then(|| other(&mut random));
            let group = Group {
                leads: Some(leads),
                elected_at: (random.draw() % 5000) as u32 * MS,
                stale: random.draw().is_multiple_of(2).then(|| other(&mut random)),
                hangs,
            };
            let (start, mut now) = (Instant::now(), Duration::ZERO);
            let mut guess = Guess::new(NAMES.map(String::from).into(), random.draw());
            let mut search = Search::new(PACE, start);
            loop {
                let (target, patience) = search.target(&mut guess, start + now);
                let (miss, took) = group.ask(&target, now, patience);
                now += took;
                let Some(miss) = miss else { break };
                match search.missed(&mut guess, &target, &miss, start + now, random.draw()) {
                    Next::After(wait) => now += wait,
                    Next::Never => unreachable!(),
                }
            }
            // In an election the hanging one may be asked again each time that it is believed again.
            let allowed = if hangs.is_some() { 8 * PACE.first_try } else { Duration::ZERO } + 3 * PACE.pause;
            assert!(now <= group.elected_at + allowed, "seed {seed}: {now:?} after {:?}", group.elected_at);
        }
    }
}
