//! The types that openraft is used with, and their form in messages and files. Terms are of one leader each (the
//! standard mode), so a bare term fences.

use std::collections::{BTreeMap, BTreeSet};

use base::{Error, Result};
use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::{Entry as RaftEntry, EntryPayload, Membership};
use wire::proto;

/// One member as the membership entries in the log name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub address: String,
    /// Identity of the member's data directory. A member whose directory was lost comes back with another one, so
    /// nothing that was agreed with its former self counts for it.
    pub incarnation: u64,
}

/// What a log entry carries: opaque to this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command(pub Bytes);

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    pub Types:
        D = Command,
        R = Bytes,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

/// openraft's metrics channel.
pub type Watch<T> = openraft::alias::WatchReceiverOf<Types, T>;
pub type LogId = openraft::alias::LogIdOf<Types>;
pub type Vote = openraft::alias::VoteOf<Types>;
pub type Entry = openraft::alias::EntryOf<Types>;
pub type Members = Membership<u64, Node>;
pub type StoredMembers = openraft::alias::StoredMembershipOf<Types>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: term.into(), index }
}

pub fn term_of(id: &LogId) -> u64 {
    *id.leader_id
}

pub fn vote_of(term: u64, node_id: u64, committed: bool) -> Vote {
    if committed { Vote::new_committed(term, node_id) } else { Vote::new(term, node_id) }
}

pub fn vote_to_proto(vote: &Vote) -> proto::Vote {
    proto::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}

pub fn vote_from_proto(vote: Option<proto::Vote>) -> Result<Vote> {
    let vote = vote.ok_or_else(|| malformed("a raft message without a vote"))?;
    Ok(vote_of(vote.term, vote.node_id, vote.committed))
}

pub fn log_id_to_proto(id: &LogId) -> proto::LogId {
    proto::LogId { term: term_of(id), index: id.index }
}

pub fn log_id_from_proto(id: proto::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub fn members_to_proto(members: &Members) -> proto::Members {
    proto::Members {
        sets: members
            .get_joint_config()
            .iter()
            .map(|set| proto::MemberSet { ids: set.iter().copied().collect() })
            .collect(),
        nodes: members
            .nodes()
            .map(|(id, node)| proto::Member { id: *id, address: node.address.clone(), incarnation: node.incarnation })
            .collect(),
    }
}

pub fn members_from_proto(members: proto::Members) -> Result<Members> {
    let sets: Vec<BTreeSet<u64>> = members.sets.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, Node> = members
        .nodes
        .into_iter()
        .map(|member| (member.id, Node { address: member.address, incarnation: member.incarnation }))
        .collect();
    Members::new(sets, nodes).map_err(|error| malformed(&format!("a membership that cannot be: {error}")))
}

pub fn entry_to_proto(entry: &Entry) -> proto::Entry {
    use proto::entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(true),
        EntryPayload::Normal(command) => Payload::Batch(command.0.clone()),
        EntryPayload::Membership(members) => Payload::Members(members_to_proto(members)),
    };
    proto::Entry { id: Some(log_id_to_proto(&entry.log_id)), payload: Some(payload) }
}

pub fn entry_from_proto(entry: proto::Entry) -> Result<Entry> {
    use proto::entry::Payload;
    let id = entry.id.ok_or_else(|| malformed("a log entry without an id"))?;
    let payload = match entry.payload.ok_or_else(|| malformed("a log entry without a payload"))? {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Batch(batch) => EntryPayload::Normal(Command(batch)),
        Payload::Members(members) => EntryPayload::Membership(members_from_proto(members)?),
    };
    Ok(RaftEntry { log_id: log_id_from_proto(id), payload })
}

pub fn malformed(what: &str) -> Error {
    Error::integrity(format!("a peer sent {what}; are all masters of one release?"))
}
