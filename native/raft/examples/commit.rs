//! Cost of a commit: three members in one process, real sockets and syncs, 1 and 64 proposers.
//! Run: cargo run --release -p mooseng-raft --example commit

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, Shape};

fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("/proc is there");
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
    Duration::from_millis(ticks * 10)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let cluster = Cluster::started(Shape {
        heartbeat_ms: 100,
        election_ms: (500, 1000),
        segment_bytes: 64 << 20,
        ..Shape::default()
    })
    .await;
    let leader = cluster.members[&cluster.leader().await].raft().clone();
    let started = Instant::now();
    for _ in 0..1_000_000 {
        leader.may_read().expect("the leader may be read");
    }
    println!("may_read: {:?} each", started.elapsed() / 1_000_000);
    for (proposers, each) in [(1usize, 3000usize), (4, 2000), (64, 500)] {
        let (before, started) = (cpu(), Instant::now());
        let tasks: Vec<_> = (0..proposers)
            .map(|_| {
                let leader = leader.clone();
                tokio::spawn(async move {
                    let mut took = Vec::with_capacity(each);
                    for _ in 0..each {
                        let started = Instant::now();
                        leader.propose(Bytes::from_static(&[7; 256])).await.expect("a commit");
                        took.push(started.elapsed());
                    }
                    took
                })
            })
            .collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await.expect("no panic"));
        }
        took.sort();
        let (elapsed, used, count) = (started.elapsed(), cpu() - before, took.len());
        println!(
            "{proposers:3} proposers: p50 {:?}, p99 {:?}, {:.0} commits/s, {:?} CPU each",
            took[count / 2],
            took[count * 99 / 100],
            count as f64 / elapsed.as_secs_f64(),
            used / count as u32
        );
    }
    println!("elections: {}", leader.status().elections);
    cluster.stop().await;
}
