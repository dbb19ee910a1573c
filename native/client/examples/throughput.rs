//! Sequential write and read through the engine, against a cluster in this process or the masters that are named:
//! `throughput [MiB] [host:port,...]`. Every byte read is compared with the byte written.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use client::{ClientConfig, Engine};
use support::*;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(512);
    let (cluster, engine) = match arguments.next() {
        Some(masters) => {
            let config = ClientConfig::new(masters.split(',').map(str::to_string).collect());
            (None, Engine::connect(config).await.expect("the cluster answers"))
        }
        None => {
            let cluster = Cluster::start_in(tempfile::tempdir_in(".").unwrap(), 3, 3).await;
            let engine = cluster.engine().await;
            (Some(cluster), engine)
        }
    };
    let name = format!("throughput-{}", std::process::id());
    let (inode, handle) = create(&engine, &name).await;
    let block = Random(3).bytes(1 << 20);
    let start = Instant::now();
    for at in 0..mib {
        engine.write(handle, at << 20, &block).await.unwrap();
    }
    let taken = start.elapsed();
    engine.flush(handle).await.unwrap();
    rate("write", mib, start, Some(taken));
    engine.release(handle).await.unwrap();

    for pass in ["first read", "second read"] {
        let handle = open(&engine, inode).await;
        let start = Instant::now();
        for at in 0..mib {
            let data = engine.read(handle, at << 20, 1 << 20).await.unwrap();
            assert!(data[..] == block[..], "block {at} differs");
        }
        rate(pass, mib, start, None);
        engine.release(handle).await.unwrap();
    }
    let count = 400;
    let start = Instant::now();
    for at in 0..count {
        let (_, handle) = create(&engine, &format!("{name}-{at}")).await;
        engine.write(handle, 0, &block[..4096]).await.unwrap();
        engine.flush(handle).await.unwrap();
        engine.release(handle).await.unwrap();
    }
    println!("create + write 4 KiB + close: {:.0}/s", f64::from(count) / start.elapsed().as_secs_f64());
    engine.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
}

fn rate(what: &str, mib: u64, start: Instant, before_flush: Option<std::time::Duration>) {
    let seconds = start.elapsed().as_secs_f64();
    let before =
        before_flush.map(|taken| format!(" ({:.2} s before the flush)", taken.as_secs_f64())).unwrap_or_default();
    println!("{what}: {mib} MiB in {seconds:.2} s{before}: {:.0} MB/s", mib as f64 * 1.048576 / seconds);
}
