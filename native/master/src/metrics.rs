//! Counters of one master: updated without locks, read as plain tuples. What the numbers mean: the registry on the Python side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wire::op::{self, TABLE};
use wire::proto::NameRequest;

/// (name, labels, value).
pub type Metric = (&'static str, Vec<(&'static str, String)>, f64);

#[derive(Default)]
pub struct Metrics {
    /// As `wire::op::TABLE`.
    ops: [AtomicU64; TABLE.len()],
    commits: AtomicU64,
    commit_ns: AtomicU64,
    commit_max_ns: AtomicU64,
    batches: AtomicU64,
    batched: AtomicU64,
    pub heals_ok: AtomicU64,
    pub heals_failed: AtomicU64,
    pub deletes: AtomicU64,
    pub purges: AtomicU64,
    pub sessions_expired: AtomicU64,
    pub scan_ns: AtomicU64,
    pub elections_won: AtomicU64,
    pub settled: AtomicU64,
    pub differing: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Metrics {
    pub fn op(&self, request: &NameRequest) {
        if let Some(op) = &request.op {
            add(&self.ops[op::place(op)], 1);
        }
    }

    pub fn batch(&self, commands: usize) {
        add(&self.batches, 1);
        add(&self.batched, commands as u64);
    }

    pub fn committed(&self, took: Duration) {
        let took_ns = took.as_nanos() as u64;
        add(&self.commits, 1);
        add(&self.commit_ns, took_ns);
        self.commit_max_ns.fetch_max(took_ns, Ordering::Relaxed);
    }

    /// The largest commit latency starts anew with each reading.
    pub fn read(&self) -> Vec<Metric> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut metrics: Vec<Metric> = TABLE
            .iter()
            .zip(&self.ops)
            .map(|(row, count)| ("mooseng_master_ops_total", vec![("op", row.name.to_string())], get(count)))
            .collect();
        let plain = [
            ("mooseng_master_commit_seconds_sum", get(&self.commit_ns) / 1e9),
            ("mooseng_master_commit_seconds_count", get(&self.commits)),
            ("mooseng_master_commit_seconds_max", self.commit_max_ns.swap(0, Ordering::Relaxed) as f64 / 1e9),
            ("mooseng_master_batch_commands_sum", get(&self.batched)),
            ("mooseng_master_batch_commands_count", get(&self.batches)),
            ("mooseng_master_chunk_deletes_total", get(&self.deletes)),
            ("mooseng_master_purged_inodes_total", get(&self.purges)),
            ("mooseng_master_sessions_expired_total", get(&self.sessions_expired)),
            ("mooseng_master_health_scan_seconds", get(&self.scan_ns) / 1e9),
            ("mooseng_master_elections_won_total", get(&self.elections_won)),
            ("mooseng_master_settled_chunks_total", get(&self.settled)),
            ("mooseng_master_differing_copies_total", get(&self.differing)),
        ];
        metrics.extend(plain.into_iter().map(|(name, value)| (name, Vec::new(), value)));
        for (result, count) in [("ok", &self.heals_ok), ("failed", &self.heals_failed)] {
            metrics.push(("mooseng_master_heals_total", vec![("result", result.to_string())], get(count)));
        }
        metrics
    }
}
