//! How many requests of each kind, how long they took, how many failed. Counters only; cheap enough for every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A name, its labels, a value.
pub type Metric = (&'static str, Vec<(&'static str, String)>, f64);

macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// The kinds of requests that are counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation { $($variant),* }
        const NAMES: &[&str] = &[$($name),*];
    };
}

operations! {
    Lookup "lookup", GetAttr "getattr", SetAttr "setattr", ReadLink "readlink", MkNod "mknod", MkDir "mkdir",
    Unlink "unlink", RmDir "rmdir", Symlink "symlink", Rename "rename", Link "link", Open "open", Create "create",
    Read "read", Write "write", Flush "flush", Release "release", Fsync "fsync", OpenDir "opendir", ReadDir "readdir",
    ReadDirPlus "readdirplus", StatFs "statfs", Access "access",
    GetXattr "getxattr", SetXattr "setxattr", ListXattr "listxattr", RemoveXattr "removexattr", TmpFile "tmpfile", Statx "statx", Lseek "lseek",
    Fallocate "fallocate", CopyFileRange "copy_file_range",
}

#[derive(Default)]
struct Counter {
    count: AtomicU64,
    failed: AtomicU64,
    busy_ns: AtomicU64,
    /// Since it was last asked for.
    longest_ns: AtomicU64,
}

pub struct Counters {
    operations: Vec<Counter>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        let operations = NAMES.iter().map(|_| Counter::default()).collect();
        Counters { operations, read_bytes: AtomicU64::new(0), written_bytes: AtomicU64::new(0) }
    }
}

impl Counters {
    pub fn done(&self, operation: Operation, took: Duration) {
        let counter = &self.operations[operation as usize];
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counter.count.fetch_add(1, Ordering::Relaxed);
        counter.busy_ns.fetch_add(took_ns, Ordering::Relaxed);
        counter.longest_ns.fetch_max(took_ns, Ordering::Relaxed);
    }

    pub fn failed(&self, operation: Operation) {
        self.operations[operation as usize].failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut metrics = vec![
            ("mooseng_fuse_read_bytes_total", Vec::new(), value(&self.read_bytes)),
            ("mooseng_fuse_written_bytes_total", Vec::new(), value(&self.written_bytes)),
        ];
        for (name, counter) in NAMES.iter().zip(&self.operations) {
            let labels = || vec![("operation", (*name).to_string())];
            metrics.push(("mooseng_fuse_request_seconds_sum", labels(), value(&counter.busy_ns) / 1e9));
            metrics.push(("mooseng_fuse_request_seconds_count", labels(), value(&counter.count)));
            let longest = counter.longest_ns.swap(0, Ordering::Relaxed) as f64 / 1e9;
            metrics.push(("mooseng_fuse_request_seconds_max", labels(), longest));
            metrics.push(("mooseng_fuse_request_errors_total", labels(), value(&counter.failed)));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_counted_under_its_own_name() {
        let counters = Counters::default();
        counters.done(Operation::Access, Duration::from_millis(500));
        counters.failed(Operation::Access);
        let label = vec![("operation", "access".to_string())];
        let metrics = counters.metrics();
        assert!(metrics.contains(&("mooseng_fuse_request_seconds_sum", label.clone(), 0.5)));
        assert!(metrics.contains(&("mooseng_fuse_request_errors_total", label, 1.0)));
    }
}
