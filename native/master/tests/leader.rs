//! What the leader does beside answering: sessions, orphans, chunkservers, deletes, heals, intents. One master suffices.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use base::Error;
use common::{Client, Cluster, ServerDouble, eventually, report};
use wire::Method;
use wire::proto::{
    self, AdminCommand, AdminReply, DropIntent, HealIntent, Intents, IntentsReply, LeaderPolicy, ServerWeight,
    admin_command, server_command::Command,
};

async fn intend(cluster: &Cluster, intents: Intents) -> IntentsReply {
    cluster.call(Method::Intents, &intents).await.unwrap()
}

/// Servers 1 to `count`, without chunks, that say that they live.
async fn servers(cluster: &Cluster, count: u32) -> (Vec<ServerDouble>, Vec<tokio::task::JoinHandle<()>>) {
    let mut servers = Vec::new();
    for id in 1..=count {
        servers.push(ServerDouble::with(cluster, id, &[]).await);
    }
    let alive = servers.iter().map(ServerDouble::keep_alive).collect();
    (servers, alive)
}

async fn until_gone(client: &Client, inode: u64) {
    eventually("the purge", || async { (!client.exists(inode).await).then_some(()) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_file_lives_until_its_last_handle_is_released() {
    let cluster = Cluster::single().await;
    let (holder, other) = (Client::register(&cluster).await, Client::register(&cluster).await);
    let inode = holder.create("f").await;
    other.open(inode).await.unwrap();
    other.unlink("f").await;
    holder.release(inode).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(other.exists(inode).await);
    other.release(inode).await;
    until_gone(&other, inode).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_purge_a_file_is_refused_while_it_is_open() {
    let cluster = Cluster::single().await;
    let client = Client::register(&cluster).await;
    let inode = client.create("f").await;
    client.unlink("f").await;
    let purge = admin_command::Op::Purge(proto::Purge { inodes: vec![inode] });
    assert_eq!(admin(&cluster, purge).await.unwrap_err().errno, libc::EBUSY);
    assert!(client.exists(inode).await);
    client.release(inode).await;
    until_gone(&client, inode).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_session_expires_and_frees_its_orphans() {
    let cluster = Cluster::start(1, |config| config.session_timeout_ms = 1000).await;
    let (silent, alive) = (Client::register(&cluster).await, Client::register(&cluster).await);
    let inode = silent.create("f").await;
    alive.unlink("f").await;
    assert!(alive.exists(inode).await);
    eventually("the purge", || async {
        assert!(alive.renew(&[]).await.error.is_none());
        (!alive.exists(inode).await).then_some(())
    })
    .await;
    let error: Error = silent.renew(&[]).await.error.unwrap().into();
    assert_eq!(error.errno, libc::ESTALE);
    assert_eq!(silent.open(1).await.unwrap_err().errno, libc::ESTALE);
    assert_eq!(silent.mkdir(99, "late").await.unwrap_err().errno, libc::ESTALE);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_a_removed_file_are_deleted_on_their_servers() {
    let cluster = Cluster::single().await;
    let (mut servers, alive) = servers(&cluster, 3).await;
    let client = Client::register(&cluster).await;
    let (inode, info) = client.written_file("f").await;
    let chunk = info.chunk.unwrap();
    assert_eq!(info.replicas.len(), 3);
    client.unlink("f").await;
    client.release(inode).await;
    for server in &mut servers {
        let order = server.next_order().await;
        assert_eq!(order.epoch, server.epoch);
        let Some(Command::Delete(delete)) = &order.command else { panic!("{order:?}") };
        assert_eq!(delete.chunks[0].id, chunk.id);
        assert!(delete.chunks[0].version >= chunk.version);
        server.answer(&order, Ok(0)).await;
    }
    alive.iter().for_each(|task| task.abort());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_or_cut_chunkserver_is_marked_down_and_up_again() {
    let cluster = Cluster::single().await;
    let up = |id: u32, wanted: bool| {
        let cluster = &cluster;
        eventually("the mark", move || async move {
            let view = cluster.view().await;
            view.servers.iter().any(|server| server.server_id == id && server.up == wanted).then_some(())
        })
    };
    let server = ServerDouble::at(&cluster, 1).await;
    up(1, true).await;
    up(1, false).await; // no heartbeat
    server.beat(vec![]).await.unwrap();
    up(1, true).await;
    drop(server); // the connection ends
    up(1, false).await;
    let again = ServerDouble::at(&cluster, 1).await;
    up(1, true).await;
    drop(again);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_an_older_epoch_is_refused() {
    let cluster = Cluster::single().await;
    let old = ServerDouble::at(&cluster, 1).await;
    let new = ServerDouble::at(&cluster, 1).await;
    assert!(new.epoch > old.epoch);
    assert_eq!(old.beat(vec![]).await.unwrap_err().errno, libc::ESTALE);
    new.beat(vec![]).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_with_the_id_of_a_living_one_is_refused() {
    let cluster = Cluster::single().await;
    let first = ServerDouble::at(&cluster, 1).await;
    let _alive = first.keep_alive();
    let error = ServerDouble::register(cluster.master(0).address(), 1, 77).await.err().unwrap();
    assert_eq!(error.errno, libc::EBUSY);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intents_and_orders_of_an_older_term_are_refused() {
    let cluster = Cluster::single().await;
    let term = cluster.view().await.term;
    let reply = intend(&cluster, Intents { expected_term: term + 1, ..Intents::default() }).await;
    assert_eq!(reply.error.unwrap().errno, libc::ESTALE);
    assert!(intend(&cluster, Intents { expected_term: term, ..Intents::default() }).await.error.is_none());
    let op = admin_command::Op::SetWeights(proto::SetWeights::default());
    let stale = AdminCommand { expected_term: term + 1, op: Some(op) };
    assert_eq!(cluster.call::<_, AdminReply>(Method::Admin, &stale).await.unwrap_err().errno, libc::ESTALE);
    let internal = admin_command::Op::EndHeal(proto::EndHeal::default());
    let internal = AdminCommand { expected_term: 0, op: Some(internal) };
    assert_eq!(cluster.call::<_, AdminReply>(Method::Admin, &internal).await.unwrap_err().errno, libc::EPERM);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_committed_when_they_differ() {
    let cluster = Cluster::single().await;
    let _server = ServerDouble::at(&cluster, 1).await;
    let weights = vec![ServerWeight { server_id: 1, weight: 7 }];
    assert_eq!(intend(&cluster, Intents { weights, ..Intents::default() }).await.accepted, 1);
    assert_eq!(cluster.view().await.servers[0].weight, 7);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_copy_is_shown_dropped_and_made_anew() {
    let cluster = Cluster::single().await;
    let (mut servers, alive) = servers(&cluster, 3).await;
    let client = Client::register(&cluster).await;
    let (_, info) = client.written_file("f").await;
    let chunk = info.chunk.unwrap();
    assert!(cluster.view().await.troubled.is_empty());

    servers[2].beat(vec![report(chunk.id, chunk.version, true)]).await.unwrap();
    let trouble = eventually("the trouble", || async { cluster.view().await.troubled.first().cloned() }).await;
    assert_eq!((trouble.bad, trouble.live.len()), (vec![3], 2));

    let version = trouble.chunk.unwrap().version;
    let drop = vec![DropIntent { chunk_id: chunk.id, version, server_id: 3 }];
    assert_eq!(intend(&cluster, Intents { drop, ..Intents::default() }).await.accepted, 1);
    let heal = vec![HealIntent { chunk_id: chunk.id, version: version + 1, source: 1, target: 3 }];
    assert_eq!(intend(&cluster, Intents { heal, ..Intents::default() }).await.accepted, 1);
    let order = servers[2].next_order().await;
    let Some(Command::Copy(copy)) = &order.command else { panic!("{order:?}") };
    assert_eq!(copy.source.as_ref().unwrap().server_id, 1);
    assert_eq!(copy.chunk.unwrap().version, version + 2);
    assert_eq!(cluster.view().await.healing.len(), 1);
    servers[2].answer(&order, Ok(4096)).await;
    eventually("the mended set", || async {
        let view = cluster.view().await;
        (view.troubled.is_empty() && view.healing.is_empty() && view.under_replicated == 0).then_some(())
    })
    .await;
    alive.iter().for_each(|task| task.abort());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_server_that_is_down_are_trouble_after_the_delay_that_the_policy_says() {
    let cluster = Cluster::single().await;
    let (mut servers, alive) = servers(&cluster, 3).await;
    let client = Client::register(&cluster).await;
    client.written_file("f").await;
    let policy = Some(LeaderPolicy { heal_delay_ms: 1000, ..LeaderPolicy::default() });
    intend(&cluster, Intents { policy, ..Intents::default() }).await;
    let since = std::time::Instant::now();
    alive[2].abort();
    drop(servers.pop());
    let trouble = eventually("the trouble", || async { cluster.view().await.troubled.first().cloned() }).await;
    assert_eq!(BTreeSet::from_iter(trouble.live), BTreeSet::from([1, 2]));
    assert!((1.0..8.0).contains(&since.elapsed().as_secs_f64()), "{:?}", since.elapsed());
    alive.iter().for_each(|task| task.abort());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_that_fails_leaves_no_mark_and_no_member() {
    let cluster = Cluster::single().await;
    let (mut servers, alive) = servers(&cluster, 4).await;
    let client = Client::register(&cluster).await;
    let (inode, info) = client.written_file("f").await;
    let members: Vec<u32> = info.replicas.iter().map(|replica| replica.server_id).collect();
    let target = (1..=4).find(|id| !members.contains(id)).unwrap();
    let chunk = info.chunk.unwrap();
    let heal = HealIntent { chunk_id: chunk.id, version: chunk.version, source: members[0], target };
    assert_eq!(intend(&cluster, Intents { heal: vec![heal], ..Intents::default() }).await.accepted, 1);
    let order = servers[target as usize - 1].next_order().await;
    servers[target as usize - 1].answer(&order, Err(Error::unavailable("no route to the source"))).await;
    eventually("the end of the heal", || async {
        let view = cluster.view().await;
        (view.healing.is_empty() && view.heals_running == 0).then_some(())
    })
    .await;
    let get = proto::GetChunks { inode, first: 0, count: 1 };
    let reply = client.try_op(0, proto::name_request::Op::GetChunks(get)).await.unwrap();
    assert_eq!(reply.chunks[0].replicas.len(), 3);
    alive.iter().for_each(|task| task.abort());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_belongs_to_no_chunk_is_shown_and_deleted_when_intended() {
    let cluster = Cluster::single().await;
    let mut server = ServerDouble::with(&cluster, 1, &[(777, 3)]).await;
    let _alive = server.keep_alive();
    let orphan = eventually("the orphan", || async { cluster.view().await.orphans.first().cloned() }).await;
    assert_eq!((orphan.server_id, orphan.chunk_id, orphan.version), (1, 777, 3));
    let delete = vec![proto::DeleteIntent { server_id: 1, chunk_id: 777, version: 3 }];
    assert_eq!(intend(&cluster, Intents { delete, ..Intents::default() }).await.accepted, 1);
    let order = server.next_order().await;
    assert!(matches!(&order.command, Some(Command::Delete(delete)) if delete.chunks[0].id == 777));
    server.answer(&order, Ok(0)).await;
    eventually("no orphan", || async { cluster.view().await.orphans.is_empty().then_some(()) }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_chunk_and_the_one_on_its_way_are_never_deleted_whatever_is_intended() {
    let cluster = Cluster::single().await;
    let mut servers = futures::future::join_all((1..=5).map(|id| ServerDouble::with(&cluster, id, &[]))).await;
    let alive: Vec<_> = servers.iter().map(ServerDouble::keep_alive).collect();
    let client = Client::register(&cluster).await;
    let (_, info) = client.written_file("f").await;
    let chunk = info.chunk.unwrap();
    let members: Vec<u32> = info.replicas.iter().map(|replica| replica.server_id).collect();
    let others: Vec<u32> = (1..=5).filter(|id| !members.contains(id)).collect();
    let delete = |server_id, version| proto::DeleteIntent { server_id, chunk_id: chunk.id, version };
    let count = async |intents| {
        let reply = intend(&cluster, intents).await;
        (reply.accepted, reply.refused)
    };
    let delete_all = members.iter().map(|id| delete(*id, u32::MAX)).collect();
    assert_eq!(count(Intents { delete: delete_all, ..Intents::default() }).await, (0, 3));

    let heal = |source, target| vec![HealIntent { chunk_id: chunk.id, version: chunk.version, source, target }];
    assert_eq!(count(Intents { heal: heal(others[1], others[0]), ..Intents::default() }).await, (0, 1), "no source");
    assert_eq!(count(Intents { heal: heal(members[0], others[0]), ..Intents::default() }).await, (1, 0));
    let order = servers[others[0] as usize - 1].next_order().await;
    assert!(matches!(&order.command, Some(Command::Copy(copy)) if copy.chunk.unwrap().id == chunk.id), "{order:?}");
    let arriving = vec![delete(others[0], u32::MAX)];
    assert_eq!(count(Intents { delete: arriving, ..Intents::default() }).await, (0, 1));
    assert_eq!(count(Intents { delete: vec![delete(others[1], 1)], ..Intents::default() }).await, (1, 0), "an orphan");
    alive.iter().for_each(|task| task.abort());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_file_lies_and_how_much_room_there_is_can_be_asked() {
    let cluster = Cluster::single().await;
    let servers = [1, 2, 3].map(|id| ServerDouble::with(&cluster, id, &[]));
    let servers = futures::future::join_all(servers).await;
    let client = Client::register(&cluster).await;
    client.written_file("f").await;
    let info: proto::FileInfo =
        cluster.call(Method::FileInfo, &proto::FileInfoRequest { path: "/f".into() }).await.unwrap();
    assert_eq!((info.attr.unwrap().size, info.chunks.len(), info.chunks[0].copies_live), (100_000, 1, 3));
    let missing: proto::FileInfo =
        cluster.call(Method::FileInfo, &proto::FileInfoRequest { path: "/g".into() }).await.unwrap();
    assert_eq!(missing.error.unwrap().errno, libc::ENOENT);
    let statfs = client.try_op(0, proto::name_request::Op::Statfs(proto::StatFs {})).await.unwrap().statfs.unwrap();
    assert_eq!((statfs.total_bytes, statfs.free_bytes), (3000, 1500));
    drop(servers);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_oversized_requests_are_refused_with_an_errno() {
    let cluster = Cluster::single().await;
    let master = cluster.master(0);
    assert_eq!(master.call(Method::Name as u16, b"\xff\xff\xff").await.unwrap_err().errno, libc::EBADMSG);
    assert_eq!(master.call(9999, b"").await.unwrap_err().errno, libc::EOPNOTSUPP);
    let huge = vec![0u8; 1 << 20];
    assert_eq!(master.call(Method::Name as u16, &huge).await.unwrap_err().errno, libc::EMSGSIZE);
    let names: Vec<&str> = master.metrics().iter().map(|metric| metric.0).collect();
    assert!(names.contains(&"mooseng_master_commit_seconds_sum"));
    cluster.stop().await;
}

/// What a chunkserver says that remembers `position`, if there is one, and has a copy of chunk `highest_chunk`.
fn hello(id: u32, remembered: Option<proto::Position>, highest_chunk: u64) -> proto::ServerHello {
    let address = format!("127.0.0.1:{}", 20_000 + id);
    proto::ServerHello { server_id: id, boot_id: 1, address, remembered, highest_chunk, ..Default::default() }
}

async fn say(cluster: &Cluster, hello: &proto::ServerHello) -> base::Result<proto::ServerWelcome> {
    let address = cluster.master(cluster.leader().await).address().to_string();
    let link = common::connect(&address, proto::Role::Chunkserver, hello.server_id).await?;
    common::ask(&link, Method::ServerHello, hello).await
}

async fn admin(cluster: &Cluster, op: admin_command::Op) -> base::Result<AdminReply> {
    cluster.call(Method::Admin, &AdminCommand { expected_term: 0, op: Some(op) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_remembers_what_the_masters_lack_is_refused_until_an_operator_accepts() {
    let cluster = Cluster::single().await;
    let known = say(&cluster, &hello(1, None, 0)).await.unwrap().position.unwrap();
    assert!(known.mark != 0 && known.index > 0);
    say(&cluster, &hello(1, Some(known), 0)).await.unwrap();

    let lost = proto::Position { index: 90, mark: 4242, next_chunk: 5000, next_inode: 700, ..known };
    let error = say(&cluster, &hello(2, Some(lost), 0)).await.unwrap_err();
    assert!(error.message.contains("position 90") && error.message.contains("accept-history"), "{error}");
    let error = say(&cluster, &hello(3, Some(known), 1 << 40)).await.unwrap_err();
    assert!(error.message.contains("chunk 1099511627776"), "{error}");
    let view = cluster.view().await;
    assert_eq!(view.refused.iter().map(|refused| refused.server_id).collect::<Vec<_>>(), [2, 3]);

    let accept = |server_id| admin_command::Op::AcceptHistory(proto::AcceptHistory { server_id, known: vec![] });
    assert_eq!(admin(&cluster, accept(9)).await.unwrap_err().errno, libc::ENOENT);
    admin(&cluster, accept(2)).await.unwrap();
    say(&cluster, &hello(3, Some(known), 1 << 41)).await.unwrap_err();
    let here = say(&cluster, &hello(2, Some(lost), 4999)).await.unwrap().position.unwrap();
    assert!(here.next_chunk > 1 << 40 && here.next_inode > 700, "numbers jump over what is known");
    admin(&cluster, accept(0)).await.unwrap();
    say(&cluster, &hello(3, Some(known), 1 << 41)).await.unwrap();
    assert!(cluster.view().await.refused.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_unknown_to_put_back_masters_are_kept_until_an_operator_lets_them_go() {
    let cluster = Cluster::single().await;
    say(&cluster, &hello(1, None, 77)).await.unwrap_err();
    admin(&cluster, admin_command::Op::AcceptHistory(proto::AcceptHistory::default())).await.unwrap();
    let mut server = ServerDouble::with(&cluster, 1, &[(77, 3)]).await;
    let _alive = server.keep_alive();
    let delete = proto::DeleteIntent { server_id: 1, chunk_id: 77, version: 3 };
    let orphans =
        eventually("the orphan", || async { Some(cluster.view().await.orphans).filter(|orphans| !orphans.is_empty()) })
            .await;
    assert!(orphans[0].kept);
    let reply = intend(&cluster, Intents { delete: vec![delete], ..Intents::default() }).await;
    assert_eq!((reply.accepted, reply.refused), (0, 1));
    admin(&cluster, admin_command::Op::DropUnknown(proto::DropUnknown {})).await.unwrap();
    intend(&cluster, Intents { delete: vec![delete], ..Intents::default() }).await;
    assert!(matches!(server.next_order().await.command, Some(Command::Delete(_))));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_an_older_epoch_than_confirmed_is_named_as_outdated() {
    let cluster = Cluster::single().await;
    let condition = proto::DiskCondition::DiskOk as i32;
    let disk = |epoch| proto::DiskStatus { path: "/d".into(), condition, chunks: 1, epoch, ..Default::default() };
    let address = cluster.master(cluster.leader().await).address().to_string();
    let link = common::connect(&address, proto::Role::Chunkserver, 1).await.unwrap();
    let register = |epoch| proto::ServerHello { disks: vec![disk(epoch)], ..hello(1, None, 0) };
    let ask = |epoch| {
        let (link, hello) = (link.clone(), register(epoch));
        async move { common::ask::<_, proto::ServerWelcome>(&link, Method::ServerHello, &hello).await.unwrap() }
    };
    let first = ask(0).await;
    assert!(ask(0).await.outdated_disks.is_empty(), "nobody said that it remembers the first registration");
    let second = ask(0).await;
    assert!(second.epoch > first.epoch);
    let beat =
        proto::Heartbeat { server_id: 1, epoch: second.epoch, disks: vec![disk(second.epoch)], ..Default::default() };
    common::ask::<_, proto::HeartbeatReply>(&link, Method::Heartbeat, &beat).await.unwrap();
    assert!(ask(second.epoch).await.outdated_disks.is_empty());
    assert_eq!(ask(first.epoch).await.outdated_disks, ["/d"]);
    cluster.stop().await;
}
