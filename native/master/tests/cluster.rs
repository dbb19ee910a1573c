//! Three masters on loopback: one answers, all agree, and losing the leader loses nothing.

mod common;

use common::{Client, Cluster, ServerDouble, ask, connect, eventually};
use wire::Method;
use wire::proto::{self, NameReply, NameRequest, Role, name_request::Op};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_made_through_the_leader_are_there_and_followers_point_to_it() {
    let cluster = Cluster::start(3, |_| {}).await;
    let client = Client::register(&cluster).await;
    let made = client.mkdir(client.op_id(), "a").await.unwrap().attr.unwrap();
    assert_eq!(client.lookup("a").await.unwrap().attr.unwrap().inode, made.inode);

    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let link = connect(cluster.master(follower).address(), Role::Client, 0).await.unwrap();
    let lookup = Op::Lookup(proto::Lookup { parent: 1, name: b"a".to_vec() });
    let request = NameRequest { op: Some(lookup), ..NameRequest::default() };
    let error = ask::<_, NameReply>(&link, Method::Name, &request).await.unwrap_err();
    assert_eq!(error.leader.as_deref(), Some(cluster.configs[leader].advertise.as_str()));

    let view = eventually("all masters in the view", || async {
        let view = cluster.view().await;
        (view.masters.iter().filter(|master| master.role == "follower").count() == 2).then_some(view)
    })
    .await;
    assert_eq!(view.leader_id as usize, leader + 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_retried_at_the_next_leader_is_applied_once() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = Client::register(&cluster).await;
    let op_id = client.op_id();
    let first = client.mkdir(op_id, "once").await.unwrap();
    cluster.stop_master(cluster.leader().await).await;
    let second = client.mkdir(op_id, "once").await.unwrap();
    assert_eq!(first, second);
    let other = client.mkdir(client.op_id(), "once").await.unwrap_err();
    assert_eq!(other.errno, libc::EEXIST);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_purges_nothing_before_it_knows_what_is_open() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let (holder, other) = (Client::register(&cluster).await, Client::register(&cluster).await);
    let inode = holder.create("f").await;
    other.unlink("f").await;
    cluster.stop_master(cluster.leader().await).await;
    other.renew(&[1]).await;
    assert!(holder.exists(inode).await);
    holder.renew(&[inode]).await;
    // Two ticks of the leader would have purged it.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(holder.exists(inode).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_acknowledges_nothing_and_goes_on_when_it_is_none_any_more() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = Client::register(&cluster).await;
    let leader = cluster.leader().await;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.stop_master(at).await;
    }
    let mkdir = Op::Mkdir(proto::MkDir { parent: 1, name: b"lonely".to_vec(), mode: 0o755, full_mode: None });
    let request = NameRequest { session: client.session, op_id: client.op_id(), op: Some(mkdir), ..Default::default() };
    let message = prost::Message::encode_to_vec(&request);
    let refused = cluster.master(leader).call(Method::Name as u16, &message).await.unwrap_err();
    assert_eq!(refused.kind, base::ErrorKind::Unavailable);
    for at in (0..3).filter(|at| *at != leader) {
        cluster.start_master(at).await;
    }
    client.mkdir(client.op_id(), "together").await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sends_a_chunkserver_on_to_the_leader() {
    let cluster = Cluster::start(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.master((leader + 1) % 3).address().to_string();
    let error = ServerDouble::register(&follower, 1, 1).await.err().unwrap();
    assert_eq!(error.leader.as_deref(), Some(cluster.configs[leader].advertise.as_str()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_to_another_master_when_asked() {
    let cluster = Cluster::start(3, |_| {}).await;
    let before = cluster.leader().await;
    let reply: proto::AdminReply = cluster.call(Method::Transfer, &proto::TransferLeader { target: 0 }).await.unwrap();
    assert!(reply.error.is_none());
    let after =
        eventually("another leader", || async { Some(cluster.leader().await).filter(|at| *at != before) }).await;
    assert_ne!(before, after);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_masters_were_started_again() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = Client::register(&cluster).await;
    for name in ["a", "b", "c"] {
        client.mkdir(client.op_id(), name).await.unwrap();
    }
    for at in 0..3 {
        cluster.stop_master(at).await;
    }
    for at in 0..3 {
        cluster.start_master(at).await;
    }
    for name in ["a", "b", "c"] {
        client.lookup(name).await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_another_cluster_refuses_the_data() {
    let mut cluster = Cluster::single().await;
    cluster.stop_master(0).await;
    let mut config = cluster.configs[0].clone();
    config.cluster_id = "other".into();
    let error = master::Master::start(config).await.err().unwrap();
    assert!(error.message.contains("other") && error.message.contains("test"), "{error}");
}
