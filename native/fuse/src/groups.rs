//! Supplementary groups of the processes that ask. FUSE sends uid and gid only, so /proc has the rest; a short memory
//! spares reading it for every request. Never more than a second old, never more than a few thousand entries.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a process that changes its groups may still be seen with the old ones.
const MAX_AGE: Duration = Duration::from_secs(1);
const MAX_ENTRIES: usize = 4096;

type Key = (u32, u32, u32);

#[derive(Default)]
pub struct Groups {
    known: Mutex<HashMap<Key, (Instant, Vec<u32>)>>,
}

impl Groups {
    /// Groups of the asking thread; none for root, which needs none, and for processes outside our pid name space.
    pub fn of(&self, pid: u32, uid: u32, gid: u32) -> Vec<u32> {
        if uid == 0 || pid == 0 {
            return Vec::new();
        }
        self.of_at((pid, uid, gid), Instant::now(), || read_groups(pid))
    }

    fn of_at(&self, key: Key, now: Instant, read: impl FnOnce() -> Vec<u32>) -> Vec<u32> {
        if let Some((_, groups)) =
            self.known.lock().get(&key).filter(|(read_at, _)| now.duration_since(*read_at) < MAX_AGE)
        {
            return groups.clone();
        }
        let groups = read();
        let mut known = self.known.lock();
        if known.len() >= MAX_ENTRIES {
            known.retain(|_, (read_at, _)| now.duration_since(*read_at) < MAX_AGE);
            if known.len() >= MAX_ENTRIES {
                known.clear();
            }
        }
        known.insert(key, (now, groups.clone()));
        groups
    }
}

fn read_groups(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map_or_else(|_| Vec::new(), |status| parse_groups(&status))
}

/// The line `Groups:` of /proc/PID/status. Source: proc(5).
fn parse_groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or_default().split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_again_after_a_second_and_not_before() {
        let (groups, start) = (Groups::default(), Instant::now());
        assert_eq!(groups.of_at((7, 1, 1), start, || vec![4]), [4]);
        assert_eq!(groups.of_at((7, 1, 1), start + MAX_AGE / 2, || unreachable!()), [4]);
        assert_eq!(groups.of_at((7, 1, 1), start + MAX_AGE, || vec![5]), [5]);
    }

    #[test]
    fn another_uid_of_the_same_pid_is_another_process() {
        let (groups, start) = (Groups::default(), Instant::now());
        groups.of_at((7, 1, 1), start, || vec![4]);
        assert_eq!(groups.of_at((7, 2, 1), start, Vec::new), [0u32; 0]);
    }

    #[test]
    fn the_memory_stays_bounded() {
        let (groups, start) = (Groups::default(), Instant::now());
        for pid in 0..3 * MAX_ENTRIES as u32 {
            groups.of_at((pid, 1, 1), start, Vec::new);
        }
        assert!(groups.known.lock().len() <= MAX_ENTRIES);
    }

    #[test]
    fn the_status_of_this_process_can_be_parsed() {
        assert_eq!(parse_groups("Name:\tsh\nGroups:\t4 24 1000 \nNStgid:\t1\n"), [4, 24, 1000]);
        assert_eq!(parse_groups("Groups:\t\n"), [0u32; 0]);
        assert_eq!(parse_groups("garbage"), [0u32; 0]);
        read_groups(std::process::id());
    }
}
