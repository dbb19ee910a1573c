//! Clients' reads and writes over chains of real chunkservers, without a master.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::ErrorKind;
use chunkserver::ChunkServerConfig;
use support::*;
use wire::Method;
use wire::proto::{ChunkCopy, ChunkFill, ChunkWrite, Fill};

fn new_chunk(id: u64, data: &[u8], chain: Vec<wire::proto::Replica>) -> Write<'_> {
    Write { chunk: chunk(id, 1), offset: 0, data, create: true, chain, sync: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_through_a_chain_of_three_is_read_back_from_each_copy() {
    let servers = [Running::start(1).await, Running::start(2).await, Running::start(3).await];
    let chain = vec![servers[1].replica(), servers[2].replica()];
    let data = pattern(1 << 20, 1);
    let stamps = write(&servers[0].link, new_chunk(7, &data, chain.clone())).await.unwrap();
    assert_eq!(stamps.iter().map(|stamp| stamp.server_id).collect::<Vec<_>>(), [1, 2, 3]);
    let part = pattern(5000, 2);
    let partial = Write { offset: 3000, create: false, sync: true, ..new_chunk(7, &part, chain) };
    write(&servers[0].link, partial).await.unwrap();
    let mut expected = data.clone();
    expected[3000..8000].copy_from_slice(&part);
    for (server, stamp) in servers.iter().zip(&stamps) {
        assert_eq!(read(&server.link, chunk(7, 1), 0, 1 << 20).await.unwrap(), expected);
        assert_eq!(read(&server.link, chunk(7, 1), 2_000_000, 10).await.unwrap(), [0; 10]);
        assert_eq!(sync(&server.link, chunk(7, 1), stamp.boot_id).await.unwrap().stored_bytes, 1 << 20);
        assert_eq!(server.metric("mooseng_chunkserver_ops_total", "write"), 2.0);
    }
    let digests = [
        map(&servers[0].link, chunk(7, 1), false).await.unwrap(),
        map(&servers[2].link, chunk(7, 1), false).await.unwrap(),
    ];
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trim_zeroes_the_tail_on_every_copy() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let chain = vec![servers[1].replica()];
    let data = pattern(20_000, 1);
    write(&servers[0].link, new_chunk(7, &data, chain.clone())).await.unwrap();
    assert_eq!(trim(&servers[0].link, chunk(7, 2), 5000, chain).await.unwrap().len(), 2);
    for server in &servers {
        let bytes = read(&server.link, chunk(7, 2), 0, 20_000).await.unwrap();
        assert_eq!(bytes[..5000], data[..5000]);
        assert!(bytes[5000..].iter().all(|byte| *byte == 0));
    }
}

async fn fill(link: &wire::Link, message: &ChunkFill) -> base::Result<Vec<wire::proto::Stamp>> {
    let reply = link.call(Method::ChunkFill, message, None, deadline()).await?;
    Ok(reply.decode::<wire::proto::ChunkWriteReply>()?.stamps)
}

/// Of chunk 7 at its first version.
fn filled(fill: Fill, offset: u32, length: u32, chain: Vec<wire::proto::Replica>) -> ChunkFill {
    let (chunk, fill) = (chunk(7, 1), fill.into());
    ChunkFill { chunk, offset, length, fill, create: false, chain, writer: 0, round: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_and_promises_are_the_same_on_every_copy() {
    let servers = [Running::start(1).await, Running::start(2).await, Running::start(3).await];
    let chain = vec![servers[1].replica(), servers[2].replica()];
    let data = pattern(1 << 20, 1);
    write(&servers[0].link, new_chunk(7, &data, chain.clone())).await.unwrap();
    let hole = fill(&servers[0].link, &filled(Fill::Hole, 1000, 500_000, chain.clone())).await.unwrap();
    assert_eq!(hole.iter().map(|stamp| stamp.server_id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(hole.iter().all(|stamp| stamp.stored_bytes < 600_000), "{hole:?}");
    let promise = fill(&servers[0].link, &filled(Fill::Promise, 0, 64 << 20, chain)).await.unwrap();
    assert!(promise.iter().all(|stamp| stamp.stored_bytes == 64 << 20), "{promise:?}");
    let mut expected = data;
    expected[1000..501_000].fill(0);
    let mut maps = Vec::new();
    for server in &servers {
        assert_eq!(read(&server.link, chunk(7, 1), 0, 1 << 20).await.unwrap(), expected);
        maps.push(map(&server.link, chunk(7, 1), false).await.unwrap());
        assert_eq!(server.metric("mooseng_chunkserver_ops_total", "fill"), 2.0);
    }
    assert!(maps.iter().all(|other| *other == maps[0]));
}

/// A server, one on a small disk that it may fill to the end, and the chain from the first to that.
async fn head_and_full(disk: &SmallDisk) -> (Running, Arc<chunkserver::ChunkServer>, Vec<wire::proto::Replica>) {
    let full = chunkserver::ChunkServer::start(ChunkServerConfig { reserve_bytes: 0, ..config(2, disk.path()) }).await;
    let full = full.unwrap();
    let chain = vec![wire::proto::Replica { server_id: 2, address: full.address() }];
    (Running::start(1).await, full, chain)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_that_one_server_has_no_room_for_leaves_the_first_copy_as_it_was() {
    let disk = SmallDisk::mount(24);
    let (head, full, chain) = head_and_full(&disk).await;
    let data = pattern(9000, 1);
    write(&head.link, new_chunk(7, &data, chain.clone())).await.unwrap();
    let before = map(&head.link, chunk(7, 1), false).await.unwrap();
    let error = fill(&head.link, &filled(Fill::Promise, 0, 64 << 20, chain)).await.unwrap_err();
    assert_eq!((error.errno, &error.failed_servers[..]), (libc::ENOSPC, &[2][..]), "{error}");
    assert_eq!(map(&head.link, chunk(7, 1), false).await.unwrap(), before);
    full.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_fills_are_refused_and_change_nothing() {
    let server = Running::start(1).await;
    let good = filled(Fill::Hole, 0, 100, vec![]);
    for bad in [
        ChunkFill { length: 0, ..good.clone() },
        ChunkFill { length: u32::MAX, ..good.clone() },
        ChunkFill { offset: u32::MAX, ..good.clone() },
        ChunkFill { offset: (64 << 20) - 99, ..good.clone() },
        ChunkFill { fill: 7, ..good.clone() },
        ChunkFill { fill: -1, ..good.clone() },
        ChunkFill { chunk: None, ..good.clone() },
        ChunkFill { chain: vec![server.replica()], ..good.clone() },
    ] {
        let error = fill(&server.link, &bad).await.unwrap_err();
        assert_eq!(error.errno, libc::EINVAL, "{error}");
    }
    assert_eq!(fill(&server.link, &good).await.unwrap_err().errno, libc::ENOENT);
    let made = fill(&server.link, &ChunkFill { create: true, ..good }).await.unwrap();
    assert_eq!(made[0].stored_bytes, 0);
    assert_eq!(read(&server.link, chunk(7, 1), 0, 100).await.unwrap(), [0; 100]);
}

/// From chunk 7 to chunk 8, both at their first version.
fn copied(source_offset: u32, offset: u32, length: u32, chain: &[wire::proto::Replica]) -> ChunkCopy {
    let (chunk, source, create) = (chunk(8, 1), chunk(7, 1), true);
    let (chain, replicas) = (chain.to_vec(), vec![]);
    ChunkCopy { chunk, offset, length, create, chain, writer: 0, round: 0, source, source_offset, replicas }
}

async fn copy(link: &wire::Link, message: &ChunkCopy) -> base::Result<Vec<wire::proto::Stamp>> {
    let reply = link.call(Method::ChunkCopy, message, None, deadline()).await?;
    Ok(reply.decode::<wire::proto::ChunkWriteReply>()?.stamps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_another_chunk_come_from_the_copy_here_or_from_a_server_that_has_one() {
    let servers = [Running::start(1).await, Running::start(2).await, Running::start(3).await];
    let data = pattern(1 << 20, 1);
    let chain = [servers[1].replica()];
    write(&servers[0].link, new_chunk(7, &data, chain.to_vec())).await.unwrap();
    let stamps = copy(&servers[0].link, &copied(1000, 5000, 900_000, &chain)).await.unwrap();
    assert_eq!(stamps.iter().map(|stamp| stamp.server_id).collect::<Vec<_>>(), [1, 2]);
    // The third has none of chunk 7, and the first that it is to ask is gone.
    let gone = wire::proto::Replica { server_id: 9, address: "127.0.0.1:1".into() };
    let replicas = vec![gone, servers[1].replica()];
    let from_there = ChunkCopy { replicas, ..copied(1000, 5000, 900_000, &[]) };
    copy(&servers[2].link, &from_there).await.unwrap();
    for server in &servers {
        let bytes = read(&server.link, chunk(8, 1), 0, 1 << 20).await.unwrap();
        assert!(bytes[5000..905_000] == data[1000..901_000]);
        assert!(bytes[..5000].iter().chain(&bytes[905_000..]).all(|byte| *byte == 0));
    }
    let maps = [
        map(&servers[0].link, chunk(8, 1), false).await.unwrap(),
        map(&servers[1].link, chunk(8, 1), false).await.unwrap(),
    ];
    assert_eq!(maps[0], maps[1]);
    // Where the source has zeros, nothing is stored.
    let zeros = copy(&servers[0].link, &copied(2 << 20, 0, 1 << 20, &chain)).await.unwrap();
    assert!(zeros.iter().all(|stamp| stamp.stored_bytes == 0), "{zeros:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_cannot_be_read_are_copied_nowhere_and_blame_no_server_of_the_chain() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let chain = [servers[1].replica()];
    let data = pattern(100_000, 1);
    let errno = |message: ChunkCopy| {
        let link = servers[0].link.clone();
        async move {
            let error = copy(&link, &message).await.unwrap_err();
            assert!(error.failed_servers.is_empty(), "{error}");
            error.errno
        }
    };
    assert_eq!(errno(copied(0, 0, 1000, &chain)).await, libc::EREMOTEIO);
    write(&servers[0].link, new_chunk(7, &data, chain.to_vec())).await.unwrap();
    map(&servers[0].link, chunk(7, 3), true).await.unwrap();
    map(&servers[1].link, chunk(7, 3), true).await.unwrap();
    let replicas = vec![servers[1].replica()];
    assert_eq!(errno(ChunkCopy { replicas, ..copied(0, 0, 1000, &chain) }).await, libc::EREMOTEIO);
    for bad in [
        copied(0, 0, 0, &chain),
        copied(0, 0, (1 << 20) + 1, &chain),
        copied(u32::MAX, 0, 10, &chain),
        copied(0, u32::MAX, 10, &chain),
        copied((64 << 20) - 9, 0, 10, &chain),
        ChunkCopy { source: None, ..copied(0, 0, 10, &chain) },
        ChunkCopy { chunk: None, ..copied(0, 0, 10, &chain) },
        copied(0, 0, 10, &[servers[0].replica()]),
    ] {
        assert_eq!(errno(bad).await, libc::EINVAL);
    }
    for server in &servers {
        assert_eq!(read(&server.link, chunk(8, 1), 0, 1).await.unwrap_err().errno, libc::ENOENT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_tail_is_named_and_not_the_middle() {
    let servers = [Running::start(1).await, Running::start(2).await, Running::start(3).await];
    let chain = vec![servers[1].replica(), servers[2].replica()];
    let data = pattern(4096, 1);
    write(&servers[0].link, new_chunk(7, &data, chain.clone())).await.unwrap();
    servers[2].server.stop().await;
    let started = Instant::now();
    let error = write(&servers[0].link, new_chunk(7, &data, chain)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!((error.kind, &error.failed_servers[..]), (ErrorKind::Unavailable, &[3][..]), "{error}");
    assert_eq!(servers[0].metric("mooseng_chunkserver_chain_failures_total", ""), 1.0);
    // The next version goes on without it.
    let rest = vec![servers[1].replica()];
    let again = Write { chunk: chunk(7, 2), ..new_chunk(7, &data, rest) };
    assert_eq!(write(&servers[0].link, again).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_tail_is_named_within_a_second() {
    let servers = [Running::start(1).await, Running::start(2).await];
    // A tail that takes connections and bytes, like a stopped process, and never answers past the hello.
    let tail = frozen_after_hello(3).await;
    let chain = vec![servers[1].replica(), tail];
    let data = pattern(4096, 1);
    let started = Instant::now();
    let error = write(&servers[0].link, new_chunk(7, &data, chain)).await.unwrap_err();
    // Half a second more for a machine that runs late, which is waited for.
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(error.failed_servers, [3], "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_at_the_tails_address_is_not_taken_for_it() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let mut wrong = servers[1].replica();
    wrong.server_id = 9;
    let error = write(&servers[0].link, new_chunk(7, &[1; 100], vec![wrong])).await.unwrap_err();
    assert_eq!(error.failed_servers, [9], "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_lost_on_the_tail_is_named() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let data = pattern(4096, 1);
    write(&servers[0].link, new_chunk(7, &data, vec![])).await.unwrap();
    let without_create = Write { create: false, ..new_chunk(7, &data, vec![servers[1].replica()]) };
    let error = write(&servers[0].link, without_create).await.unwrap_err();
    assert_eq!((error.errno, &error.failed_servers[..]), (libc::ENOENT, &[2][..]), "{error}");
    let error = read(&servers[1].link, chunk(7, 1), 0, 10).await.unwrap_err();
    assert_eq!(error.errno, libc::ENOENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_from_a_writer_reach_no_copy_and_blame_no_server() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let message = ChunkWrite {
        chunk: chunk(7, 1),
        offset: 0,
        length: 4096,
        crcs: vec![0; 4],
        create: true,
        chain: vec![servers[1].replica()],
        sync: false,
        writer: 0,
        round: 0,
    };
    let payload = Arc::new(base::Buffer::copy_of(&pattern(4096, 1)));
    let error = servers[0].link.call(Method::ChunkWrite, &message, Some(payload), deadline()).await.err().unwrap();
    assert_eq!((error.kind, &error.failed_servers[..]), (ErrorKind::Integrity, &[][..]), "{error}");
    for server in &servers {
        // The chunk may exist by now, but none of the bytes.
        let bytes = read(&server.link, chunk(7, 1), 0, 4096).await;
        assert!(bytes.is_err() || bytes.is_ok_and(|bytes| bytes == [0; 4096]));
        assert_eq!(server.server.status()["bad_chunks"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_change_nothing() {
    let server = Running::start(1).await;
    let good = ChunkWrite {
        chunk: chunk(7, 1),
        offset: 0,
        length: 100,
        crcs: base::crc::piece_crcs(0, &[5; 100]),
        create: true,
        chain: vec![],
        sync: false,
        writer: 0,
        round: 0,
    };
    let twice = vec![server.replica(); 2];
    for bad in [
        ChunkWrite { length: 0, ..good.clone() },
        ChunkWrite { length: 99, ..good.clone() },
        ChunkWrite { length: u32::MAX, ..good.clone() },
        ChunkWrite { offset: u32::MAX, ..good.clone() },
        ChunkWrite { offset: (64 << 20) - 99, ..good.clone() },
        ChunkWrite { crcs: vec![], ..good.clone() },
        ChunkWrite { chunk: None, ..good.clone() },
        ChunkWrite { chunk: chunk(7, 0), ..good.clone() },
        ChunkWrite { chain: twice, ..good.clone() },
        ChunkWrite { chain: vec![server.replica()], ..good.clone() },
    ] {
        let payload = Arc::new(base::Buffer::copy_of(&[5; 100]));
        let error = server.link.call(Method::ChunkWrite, &bad, Some(payload), deadline()).await.err().unwrap();
        assert_eq!(error.errno, libc::EINVAL, "{error}");
        assert!(error.failed_servers.is_empty());
    }
    for (offset, length) in [(0, 0), (0, (1 << 20) + 1), (u32::MAX, 1), (64 << 20, 1), (1, u32::MAX)] {
        assert_eq!(read(&server.link, chunk(7, 1), offset, length).await.unwrap_err().errno, libc::EINVAL);
    }
    let error = server.link.call(Method::Name, &good, None, deadline()).await.err().unwrap();
    assert_eq!(error.errno, libc::EOPNOTSUPP);
    assert_eq!(read(&server.link, chunk(7, 1), 0, 1).await.unwrap_err().errno, libc::ENOENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_shuts_out_writers_of_the_old_version_on_the_whole_chain() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let chain = vec![servers[1].replica()];
    let data = pattern(4096, 1);
    write(&servers[0].link, new_chunk(7, &data, chain.clone())).await.unwrap();
    assert_eq!(map(&servers[1].link, chunk(7, 2), true).await.unwrap().version, 2);
    let error = write(&servers[0].link, new_chunk(7, &pattern(4096, 2), chain.clone())).await.unwrap_err();
    assert_eq!(
        (error.kind, error.errno, &error.failed_servers[..]),
        (ErrorKind::Stale, libc::ESTALE, &[][..]),
        "{error}"
    );
    // Who knows the new version goes on, and takes the server that is behind along.
    let newer = Write { chunk: chunk(7, 2), ..new_chunk(7, &data, chain) };
    write(&servers[0].link, newer).await.unwrap();
    assert_eq!(map(&servers[0].link, chunk(7, 2), false).await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_writes_leave_all_copies_equal() {
    let servers = [Running::start(1).await, Running::start(2).await, Running::start(3).await];
    let chain = vec![servers[1].replica(), servers[2].replica()];
    let writers: Vec<_> = (0..24u64)
        .map(|seed| {
            let (link, chain) = (servers[0].link.clone(), chain.clone());
            tokio::spawn(async move {
                let data = pattern(30_000, seed);
                let offset = (seed % 5 * 5000) as u32;
                write(&link, Write { offset, ..new_chunk(7, &data, chain) }).await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let first = read(&servers[0].link, chunk(7, 1), 0, 50_000).await.unwrap();
    for server in &servers[1..] {
        assert!(read(&server.link, chunk(7, 1), 0, 50_000).await.unwrap() == first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_keeps_what_was_synced_and_refuses_syncs_of_its_former_life() {
    let disk = tempfile::tempdir().unwrap();
    let server = chunkserver::ChunkServer::start(config(1, disk.path())).await.unwrap();
    let link = client(&server.address()).await.unwrap();
    let data = pattern(100_000, 1);
    let stamps = write(&link, new_chunk(7, &data, vec![])).await.unwrap();
    server.stop().await;
    assert!(write(&link, new_chunk(7, &data, vec![])).await.is_err());

    let server = chunkserver::ChunkServer::start(config(1, disk.path())).await.unwrap();
    let link = client(&server.address()).await.unwrap();
    let error = sync(&link, chunk(7, 1), stamps[0].boot_id).await.unwrap_err();
    assert_eq!((error.kind, &error.failed_servers[..]), (ErrorKind::Stale, &[1][..]), "{error}");
    assert_eq!(error.reason, base::Reason::Restarted);
    // Stopping made everything stable, so nothing is missing.
    assert_eq!(read(&link, chunk(7, 1), 0, 100_000).await.unwrap(), data);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_another_cluster_and_disks_of_another_server_are_refused() {
    let server = Running::start(1).await;
    let error = client_of(&server.server.address(), "another").await.err().unwrap();
    assert_eq!(error.errno, libc::EREMCHG, "{error}");
    server.server.stop().await;
    let mut foreign = config(1, server.disk.path());
    foreign.cluster_id = "another".to_string();
    let error = chunkserver::ChunkServer::start(foreign).await.err().unwrap();
    assert!(error.message.contains("another"), "{error}");
    let error = chunkserver::ChunkServer::start(config(2, server.disk.path())).await.err().unwrap();
    assert!(error.message.contains('2'), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotten_block_is_refused_named_and_counted() {
    let server = Running::start(1).await;
    let data = pattern(12_288, 1);
    let stamps = write(&server.link, new_chunk(7, &data, vec![])).await.unwrap();
    sync(&server.link, chunk(7, 1), stamps[0].boot_id).await.unwrap();
    rot(server.disk.path(), &data[5000..5100]);
    let error = read(&server.link, chunk(7, 1), 0, 12_288).await.unwrap_err();
    assert_eq!((error.kind, error.errno, &error.failed_servers[..]), (ErrorKind::Integrity, libc::EBADMSG, &[1][..]));
    assert_eq!(server.metric("mooseng_chunkserver_bad_blocks_total", "read"), 1.0);
    assert_eq!(server.server.status()["bad_chunks"], 1);
    // Blocks beside it are still served; a write that covers a part of it cannot be done.
    assert_eq!(read(&server.link, chunk(7, 1), 8192, 4096).await.unwrap(), data[8192..]);
    let partial = Write { offset: 4100, create: false, ..new_chunk(7, &[1; 10], vec![]) };
    assert_eq!(write(&server.link, partial).await.unwrap_err().failed_servers, [1]);
}

/// A double of the tail that is alive and slow: as if its disk took `pause` for each write.
struct SlowTail {
    pause: Duration,
}

impl wire::Handler for SlowTail {
    fn hello(&self) -> wire::proto::Hello {
        hello(CLUSTER, wire::proto::Role::Chunkserver, 2)
    }

    async fn handle(self: Arc<Self>, _: wire::Request) -> base::Result<wire::Response> {
        tokio::time::sleep(self.pause).await;
        let stamp = wire::proto::Stamp { server_id: 2, boot_id: 1, stored_bytes: 4096 };
        Ok((&wire::proto::ChunkWriteReply { stamps: vec![stamp] }).into())
    }
}

/// A double of the tail that notes what reaches it and answers when it is let.
struct HeldTail {
    arrived: parking_lot::Mutex<Vec<Method>>,
    answers: tokio::sync::Semaphore,
}

impl wire::Handler for HeldTail {
    fn hello(&self) -> wire::proto::Hello {
        hello(CLUSTER, wire::proto::Role::Chunkserver, 2)
    }

    async fn handle(self: Arc<Self>, request: wire::Request) -> base::Result<wire::Response> {
        self.arrived.lock().push(request.method);
        self.answers.acquire().await.unwrap().forget();
        let stamp = wire::proto::Stamp { server_id: 2, boot_id: 1, stored_bytes: 4096 };
        Ok((&wire::proto::ChunkWriteReply { stamps: vec![stamp] }).into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_writes_and_trims_take_turns_at_the_head_of_a_chain() {
    let head = Running::start(1).await;
    let held = HeldTail { arrived: Default::default(), answers: tokio::sync::Semaphore::new(0) };
    let (server, held) = (wire::Server::bind("127.0.0.1:0").await.unwrap(), Arc::new(held));
    let (address, stopper) = (server.address().unwrap().to_string(), server.stopper());
    let running = tokio::spawn(server.run(held.clone()));
    let chain = vec![wire::proto::Replica { server_id: 2, address }];
    let data = pattern(8192, 1);
    let first = write(&head.link, new_chunk(7, &data, chain.clone()));
    let second = Write { offset: 4096, ..new_chunk(7, &data[..4096], chain.clone()) };
    let others = async {
        until("the first write is at the tail", || !held.arrived.lock().is_empty()).await;
        let watch = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(*held.arrived.lock(), [Method::ChunkWrite], "nothing may pass it");
            held.answers.add_permits(3);
        };
        tokio::join!(trim(&head.link, chunk(7, 1), 8000, chain.clone()), write(&head.link, second), watch)
    };
    let (first, (trimmed, second, ())) = tokio::join!(first, others);
    assert!(first.is_ok() && trimmed.is_ok() && second.is_ok());
    assert_eq!(held.arrived.lock().len(), 3);
    stopper.stop();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_behind_a_living_server_is_waited_for() {
    let head = Running::start(1).await;
    let tail = wire::Server::bind("127.0.0.1:0").await.unwrap();
    let (address, stopper) = (tail.address().unwrap().to_string(), tail.stopper());
    // Longer than a paused server is given.
    let running = tokio::spawn(tail.run(Arc::new(SlowTail { pause: Duration::from_millis(3500) })));
    let chain = vec![wire::proto::Replica { server_id: 2, address }];
    let stamps = write(&head.link, new_chunk(7, &pattern(4096, 1), chain)).await.unwrap();
    assert_eq!(stamps.len(), 2);
    stopper.stop();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_names_its_server_and_still_reads() {
    let disk = SmallDisk::mount(24);
    let (head, full, chain) = head_and_full(&disk).await;
    let data = pattern(1 << 20, 1);
    let mut written = 0;
    let error = loop {
        let offset = written << 20;
        match write(&head.link, Write { offset, ..new_chunk(7, &data, chain.clone()) }).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 24, "24 MiB cannot go into 24 MiB with their checksums");
    };
    assert_eq!((error.errno, &error.failed_servers[..]), (libc::ENOSPC, &[2][..]), "{error}");
    assert!(written > 8, "only {written} MiB fitted");
    // What was acknowledged is there, and reads go on.
    let link = client(&full.address()).await.unwrap();
    assert!(read(&link, chunk(7, 1), (written - 1) << 20, 1 << 20).await.unwrap() == data);
    full.stop().await;
}

/// A write of a client that counts its rounds.
async fn send_round(link: &wire::Link, round: u32, data: &[u8], chain: Vec<wire::proto::Replica>) -> base::Result<()> {
    let message = ChunkWrite {
        chunk: chunk(7, 1),
        offset: 0,
        length: data.len() as u32,
        crcs: base::crc::piece_crcs(0, data),
        create: true,
        chain,
        sync: false,
        writer: 42,
        round,
    };
    let payload = Arc::new(base::Buffer::copy_of(data));
    link.call(Method::ChunkWrite, &message, Some(payload), deadline()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_piece_of_an_earlier_round_changes_no_copy() {
    let servers = [Running::start(1).await, Running::start(2).await];
    let chain = vec![servers[1].replica()];
    send_round(&servers[0].link, 0, &pattern(4096, 1), chain.clone()).await.unwrap();
    send_round(&servers[0].link, 1, &pattern(4096, 2), chain.clone()).await.unwrap();
    // At the head, and straight to the tail, as from the buffers of a connection that was given up.
    for (server, chain) in [(&servers[0], chain.clone()), (&servers[1], vec![])] {
        let late = send_round(&server.link, 0, &pattern(4096, 1), chain).await.unwrap_err();
        assert_eq!(
            (late.errno, late.reason, &late.failed_servers[..]),
            (libc::ESTALE, base::Reason::Overtaken, &[][..])
        );
    }
    for server in &servers {
        assert_eq!(read(&server.link, chunk(7, 1), 0, 4096).await.unwrap(), pattern(4096, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_piece_that_the_head_refuses_does_not_reach_a_tail_that_was_started_anew() {
    let head = Running::start(1).await;
    let disk = tempfile::tempdir().unwrap();
    let tail = chunkserver::ChunkServer::start(config(2, disk.path())).await.unwrap();
    let listen = tail.address();
    let chain = vec![wire::proto::Replica { server_id: 2, address: listen.clone() }];
    send_round(&head.link, 1, &pattern(4096, 2), chain.clone()).await.unwrap();
    tail.stop().await;
    let again = ChunkServerConfig { listen: listen.clone(), ..config(2, disk.path()) };
    let tail = chunkserver::ChunkServer::start(again).await.unwrap();
    let late = send_round(&head.link, 0, &pattern(4096, 1), chain).await.unwrap_err();
    assert_eq!(late.reason, base::Reason::Overtaken);
    let link = client(&listen).await.unwrap();
    assert_eq!(read(&link, chunk(7, 1), 0, 4096).await.unwrap(), pattern(4096, 2));
    tail.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_in_a_circle_go_on_with_full_budgets() {
    let servers = Arc::new([Running::start(1).await, Running::start(2).await, Running::start(3).await]);
    let data = Arc::new(pattern(1 << 20, 1));
    let mut writers = Vec::new();
    for client in 0..30u64 {
        let head = (client % 3) as usize;
        let link = client_of(&servers[head].server.address(), CLUSTER).await.unwrap();
        let chain: Vec<_> = (1..3).map(|step| servers[(head + step) % 3].replica()).collect();
        for piece in 0..16u32 {
            let (link, chain, data) = (link.clone(), chain.clone(), data.clone());
            writers.push(tokio::spawn(async move {
                let write_of = Write { offset: (piece % 4) << 20, ..new_chunk(100 + client, &data, chain) };
                write(&link, write_of).await.map(drop)
            }));
        }
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    for server in servers.iter() {
        // What a request held is given back after its answer went out.
        let given_back = async {
            while server.metric("mooseng_chunkserver_payload_bytes", "requests") != 0.0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), given_back).await.expect("all bytes are given back");
    }
}
