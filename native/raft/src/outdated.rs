//! A member that was started with an older copy of its data directory, after it had been taken in again with a newer
//! one: what it promised since stands only in the newer one. Found by comparing memberships; then it takes part in
//! nothing any more, and the next start sets the directory aside.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use base::{Error, Result};
use wire::proto;

use crate::files::write_atomically;
use crate::home::Identity;
use crate::join::Answers;
use crate::types::{StoredMembers, log_id_to_proto};

/// In the data directory: it must not be used any more. Holds the reason.
pub const MARK: &str = "outdated";

/// Why this member takes part in nothing, once that is known.
#[derive(Clone, Default)]
pub struct Outdated(Arc<OnceLock<String>>);

impl Outdated {
    pub fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }

    /// Refuse what others ask for when this member's word counts no longer.
    pub fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |why| Err(Error::stale(why.clone())))
    }

    /// From here on nothing is promised; also not after a crash, once this returned.
    pub fn declare(&self, directory: &Path, why: &str) -> std::io::Result<()> {
        let _ = self.0.set(why.to_string());
        write_atomically(&directory.join(MARK), format!("{why}\n").as_bytes())
    }
}

/// The mark that an earlier run left, if any.
pub fn marked(directory: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(directory.join(MARK)) {
        Ok(why) => Ok(Some(why.trim().to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which other member knows that this directory was replaced: its membership is newer than ours, and where ours names
/// this directory, it names another one or none.
pub fn replaced_by(us: &Identity, own: &StoredMembers, answers: &Answers) -> Option<u64> {
    let node = own.membership().get_node(&us.node_id)?;
    let own_at = own.log_id().as_ref().map(log_id_to_proto).map(position);
    if node.incarnation != us.incarnation {
        return None;
    }
    let knows_better = |answer: &proto::RaftStatusReply| {
        let (Some(at), Some(members)) = (answer.members_at, &answer.members) else { return false };
        let named = members.nodes.iter().any(|node| node.id == us.node_id && node.incarnation == us.incarnation);
        Some(position(at)) > own_at && !named
    };
    let others = answers.iter().filter(|(id, _)| **id != us.node_id);
    others
        .filter_map(|(id, answer)| Some((id, answer.as_ref()?)))
        .find(|(_, answer)| knows_better(answer))
        .map(|(id, _)| *id)
}

fn position(id: proto::LogId) -> (u64, u64) {
    (id.term, id.index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::{Members, Node, log_id, members_to_proto};

    fn members(third: Option<u64>) -> Members {
        let known = [(1, 11), (2, 12)].into_iter().chain(third.map(|incarnation| (3, incarnation)));
        let nodes: BTreeMap<u64, Node> =
            known.map(|(id, incarnation)| (id, Node { address: "a:1".into(), incarnation })).collect();
        Members::new(vec![nodes.keys().copied().collect()], nodes).unwrap()
    }

    fn judge(own: (u64, u64, Option<u64>), theirs: (u64, u64, Option<u64>)) -> Option<u64> {
        let us = Identity { format: 1, cluster_id: "c".into(), node_id: 3, incarnation: 13, lost: false };
        let own = StoredMembers::new(Some(log_id(own.0, own.1)), members(own.2));
        let answer = proto::RaftStatusReply {
            members: Some(members_to_proto(&members(theirs.2))),
            members_at: Some(log_id_to_proto(&log_id(theirs.0, theirs.1))),
            ..Default::default()
        };
        replaced_by(&us, &own, &Answers::from([(1, Some(answer)), (2, None), (3, None)]))
    }

    #[test]
    fn an_older_copy_is_known_by_a_newer_membership_that_names_another_directory_or_none() {
        assert_eq!(judge((1, 1, Some(13)), (4, 90, Some(99))), Some(1));
        assert_eq!(judge((1, 1, Some(13)), (1, 2, None)), Some(1));
    }

    #[test]
    fn a_member_that_others_name_or_know_less_of_is_no_older_copy() {
        // As all know it; taken in again just now, and they lag; new, and its log names the former one still.
        assert_eq!(judge((1, 1, Some(13)), (4, 90, Some(13))), None);
        assert_eq!(judge((4, 90, Some(13)), (1, 1, Some(12))), None);
        assert_eq!(judge((1, 1, Some(12)), (4, 90, Some(13))), None);
        assert_eq!(judge((1, 1, None), (4, 90, Some(12))), None);
    }
}
