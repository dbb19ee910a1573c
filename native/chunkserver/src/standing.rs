//! Where a chunkserver stands with the masters, and how that is told to people.

use std::fmt::{Display, Formatter, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Starting,
    /// What a master said last.
    Looking(String),
    /// Why.
    Refused(String),
    Registered {
        leader: String,
        epoch: u64,
    },
    Stopped,
}

impl Standing {
    /// A master did not register us. A refusal outlives "not the leader" from others.
    pub fn turned_away(&mut self, refused: bool, sentence: &str) {
        if refused {
            *self = Standing::Refused(sentence.to_string());
        } else if !matches!(self, Standing::Refused(_)) {
            *self = Standing::Looking(sentence.to_string());
        }
    }

    pub fn is_registered(&self) -> bool {
        matches!(self, Standing::Registered { .. })
    }

    /// Empty while not registered.
    pub fn leader(&self) -> &str {
        match self {
            Standing::Registered { leader, .. } => leader,
            _ => "",
        }
    }

    /// 0 while not registered.
    pub fn epoch(&self) -> u64 {
        match self {
            Standing::Registered { epoch, .. } => *epoch,
            _ => 0,
        }
    }
}

impl Display for Standing {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Standing::Starting => out.write_str("starting"),
            Standing::Looking(why) => write!(out, "looking for the leader: {why}"),
            Standing::Refused(why) => write!(out, "refused: {why}"),
            Standing::Registered { .. } => out.write_str("registered"),
            Standing::Stopped => out.write_str("stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_outlives_what_masters_that_do_not_lead_say() {
        let mut standing = Standing::default();
        standing.turned_away(false, "refused to say who leads");
        standing.turned_away(false, "no leader");
        assert_eq!(standing.to_string(), "looking for the leader: no leader", "words decide nothing");
        standing.turned_away(true, "another cluster");
        standing.turned_away(false, "not the leader");
        assert_eq!(standing.to_string(), "refused: another cluster");
        standing.turned_away(true, "older");
        assert_eq!(standing.to_string(), "refused: older");
    }
}
