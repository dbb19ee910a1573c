//! What operators and planners see: the cluster, one file's chunks, status and metrics. Any master answers from what
//! it applied; what only a leader knows is empty elsewhere. Changes nothing.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::Result;
use meta::State;
use wire::proto::{
    self, ChunkPlace, ChunkTrouble, ClusterView, Credentials, FileInfo, FileInfoRequest, GetChunks, MasterView,
    NameReply, NameRequest, OrphanChunk, Resolve, ServerView, SessionView, ViewRequest, name_request::Op,
};

use crate::health::{MOST_LISTED, Standing, judge};
use crate::metrics::Metric;
use crate::node::Node;

/// Chunks asked for at a time, and shown at most: 4 TiB of one file, within one message.
const PAGE_CHUNKS: u32 = 1024;
const MOST_PLACES: usize = 16_384;
/// Troubled chunks in one answer, so that it fits one message.
const MOST_TROUBLED: usize = MOST_LISTED;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    pub fn view(&self, request: ViewRequest) -> ClusterView {
        let now = Instant::now();
        let state = self.machine.frozen();
        let leadership = self.leadership.borrow().clone();
        let raft = self.consensus.status();
        let is_leader = self.serving_term().is_some();
        let counters = state.counters();
        let (copies, min_copies) = match state.cluster() {
            Some(cluster) => (cluster.copies, cluster.min_copies),
            None => (self.config.copies, self.config.min_copies),
        };
        let mut view = ClusterView {
            term: leadership.term,
            leader: leadership.leader_address.unwrap_or_default(),
            no_leader: leadership.missing.unwrap_or_default(),
            is_leader,
            leader_id: u32::try_from(leadership.leader.unwrap_or(0)).unwrap_or(0),
            cluster_id: self.config.cluster_id.clone(),
            masters: self.masters(&raft),
            servers: self.server_views(&state, now),
            inodes: counters.inodes,
            chunks: counters.chunks,
            sessions: counters.sessions,
            copies,
            min_copies,
            elections: raft.elections,
            heals_running: self.heals.count() as u64,
            memory_bytes: state.memory_bytes(),
            healing: state.healing(),
            level: state.level(),
            refused: self.refusals.lock().views(now),
            ..ClusterView::default()
        };
        {
            let health = self.health.lock();
            view.under_replicated = health.findings.under_replicated;
            view.missing = health.findings.missing;
            view.kept_orphans =
                health.findings.orphans.iter().filter(|orphan| state.keeps_unknown(orphan.chunk)).count() as u64;
        }
        if request.with_chunks && is_leader {
            view.troubled = self.troubled(&state, copies, now);
            view.orphans = self.orphan_chunks(&state, now);
        }
        if request.with_sessions {
            view.session_list = self.session_views(&state, now);
        }
        view
    }

    fn masters(&self, raft: &raft::RaftStatus) -> Vec<MasterView> {
        let said = self.others.lock();
        let leader = self.leadership.borrow().leader;
        let view = |(id, address, matched, voter): &(u64, String, Option<u64>, bool)| {
            let node_id = u32::try_from(*id).unwrap_or(0);
            if node_id == self.config.node_id {
                return MasterView {
                    node_id,
                    address: self.config.advertise.clone(),
                    role: raft.role.name().to_string(),
                    last_log: raft.last_log,
                    applied: raft.applied,
                    snapshot: raft.snapshot,
                    level: self.config.level,
                };
            }
            let mut view = said.get(&node_id).cloned().unwrap_or(MasterView {
                node_id,
                role: "unreachable".to_string(),
                last_log: matched.unwrap_or(0),
                ..MasterView::default()
            });
            view.address.clone_from(address);
            // Said up to a second ago; who leads is known better here.
            match view.role.as_str() {
                "unreachable" => {}
                _ if leader == Some(*id) => view.role = "leader".to_string(),
                "leader" => view.role = "follower".to_string(),
                _ if !voter => view.role = "learner".to_string(),
                _ => {}
            }
            view
        };
        let mut masters: Vec<MasterView> = raft.members.iter().map(view).collect();
        if masters.is_empty() {
            // Before the first membership is known: what the configuration says.
            let configured =
                self.config.peers.iter().map(|(id, address)| (u64::from(*id), address.clone(), None, true));
            masters = configured.map(|member| view(&member)).collect();
        }
        masters
    }

    fn server_views(&self, state: &State, now: Instant) -> Vec<ServerView> {
        let servers = self.servers.lock();
        let copies = self.machine.soft.copies.read();
        let view = |server: meta::ServerState| {
            let registered = servers.get(server.id);
            ServerView {
                server_id: server.id,
                last_seen_ms: ms(servers.silent_for(server.id, now)),
                disks: registered.map(|registered| registered.disks.clone()).unwrap_or_default(),
                version: registered.map(|registered| registered.version.clone()).unwrap_or_default(),
                inventory_known: copies.is_known(server.id),
                address: server.address,
                epoch: server.epoch,
                up: server.up,
                weight: server.weight,
                chunks: server.chunks,
            }
        };
        state.servers().into_iter().map(view).collect()
    }

    /// The last scan's finds, judged again as of now.
    fn troubled(&self, state: &State, copies: u32, now: Instant) -> Vec<ChunkTrouble> {
        let standings = self.standings(now);
        let ids: Vec<u64> = self.health.lock().findings.troubled().collect();
        let led_since = self.machine.soft.sessions.lock().since();
        let grants = self.machine.soft.grants.lock().clone();
        let inventories = self.machine.soft.copies.read();
        let trouble = |id: u64| {
            let chunk = state.chunk(id)?;
            let standing = |server: u32| standings.get(&server).copied().unwrap_or_default();
            let judged = judge(&chunk, copies, standing, |server| inventories.get(server, id));
            let granted = grants.get(&id).copied().unwrap_or(led_since);
            judged.troubled.then(|| ChunkTrouble {
                idle_ms: ms(now.saturating_duration_since(granted)),
                live: judged.live,
                bad: judged.bad,
                chunk: Some(chunk),
            })
        };
        ids.into_iter().filter_map(trouble).take(MOST_TROUBLED).collect()
    }

    fn orphan_chunks(&self, state: &State, now: Instant) -> Vec<OrphanChunk> {
        let health = self.health.lock();
        let belongs = |server: u32, chunk: u64| {
            state.chunk(chunk).is_some_and(|chunk| chunk.servers.contains(&server) || chunk.heal_target == server)
        };
        let orphans = health.orphans().filter(|(orphan, _)| !belongs(orphan.server, orphan.chunk));
        orphans
            .map(|(orphan, since)| OrphanChunk {
                server_id: orphan.server,
                chunk_id: orphan.chunk,
                version: orphan.version,
                age_ms: ms(now.saturating_duration_since(since)),
                kept: state.keeps_unknown(orphan.chunk),
            })
            .collect()
    }

    fn session_views(&self, state: &State, now: Instant) -> Vec<SessionView> {
        let sessions = self.machine.soft.sessions.lock();
        let view = |session: meta::SessionState| {
            let (idle, open) = sessions.idle(session.id, now);
            SessionView {
                id: session.id,
                name: session.name,
                host: session.host,
                mount_point: session.mount_point,
                idle_ms: ms(idle),
                open_inodes: open as u64,
            }
        };
        state.sessions().into_iter().take(MOST_LISTED).map(view).collect()
    }

    /// A file's attributes and where its chunks lie. The leader's answer is linearizable, a follower's may be old.
    pub fn file_info(&self, request: &FileInfoRequest) -> Result<FileInfo> {
        let state = match self.serving_term() {
            Some(_) => self.consensus.read(|| self.machine.frozen())?,
            None => self.machine.frozen(),
        };
        let path = request.path.trim_start_matches('/').as_bytes().to_vec();
        let resolved = ask(&state, Op::Resolve(Resolve { start: 0, path, follow: true }));
        let attr = match (resolved.error, resolved.attr) {
            (None, Some(attr)) => attr,
            (error, _) => return Ok(FileInfo { error, ..FileInfo::default() }),
        };
        let mut info = FileInfo { attr: Some(attr), ..FileInfo::default() };
        if attr.kind == proto::FileKind::FileRegular as i32 {
            self.add_chunks(&state, attr.inode, &mut info);
        }
        Ok(info)
    }

    fn add_chunks(&self, state: &State, inode: u64, info: &mut FileInfo) {
        let standings = self.standings(Instant::now());
        let mut first = 0;
        while info.chunks.len() < MOST_PLACES {
            let page = ask(state, Op::GetChunks(GetChunks { inode, first, count: PAGE_CHUNKS }));
            if page.error.is_some() {
                info.error = page.error;
                return;
            }
            info.is_inline = page.is_inline;
            let Some(last) = page.chunks.last() else { return };
            first = last.index + 1;
            info.chunks.extend(page.chunks.into_iter().map(|chunk| self.place(state, chunk, &standings)));
        }
    }

    fn place(&self, state: &State, info: proto::ChunkInfo, standings: &HashMap<u32, Standing>) -> ChunkPlace {
        let standing = |server: u32| standings.get(&server).copied().unwrap_or_default();
        let id = info.chunk.as_ref().map_or(0, |chunk| chunk.id);
        let copies = self.machine.soft.copies.read();
        let judged = state.chunk(id).map(|chunk| judge(&chunk, 0, standing, |server| copies.get(server, id)));
        ChunkPlace { copies_live: judged.map_or(0, |judged| judged.live.len() as u64), info: Some(info) }
    }

    pub fn status(&self) -> serde_json::Value {
        let raft = self.consensus.status();
        let leadership = self.leadership.borrow().clone();
        let (counters, servers, level) = {
            let state = self.machine.state();
            (state.counters(), state.servers(), state.level())
        };
        serde_json::json!({
            "node_id": self.config.node_id,
            "cluster_id": self.config.cluster_id,
            "role": raft.role.name(),
            "term": leadership.term,
            "leader": leadership.leader_address,
            "leader_id": leadership.leader,
            "is_leader": self.serving_term().is_some(),
            "no_leader": leadership.missing,
            "outdated": raft.outdated,
            "ready": leadership.leader.is_some() && raft.failed.is_none() && raft.outdated.is_none() && !self.stopping.load(Ordering::Acquire),
            "failed": raft.failed,
            "snapshot_trouble": raft.snapshot_trouble,
            "last_log": raft.last_log,
            "committed": raft.committed,
            "applied": raft.applied,
            "snapshot": raft.snapshot,
            "elections": raft.elections,
            "level": level,
            "inodes": counters.inodes,
            "chunks": counters.chunks,
            "sessions": counters.sessions,
            "servers_up": servers.iter().filter(|server| server.up).count(),
            "stopping": self.stopping.load(Ordering::Acquire),
        })
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.metrics.read();
        metrics.extend(self.consensus.metrics());
        let raft = self.consensus.status();
        let (counters, servers, memory_bytes, level) = {
            let state = self.machine.state();
            (state.counters(), state.servers(), state.memory_bytes(), state.level())
        };
        let refused = self.refusals.lock().views(Instant::now()).len();
        let (under_replicated, missing, orphan_copies) = {
            let health = self.health.lock();
            let findings = &health.findings;
            (findings.under_replicated, findings.missing, findings.orphans.len())
        };
        let plain: [(&'static str, f64); 20] = [
            ("mooseng_master_term", raft.term as f64),
            ("mooseng_master_is_leader", f64::from(u8::from(self.serving_term().is_some()))),
            ("mooseng_master_elections_total", raft.elections as f64),
            ("mooseng_master_committed_index", raft.committed as f64),
            ("mooseng_master_applied_index", raft.applied as f64),
            ("mooseng_master_inodes", counters.inodes as f64),
            ("mooseng_master_chunks", counters.chunks as f64),
            ("mooseng_master_sessions", counters.sessions as f64),
            ("mooseng_master_file_bytes", counters.bytes as f64),
            ("mooseng_master_orphan_inodes", counters.orphans as f64),
            ("mooseng_master_under_replicated_chunks", under_replicated as f64),
            ("mooseng_master_missing_chunks", missing as f64),
            ("mooseng_master_orphan_copies", orphan_copies as f64),
            ("mooseng_master_servers_up", servers.iter().filter(|server| server.up).count() as f64),
            ("mooseng_master_queued_commands", self.committer.waiting() as f64),
            ("mooseng_master_queued_deletes", self.deletes.lock().waiting() as f64),
            ("mooseng_master_heals_running", self.heals.count() as f64),
            ("mooseng_master_refused_servers", refused as f64),
            ("mooseng_master_tables_bytes", memory_bytes as f64),
            ("mooseng_master_level", f64::from(level)),
        ];
        metrics.extend(plain.into_iter().map(|(name, value)| (name, Vec::new(), value)));
        metrics
    }
}

/// Ask the state as root.
fn ask(state: &State, op: Op) -> NameReply {
    state.query(&NameRequest { creds: Some(Credentials::default()), op: Some(op), ..NameRequest::default() })
}
