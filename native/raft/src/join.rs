//! How a member with an empty directory becomes part of the cluster: the first start of all, or being taken in again
//! after its directory was lost. What to do is decided by a pure function from what the others say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Error, Result};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use wire::{Method, proto};

use crate::consensus::{Raft, not_leader};
use crate::home::Identity;
use crate::network::Peers;
use crate::outdated::{Outdated, replaced_by};
use crate::types::{Members, Node};

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A learner this close to the end of the log may vote.
const CAUGHT_UP_ENTRIES: u64 = 1000;

/// What a member knows of all members, itself included. `None`: it did not answer.
pub type Answers = BTreeMap<u64, Option<proto::RaftStatusReply>>;

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody has ever had a log: this member writes the first membership.
    Begin,
    Join,
    Wait(String),
}

/// A cluster is begun once: when every member says that it never had a log, by the lowest of them.
pub fn decide(us: u64, answers: &Answers) -> Step {
    if answers.values().flatten().any(|answer| answer.initialised) {
        return Step::Join;
    }
    let silent: Vec<u64> = answers.iter().filter(|(_, answer)| answer.is_none()).map(|(id, _)| *id).collect();
    if !silent.is_empty() {
        return Step::Wait(format!("waiting for masters {silent:?} to say whether the cluster exists already"));
    }
    if answers.values().flatten().any(|answer| answer.lost) {
        return Step::Wait(
            "a damaged log was set aside and no master has a whole one; restore one from a directory raft.damaged-*"
                .to_string(),
        );
    }
    match answers.keys().next() {
        Some(lowest) if *lowest == us => Step::Begin,
        lowest => Step::Wait(format!("waiting for master {} to begin the cluster", lowest.copied().unwrap_or(0))),
    }
}

pub struct Joiner {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub identity: Identity,
    pub addresses: BTreeMap<u64, String>,
    /// The member's data directory.
    pub directory: PathBuf,
    pub outdated: Outdated,
}

impl Joiner {
    fn is_voter(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let known = members.get_node(&self.identity.node_id);
        known.is_some_and(|node| node.incarnation == self.identity.incarnation)
            && members.voter_ids().any(|id| id == self.identity.node_id)
    }

    /// Returns when this member is a voter and every other one was asked whether it is still the one they know.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut last_said = String::new();
        let mut say = |what: String| {
            if what != last_said {
                tracing::info!("{what}");
                last_said = what;
            }
        };
        let mut votes = false;
        loop {
            let answers = self.ask_all().await;
            if let Some(other) = self.replaced_by(&answers) {
                return self.give_up(other).await;
            }
            if self.is_voter() {
                if !votes {
                    tracing::info!(node = self.identity.node_id, "this master is a voter");
                    votes = true;
                }
                if answers.values().all(Option::is_some) {
                    return;
                }
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            }
            match decide(self.identity.node_id, &answers) {
                Step::Begin => match self.begin().await {
                    Ok(()) => say("the cluster is begun".to_string()),
                    Err(error) => say(format!("the cluster could not be begun: {error}")),
                },
                Step::Join => match self.join().await {
                    Ok(reply) => say(format!("joining the cluster: {}", reply.state)),
                    Err(error) => say(format!("joining the cluster: {error}")),
                },
                Step::Wait(reason) => say(reason),
            }
            let jitter = crate::files::random_bytes().map_or(0, u16::from_le_bytes);
            tokio::time::sleep(pause + pause.mul_f64(f64::from(jitter) / f64::from(u16::MAX))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn replaced_by(&self, answers: &Answers) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let own = metrics.borrow_watched().membership_config.clone();
        replaced_by(&self.identity, &own, answers)
    }

    /// Take part in nothing any more, and leave word for the next start.
    async fn give_up(&self, other: u64) {
        let why = format!(
            "{} is an older copy: master {other} knows that this master was taken in again with a newer data directory; \
             it votes no more with this one, a restart sets it aside and fetches everything from the others",
            self.directory.display()
        );
        self.raft.runtime_config().elect(false);
        let (outdated, directory, sentence) = (self.outdated.clone(), self.directory.clone(), why.clone());
        let declared = tokio::task::spawn_blocking(move || outdated.declare(&directory, &sentence)).await;
        match declared {
            Ok(Ok(())) => tracing::error!("{why}"),
            Ok(Err(error)) => tracing::error!(%error, "{why}; that could not be noted in the directory"),
            Err(error) => tracing::error!(%error, "{why}; noting it panicked"),
        }
    }

    fn own_status(&self) -> proto::RaftStatusReply {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        proto::RaftStatusReply {
            node_id: self.identity.node_id,
            incarnation: self.identity.incarnation,
            initialised: metrics.last_log_index.is_some(),
            lost: self.identity.lost,
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            ..Default::default()
        }
    }

    async fn ask_all(&self) -> Answers {
        let asked = self.addresses.keys().map(|id| async move {
            if *id == self.identity.node_id {
                return (*id, Some(self.own_status()));
            }
            let request = proto::RaftStatusRequest {};
            (*id, self.peers.ask(*id, Method::RaftStatus, &request, ASK_TIMEOUT).await.ok())
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    async fn begin(&self) -> Result<()> {
        let answers = self.ask_all().await;
        let mut nodes = BTreeMap::new();
        for (id, answer) in answers {
            // One that fell silent or got a log meanwhile: decide again.
            let Some(answer) = answer.filter(|answer| !answer.initialised) else {
                return Err(Error::unavailable(format!("master {id} did not answer again")));
            };
            let address = self.addresses.get(&id).cloned().unwrap_or_default();
            nodes.insert(id, Node { address, incarnation: answer.incarnation });
        }
        self.raft.initialize(nodes).await.map_err(|error| Error::unavailable(error.to_string()))
    }

    /// Ask everyone; the leader acts, the others say that they are not it.
    async fn join(&self) -> Result<proto::JoinReply> {
        let request = proto::JoinRequest {
            node_id: self.identity.node_id,
            address: self.addresses.get(&self.identity.node_id).cloned().unwrap_or_default(),
            incarnation: self.identity.incarnation,
        };
        let mut outcome = Err(Error::unavailable("no other master answers"));
        for id in self.addresses.keys().filter(|id| **id != self.identity.node_id) {
            outcome = self.peers.ask(*id, Method::RaftJoin, &request, 4 * CHANGE_TIMEOUT).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// What the leader does next for a member that asks to be taken in.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    Done,
    /// Its former self is a voter: that one's word must count no longer.
    RemoveVoter,
    RemoveLearner,
    Add,
    Promote,
    CatchUp,
}

pub fn next_admission(members: &Members, id: u64, incarnation: u64, lag: Option<u64>) -> Admission {
    let voter = members.voter_ids().any(|voter| voter == id);
    match members.get_node(&id) {
        None => Admission::Add,
        Some(node) if node.incarnation != incarnation && voter => Admission::RemoveVoter,
        Some(node) if node.incarnation != incarnation => Admission::RemoveLearner,
        Some(_) if voter => Admission::Done,
        Some(_) if lag.is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES) => Admission::Promote,
        Some(_) => Admission::CatchUp,
    }
}

/// The leader's part: one step after the other until the member votes, or has to catch up first.
pub async fn admit(raft: &Raft, request: &proto::JoinRequest) -> Result<proto::JoinReply> {
    let id = request.node_id;
    // Each step needs the one before; more than a handful means that the membership moves under us.
    for _ in 0..4 {
        let step = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id).copied().flatten());
            let lag = matched.map(|matched| metrics.last_log_index.unwrap_or(0).saturating_sub(matched.index));
            next_admission(metrics.membership_config.membership(), id, request.incarnation, lag)
        };
        let ids = BTreeSet::from([id]);
        let reply = |voter, state: &str| Ok(proto::JoinReply { voter, state: state.to_string() });
        match step {
            Admission::Done => return reply(true, "this master votes again"),
            Admission::CatchUp => return reply(false, "it is fetching the log"),
            Admission::RemoveVoter => change(raft, ChangeMembers::RemoveVoters(ids)).await?,
            Admission::RemoveLearner => change(raft, ChangeMembers::RemoveNodes(ids)).await?,
            Admission::Promote => change(raft, ChangeMembers::AddVoterIds(ids)).await?,
            Admission::Add => {
                let node = Node { address: request.address.clone(), incarnation: request.incarnation };
                change(raft, ChangeMembers::AddNodes(BTreeMap::from([(id, node)]))).await?;
            }
        }
        tracing::info!(node = id, step = ?step, "membership changed for a master that lost its data directory");
    }
    Err(Error::unavailable("the membership is changing; ask again"))
}

async fn change(raft: &Raft, change: ChangeMembers<u64, Node>) -> Result<()> {
    let changed = tokio::time::timeout(CHANGE_TIMEOUT, raft.change_membership(change, false)).await;
    match changed {
        Err(_) => Err(Error::unavailable("the change of membership was not agreed in time; ask again")),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => Err(not_leader(&forward)),
        Ok(Err(error)) => Err(Error::unavailable(format!("the membership could not be changed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(initialised: bool, lost: bool) -> Option<proto::RaftStatusReply> {
        Some(proto::RaftStatusReply { initialised, lost, ..Default::default() })
    }

    #[test]
    fn a_cluster_begins_only_when_all_say_that_it_never_was_and_only_by_the_lowest() {
        let fresh = Answers::from([(1, status(false, false)), (2, status(false, false)), (3, status(false, false))]);
        assert_eq!(decide(1, &fresh), Step::Begin);
        assert!(matches!(decide(2, &fresh), Step::Wait(_)));
        let mut silent = fresh.clone();
        silent.insert(3, None);
        assert!(matches!(decide(1, &silent), Step::Wait(_)));
        let mut exists = silent.clone();
        exists.insert(2, status(true, false));
        assert_eq!(decide(1, &exists), Step::Join);
    }

    #[test]
    fn masters_that_all_set_damaged_logs_aside_never_begin_an_empty_cluster() {
        let lost = Answers::from([(1, status(false, true)), (2, status(false, false)), (3, status(false, false))]);
        assert!(matches!(decide(1, &lost), Step::Wait(_)));
    }

    #[test]
    fn a_wiped_voter_is_removed_then_added_then_promoted_when_it_caught_up() {
        let node = |incarnation| Node { address: "a:1".into(), incarnation };
        let with = |voters: &[u64], nodes: &[(u64, u64)]| {
            let nodes: BTreeMap<u64, Node> = nodes.iter().map(|(id, incarnation)| (*id, node(*incarnation))).collect();
            Members::new(vec![voters.iter().copied().collect()], nodes).unwrap()
        };
        let all = [(1, 11), (2, 12), (3, 13)];
        assert_eq!(next_admission(&with(&[1, 2, 3], &all), 3, 99, None), Admission::RemoveVoter);
        assert_eq!(next_admission(&with(&[1, 2], &all), 3, 99, None), Admission::RemoveLearner);
        assert_eq!(next_admission(&with(&[1, 2], &all[..2]), 3, 99, None), Admission::Add);
        let learner = with(&[1, 2], &[(1, 11), (2, 12), (3, 99)]);
        assert_eq!(next_admission(&learner, 3, 99, None), Admission::CatchUp);
        assert_eq!(next_admission(&learner, 3, 99, Some(CAUGHT_UP_ENTRIES + 1)), Admission::CatchUp);
        assert_eq!(next_admission(&learner, 3, 99, Some(0)), Admission::Promote);
        assert_eq!(next_admission(&with(&[1, 2, 3], &[(1, 11), (2, 12), (3, 99)]), 3, 99, Some(0)), Admission::Done);
    }
}
