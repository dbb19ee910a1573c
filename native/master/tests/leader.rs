//! What the leader does beside answering: sessions, orphans, chunkservers, deletes, heals, intents. One master suffices.

mod common;

use std::time::Duration;

use base::Error;
use common::{Client, Cluster, ServerDouble, eventually, report};
use wire::Method;
use wire::proto::{
    self, AdminCommand, AdminReply, DropIntent, HealIntent, Intents, IntentsReply, ServerWeight, admin_command,
    server_command::Command,
};

async fn intend(cluster: &Cluster, intents: Intents) -> IntentsReply {
    cluster.call(Method::Intents, &intents).await.unwrap()
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
async fn a_silent_session_expires_and_frees_its_orphans() {
    let cluster = Cluster::start(1, |config| config.session_timeout_ms = 600).await;
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
    let mut servers = Vec::new();
    for id in 1..=3 {
        servers.push(ServerDouble::with(&cluster, id, &[]).await);
    }
    let alive: Vec<_> = servers.iter().map(ServerDouble::keep_alive).collect();
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
    let mut servers = Vec::new();
    for id in 1..=3 {
        servers.push(ServerDouble::with(&cluster, id, &[]).await);
    }
    let alive: Vec<_> = servers.iter().map(ServerDouble::keep_alive).collect();
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
async fn a_heal_that_fails_leaves_no_mark_and_no_member() {
    let cluster = Cluster::single().await;
    let mut servers = Vec::new();
    for id in 1..=4 {
        servers.push(ServerDouble::with(&cluster, id, &[]).await);
    }
    let alive: Vec<_> = servers.iter().map(ServerDouble::keep_alive).collect();
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
