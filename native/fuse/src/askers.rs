//! Who waits for which request. Signals alone disturb nothing: an operation goes on as on a local disk, or programs whose
//! runtimes signal their own threads would see EINTR everywhere. But who was killed must go at once, however long the
//! cluster takes: the kernel waits for our answer until then, and nothing else ends that wait.
//! What cannot be told: how it stands with a process outside our pid name space.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::Waiter;
use parking_lot::Mutex;
use tokio::runtime::Handle;

/// How often those that got a signal are looked at: a fatal one is answered within a tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A signal may be heard of before its request: two threads read them. After so many looks it was answered long ago.
const LOOKS_FOR_A_LATE_REQUEST: u32 = 50;

struct Asker {
    /// Of the thread.
    pid: u32,
    waiter: Waiter,
}

#[derive(Default)]
struct State {
    /// By the number of the request.
    waiting: HashMap<u64, Asker>,
    /// Those that may have been killed, and how often they were looked for in vain.
    watched: HashMap<u64, u32>,
    looking: bool,
}

#[derive(Clone, Default)]
pub struct Askers(Arc<Mutex<State>>);

impl Askers {
    pub fn begin(&self, pid: u32, waiter: Waiter) {
        self.0.lock().waiting.insert(waiter.unique(), Asker { pid, waiter });
    }

    pub fn end(&self, unique: u64) {
        let mut state = self.0.lock();
        state.waiting.remove(&unique);
        state.watched.remove(&unique);
    }

    /// Look at who waits for this request, until it is answered.
    pub fn watch(&self, unique: u64, runtime: &Handle) {
        let mut state = self.0.lock();
        state.watched.insert(unique, 0);
        if !std::mem::replace(&mut state.looking, true) {
            let askers = self.clone();
            runtime.spawn(async move {
                while askers.is_watching() {
                    tokio::time::sleep(LOOK_EVERY).await;
                    askers.look();
                }
            });
        }
    }

    fn is_watching(&self) -> bool {
        let mut state = self.0.lock();
        state.looking = !state.watched.is_empty();
        state.looking
    }

    fn look(&self) {
        let suspects: Vec<(u64, u32)> = {
            let State { waiting, watched, .. } = &mut *self.0.lock();
            watched.retain(|unique, looks| {
                *looks = if waiting.contains_key(unique) { 0 } else { *looks + 1 };
                *looks < LOOKS_FOR_A_LATE_REQUEST
            });
            watched.keys().filter_map(|unique| Some((*unique, waiting.get(unique)?.pid))).collect()
        };
        for (unique, _) in suspects.into_iter().filter(|(_, pid)| is_dying(*pid)) {
            let mut state = self.0.lock();
            state.watched.remove(&unique);
            if let Some(asker) = state.waiting.get(&unique) {
                asker.waiter.interrupt();
            }
        }
    }
}

fn is_dying(pid: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    pid != 0 && (has_fatal_signal(&read("status")) || was_killed(&read("stat")))
}

/// Whether a signal waits that will end the process. Source: signal(7), proc_pid_status(5).
fn has_fatal_signal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    let bit = |signal: i32| 1 << (signal - 1);
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ]
    .map(bit)
    .iter()
    .fold(0, |all, one| all | one);
    let pending = mask("SigPnd") | mask("ShdPnd");
    let kept_off = mask("SigBlk") | mask("SigIgn") | mask("SigCgt") | harmless;
    pending & (!kept_off | bit(libc::SIGKILL)) != 0
}

/// Whether the process is ending by a signal: its files are closed then. Source: proc_pid_stat(5), fields 9 and 52.
fn was_killed(stat: &str) -> bool {
    const EXITING: u64 = 0x4;
    const SIGNAL: u64 = 0x7f;
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    // The first one here is field 3.
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3).and_then(|it| it.parse().ok());
    field(9).is_some_and(|flags: u64| flags & EXITING != 0) && field(52).is_some_and(|code: u64| code & SIGNAL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64, caught: u64) -> String {
        format!(
            "Name:\tsh\nSigQ:\t0/96\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
    }

    const KILL: u64 = 1 << 8;
    const TERM: u64 = 1 << 14;
    const CHLD: u64 = 1 << 16;

    #[test]
    fn only_what_ends_the_process_is_fatal() {
        assert!(has_fatal_signal(&status(KILL, 0, 0, 0, 0)));
        assert!(has_fatal_signal(&status(0, TERM, 0, 0, 0)));
        assert!(has_fatal_signal(&status(0, KILL, KILL, KILL, KILL)), "nobody keeps it off");
        for kept_off in [status(TERM, 0, TERM, 0, 0), status(TERM, 0, 0, TERM, 0), status(0, TERM, 0, 0, TERM)] {
            assert!(!has_fatal_signal(&kept_off), "{kept_off}");
        }
        assert!(!has_fatal_signal(&status(CHLD, CHLD, 0, 0, 0)));
        assert!(!has_fatal_signal(""));
    }

    #[test]
    fn a_process_that_ends_by_a_signal_was_killed_whatever_its_name_is() {
        let stat = |flags: u64, code: u64| {
            let zeros = ["0"; 42].join(" ");
            format!("7 (a) b) (c) D 1 7 7 0 -1 {flags} {zeros} {code}\n")
        };
        assert!(was_killed(&stat(0x0040_0104, 9)));
        assert!(!was_killed(&stat(0x0040_0104, 0x100)), "it ended by itself, with 1");
        assert!(!was_killed(&stat(0x0040_0100, 9)));
        assert!(!was_killed("") && !was_killed("garbage"));
    }

    #[test]
    fn this_process_is_alive_and_one_that_is_not_seen_counts_as_alive() {
        assert!(!is_dying(std::process::id()));
        assert!(!is_dying(0) && !is_dying(u32::MAX));
    }
}
