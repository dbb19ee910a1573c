//! Counters of one chunkserver, and how they become the metrics of the registry. Relaxed atomics: figures, not locks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Name, labels, value.
pub type Metric = (&'static str, Vec<(&'static str, String)>, f64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write,
    Fill,
    Copy,
    Trim,
    Sync,
    Read,
    Map,
}

impl Op {
    const ALL: [(Op, &'static str); 7] = [
        (Op::Write, "write"),
        (Op::Fill, "fill"),
        (Op::Copy, "copy"),
        (Op::Trim, "trim"),
        (Op::Sync, "sync"),
        (Op::Read, "read"),
        (Op::Map, "map"),
    ];
}

#[derive(Default)]
struct OpCounter {
    total: AtomicU64,
    failed: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

#[derive(Default)]
pub struct Metrics {
    ops: [OpCounter; 7],
    pub read_bytes: AtomicU64,
    pub written_bytes: AtomicU64,
    pub bad_blocks_read: AtomicU64,
    pub bad_blocks_scrubbed: AtomicU64,
    pub copies_done: AtomicU64,
    pub copies_failed: AtomicU64,
    pub copied_bytes: AtomicU64,
    pub chunks_deleted: AtomicU64,
    pub chain_failures: AtomicU64,
    pub registrations: AtomicU64,
}

pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

impl Metrics {
    pub fn finished(&self, op: Op, started: Instant, ok: bool) {
        let counter = &self.ops[op as usize];
        let took = nanos(started.elapsed());
        add(&counter.total, 1);
        add(&counter.failed, u64::from(!ok));
        add(&counter.sum_ns, took);
        counter.max_ns.fetch_max(took, Relaxed);
    }

    /// What the leader is told in each heartbeat.
    pub fn for_heartbeat(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("read_bytes", load(&self.read_bytes)),
            ("written_bytes", load(&self.written_bytes)),
            ("bad_blocks", load(&self.bad_blocks_read) + load(&self.bad_blocks_scrubbed)),
            ("copies_done", load(&self.copies_done)),
            ("copies_failed", load(&self.copies_failed)),
            ("chain_failures", load(&self.chain_failures)),
        ]
    }

    /// Everything that is counted here. Reading resets the maxima.
    pub fn export(&self) -> Vec<Metric> {
        let mut out = Vec::new();
        for (op, name) in Op::ALL {
            let counter = &self.ops[op as usize];
            let label = || vec![("op", name.to_string())];
            let seconds = |ns: u64| ns as f64 / 1e9;
            out.push(("mooseng_chunkserver_ops_total", label(), load(&counter.total)));
            out.push(("mooseng_chunkserver_ops_failed_total", label(), load(&counter.failed)));
            out.push(("mooseng_chunkserver_op_seconds_sum", label(), seconds(counter.sum_ns.load(Relaxed))));
            out.push(("mooseng_chunkserver_op_seconds_count", label(), load(&counter.total)));
            out.push(("mooseng_chunkserver_op_seconds_max", label(), seconds(counter.max_ns.swap(0, Relaxed))));
        }
        let found = |how: &str| vec![("found_by", how.to_string())];
        let outcome = |how: &str| vec![("outcome", how.to_string())];
        out.extend([
            ("mooseng_chunkserver_read_bytes_total", vec![], load(&self.read_bytes)),
            ("mooseng_chunkserver_written_bytes_total", vec![], load(&self.written_bytes)),
            ("mooseng_chunkserver_bad_blocks_total", found("read"), load(&self.bad_blocks_read)),
            ("mooseng_chunkserver_bad_blocks_total", found("scrub"), load(&self.bad_blocks_scrubbed)),
            ("mooseng_chunkserver_copies_total", outcome("done"), load(&self.copies_done)),
            ("mooseng_chunkserver_copies_total", outcome("failed"), load(&self.copies_failed)),
            ("mooseng_chunkserver_copied_bytes_total", vec![], load(&self.copied_bytes)),
            ("mooseng_chunkserver_chunks_deleted_total", vec![], load(&self.chunks_deleted)),
            ("mooseng_chunkserver_chain_failures_total", vec![], load(&self.chain_failures)),
            ("mooseng_chunkserver_registrations_total", vec![], load(&self.registrations)),
        ]);
        out
    }
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_counted_under_its_own_name() {
        let metrics = Metrics::default();
        metrics.finished(Op::Map, Instant::now(), false);
        let map = |name| {
            metrics.export().into_iter().find(|(n, labels, _)| *n == name && labels[0].1 == "map").map(|found| found.2)
        };
        assert_eq!(map("mooseng_chunkserver_ops_total"), Some(1.0));
        assert_eq!(map("mooseng_chunkserver_ops_failed_total"), Some(1.0));
    }
}
