//! How fast one process with three chunkservers takes writes through a chain and answers small reads, and what it
//! costs in CPU. `chain_rate [directory] [MiB]`; the directory decides which disk is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, Result, crc};
use chunkserver::{ChunkServer, ChunkServerConfig, DirectIo};
use futures::{StreamExt, TryStreamExt, stream};
use wire::proto::{ChunkRead, ChunkRef, ChunkSync, ChunkWrite, Hello, Replica, Role};
use wire::{Link, LinkConfig, Method};

const MIB: usize = 1 << 20;
const WINDOW: usize = 8;

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

async fn start(
    directory: &std::path::Path,
    server_id: u32,
    direct_io: DirectIo,
) -> Result<(Arc<ChunkServer>, Arc<Link>)> {
    let disk = directory.join(format!("server-{server_id}"));
    std::fs::create_dir_all(&disk)?;
    let server = ChunkServer::start(ChunkServerConfig {
        cluster_id: "rate".to_string(),
        server_id,
        masters: vec!["127.0.0.1:1".to_string()],
        listen: "127.0.0.1:0".to_string(),
        advertise: String::new(),
        disks: vec![disk],
        heartbeat_ms: 1000,
        direct_io,
        reserve_bytes: 0,
        scrub_mb_s: 0,
        payload_budget_bytes: 512 << 20,
    })
    .await?;
    let hello = Hello { cluster_id: "rate".to_string(), role: Role::Client as i32, ..wire::link::hello() };
    let link = Link::connect(&server.address(), &LinkConfig { hello, connect_timeout: Duration::from_secs(2) }).await?;
    Ok((server, link))
}

async fn write_all(links: &[Arc<Link>], chain: &[Replica], first_chunk: u64, mib: usize) -> Result<()> {
    let data = Arc::new(Buffer::copy_of(&(0..MIB).map(|at| (at * 31 + at / 4096) as u8).collect::<Vec<_>>()));
    stream::iter((0..mib).map(Ok))
        .try_for_each_concurrent(WINDOW, |at| {
            let (link, data) = (links[0].clone(), data.clone());
            async move {
                let offset = at % 64 * MIB;
                let message = ChunkWrite {
                    chunk: Some(ChunkRef { id: first_chunk + (at / 64) as u64, version: 1 }),
                    offset: offset as u32,
                    length: MIB as u32,
                    crcs: crc::piece_crcs(offset, &data),
                    create: true,
                    chain: chain.to_vec(),
                    sync: false,
                    writer: 0,
                    round: 0,
                };
                link.call(Method::ChunkWrite, &message, Some(data), deadline()).await.map(|_| ())
            }
        })
        .await
}

async fn sync_all(servers: &[(Arc<ChunkServer>, Arc<Link>)], first_chunk: u64, mib: usize) -> Result<()> {
    for (server, link) in servers {
        let boot_id = server.status()["boot_id"].as_u64().unwrap_or(0);
        for id in first_chunk..first_chunk + mib.div_ceil(64) as u64 {
            let message = ChunkSync { chunk: Some(ChunkRef { id, version: 1 }), boot_id };
            link.call(Method::ChunkSync, &message, None, Deadline::after(Duration::from_secs(120))).await?;
        }
    }
    Ok(())
}

async fn reads(link: &Arc<Link>, mib: usize, count: usize, length: usize, window: usize) -> Result<()> {
    let mut at = 12345usize;
    let mut next = move || {
        at = at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (at >> 20) % (mib * MIB / length) * length
    };
    let requests: Vec<usize> = (0..count).map(|_| next()).collect();
    stream::iter(requests)
        .map(|at| async move {
            let (id, offset) = (1 + (at / (64 * MIB)) as u64, (at % (64 * MIB)) as u32);
            let message = ChunkRead { chunk: Some(ChunkRef { id, version: 1 }), offset, length: length as u32 };
            let answer = link.call(Method::ChunkRead, &message, None, deadline()).await?;
            assert_eq!(answer.payload.map(|payload| payload.len()), Some(length));
            Ok::<(), base::Error>(())
        })
        .buffer_unordered(window)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let mib: usize = arguments.next().and_then(|mib| mib.parse().ok()).unwrap_or(512);
    let direct_io = match arguments.next().as_deref() {
        Some("on") => DirectIo::On,
        Some("off") => DirectIo::Off,
        _ => DirectIo::Auto,
    };
    let directory = tempfile::tempdir_in(parent)?;
    let mut servers = Vec::new();
    for server_id in 1..=3 {
        servers.push(start(directory.path(), server_id, direct_io).await?);
    }
    let links: Vec<Arc<Link>> = servers.iter().map(|(_, link)| link.clone()).collect();
    let replica = |at: usize| Replica { server_id: at as u32 + 1, address: servers[at].0.address() };
    let gib = mib as f64 / 1024.0;

    for (name, first, chain) in [("chain of 3", 1, vec![replica(1), replica(2)]), ("one copy", 1001, vec![])] {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        write_all(&links, &chain, first, mib).await?;
        let (took, used) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let servers = if chain.is_empty() { &servers[..1] } else { &servers[..] };
        sync_all(servers, first, mib).await?;
        let synced = started.elapsed().as_secs_f64();
        println!(
            "write, {name}: {:.0} MB/s acknowledged, {:.0} MB/s with sync, {:.2} CPU-s per GiB (client included)",
            mib as f64 * 1.048576 / took,
            mib as f64 * 1.048576 / synced,
            used / gib
        );
    }
    for (name, length, window, count) in [
        ("4 KiB, one at a time", 4096, 1, 20_000),
        ("4 KiB, window 16", 4096, 16, 60_000),
        ("1 MiB, window 4", MIB, 4, 1024),
    ] {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        reads(&links[0], mib, count, length, window).await?;
        let took = started.elapsed().as_secs_f64();
        println!(
            "read, {name}: {:.0}/s, {:.0} MB/s, {:.1} us CPU each (client included)",
            count as f64 / took,
            (count * length) as f64 / took / 1e6,
            (cpu_seconds() - cpu) * 1e6 / count as f64
        );
    }
    for (server, _) in &servers {
        server.stop().await;
    }
    Ok(())
}
