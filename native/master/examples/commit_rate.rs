//! How many changes of names three masters commit per second, and what CPU one costs. All three run in this process,
//! on one disk; the client's frames and FUSE are not part of it. Usage: commit_rate [seconds per step] [commit window] [directory]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use master::{Master, MasterConfig};
use prost::Message;
use wire::Method;
use wire::proto::{self, Credentials, NameReply, NameRequest, name_request::Op};

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

async fn start(dir: &std::path::Path, count: usize, window: usize) -> Vec<Arc<Master>> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let peers: BTreeMap<usize, String> =
        listeners.iter().enumerate().map(|(at, l)| (at + 1, l.local_addr().expect("bound").to_string())).collect();
    drop(listeners);
    let mut masters = Vec::new();
    for (id, address) in &peers {
        let json = serde_json::json!({
            "cluster_id": "bench", "node_id": id, "listen": address, "advertise": address, "peers": peers,
            "data_dir": dir.join(format!("m{id}")), "commit_window": window,
        });
        let config = MasterConfig::from_json(&json.to_string()).expect("a good configuration");
        masters.push(Master::start(config).await.expect("a master"));
    }
    masters
}

async fn leader(masters: &[Arc<Master>]) -> Arc<Master> {
    loop {
        if let Some(leader) = masters.iter().find(|master| master.status()["is_leader"] == serde_json::json!(true)) {
            return leader.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn name(master: &Master, session: u64, op_id: u64, op: Op) -> NameReply {
    let creds = Some(Credentials::default());
    let request = NameRequest { session, op_id, acked_below: op_id, creds, op: Some(op) };
    let reply = master.call(Method::Name as u16, &request.encode_to_vec()).await.expect("an answer");
    let reply = NameReply::decode(&reply[..]).expect("a reply");
    assert!(reply.error.is_none(), "{reply:?}");
    reply
}

async fn step(master: &Arc<Master>, workers: usize, seconds: f64) {
    let done = Arc::new(AtomicU64::new(0));
    let slowest_us = Arc::new(AtomicU64::new(0));
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let tasks: Vec<_> = (0..workers)
        .map(|worker| {
            let (master, done, slowest_us) = (master.clone(), done.clone(), slowest_us.clone());
            tokio::spawn(async move {
                let register = Op::RegisterSession(proto::RegisterSession::default());
                let session = name(&master, 0, 0, register).await.session;
                let top = Op::Mkdir(proto::MkDir {
                    parent: 1,
                    name: format!("s{session}").into(),
                    mode: 0o755,
                    full_mode: None,
                });
                let parent = name(&master, session, 1, top).await.attr.expect("a directory").inode;
                let mut op_id = 2;
                while started.elapsed().as_secs_f64() < seconds {
                    let at = Instant::now();
                    let create = proto::Create {
                        parent,
                        name: format!("file-{worker}-{op_id}").into(),
                        mode: 0o644,
                        write: true,
                        ..proto::Create::default()
                    };
                    name(&master, session, op_id, Op::Create(create)).await;
                    slowest_us.fetch_max(at.elapsed().as_micros() as u64, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                    op_id += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a worker");
    }
    let (took, cpu, done) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu, done.load(Ordering::Relaxed) as f64);
    println!(
        "{workers:4} workers: {:8.0} creates/s, {:7.1} us each per worker, {:6.1} us CPU per create (three masters), slowest {:6.1} ms",
        done / took,
        took * 1e6 * workers as f64 / done,
        cpu * 1e6 / done,
        slowest_us.load(Ordering::Relaxed) as f64 / 1e3,
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let window: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let masters = start(dir.path(), 3, window).await;
    let leader = leader(&masters).await;
    for workers in [1, 8, 64, 256] {
        step(&leader, workers, seconds).await;
    }
    let value = |wanted: &str| leader.metrics().iter().find(|metric| metric.0 == wanted).map_or(0.0, |metric| metric.2);
    println!(
        "mean batch: {:.1} commands",
        value("mooseng_master_batch_commands_sum") / value("mooseng_master_batch_commands_count")
    );
    println!("tables: {:.0} bytes per inode", value("mooseng_master_tables_bytes") / value("mooseng_master_inodes"));
    for master in &masters {
        master.stop().await;
    }
}
