//! The engine against a real cluster in this process: what is written is read, through one engine and another.

mod support;

use base::crc::crc32c;
use client::{OpenFlags, SetAttr};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_mebibytes_come_back_as_they_were_written() {
    let cluster = Cluster::start(1, 3).await;
    let (writer, reader) = (cluster.engine().await, cluster.engine().await);
    let (inode, handle) = create(&writer, "big").await;
    let block = Random(7).bytes(1 << 20);
    let mut sums = Vec::new();
    for at in 0..200u64 {
        let mut data = block.clone();
        data[..8].copy_from_slice(&at.to_le_bytes());
        sums.push(crc32c(&data));
        assert_eq!(writer.write(handle, at << 20, &data).await.unwrap(), 1 << 20);
    }
    writer.flush(handle).await.unwrap();
    assert_eq!(writer.status()["dirty_bytes"], 0);
    let handle = open(&reader, inode).await;
    assert_eq!(reader.getattr(&root(), inode).await.unwrap().size, 200 << 20);
    for (at, sum) in sums.iter().enumerate() {
        let data = reader.read(handle, (at as u64) << 20, 1 << 20).await.unwrap();
        assert_eq!((data.len(), crc32c(&data)), (1 << 20, *sum), "block {at}");
    }
    assert!(metric(&reader, "mooseng_client_read_ahead_hits_total") > 100.0);
    assert_eq!(metric(&reader, "mooseng_client_crc_errors_total"), 0.0);
    cluster.stop().await;
}

/// Random writes, truncations, flushes and reads through two handles of one engine against a vector.
async fn play(cluster: &Cluster, seed: u64, span: u64, longest: u64, steps: usize) {
    let engine = cluster.engine().await;
    let mut random = Random(seed);
    let (inode, first) = create(&engine, &format!("model{seed}-{span}")).await;
    let mut handles = [first, open(&engine, inode).await];
    let mut model: Vec<u8> = Vec::new();
    for step in 0..steps {
        let which = random.below(2) as usize;
        let handle = handles[which];
        let what = random.below(20);
        let (at, length) = (random.below(span), 1 + random.below(longest));
        match what {
            0..=8 => {
                let data = random.bytes(length as usize);
                engine.write(handle, at, &data).await.unwrap();
                let end = (at + length) as usize;
                model.resize(model.len().max(end), 0);
                model[at as usize..end].copy_from_slice(&data);
            }
            9..=14 => {
                let data = engine.read(handle, at, length as u32).await.unwrap();
                let end = model.len().min((at + length) as usize);
                let expect = model.get(at as usize..end).unwrap_or(&[]);
                assert!(data[..] == *expect, "seed {seed} step {step}: {length} bytes at {at} differ");
            }
            15 => engine.flush(handle).await.unwrap(),
            16 => {
                let change = SetAttr { inode, size: Some(at), ..SetAttr::default() };
                assert_eq!(engine.setattr(&root(), change).await.unwrap().size, at);
                model.resize(at as usize, 0);
            }
            17 => {
                engine.flush(handle).await.unwrap();
                engine.release(handle).await.unwrap();
                handles[which] = open(&engine, inode).await;
            }
            _ => assert_eq!(
                engine.getattr(&root(), inode).await.unwrap().size,
                model.len() as u64,
                "seed {seed} step {step}"
            ),
        }
    }
    engine.flush(handles[0]).await.unwrap();
    let other = cluster.engine().await;
    let handle = open(&other, inode).await;
    let seen = read_all(&other, handle, 300_000).await;
    assert!(seen == model, "seed {seed}: another engine sees other bytes ({} and {})", seen.len(), model.len());
    other.close().await;
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_order_of_writes_cuts_and_reads_gives_what_a_plain_file_gives() {
    let cluster = Cluster::start(1, 3).await;
    for seed in 1..=6 {
        play(&cluster, seed, 12_000, 5_000, 150).await; // around the inline limit
        play(&cluster, seed, 3 << 20, 700_000, 80).await; // around the cells of a chunk
    }
    play(&cluster, 9, 200 << 20, 3 << 20, 40).await; // over chunks, sparse
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_engine_closed_another_sees_at_its_next_open_or_stat() {
    let cluster = Cluster::start(1, 3).await;
    let (one, two) = (cluster.engine().await, cluster.engine().await);
    let (inode, first) = create(&one, "shared").await;
    let second = open(&two, inode).await;
    for size in [100usize, 5_000, 9_000, 70_000, 3 << 20] {
        let data = Random(size as u64).bytes(size);
        one.write(first, 0, &data).await.unwrap();
        assert_eq!(one.getattr(&root(), inode).await.unwrap().size, size as u64);
        one.flush(first).await.unwrap();
        assert_eq!(two.getattr(&root(), inode).await.unwrap().size, size as u64);
        let again = open(&two, inode).await;
        assert!(read_all(&two, again, 1 << 20).await == data, "{size}");
        assert!(read_all(&two, second, 100_000).await == data, "{size}: the old handle after a stat");
        two.release(again).await.unwrap();
    }
    // A reader at the end sees growth without a new open.
    one.write(first, 3 << 20, b"tail").await.unwrap();
    one.flush(first).await.unwrap();
    assert_eq!(&two.read(second, 3 << 20, 100).await.unwrap()[..], b"tail");
    // And the other way: the second cuts, the first sees it.
    two.setattr(&root(), SetAttr { inode, size: Some(10), ..SetAttr::default() }).await.unwrap();
    let again = open(&one, inode).await;
    assert_eq!(one.read(again, 0, 100).await.unwrap().len(), 10);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_of_two_engines_to_a_small_file_are_all_there_and_large_ones_follow_the_end() {
    let cluster = Cluster::start(1, 3).await;
    let (one, two) = (cluster.engine().await, cluster.engine().await);
    let (inode, _) = create(&one, "log").await;
    let flags = OpenFlags { append: true, ..RW };
    let (_, first) = one.open(&root(), inode, flags).await.unwrap();
    let (_, second) = two.open(&root(), inode, flags).await.unwrap();
    let lines = |engine: std::sync::Arc<client::Engine>, handle, tag: char| async move {
        for at in 0..50 {
            engine.write(handle, 0, format!("{tag}{at:06}\n").as_bytes()).await.unwrap();
        }
    };
    tokio::join!(lines(one.clone(), first, 'a'), lines(two.clone(), second, 'b'));
    let text = read_all(&one, first, 1 << 16).await;
    let mut seen: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    seen.sort();
    assert_eq!(seen.len(), 100);
    seen.dedup();
    assert_eq!(seen.len(), 100);

    // Past the inline limit: one writer at a time, each after the other's close.
    for (engine, handle, byte) in [(&one, first, b'x'), (&two, second, b'y'), (&one, first, b'z')] {
        let end = engine.append(handle, &[byte; 9_000]).await.unwrap() + 9_000;
        engine.flush(handle).await.unwrap();
        assert_eq!(engine.getattr(&root(), inode).await.unwrap().size, end);
    }
    let again = open(&two, inode).await;
    let text = read_all(&two, again, 1 << 20).await;
    assert_eq!(text.len(), 800 + 27_000);
    assert_eq!((text[800], text[9_800], text[18_800]), (b'x', b'y', b'z'));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holes_and_cut_tails_read_as_zeros() {
    let cluster = Cluster::start(1, 3).await;
    let engine = cluster.engine().await;
    let (inode, handle) = create(&engine, "sparse").await;
    engine.write(handle, 130 << 20, b"end").await.unwrap();
    engine.write(handle, 0, &[9; 100_000]).await.unwrap();
    engine.flush(handle).await.unwrap();
    assert!(engine.read(handle, 70 << 20, 1 << 20).await.unwrap().iter().all(|byte| *byte == 0));
    let cut = |size| SetAttr { inode, size: Some(size), ..SetAttr::default() };
    engine.setattr(&root(), cut(50_001)).await.unwrap();
    engine.setattr(&root(), cut(200_000)).await.unwrap();
    let data = engine.read(handle, 0, 200_000).await.unwrap();
    assert!(data[..50_001].iter().all(|byte| *byte == 9) && data[50_001..].iter().all(|byte| *byte == 0));
    // Writing behind the cut must not bring the old bytes back.
    engine.write(handle, 90_000, b"new").await.unwrap();
    engine.flush(handle).await.unwrap();
    let other = cluster.engine().await;
    let again = open(&other, inode).await;
    let data = read_all(&other, again, 1 << 20).await;
    assert_eq!(data.len(), 200_000);
    assert_eq!(&data[90_000..90_003], b"new");
    assert!(data[50_001..90_000].iter().chain(&data[90_003..]).all(|byte| *byte == 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_engines_that_outgrow_one_inline_file_at_once_both_find_their_bytes() {
    let cluster = Cluster::start(1, 3).await;
    let (one, two) = (cluster.engine().await, cluster.engine().await);
    for round in 0..5 {
        let (inode, first) = create(&one, &format!("both{round}")).await;
        one.write(first, 0, &[1; 4_000]).await.unwrap();
        one.flush(first).await.unwrap();
        let second = open(&two, inode).await;
        let (a, b) = ([2u8; 20_000], [3u8; 20_000]);
        let (left, right) =
            tokio::join!(async { one.write(first, 10_000, &a).await.and(one.flush(first).await) }, async {
                two.write(second, 40_000, &b).await.and(two.flush(second).await)
            });
        left.unwrap();
        right.unwrap();
        let again = open(&one, inode).await;
        let data = read_all(&one, again, 1 << 20).await;
        assert_eq!(data.len(), 60_000, "round {round}");
        assert!(data[..4_000].iter().all(|byte| *byte == 1), "round {round}");
        assert!(data[10_000..30_000].iter().all(|byte| *byte == 2), "round {round}");
        assert!(data[40_000..].iter().all(|byte| *byte == 3), "round {round}");
    }
    cluster.stop().await;
}
