//! The cluster level, at its leader: it rises once every master said that it can do more, and what is above it is refused.
//! Source of the rule: `wire::level`.

use base::{Error, Result};
use wire::level::{FIRST, next, said};
use wire::proto::{NameRequest, RaiseLevel, admin_command::Op};

use crate::node::Node;

impl Node {
    /// Agree on a higher level if all members can do it. Tried again with the next step when it fails.
    pub async fn raise_level(&self, term: u64) {
        let agreed = self.machine.state().level();
        if agreed >= self.config.level {
            return;
        }
        let Some(level) = next(agreed, self.able().into_iter().map(|(_, level)| level)) else { return };
        match self.committer.admin(term, Op::RaiseLevel(RaiseLevel { level })).await {
            Ok(_) => tracing::info!(level, before = agreed, "every master can do this cluster level: it is agreed on"),
            Err(error) => tracing::debug!(level, %error, "the cluster level was not raised"),
        }
    }

    /// What each member said that it can do, by its id; `None`: it does not answer.
    fn able(&self) -> Vec<(u32, Option<u32>)> {
        let others = self.others.lock();
        let members = self.consensus.status().members.into_iter();
        members
            .map(|(id, ..)| {
                let id = u32::try_from(id).unwrap_or(0);
                let level = match id == self.config.node_id {
                    true => Some(self.config.level),
                    false => others.get(&id).map(|view| said(view.level)),
                };
                (id, level)
            })
            .collect()
    }

    /// Refuse what the masters have not agreed to be able to do, and what this one does not know.
    pub fn check_level(&self, request: &NameRequest) -> Result<()> {
        let Some(op) = &request.op else {
            return Err(unsupported("the operation is not known to this master; run newer software on the masters"));
        };
        let (row, asked) = (wire::op::of(op), wire::level::asked(op));
        if asked == FIRST {
            return Ok(()); // nearly every request: the state is not locked for it
        }
        let agreed = self.machine.state().level();
        if asked <= agreed {
            return Ok(());
        }
        let behind = self.able().into_iter().find(|(_, level)| level.is_none_or(|level| level < asked));
        let why = match behind {
            Some((id, Some(level))) => format!("master {id} does {level}; run newer software on it"),
            Some((id, None)) => format!("master {id} does not say what it does; start it"),
            None => "it is raised in a moment; ask again".to_string(),
        };
        Err(unsupported(format!("{} needs cluster level {}, this cluster has {agreed}: {why}", row.name, asked)))
    }
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::namespace(libc::EOPNOTSUPP, message.into())
}
