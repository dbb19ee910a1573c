//! Supplementary groups of those who ask. FUSE sends uid and gid only, so /proc has the rest, or, where the operator wants it,
//! the account database of this machine; a short memory spares asking for every request. Never more than a few thousand entries.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a process that changes its groups may still be seen with the old ones.
const MAX_AGE: Duration = Duration::from_secs(1);
/// The same of an account. A database may be asked through the network.
const MAX_AGE_OF_ACCOUNTS: Duration = Duration::from_secs(60);
/// What a database may say of one account at most.
const MAX_ACCOUNT_BYTES: usize = 1 << 20;
const MAX_GROUPS: usize = 65_536;
const MAX_ENTRIES: usize = 4096;

type Key = (u32, u32, u32);

pub struct Groups {
    by_account: bool,
    known: Mutex<HashMap<Key, (Instant, Vec<u32>)>>,
    complained: AtomicBool,
}

impl Groups {
    /// `by_account`: those that the account database names, whatever the asking process has.
    pub fn new(by_account: bool) -> Groups {
        Groups { by_account, known: Mutex::default(), complained: AtomicBool::new(false) }
    }

    /// Groups of the asking thread or its user; none for root, which needs none.
    pub fn of(&self, pid: u32, uid: u32, gid: u32) -> Vec<u32> {
        match pid {
            _ if uid == 0 => Vec::new(),
            _ if self.by_account => self.of_at((0, uid, gid), Instant::now(), || account_groups(uid, gid)),
            0 => self.unseen(uid),
            _ => self.of_at((pid, uid, gid), Instant::now(), || read_groups(pid)),
        }
    }

    /// A process outside our pid name space: only its uid and gid are known.
    fn unseen(&self, uid: u32) -> Vec<u32> {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                uid,
                "a process of another pid name space uses this mount, and its supplementary groups do not count, as they \
                 cannot be seen: run the mount in the pid name space of the host, or set account_groups"
            );
        }
        Vec::new()
    }

    fn of_at(&self, key: Key, now: Instant, read: impl FnOnce() -> Vec<u32>) -> Vec<u32> {
        let max_age = if self.by_account { MAX_AGE_OF_ACCOUNTS } else { MAX_AGE };
        if let Some((_, groups)) =
            self.known.lock().get(&key).filter(|(read_at, _)| now.duration_since(*read_at) < max_age)
        {
            return groups.clone();
        }
        let groups = read();
        let mut known = self.known.lock();
        if known.len() >= MAX_ENTRIES {
            known.retain(|_, (read_at, _)| now.duration_since(*read_at) < max_age);
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

/// Those of an account, none where the database does not know the uid. Source: getgrouplist(3).
fn account_groups(uid: u32, gid: u32) -> Vec<u32> {
    let mut space = vec![0 as libc::c_char; 1024];
    loop {
        // SAFETY: all zeros are a passwd of null pointers, which nobody reads before the call below has set them.
        let mut account: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to live memory of the size said; what the call sets in `account` points into `space`.
        let error = unsafe { libc::getpwuid_r(uid, &raw mut account, space.as_mut_ptr(), space.len(), &raw mut found) };
        match error {
            0 if found.is_null() => return Vec::new(),
            // SAFETY: the call set it to a NUL-terminated string in `space`, which lives on.
            0 => return groups_of_name(unsafe { CStr::from_ptr(account.pw_name) }, gid),
            libc::ERANGE if space.len() < MAX_ACCOUNT_BYTES => space.resize(space.len() * 4, 0),
            error => {
                tracing::warn!(uid, error, "the account database does not answer; its groups do not count");
                return Vec::new();
            }
        }
    }
}

fn groups_of_name(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: `name` ends with NUL, and `groups` has room for `count` numbers.
        let fitted = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if fitted >= 0 || groups.len() >= MAX_GROUPS {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return groups;
        }
        groups.resize(groups.len() * 4, 0);
    }
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
        let (groups, start) = (Groups::new(false), Instant::now());
        assert_eq!(groups.of_at((7, 1, 1), start, || vec![4]), [4]);
        assert_eq!(groups.of_at((7, 1, 1), start + MAX_AGE / 2, || unreachable!()), [4]);
        assert_eq!(groups.of_at((7, 1, 1), start + MAX_AGE, || vec![5]), [5]);
    }

    #[test]
    fn another_uid_of_the_same_pid_is_another_process() {
        let (groups, start) = (Groups::new(false), Instant::now());
        groups.of_at((7, 1, 1), start, || vec![4]);
        assert_eq!(groups.of_at((7, 2, 1), start, Vec::new), [0u32; 0]);
    }

    #[test]
    fn the_memory_stays_bounded() {
        let (groups, start) = (Groups::new(false), Instant::now());
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

    #[test]
    fn an_account_has_the_groups_of_the_database_and_an_unknown_one_none() {
        let groups = Groups::new(true);
        assert!(groups.of(0, 1, 77).contains(&77), "the group that it came with is one of them");
        assert_eq!(groups.of(0, 3_999_999_999, 77), [0u32; 0]);
        assert_eq!(groups.of(0, 0, 77), [0u32; 0]);
    }

    #[test]
    fn of_a_process_that_is_not_seen_no_groups_are_known() {
        assert_eq!(Groups::new(false).of(0, 1, 1), [0u32; 0]);
    }
}
