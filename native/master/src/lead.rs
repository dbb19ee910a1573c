//! What a master does while it leads: bootstraps a new cluster, marks chunkservers up and down, expires silent
//! sessions, purges files nobody holds, sends deletes, and looks after the health of chunks. One step every tick; each
//! step reads the committed state, so nothing depends on having seen every event.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use meta::Event;
use wire::proto::{
    Bootstrap, ChunkRef, DeleteChunks, ExpireSession, Purge, SetServerUp, admin_command::Op, server_command::Command,
};

use crate::health::{Standing, scan};
use crate::node::Node;
use crate::settle::Comparing;

/// Between steps. Smaller purges and deletes in smaller batches; larger notices dead servers later.
const TICK: Duration = Duration::from_millis(100);
/// Between looks at stray healing marks.
const STRAY_HEALS_EVERY: Duration = Duration::from_secs(2);
/// Between scans at least this long, and this many times as long as the last one took: 5 % of a core.
const SCAN_EVERY: Duration = Duration::from_millis(500);
const SCAN_SHARE: u32 = 20;
/// How long a server may take for one order of deletes.
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(200);

/// Follow the leadership until it can change no more.
pub async fn run(node: Arc<Node>) {
    let mut leadership = node.leadership.clone();
    let mut last_led = 0;
    loop {
        let now = leadership.borrow_and_update().clone();
        if now.is_leader && now.ready {
            tracing::info!(term = now.term, "this master leads");
            // A majority that was away and came back elected nobody.
            node.metrics.elections_won.fetch_add(u64::from(now.term != last_led), Ordering::Relaxed);
            last_led = now.term;
            let ended = tokio::select! {
                () = serve_term(&node, now.term) => false,
                over = leadership.wait_for(|later| !later.is_leader || later.term != now.term) => over.is_err(),
            };
            node.serving.send_replace(0);
            node.machine.set_leading(false);
            node.reset_soft(Instant::now());
            tracing::info!(term = now.term, "this master leads no more");
            if ended {
                return;
            }
        } else if leadership.changed().await.is_err() {
            return;
        } else {
            let now = leadership.borrow().clone();
            if !now.is_leader && now.missing.is_none() {
                let leader = now.leader_address.as_deref().unwrap_or("none yet");
                tracing::info!(term = now.term, leader, "leadership");
            }
        }
    }
}

/// Never returns while this master may serve: the caller ends it with the term.
async fn serve_term(node: &Arc<Node>, term: u64) {
    node.reset_soft(Instant::now());
    // From here on events are collected; what was before is read from the state.
    node.machine.set_leading(true);
    if let Err(error) = node.check_cluster() {
        tracing::error!(%error, "this master refuses to serve");
        return std::future::pending().await;
    }
    bootstrap(node, term).await;
    node.begin_history(term).await;
    let mut driver = Driver::new(node.clone(), term);
    node.serving.send_replace(term);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        driver.step().await;
    }
}

async fn bootstrap(node: &Node, term: u64) {
    while node.machine.state().cluster().is_none() {
        let config = &node.config;
        let op = Op::Bootstrap(Bootstrap {
            cluster_id: config.cluster_id.clone(),
            copies: config.copies,
            min_copies: config.min_copies,
            inline_limit: config.inline_limit_bytes,
        });
        match node.committer.admin(term, op).await {
            Ok(_) => tracing::info!(cluster_id = config.cluster_id, "a new cluster was made"),
            Err(error) => {
                tracing::warn!(%error, "the new cluster could not be committed; trying again");
                tokio::time::sleep(BOOTSTRAP_PAUSE).await;
            }
        }
    }
}

struct Driver {
    node: Arc<Node>,
    term: u64,
    /// Unlinked inodes whose data is kept.
    orphans: BTreeSet<u64>,
    /// When stray healing marks were last looked for; the marks of older leaders are ended first.
    stray_heals_at: Option<Instant>,
    scan: ScanClock,
    comparing: Comparing,
}

impl Driver {
    fn new(node: Arc<Node>, term: u64) -> Driver {
        let now = Instant::now();
        let orphans = node.machine.state().orphans().into_iter().collect();
        let comparing = Comparing::new(now);
        Driver { node, term, orphans, stray_heals_at: None, scan: ScanClock::new(now), comparing }
    }

    async fn step(&mut self) {
        self.take_events();
        self.node.raise_level(self.term).await;
        self.correct_marks().await;
        self.expire_sessions().await;
        self.purge().await;
        self.node.pump_deletes();
        self.node.pump_heals(self.term);
        if self.stray_heals_at.is_none_or(|at| at.elapsed() > STRAY_HEALS_EVERY) {
            self.node.end_stray_heals(self.term).await;
            self.stray_heals_at = Some(Instant::now());
        }
        self.scan.start_if_due(&self.node);
        self.node.adopt_newer_copies(self.term).await;
        self.node.settle_ended_writers(self.term);
        self.node.compare_copies(self.term, &mut self.comparing);
    }

    fn take_events(&mut self) {
        let inbox = self.node.machine.take_events();
        if inbox.lost {
            let state = self.node.machine.state();
            self.orphans = state.orphans().into_iter().collect();
            let committed = state.sessions().into_iter().map(|session| session.id).collect();
            self.node.machine.soft.sessions.lock().retain(&committed);
            self.scan.changed = true;
        }
        for event in inbox.events {
            match event {
                Event::ChunksFreed(chunks) => {
                    self.scan.changed = true;
                    self.node.deletes.lock().freed(&chunks);
                }
                Event::Orphaned(inode) => {
                    self.orphans.insert(inode);
                }
                Event::Purged(inode) | Event::Named(inode) => {
                    self.orphans.remove(&inode);
                }
                Event::SessionEnded(session) => self.node.machine.soft.sessions.lock().end(session),
                Event::ChunkChanged(_) => self.scan.changed = true,
            }
        }
    }

    /// Commit up/down marks that contradict what is heard of the servers.
    async fn correct_marks(&self) {
        let committed = self.node.machine.state().servers();
        let now = Instant::now();
        let wrong = {
            let mut servers = self.node.servers.lock();
            servers.note_down(&committed, now);
            servers.wrong_marks(&committed, self.node.config.server_timeout(), now)
        };
        let commits = wrong.into_iter().map(|mark: SetServerUp| async move {
            let outcome = self.node.committer.admin(self.term, Op::SetServerUp(mark)).await;
            match outcome {
                Ok(_) if mark.up => tracing::info!(server = mark.server_id, "chunkserver is up"),
                Ok(_) => tracing::warn!(server = mark.server_id, "chunkserver is down; new chunks avoid it"),
                Err(error) => tracing::debug!(server = mark.server_id, %error, "mark not committed"),
            }
        });
        join_all(commits).await;
    }

    async fn expire_sessions(&self) {
        let committed = self.node.machine.state().sessions();
        let committed = committed.iter().map(|session| session.id);
        let mut expired = self.node.machine.soft.sessions.lock().expired(committed, Instant::now());
        expired.truncate(self.node.policy().expired_at_once);
        let commits = expired.into_iter().map(|session| async move {
            match self.node.committer.admin(self.term, Op::ExpireSession(ExpireSession { session })).await {
                Ok(_) => {
                    self.node.metrics.sessions_expired.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(session, "session expired: its client was silent for too long");
                }
                Err(error) => tracing::debug!(session, %error, "expiry not committed"),
            }
        });
        join_all(commits).await;
    }

    /// Drop the data of unlinked files that nobody holds open.
    async fn purge(&mut self) {
        if self.orphans.is_empty() {
            return;
        }
        let committed = self.node.machine.state().sessions();
        let most = self.node.policy().purged_at_once;
        loop {
            let inodes = {
                let mut sessions = self.node.machine.soft.sessions.lock();
                if !sessions.holds_are_known(committed.iter().map(|session| session.id), Instant::now()) {
                    return;
                }
                sessions.begin_purge(&self.orphans, most)
            };
            if inodes.is_empty() {
                return;
            }
            let outcome = self.node.committer.admin(self.term, Op::Purge(Purge { inodes: inodes.clone() })).await;
            self.node.machine.soft.sessions.lock().end_purge(&inodes);
            if let Err(error) = outcome {
                tracing::debug!(%error, "purge not committed");
                return;
            }
            self.node.metrics.purges.fetch_add(inodes.len() as u64, Ordering::Relaxed);
            for inode in &inodes {
                self.orphans.remove(inode);
            }
        }
    }
}

/// When the chunks were last compared with the inventories, and whether anything changed since.
struct ScanClock {
    running: Arc<AtomicBool>,
    changed: bool,
    seen_changes: u64,
    standings: HashMap<u32, Standing>,
    last: Instant,
}

impl ScanClock {
    fn new(now: Instant) -> ScanClock {
        ScanClock { running: Arc::default(), changed: true, seen_changes: 0, standings: HashMap::new(), last: now }
    }

    fn start_if_due(&mut self, node: &Arc<Node>) {
        let took = Duration::from_nanos(node.metrics.scan_ns.load(Ordering::Relaxed));
        if self.running.load(Ordering::Acquire) || self.last.elapsed() < SCAN_EVERY.max(took * SCAN_SHARE) {
            return;
        }
        let standings = node.standings(Instant::now());
        let changes = node.machine.soft.copies.read().changes;
        if !self.changed && changes == self.seen_changes && standings == self.standings {
            return;
        }
        (self.changed, self.seen_changes, self.standings) = (false, changes, standings.clone());
        self.last = Instant::now();
        self.running.store(true, Ordering::Release);
        let (node, running) = (node.clone(), self.running.clone());
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let led_since = node.machine.soft.sessions.lock().since();
            let state = node.machine.frozen();
            let copies = state.cluster().map_or(node.config.copies, |cluster| cluster.copies);
            let found = scan(|from, n| state.chunks_from(from, n), copies, &standings, &node.machine.soft.copies);
            // A scan begun under another leadership compared with inventories that are gone.
            if node.machine.soft.sessions.lock().since() == led_since {
                node.health.lock().renew(found, Instant::now());
            }
            node.metrics.scan_ns.store(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            running.store(false, Ordering::Release);
        });
    }
}

impl Node {
    /// What this leader knows of each chunkserver, for judging chunks.
    pub fn standings(&self, now: Instant) -> HashMap<u32, Standing> {
        let committed = self.machine.state().servers();
        let delay = self.policy().heal_delay;
        let servers = self.servers.lock();
        let copies = self.machine.soft.copies.read();
        let standing = |server: &meta::ServerState| Standing {
            up: server.up,
            down_long: !server.up && servers.down_for(server.id, now) > delay,
            inventory_known: copies.is_known(server.id),
        };
        committed.iter().map(|server| (server.id, standing(server))).collect()
    }

    /// Send waiting deletes to every server that has none running. What a server does not answer is found as orphans.
    pub fn pump_deletes(self: &Arc<Node>) {
        let orders = self.deletes.lock().next_orders();
        for (server, chunks) in orders {
            let node = self.clone();
            tokio::spawn(async move {
                node.delete_copies(server, chunks).await;
                node.deletes.lock().done(server);
            });
        }
    }

    async fn delete_copies(&self, server: u32, chunks: Vec<ChunkRef>) {
        let command = Command::Delete(DeleteChunks { chunks: chunks.clone() });
        match self.order(server, command, DELETE_TIMEOUT).await {
            Ok(_) => {
                self.metrics.deletes.fetch_add(chunks.len() as u64, Ordering::Relaxed);
                let mut copies = self.machine.soft.copies.write();
                for chunk in chunks {
                    copies.deleted(server, chunk.id, chunk.version);
                }
            }
            Err(error) => {
                tracing::warn!(server, chunks = chunks.len(), %error, "copies were not deleted; they will be found as orphans");
            }
        }
    }
}
