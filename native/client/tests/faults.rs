//! Servers of a real cluster go away while an engine works: no error reaches the application, no byte is lost.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Engine;
use support::*;

/// Write `mib` blocks, calling `disturb` in the middle; the longest single write, close included.
async fn write_with(engine: &Arc<Engine>, handle: u64, mib: u64, disturb: impl AsyncFnOnce()) -> Duration {
    let block = Random(11).bytes(1 << 20);
    let (mut longest, mut disturb) = (Duration::ZERO, Some(disturb));
    for at in 0..mib {
        if at == mib / 2
            && let Some(disturb) = disturb.take()
        {
            disturb().await;
        }
        let start = Instant::now();
        engine.write(handle, at << 20, &block).await.unwrap();
        longest = longest.max(start.elapsed());
    }
    let start = Instant::now();
    engine.flush(handle).await.unwrap();
    longest.max(start.elapsed())
}

async fn check(engine: &Engine, inode: u64, mib: u64) {
    let block = Random(11).bytes(1 << 20);
    let handle = open(engine, inode).await;
    for at in 0..mib {
        assert!(engine.read(handle, at << 20, 1 << 20).await.unwrap()[..] == block[..], "block {at}");
    }
    engine.release(handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_chunkserver_that_ends_during_writes_and_reads_costs_no_byte_and_no_error() {
    let mut cluster = Cluster::start(1, 3).await;
    let engine = cluster.engine().await;
    let (inode, handle) = create(&engine, "writes").await;
    let longest = write_with(&engine, handle, 48, async || cluster.stop_server(1).await).await;
    assert!(longest < Duration::from_secs(6), "a write stalled for {longest:?}");
    assert!(metric(&engine, "mooseng_client_failed_replicas_total") >= 1.0);
    check(&engine, inode, 48).await;

    // The copies that stayed hold every byte: each alone is enough for a reader.
    cluster.start_server(1).await;
    cluster.stop_server(0).await;
    let other = cluster.engine().await;
    check(&other, inode, 48).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_ends_during_writes_is_followed_to_the_next_one() {
    let mut cluster = Cluster::start(3, 3).await;
    let engine = cluster.engine().await;
    let (inode, handle) = create(&engine, "fail-over").await;
    let before = engine.status()["leader"].clone();
    let longest = write_with(&engine, handle, 130, async || {
        cluster.stop_leader().await;
    })
    .await;
    println!("longest stall {longest:?}");
    assert!(longest < Duration::from_secs(10), "a write stalled for {longest:?}");
    create(&engine, "after").await;
    assert_ne!(engine.status()["leader"], before);
    check(&engine, inode, 130).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_of_many_tasks_to_one_range_leave_each_byte_from_one_of_them_on_every_copy() {
    let mut cluster = Cluster::start(1, 3).await;
    let engine = cluster.engine().await;
    let (inode, _) = create(&engine, "overlaps").await;
    let writers: Vec<_> = (1..=8u8)
        .map(|tag| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let handle = open(&engine, inode).await;
                let mut random = Random(u64::from(tag));
                for _ in 0..40 {
                    let (at, length) = (random.below(200_000), 1 + random.below(60_000));
                    engine.write(handle, at, &vec![tag; length as usize]).await.unwrap();
                    let seen = engine.read(handle, at, 1).await.unwrap()[0];
                    assert!((1..=8).contains(&seen));
                }
                engine.flush(handle).await.unwrap();
                engine.release(handle).await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let handle = open(&engine, inode).await;
    let first = read_all(&engine, handle, 1 << 20).await;
    // Every copy alone gives the same bytes.
    for away in 0..3 {
        cluster.stop_server(away).await;
        let other = cluster.engine().await;
        let handle = open(&other, inode).await;
        assert!(read_all(&other, handle, 1 << 20).await == first, "without server {}", away + 1);
        other.close().await;
        cluster.start_server(away).await;
    }
    cluster.stop().await;
}
