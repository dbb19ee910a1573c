//! Who leads, as far as one member can know: a pure judgement over what it sees at one moment. A leader that a majority
//! does not answer, and a follower whose leader is silent, say for longer than a lease that nobody leads, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{Error, ErrorKind, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<u64>,
    pub leader_address: Option<String>,
    pub is_leader: bool,
    /// Leads and has applied the first entry of its own term: everything acknowledged before is in its state.
    pub ready: bool,
    /// Why nobody leads although somebody was elected: one sentence that names what is missing.
    pub missing: Option<String>,
}

impl Leadership {
    /// What a request for the leader is answered with here.
    pub fn refusal(&self) -> Error {
        match &self.missing {
            Some(missing) => Error::new(ErrorKind::Unavailable, rustix::io::Errno::AGAIN.raw_os_error(), missing),
            None => Error::not_leader(self.leader_address.clone()),
        }
    }
}

/// Answer a read: allowed before it, and still after it in the same term. Who is stopped in between, by the scheduler or
/// with its whole machine, finds its lease over and gives no answer. `lease` tells the term in which a read is allowed.
pub fn read_under<T>(lease: impl Fn() -> Result<u64>, read: impl FnOnce() -> T) -> Result<T> {
    let term = lease()?;
    let answer = read();
    match lease()? {
        now if now == term => Ok(answer),
        _ => Err(Error::unavailable("leadership changed while this master read; ask again")),
    }
}

/// What a member sees at one moment, in ages, so that judging needs no clock.
pub struct Seen {
    pub us: u64,
    pub term: u64,
    /// Elected in this term, by what this member was told.
    pub elected: Option<u64>,
    /// The last applied entry is of this term.
    pub applied: bool,
    pub voters: BTreeSet<u64>,
    /// Since this member first knew that one as elected.
    pub known_for: Duration,
    /// Since the elected one was last known in office: a leader by the answers of a majority, a follower by its leader.
    pub confirmed: Option<Duration>,
    /// A leader's: since each other member last answered it.
    pub answered: BTreeMap<u64, Duration>,
}

/// The one place where it is decided whether an elected leader still counts as one.
pub fn judge(seen: &Seen, lease: Duration, addresses: &BTreeMap<u64, String>) -> Leadership {
    let address = |id: u64| addresses.get(&id).cloned();
    let leads = seen.elected == Some(seen.us);
    let alone = leads && seen.voters.iter().all(|id| *id == seen.us);
    let silent = seen.confirmed.map_or(seen.known_for, |confirmed| confirmed.min(seen.known_for));
    match seen.elected {
        Some(leader) if alone || silent <= lease => Leadership {
            term: seen.term,
            leader: Some(leader),
            leader_address: address(leader),
            is_leader: leads,
            ready: leads && seen.applied,
            missing: None,
        },
        Some(leader) => {
            let missing = if leads { missing_voters(seen, lease, addresses) } else { silent_leader(leader, addresses) };
            Leadership { term: seen.term, missing: Some(missing), ..Leadership::default() }
        }
        None => Leadership { term: seen.term, ..Leadership::default() },
    }
}

fn missing_voters(seen: &Seen, lease: Duration, addresses: &BTreeMap<u64, String>) -> String {
    let heard = |id: &&u64| **id == seen.us || seen.answered.get(*id).is_some_and(|age| *age <= lease);
    let (here, away): (Vec<&u64>, Vec<&u64>) = seen.voters.iter().partition(heard);
    let away: Vec<String> = away.into_iter().map(|id| name(*id, addresses)).collect();
    format!(
        "no majority of masters answers: {} of {} is there, silent: {}; start or reach them",
        here.len(),
        seen.voters.len(),
        away.join(", ")
    )
}

fn silent_leader(leader: u64, addresses: &BTreeMap<u64, String>) -> String {
    format!(
        "{} led and is silent, and no other master was elected; is a majority of the {} masters running?",
        name(leader, addresses),
        addresses.len()
    )
}

fn name(id: u64, addresses: &BTreeMap<u64, String>) -> String {
    match addresses.get(&id) {
        Some(address) => format!("master {id} at {address}"),
        None => format!("master {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const LEASE: Duration = Duration::from_secs(1);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn addresses() -> BTreeMap<u64, String> {
        (1..=3).map(|id| (id, format!("h:{id}"))).collect()
    }

    fn seen(elected: u64, confirmed: Option<Duration>) -> Seen {
        Seen {
            us: 1,
            term: 4,
            elected: Some(elected),
            applied: true,
            voters: [1, 2, 3].into(),
            known_for: ms(60_000),
            confirmed,
            answered: [(2, ms(5000)), (3, ms(70_000))].into(),
        }
    }

    #[test]
    fn a_leader_leads_while_a_majority_answered_within_its_lease() {
        let now = judge(&seen(1, Some(ms(1000))), LEASE, &addresses());
        assert!(now.is_leader && now.ready && now.missing.is_none());
        assert_eq!((now.leader, now.leader_address.as_deref()), (Some(1), Some("h:1")));
    }

    #[test]
    fn a_leader_without_a_majority_names_who_is_silent_and_nobody_as_leader() {
        for confirmed in [Some(ms(1001)), None] {
            let now = judge(&seen(1, confirmed), LEASE, &addresses());
            assert!(!now.is_leader && !now.ready && now.leader.is_none() && now.leader_address.is_none());
            let refusal = now.refusal();
            assert!(refusal.message.contains("no majority of masters answers: 1 of 3"), "{refusal}");
            assert!(refusal.message.contains("master 2 at h:2, master 3 at h:3"), "{refusal}");
            assert_eq!(refusal.errno, rustix::io::Errno::AGAIN.raw_os_error());
        }
    }

    #[test]
    fn one_just_elected_has_a_lease_to_hear_from_a_majority() {
        let now = judge(&Seen { known_for: ms(900), applied: false, ..seen(1, None) }, LEASE, &addresses());
        assert!(now.is_leader && !now.ready);
    }

    #[test]
    fn the_only_voter_needs_no_answer() {
        let now = judge(&Seen { voters: [1].into(), ..seen(1, None) }, LEASE, &addresses());
        assert!(now.is_leader && now.ready);
    }

    #[test]
    fn a_follower_believes_in_a_leader_as_long_as_it_hears_of_it() {
        assert_eq!(judge(&seen(2, Some(ms(100))), LEASE, &addresses()).leader_address.as_deref(), Some("h:2"));
        let later = judge(&seen(2, Some(ms(1500))), LEASE, &addresses());
        assert!(later.leader.is_none() && later.refusal().message.contains("master 2 at h:2 led and is silent"));
    }

    #[test]
    fn a_leader_stopped_between_its_check_and_its_read_gives_no_answer() {
        let clock = Cell::new(ms(0));
        let lease = |ends: Duration| {
            let clock = &clock;
            move || if clock.get() < ends { Ok(4) } else { Err(Error::unavailable("the lease is over")) }
        };
        assert_eq!(read_under(lease(ms(900)), || "answer").unwrap(), "answer");
        let paused = || clock.set(clock.get() + ms(5000));
        assert!(read_under(lease(ms(900)), paused).is_err());
        assert!(read_under(lease(ms(900)), || panic!("read without a lease")).is_err());
    }

    #[test]
    fn a_leader_that_was_elected_anew_during_its_read_gives_no_answer() {
        let term = Cell::new(4);
        assert!(read_under(|| Ok(term.get()), || term.set(6)).is_err());
        assert!(read_under(|| Ok(term.get()), || ()).is_ok());
    }

    #[test]
    fn without_anyone_elected_nothing_is_said_to_be_missing() {
        let now = judge(&Seen { elected: None, ..seen(1, None) }, LEASE, &addresses());
        assert_eq!(now, Leadership { term: 4, ..Leadership::default() });
    }
}
