//! Counters of one engine. Relaxed atomics: each is exact, together they are a near moment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// name, labels, value.
pub type Metric = (&'static str, Vec<(&'static str, String)>, f64);

/// How often, how long in all, and the longest since the last look.
#[derive(Default)]
pub struct Latency {
    count: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Latency {
    pub fn since(&self, start: Instant) {
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
        self.max_ns.fetch_max(ns, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

macro_rules! counters {
    ($($field:ident => $name:literal),* $(,)?) => {
        #[derive(Default)]
        pub struct Counters { $(pub $field: AtomicU64),* }
        impl Counters {
            fn list(&self) -> Vec<Metric> {
                vec![$(($name, Vec::new(), self.$field.load(Relaxed) as f64)),*]
            }
        }
    };
}

counters! {
    read_bytes => "mooseng_client_read_bytes_total",
    written_bytes => "mooseng_client_written_bytes_total",
    fetched_bytes => "mooseng_client_fetched_bytes_total",
    sent_bytes => "mooseng_client_sent_bytes_total",
    read_ahead_hits => "mooseng_client_read_ahead_hits_total",
    name_retries => "mooseng_client_name_retries_total",
    data_retries => "mooseng_client_data_retries_total",
    leader_changes => "mooseng_client_leader_changes_total",
    sessions => "mooseng_client_sessions_registered_total",
    crc_errors => "mooseng_client_crc_errors_total",
    hedges => "mooseng_client_hedged_reads_total",
    failed_replicas => "mooseng_client_failed_replicas_total",
    write_faults => "mooseng_client_write_faults_total",
}

#[derive(Default)]
pub struct Metrics {
    pub counters: Counters,
    pub name: Latency,
    pub read: Latency,
    pub write: Latency,
    pub flush: Latency,
    pub chunk_read: Latency,
    pub chunk_write: Latency,
    pub chunk_sync: Latency,
}

pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

impl Metrics {
    pub fn list(&self) -> Vec<Metric> {
        let mut list = self.counters.list();
        let kinds = [
            ("name", &self.name),
            ("read", &self.read),
            ("write", &self.write),
            ("flush", &self.flush),
            ("chunk_read", &self.chunk_read),
            ("chunk_write", &self.chunk_write),
            ("chunk_sync", &self.chunk_sync),
        ];
        for (kind, latency) in kinds {
            let label = || vec![("operation", kind.to_string())];
            let seconds = |ns: u64| ns as f64 / 1e9;
            list.push(("mooseng_client_operation_seconds_count", label(), latency.count() as f64));
            list.push(("mooseng_client_operation_seconds_sum", label(), seconds(latency.sum_ns.load(Relaxed))));
            list.push(("mooseng_client_operation_seconds_max", label(), seconds(latency.max_ns.swap(0, Relaxed))));
        }
        list
    }
}
