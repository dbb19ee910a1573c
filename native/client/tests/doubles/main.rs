//! The engine against doubles that misbehave on demand: lost replies, other leaders, ended sessions, wrong checksums,
//! slow, silent, restarted and full chunkservers. The doubles are tests' only: a master without Raft over the real state
//! machine, and chunkservers that keep bytes in memory.

mod master;
mod server;

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use base::ErrorKind;
use client::name_request::Op;
use client::{ClientConfig, Engine};
use master::{DoubleMaster, Trick};
use server::DoubleServer;
use support::{create, free_addresses, metric, open, root};
use wire::proto::{MkDir, StatFs};

struct Stage {
    master: Arc<DoubleMaster>,
    servers: Vec<Arc<DoubleServer>>,
}

impl Stage {
    async fn set() -> Stage {
        let master = DoubleMaster::start().await;
        let mut servers = Vec::new();
        for id in 1..=3 {
            let server = DoubleServer::start(id).await;
            master.register(id, &server.address);
            servers.push(server);
        }
        Stage { master, servers }
    }

    fn config(&self) -> ClientConfig {
        ClientConfig { deadline_ms: 8_000, ..ClientConfig::new(vec![self.master.address.clone()]) }
    }

    /// Two copies of a file's first chunk. Which copy is asked first shifts with each open: one of three opens starts with
    /// the third one.
    fn two_of(&self, inode: u64) -> Vec<&DoubleServer> {
        self.master.order_of(inode, 0)[..2].iter().map(|id| &*self.servers[*id as usize - 1]).collect()
    }

    async fn engine(&self) -> Arc<Engine> {
        Engine::connect(self.config()).await.unwrap()
    }
}

fn mkdir(name: &str) -> Op {
    Op::Mkdir(MkDir { parent: 1, name: name.as_bytes().to_vec(), mode: 0o755, full_mode: None })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_reply_was_lost_is_applied_once_and_answered_as_done() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    for trick in [Trick::LoseReply, Trick::NeverAnswer] {
        stage.master.play(trick.clone());
        engine.name(&root(), mkdir(&format!("{trick:?}"))).await.unwrap();
    }
    assert_eq!(engine.name(&root(), mkdir("LoseReply")).await.unwrap_err().errno, libc::EEXIST);
    assert!(metric(&engine, "mooseng_client_name_retries_total") >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_to_a_dead_leader_and_to_oneself_do_not_trap_a_request() {
    let stage = Stage::set().await;
    let dead = free_addresses(1).remove(0);
    let config = ClientConfig { masters: vec![dead.clone(), stage.master.address.clone()], ..stage.config() };
    let engine = Engine::connect(config).await.unwrap();
    for hint in [Some(dead), Some(stage.master.address.clone()), None] {
        stage.master.play(Trick::NotLeader(hint));
        let start = Instant::now();
        engine.name(&root(), Op::Statfs(StatFs {})).await.ok();
        engine.getattr(&root(), 1).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_registered_anew_and_open_files_go_on() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (_, handle) = create(&engine, "open").await;
    engine.write(handle, 0, b"before").await.unwrap();
    let old = engine.status()["session"].as_u64().unwrap();
    stage.master.expire(old);
    engine.name(&root(), mkdir("later")).await.unwrap();
    assert_ne!(engine.status()["session"].as_u64().unwrap(), old);
    engine.write(handle, 6, b" and after").await.unwrap();
    engine.flush(handle).await.unwrap();
    assert_eq!(&engine.read(handle, 0, 100).await.unwrap()[..], b"before and after");

    // Unknown outcome under an ended session: an error, not a second try.
    let session = engine.status()["session"].as_u64().unwrap();
    stage.master.play(Trick::LoseReplyAndExpire(session));
    let error = engine.name(&root(), mkdir("unknown")).await.unwrap_err();
    assert_eq!((error.errno, error.kind), (libc::EIO, ErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_masters_an_operation_fails_at_its_deadline_and_names_them() {
    let address = free_addresses(1).remove(0);
    let config = ClientConfig { deadline_ms: 300, ..ClientConfig::new(vec![address.clone()]) };
    let start = Instant::now();
    let error = Engine::connect(config).await.err().unwrap();
    assert_eq!(error.errno, libc::EIO);
    assert!(error.message.contains(&address), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_cluster_id_is_refused_at_once() {
    let stage = Stage::set().await;
    let config = ClientConfig { cluster_id: "other".into(), ..stage.config() };
    let error = Engine::connect(config).await.err().unwrap();
    assert_eq!(error.errno, libc::EREMCHG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_never_reach_a_reader_while_one_copy_is_good() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let data = support::Random(5).bytes(300_000);
    let (inode, handle) = create(&engine, "bytes").await;
    engine.write(handle, 0, &data).await.unwrap();
    engine.flush(handle).await.unwrap();
    stage.two_of(inode).iter().for_each(|server| server.spoil.store(100, SeqCst));
    for _ in 0..3 {
        let handle = open(&engine, inode).await;
        for _ in 0..7 {
            assert!(engine.read(handle, 1000, 200_000).await.unwrap()[..] == data[1000..201_000]);
        }
    }
    assert!(metric(&engine, "mooseng_client_crc_errors_total") >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_copy_is_hedged_and_then_avoided() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (inode, handle) = create(&engine, "slow").await;
    engine.write(handle, 0, &[4; 100_000]).await.unwrap();
    engine.flush(handle).await.unwrap();
    stage.two_of(inode).iter().for_each(|server| server.delay_ms.store(3_000, SeqCst));
    let start = Instant::now();
    for _ in 0..3 {
        let handle = open(&engine, inode).await;
        for at in 0..7u64 {
            assert_eq!(engine.read(handle, at * 4096, 4096).await.unwrap().len(), 4096);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let hedges = metric(&engine, "mooseng_client_hedged_reads_total");
    assert!((1.0..6.0).contains(&hedges), "{hedges} hedges");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_chunkserver_is_left_out_of_the_set_within_seconds() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (inode, handle) = create(&engine, "paused").await;
    engine.write(handle, 0, &[1; 2 << 20]).await.unwrap();
    engine.fsync(handle, true).await.unwrap();
    stage.servers[1].pause();
    let start = Instant::now();
    engine.write(handle, 1 << 20, &[2; 2 << 20]).await.unwrap();
    engine.flush(handle).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    assert_eq!(stage.master.set_of(inode, 0), [1, 3]);
    assert_eq!(engine.read(handle, 1 << 20, 1).await.unwrap()[0], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunkserver_restarted_between_write_and_sync_gets_the_bytes_again() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (inode, handle) = create(&engine, "restarted").await;
    engine.write(handle, 0, &[1; 1 << 20]).await.unwrap();
    while stage.servers.iter().any(|server| server.stored(1).is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.servers[2].start_anew();
    engine.flush(handle).await.unwrap();
    assert_eq!(stage.master.set_of(inode, 0), [1, 2, 3], "no copy is dropped for a restart");
    assert!(stage.servers.iter().all(|server| server.stored(1)[..] == [1; 1 << 20]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_are_reported_once_for_each_handle_and_the_file_goes_on_afterwards() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (inode, first) = create(&engine, "full").await;
    let second = open(&engine, inode).await;
    stage.servers.iter().for_each(|server| server.full.store(true, SeqCst));
    engine.write(first, 0, &[1; 2 << 20]).await.unwrap();
    assert_eq!(engine.flush(first).await.unwrap_err().errno, libc::ENOSPC);
    assert_eq!(engine.flush(second).await.unwrap_err().errno, libc::ENOSPC);
    engine.flush(first).await.unwrap();
    engine.flush(second).await.unwrap();
    assert_eq!(engine.getattr(&root(), inode).await.unwrap().size, 0);
    assert_eq!(engine.status()["dirty_bytes"], 0);
    stage.servers.iter().for_each(|server| server.full.store(false, SeqCst));
    engine.write(first, 0, &[2; 1 << 20]).await.unwrap();
    engine.flush(first).await.unwrap();
    assert_eq!(engine.read(second, 0, 10).await.unwrap()[..], [2; 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_damaged_on_its_way_is_sent_again() {
    let stage = Stage::set().await;
    let engine = stage.engine().await;
    let (inode, handle) = create(&engine, "damaged").await;
    stage.servers.iter().for_each(|server| server.refuse_writes.store(1, SeqCst));
    engine.write(handle, 0, &[7; 50_000]).await.unwrap();
    engine.flush(handle).await.unwrap();
    assert_eq!(engine.read(handle, 0, 50_000).await.unwrap()[..], [7; 50_000]);
    assert!(stage.master.set_of(inode, 0).len() >= 2);
}
