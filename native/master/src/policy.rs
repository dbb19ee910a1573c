//! How the leader goes about what it does without being asked, as Python's policy says it with the intents. Until that has
//! spoken in a term: the default.

use std::time::Duration;

use wire::proto::LeaderPolicy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Copies of a server that is down for longer are made elsewhere.
    pub heal_delay: Duration,
    /// Heals running at a time, over the cluster and on one server (as source or target). More starve the clients.
    pub heals_running: usize,
    pub heals_per_server: usize,
    /// Silent sessions ended in one step; each is a command.
    pub expired_at_once: usize,
    /// Unlinked files in one command, which every master applies at once.
    pub purged_at_once: usize,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            heal_delay: Duration::from_secs(10),
            heals_running: 4,
            heals_per_server: 2,
            expired_at_once: 100,
            purged_at_once: 1000,
        }
    }
}

impl Policy {
    /// From now on as it was said; a number that is 0 stays.
    pub fn follow(&mut self, said: &LeaderPolicy) {
        let count = |said: u32, now: usize| if said == 0 { now } else { said as usize };
        if said.heal_delay_ms != 0 {
            self.heal_delay = Duration::from_millis(said.heal_delay_ms);
        }
        self.heals_running = count(said.heals_running, self.heals_running);
        self.heals_per_server = count(said.heals_per_server, self.heals_per_server);
        self.expired_at_once = count(said.expired_at_once, self.expired_at_once);
        self.purged_at_once = count(said.purged_at_once, self.purged_at_once).min(MOST_PURGED_AT_ONCE);
    }
}

/// A command is a log entry, and those are bounded.
const MOST_PURGED_AT_ONCE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_said_stays() {
        let mut policy = Policy::default();
        policy.follow(&LeaderPolicy { heal_delay_ms: 2000, heals_running: 3, ..LeaderPolicy::default() });
        policy.follow(&LeaderPolicy { expired_at_once: 7, purged_at_once: u32::MAX, ..LeaderPolicy::default() });
        let heal_delay = Duration::from_secs(2);
        let wanted = Policy {
            heal_delay,
            heals_running: 3,
            expired_at_once: 7,
            purged_at_once: MOST_PURGED_AT_ONCE,
            ..Policy::default()
        };
        assert_eq!(policy, wanted);
    }
}
