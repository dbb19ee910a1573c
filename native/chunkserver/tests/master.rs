//! Registration, reports and commands, driven by a double of a master.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Buffer, crc};
use chunkserver::ChunkServer;
use support::master::RunningMaster;
use support::*;
use wire::Method;
use wire::proto::server_command::Command;
use wire::proto::{
    ChunkMap, ChunkMapReply, ChunkRead, ChunkReadReply, CopyChunk, DeleteChunks, Hello, Replica, Role, SendInventory,
};

struct Registered {
    running: Running,
    master: RunningMaster,
}

async fn server_at(master: &RunningMaster, server_id: u32) -> Running {
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(server_id, disk.path());
    config.masters.push(master.address.to_string());
    let server = ChunkServer::start(config).await.unwrap();
    master.registered(server_id).await;
    let link = client(&server.address()).await.unwrap();
    Running { server, disk, link }
}

async fn registered() -> Registered {
    let master = RunningMaster::start(CLUSTER, true).await;
    Registered { running: server_at(&master, 1).await, master }
}

async fn write_chunk(server: &Running, id: u64, version: u32, data: &[u8]) {
    let whole = Write { chunk: chunk(id, version), offset: 0, data, create: true, chain: vec![], sync: true };
    write(&server.link, whole).await.unwrap();
}

fn copy_from(source: &Running, id: u64, version: u32) -> Command {
    Command::Copy(CopyChunk { chunk: chunk(id, version), source: Some(source.replica()), heal_id: 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_disks_take_the_cluster_of_the_masters_and_keep_it() {
    let master = RunningMaster::start("their-cluster", true).await;
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(1, disk.path());
    config.cluster_id = String::new();
    config.masters = vec![NO_MASTER.to_string(), master.address.to_string()];
    let server = ChunkServer::start(config.clone()).await.unwrap();
    master.registered(1).await;
    let status = server.status();
    assert_eq!((status["cluster_id"].as_str(), status["registered"].as_bool()), (Some("their-cluster"), Some(true)));
    assert!(client_of(&server.address(), "their-cluster").await.is_ok());
    assert!(client_of(&server.address(), "another").await.is_err());
    server.stop().await;

    // Without any master the cluster is known from the disk.
    config.masters = vec![NO_MASTER.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    assert_eq!(server.status()["cluster_id"], "their-cluster");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_another_cluster_is_refused_with_a_sentence_and_the_right_one_found() {
    let foreign = RunningMaster::start("another", true).await;
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(1, disk.path());
    let own = RunningMaster::start(CLUSTER, false).await;
    config.masters = vec![foreign.address.to_string(), own.address.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    until("the refusal is shown", || {
        let status = server.status();
        let state = status["state"].as_str().unwrap();
        state.starts_with("refused") && state.contains("another")
    })
    .await;
    assert!(foreign.master.seen.lock().hellos.is_empty());
    own.master.leader.store(true, std::sync::atomic::Ordering::SeqCst);
    own.registered(1).await;
    assert_eq!(server.status()["state"], "registered");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_has_the_server_within_half_a_second() {
    let old = RunningMaster::start(CLUSTER, true).await;
    let new = RunningMaster::start(CLUSTER, false).await;
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(1, disk.path());
    config.masters = vec![old.address.to_string(), new.address.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    old.registered(1).await;
    old.stop().await;
    until("the loss is noticed", || server.status()["registered"] == false).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let elected = Instant::now();
    new.master.leader.store(true, std::sync::atomic::Ordering::SeqCst);
    new.registered(1).await;
    assert!(elected.elapsed() < Duration::from_millis(500), "{:?}", elected.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_steps_down_is_left_for_the_one_it_names() {
    let new = RunningMaster::start(CLUSTER, true).await;
    let Registered { running, master } = registered().await;
    // The successor is not among the configured masters: only the hint leads there.
    *master.master.hint.lock() = Some(new.address.to_string());
    master.master.leader.store(false, std::sync::atomic::Ordering::SeqCst);
    new.registered(1).await;
    assert_eq!(running.server.status()["leader"], new.address.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotten_block_is_reported_at_once_and_again_to_a_new_leader() {
    let Registered { running, master } = registered().await;
    let data = pattern(8192, 1);
    write_chunk(&running, 7, 3, &data).await;
    rot(running.disk.path(), &data[100..200]);
    assert!(read(&running.link, chunk(7, 3), 0, 4096).await.is_err());
    until("the report arrived", || {
        let seen = master.master.seen.lock();
        seen.bad.iter().any(|(server, bad)| (*server, bad.id, bad.version, bad.bad) == (1, 7, 3, true))
    })
    .await;
    let result = master.command(1, Command::Inventory(SendInventory {})).await;
    assert!(result.error.is_none());
    until("the inventory marks it", || {
        let seen = master.master.seen.lock();
        seen.inventories[&1].iter().any(|chunk| chunk.id == 7 && chunk.bad)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrubbing_finds_rot_that_nobody_reads() {
    let master = RunningMaster::start(CLUSTER, true).await;
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(1, disk.path());
    config.masters = vec![master.address.to_string()];
    config.scrub_mb_s = 64;
    let server = ChunkServer::start(config).await.unwrap();
    let running = Running { link: client(&server.address()).await.unwrap(), server, disk };
    let data = pattern(100_000, 1);
    write_chunk(&running, 7, 1, &data).await;
    rot(running.disk.path(), &data[50_000..50_100]);
    until("the report arrived", || master.master.seen.lock().bad.iter().any(|(_, bad)| bad.id == 7)).await;
    assert!(running.metric("mooseng_chunkserver_bad_blocks_total", "scrub") >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commanded_copy_equals_its_source_and_fences_it() {
    let Registered { running: target, master } = registered().await;
    let source = server_at(&master, 2).await;
    let data = pattern(3_000_000, 1);
    for (at, part) in data.chunks(1 << 20).enumerate() {
        let offset = (at << 20) as u32;
        let part = Write { chunk: chunk(7, 1), offset, data: part, create: true, chain: vec![], sync: false };
        write(&source.link, part).await.unwrap();
    }
    let far = pattern(10_000, 2);
    let far = Write { chunk: chunk(7, 1), offset: 60 << 20, data: &far, create: false, chain: vec![], sync: false };
    write(&source.link, far).await.unwrap();

    let result = master.command(1, copy_from(&source, 7, 2)).await;
    assert!(result.error.is_none(), "{:?}", result.error);
    let (here, there) =
        (map(&target.link, chunk(7, 2), false).await.unwrap(), map(&source.link, chunk(7, 2), false).await.unwrap());
    assert_eq!((here.version, &here), (2, &there));
    let blocks: u32 = here.present.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(result.stored_bytes, blocks * 4096);
    assert_eq!(read(&target.link, chunk(7, 2), 2_000_000, 1_000_000).await.unwrap(), data[2_000_000..]);
    assert_eq!(target.metric("mooseng_chunkserver_copies_total", "done"), 1.0);
    let late = Write { chunk: chunk(7, 1), offset: 0, data: &[1], create: false, chain: vec![], sync: false };
    assert_eq!(write(&source.link, late).await.unwrap_err().errno, libc::ESTALE);
}

/// A double of a source whose two blocks are others than its map tells, each with a right checksum: as if they were
/// written while it was read.
struct ChangingSource {
    told: Vec<u8>,
    read: Vec<u8>,
}

impl wire::Handler for ChangingSource {
    fn hello(&self) -> Hello {
        hello(CLUSTER, Role::Chunkserver, 9)
    }

    async fn handle(self: Arc<Self>, request: wire::Request) -> base::Result<wire::Response> {
        if request.method == Method::ChunkMap {
            let version = request.decode::<ChunkMap>()?.chunk.unwrap().version;
            let crcs = crc::piece_crcs(0, &self.told);
            let listed: Vec<u8> =
                crcs.chunks(4).zip(0u32..).flat_map(|(crc, block)| [&block.to_le_bytes()[..], crc].concat()).collect();
            let reply = ChunkMapReply { version, present: vec![0b11], digest: crc::crc32c(&listed) };
            return Ok((&reply).into());
        }
        let asked: ChunkRead = request.decode()?;
        let reply = ChunkReadReply {
            offset: asked.offset,
            length: asked.length,
            crcs: crc::piece_crcs(0, &self.read),
            version: asked.chunk.unwrap().version,
            ..Default::default()
        };
        Ok(wire::Response { payload: Some(Arc::new(Buffer::copy_of(&self.read))), ..(&reply).into() })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_while_it_is_copied_leaves_no_copy() {
    let Registered { running: target, master } = registered().await;
    for (told, kept) in [(1, false), (2, true)] {
        let source = wire::Server::bind("127.0.0.1:0").await.unwrap();
        let (address, stopper) = (source.address().unwrap().to_string(), source.stopper());
        let double = ChangingSource { told: pattern(8192, told), read: pattern(8192, 2) };
        let running = tokio::spawn(source.run(Arc::new(double)));
        let source = Some(Replica { server_id: 9, address });
        let copied = master.command(1, Command::Copy(CopyChunk { chunk: chunk(7, 1), source, heal_id: 1 })).await;
        assert_eq!(copied.error.map(|error| error.errno), (!kept).then_some(libc::ESTALE));
        assert_eq!(map(&target.link, chunk(7, 1), false).await.is_ok(), kept);
        stopper.stop();
        running.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_replaces_a_rotten_one_and_ends_its_report() {
    let Registered { running: target, master } = registered().await;
    let source = server_at(&master, 2).await;
    let data = pattern(20_000, 1);
    write_chunk(&source, 7, 1, &data).await;
    write_chunk(&target, 7, 1, &data).await;
    rot(target.disk.path(), &data[100..200]);
    assert!(read(&target.link, chunk(7, 1), 0, 4096).await.is_err());
    assert_eq!(target.server.status()["bad_chunks"], 1);
    let result = master.command(1, copy_from(&source, 7, 2)).await;
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(read(&target.link, chunk(7, 2), 0, 20_000).await.unwrap(), data);
    assert_eq!(target.server.status()["bad_chunks"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_cannot_be_made_leaves_nothing_and_says_why() {
    let Registered { running: target, master } = registered().await;
    let source = server_at(&master, 2).await;
    let missing = master.command(1, copy_from(&source, 7, 1)).await;
    assert_eq!(missing.error.unwrap().errno, libc::ENOENT);

    let data = pattern(3 << 20, 1);
    for (at, part) in data.chunks(1 << 20).enumerate() {
        let offset = (at << 20) as u32;
        let part = Write { chunk: chunk(8, 5), offset, data: part, create: true, chain: vec![], sync: true };
        write(&source.link, part).await.unwrap();
    }
    let old = master.command(1, copy_from(&source, 8, 4)).await;
    assert_eq!(old.error.unwrap().errno, libc::ESTALE);
    rot(source.disk.path(), &data[2_500_000..2_500_100]);
    let rotten = master.command(1, copy_from(&source, 8, 5)).await;
    assert_eq!(rotten.error.unwrap().errno, libc::EBADMSG);
    for id in [7, 8] {
        assert_eq!(map(&target.link, chunk(id, 5), false).await.unwrap_err().errno, libc::ENOENT);
    }
    assert_eq!(target.metric("mooseng_chunkserver_copies_total", "failed"), 3.0);
    // The source's own rot was reported, too.
    until("the source reported itself", || {
        master.master.seen.lock().bad.iter().any(|(server, bad)| (*server, bad.id) == (2, 8))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_deleted_up_to_the_named_version() {
    let Registered { running, master } = registered().await;
    for (id, version) in [(1, 1), (2, 5), (3, 1)] {
        write_chunk(&running, id, version, &pattern(100, id)).await;
    }
    let chunks = [(1, 1), (2, 4), (9, 1)].map(|(id, version)| chunk(id, version).unwrap()).to_vec();
    let result = master.command(1, Command::Delete(DeleteChunks { chunks })).await;
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(read(&running.link, chunk(1, 1), 0, 1).await.unwrap_err().errno, libc::ENOENT);
    assert!(read(&running.link, chunk(2, 5), 0, 100).await.is_ok());
    assert!(read(&running.link, chunk(3, 1), 0, 100).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_another_epoch_are_refused() {
    let Registered { running, master } = registered().await;
    write_chunk(&running, 1, 1, &pattern(100, 1)).await;
    let delete = Command::Delete(DeleteChunks { chunks: vec![chunk(1, 1).unwrap()] });
    let epoch = running.server.status()["epoch"].as_u64().unwrap();
    let result = master.command_of_epoch(1, epoch + 1, delete).await;
    assert_eq!(result.error.unwrap().errno, libc::ESTALE);
    assert!(read(&running.link, chunk(1, 1), 0, 100).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_tells_all_chunks_with_their_versions() {
    let Registered { running, master } = registered().await;
    for (id, version) in [(1, 1), (2, 5)] {
        write_chunk(&running, id, version, &pattern(5000, id)).await;
    }
    running.server.stop().await;
    let mut config = config(1, running.disk.path());
    config.masters = vec![master.address.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    until("it registered again", || master.master.seen.lock().hellos.len() == 2).await;
    master.registered(1).await;
    let mut chunks = master.master.seen.lock().inventories[&1].clone();
    chunks.sort_by_key(|chunk| chunk.id);
    let told: Vec<_> = chunks.iter().map(|c| (c.id, c.version, c.bad, c.stored_bytes)).collect();
    assert_eq!(told, [(1, 1, false, 8192), (2, 5, false, 8192)]);
    let boots: Vec<u64> = master.master.seen.lock().hellos.iter().map(|hello| hello.boot_id).collect();
    assert_ne!(boots[0], boots[1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hangs_is_left_within_three_seconds() {
    let Registered { running: first, master: old } = registered().await;
    first.server.stop().await;
    let new = RunningMaster::start(CLUSTER, false).await;
    let mut config = config(2, first.disk.path());
    let disk = tempfile::tempdir().unwrap();
    config.disks = vec![disk.path().to_path_buf()];
    config.masters = vec![old.address.to_string(), new.address.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    old.registered(2).await;
    old.master.paused.store(true, std::sync::atomic::Ordering::SeqCst);
    new.master.leader.store(true, std::sync::atomic::Ordering::SeqCst);
    let started = Instant::now();
    new.registered(2).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_hang_cost_a_registration_half_a_second_each() {
    let hanging = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let own = RunningMaster::start(CLUSTER, true).await;
    let disk = tempfile::tempdir().unwrap();
    let mut config = config(1, disk.path());
    config.masters = hanging.iter().map(|master| master.local_addr().unwrap().to_string()).collect();
    config.masters.push(own.address.to_string());
    let started = Instant::now();
    let server = ChunkServer::start(config).await.unwrap();
    own.registered(1).await;
    assert!(started.elapsed() < Duration::from_millis(1700), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_copy_command_ends_the_one_before() {
    let Registered { running: target, master } = registered().await;
    let source = server_at(&master, 2).await;
    let data = pattern(20_000, 1);
    write_chunk(&source, 7, 1, &data).await;
    let hanging = CopyChunk { chunk: chunk(7, 2), source: Some(frozen_after_hello(9).await), heal_id: 1 };
    let epoch = target.server.status()["epoch"].as_u64().unwrap();
    let hanging = master.push(1, epoch, Command::Copy(hanging)).await;
    let result = master.command(1, copy_from(&source, 7, 3)).await;
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(read(&target.link, chunk(7, 3), 0, 20_000).await.unwrap(), data);
    assert!(!master.master.seen.lock().results.contains_key(&hanging));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_a_vanished_disk_are_reported_lost_and_the_other_disk_serves_on() {
    let master = RunningMaster::start(CLUSTER, true).await;
    let disk = tempfile::tempdir().unwrap();
    let disks = ["a", "b"].map(|name| disk.path().join(name));
    disks.iter().for_each(|disk| std::fs::create_dir(disk).unwrap());
    let mut config = config(1, disk.path());
    config.disks = disks.to_vec();
    config.masters = vec![master.address.to_string()];
    let server = ChunkServer::start(config).await.unwrap();
    let running = Running { link: client(&server.address()).await.unwrap(), server, disk };
    for id in 1..=6 {
        write_chunk(&running, id, 1, &pattern(5000, id)).await;
    }
    let chunks_of = |at: usize| running.server.status()["disks"][at]["chunks"].as_u64().unwrap();
    // The status is of the last look at the disks, which may have been in the middle.
    until("all are counted, on both disks", || chunks_of(0).min(chunks_of(1)) > 0 && chunks_of(0) + chunks_of(1) == 6)
        .await;
    let on_first = chunks_of(0);
    std::fs::rename(&disks[0], disks[0].with_extension("gone")).unwrap();
    until("the lost chunks were reported", || master.master.seen.lock().bad.len() as u64 == on_first).await;
    let lost: Vec<u64> = master.master.seen.lock().bad.iter().map(|(_, report)| report.id).collect();
    for id in 1..=6 {
        // A file that is still open may be read on from a vanished directory; wrong bytes never come.
        match read(&running.link, chunk(id, 1), 0, 5000).await {
            Ok(bytes) => assert!(bytes == pattern(5000, id)),
            Err(error) => assert_eq!((lost.contains(&id), &error.failed_servers[..]), (true, &[1][..]), "{error}"),
        }
        let again = Write { chunk: chunk(id, 1), offset: 0, data: &[1], create: false, chain: vec![], sync: false };
        assert_eq!(write(&running.link, again).await.is_err(), lost.contains(&id));
    }
    let state = running.server.status()["disks"][0]["state"].as_str().unwrap().to_string();
    assert!(state.starts_with("failed"), "{state}");
    // New chunks go to the disk that is left.
    write_chunk(&running, 7, 1, &pattern(5000, 7)).await;
}
