//! Whether a chunkserver may register: not while it remembers more of the masters' past than these masters lived
//! through, for then they were put back to an older state, and what they do not know is not garbage. And which of its
//! disks were put back themselves. Never deletes anything; an operator decides, by `AcceptHistory`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use base::{Error, Result};
use meta::State;
use wire::proto::{
    AcceptHistory, AdminReply, BeginHistory, DiskStatus, DropUnknown, Position, RaiseNumbers, RefusedServer,
    ServerHello, admin_command::Op,
};

use crate::node::Node;

/// An image of a disk that is not older than this may pass, when the leader changes before the server is back.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A server that asked no more for this long is no longer shown as refused.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

struct Refused {
    address: String,
    reason: String,
    known: Position,
    since: Instant,
    seen: Instant,
}

/// Chunkservers that this leader turned away because of what they remember.
#[derive(Default)]
pub struct Refusals(HashMap<u32, Refused>);

impl Refusals {
    /// Whether this server was not refused lately, or remembered something else then.
    fn note(&mut self, hello: &ServerHello, known: Position, reason: &str, now: Instant) -> bool {
        let before = self.0.remove(&hello.server_id).filter(|before| before.known == known && before.is_fresh(now));
        let news = before.is_none();
        let since = before.map_or(now, |before| before.since);
        let (address, reason) = (hello.address.clone(), reason.to_string());
        self.0.insert(hello.server_id, Refused { address, reason, known, since, seen: now });
        news
    }

    fn forget(&mut self, server: u32) {
        self.0.remove(&server);
    }

    /// What the refused servers know, or the one of them that is named.
    fn known(&self, server: u32, now: Instant) -> Vec<Position> {
        let wanted = self.0.iter().filter(|(id, refused)| (server == 0 || **id == server) && refused.is_fresh(now));
        wanted.map(|(_, refused)| refused.known).collect()
    }

    pub fn views(&self, now: Instant) -> Vec<RefusedServer> {
        let fresh = self.0.iter().filter(|(_, refused)| refused.is_fresh(now));
        let mut views: Vec<RefusedServer> = fresh
            .map(|(id, refused)| RefusedServer {
                server_id: *id,
                address: refused.address.clone(),
                reason: refused.reason.clone(),
                since_ms: now.saturating_duration_since(refused.since).as_millis() as u64,
            })
            .collect();
        views.sort_unstable_by_key(|view| view.server_id);
        views
    }
}

impl Refused {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) < FORGOTTEN_AFTER
    }
}

/// Everything that a server's memory and copies say of the masters it knew.
pub fn known_of(hello: &ServerHello) -> Position {
    let known = hello.remembered.unwrap_or_default();
    Position { next_chunk: known.next_chunk.max(hello.highest_chunk.saturating_add(1)), ..known }
}

/// Why these masters are older than what the server knows; none: they are not.
pub fn lacks(state: &State, hello: &ServerHello) -> Option<String> {
    let here = state.position();
    let what = match hello.remembered {
        Some(known) if known.mark != 0 && !state.contains(&known) => format!("position {}", known.index),
        _ if hello.highest_chunk >= here.next_chunk => format!("chunk {}", hello.highest_chunk),
        _ => return None,
    };
    Some(format!(
        "the masters' history does not contain {what}, which chunkserver {} knows: the masters were put back to an older \
         state or made anew (they are at position {}). Nothing was deleted. Stop the masters and give them back their \
         newer directories, or have what is lost be lost: `mooseng accept-history --server {}` (docs/deploy.md)",
        hello.server_id, here.index, hello.server_id
    ))
}

/// Disks that are older images of themselves: they remember less than is known of them, by the log or by what the server
/// told last. One that takes no writes cannot remember, and nothing was written to it either.
pub fn outdated(disks: &[DiskStatus], (epoch, remembered): (u64, u64), before: &[DiskStatus]) -> Vec<String> {
    let seen = |path: &str| before.iter().find(|disk| disk.path == path).map_or(0, |disk| disk.remembered);
    let is_older = |disk: &DiskStatus| disk.epoch < epoch || disk.remembered < remembered.max(seen(&disk.path));
    let is_outdated = |disk: &&DiskStatus| disk.takes_writes() && disk.chunks > 0 && is_older(disk);
    disks.iter().filter(is_outdated).map(|disk| disk.path.clone()).collect()
}

/// Up to which entry of the log every disk that takes writes remembers the masters, if all remember this registration.
pub fn remembered_by_all(disks: &[DiskStatus], epoch: u64) -> Option<u64> {
    let mut writable = disks.iter().filter(|disk| disk.takes_writes()).peekable();
    let all = writable.clone().all(|disk| disk.epoch >= epoch);
    writable.next().filter(|_| all)?;
    disks.iter().filter(|disk| disk.takes_writes()).map(|disk| disk.remembered).min()
}

/// Whether the log has to say anew what a server remembers: it says nothing of this registration yet, or is older than
/// the last change of a copy there (`changed_at`), and was not told a moment ago.
pub fn is_to_confirm(confirmed: Option<(u64, Instant)>, remembered: u64, changed_at: u64, now: Instant) -> bool {
    confirmed.is_none_or(|(known, since)| known < changed_at.min(remembered) && now >= since + CONFIRM_EVERY)
}

impl Node {
    /// Put this leader's mark into the history, before it serves anybody.
    pub async fn begin_history(&self, term: u64) {
        let mark = RandomState::new().hash_one((Instant::now(), term, base::time::wall_ns())).max(1);
        while let Err(error) = self.committer.admin(term, Op::BeginHistory(BeginHistory { mark })).await {
            tracing::warn!(%error, "the beginning of this leadership could not be committed; trying again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Refuse a server that remembers what these masters lack. Numbers jump over what it knows all the same: others may
    /// be served meanwhile.
    pub async fn admit(&self, term: u64, hello: &ServerHello) -> Result<()> {
        let Some(reason) = lacks(&self.machine.state(), hello) else {
            self.refusals.lock().forget(hello.server_id);
            return Ok(());
        };
        let known = known_of(hello);
        if self.refusals.lock().note(hello, known, &reason, Instant::now()) {
            tracing::error!(server = hello.server_id, "a chunkserver was refused: {reason}");
            let raise = Op::RaiseNumbers(RaiseNumbers { known: vec![known] });
            if let Err(error) = self.committer.admin(term, raise).await {
                self.refusals.lock().forget(hello.server_id);
                tracing::warn!(%error, "numbers in use could not be left out; trying again");
            }
        }
        Err(Error::namespace(libc::EREMCHG, reason))
    }

    /// The operator's word: go on as these masters are. `server` 0: for all that were refused.
    pub async fn accept_history(&self, term: u64, server: u32) -> Result<AdminReply> {
        let known = self.refusals.lock().known(server, Instant::now());
        if known.is_empty() {
            let who = if server == 0 { "no chunkserver".to_string() } else { format!("chunkserver {server}") };
            let is_not = if server == 0 { "was" } else { "was not" };
            let message = format!("{who} {is_not} refused for its history; `mooseng status` lists those that are");
            return Err(Error::namespace(libc::ENOENT, message));
        }
        let accept = AcceptHistory { server_id: server, known };
        let reply = self.committer.admin(term, Op::AcceptHistory(accept)).await?;
        tracing::warn!(
            server,
            "an operator accepted that the masters are older than what chunkservers know; copies unknown to the masters are kept until `mooseng drop-unknown`"
        );
        Ok(reply)
    }

    pub async fn drop_unknown(&self, term: u64) -> Result<AdminReply> {
        let reply = self.committer.admin(term, Op::DropUnknown(DropUnknown {})).await?;
        tracing::warn!("an operator let go of the copies that the masters do not know");
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use wire::proto::DiskCondition;

    use super::*;

    fn disk(path: &str, epoch: u64, remembered: u64) -> DiskStatus {
        let condition = DiskCondition::DiskOk as i32;
        DiskStatus { path: path.into(), condition, chunks: 1, epoch, remembered, ..DiskStatus::default() }
    }

    #[test]
    fn a_disk_that_remembers_less_than_is_known_of_it_is_an_older_image() {
        assert!(outdated(&[disk("a", 5, 90)], (5, 90), &[]).is_empty());
        assert_eq!(outdated(&[disk("a", 4, 90), disk("b", 5, 90)], (5, 80), &[]), ["a"]);
        assert_eq!(outdated(&[disk("a", 5, 79)], (5, 80), &[]), ["a"], "by a new leader, which was told nothing yet");
        assert_eq!(outdated(&[disk("a", 5, 90)], (5, 80), &[disk("a", 5, 91)]), ["a"], "within one registration");
        assert!(outdated(&[disk("a", 0, 0)], (0, 0), &[]).is_empty(), "of a release that remembered nothing");
    }

    #[test]
    fn a_disk_without_copies_or_without_writes_is_no_older_image() {
        let empty = DiskStatus { chunks: 0, ..disk("a", 0, 0) };
        let stuck = DiskStatus { condition: DiskCondition::DiskReadOnly as i32, ..disk("b", 0, 0) };
        assert!(outdated(&[empty, stuck], (5, 80), &[]).is_empty());
    }

    #[test]
    fn a_registration_is_remembered_when_all_disks_that_can_do() {
        let failed = DiskStatus { condition: DiskCondition::DiskFailed as i32, ..disk("c", 0, 0) };
        assert_eq!(remembered_by_all(&[disk("a", 5, 9), disk("c", 5, 7), failed.clone()], 5), Some(7));
        assert_eq!(remembered_by_all(&[disk("a", 5, 0), disk("b", 4, 0)], 5), None);
        assert_eq!(remembered_by_all(&[failed], 5), None);
    }

    #[test]
    fn what_a_server_remembers_is_told_to_the_log_once_per_registration_and_after_changes_of_its_copies() {
        let before = Instant::now();
        let now = before + CONFIRM_EVERY;
        assert!(is_to_confirm(None, 0, 0, now));
        assert!(!is_to_confirm(Some((50, before)), 90, 50, now), "nothing changed since");
        assert!(is_to_confirm(Some((50, before)), 90, 70, now));
        assert!(!is_to_confirm(Some((50, now)), 90, 70, now), "told a moment ago");
        assert!(!is_to_confirm(Some((50, before)), 50, 70, now), "it remembers no more than that yet");
    }

    #[test]
    fn a_refusal_is_news_once_and_forgotten_when_the_server_asks_no_more() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let hello = ServerHello { server_id: 3, address: "a:1".into(), ..ServerHello::default() };
        let known = Position { index: 7, mark: 9, ..Position::default() };
        assert!(refusals.note(&hello, known, "why", now));
        assert!(!refusals.note(&hello, known, "why", now));
        assert_eq!(
            (refusals.known(3, now).len(), refusals.known(0, now).len(), refusals.known(4, now).len()),
            (1, 1, 0)
        );
        assert_eq!(refusals.views(now)[0].reason, "why");
        assert!(refusals.views(now + FORGOTTEN_AFTER).is_empty());
    }
}
