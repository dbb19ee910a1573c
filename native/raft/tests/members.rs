//! What one member answers to another, asked by frames: votes after a restart, words for a former self, pieces of
//! snapshots.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, ErrorKind, Result, crc};
use common::{Cluster, Shape, eventually};
use wire::{Link, LinkConfig, Method, proto};

/// A connection to member `to` as member 2 would have it, and the data directory that `to` has.
async fn connected(cluster: &Cluster, to: u64) -> (Arc<Link>, u64) {
    let hello = proto::Hello {
        cluster_id: "test".to_string(),
        role: proto::Role::Master as i32,
        node_id: 2,
        name: "a test".to_string(),
        ..wire::link::hello()
    };
    let config = LinkConfig { hello, connect_timeout: Duration::from_secs(2) };
    let link = Link::connect(&cluster.members[&to].config.advertise, &config).await.unwrap();
    let status = link.call(Method::RaftStatus, &proto::RaftStatusRequest {}, None, deadline()).await.unwrap();
    (link, status.decode::<proto::RaftStatusReply>().unwrap().incarnation)
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// Ask for a vote in a term and with a log above all others.
async fn ask_for_a_vote(link: &Link, to: u64) -> Result<proto::VoteReply> {
    let request = proto::VoteRequest {
        vote: Some(proto::Vote { term: 1000, node_id: 2, committed: false }),
        last_log: Some(proto::LogId { term: 999, index: 1_000_000 }),
        to,
        ..Default::default()
    };
    link.call(Method::RaftVote, &request, None, deadline()).await?.decode()
}

/// Member 1 alone, of three that had a leader until a moment ago; and when it was started again.
async fn one_of_three(election_ms: (u64, u64)) -> (Cluster, Instant) {
    let mut cluster = Cluster::started(Shape { election_ms, ..Shape::default() }).await;
    for id in 1..=3 {
        cluster.member(id).stop().await;
    }
    let restarted = Instant::now();
    cluster.member(1).start().await.unwrap();
    (cluster, restarted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_member_gives_no_votes_until_a_lease_that_it_granted_before_has_ended() {
    let (cluster, restarted) = one_of_three((1000, 2000)).await;
    let (link, incarnation) = connected(&cluster, 1).await;
    let refused = ask_for_a_vote(&link, incarnation).await.expect_err("the lease may still be held");
    assert!(refused.message.contains("was just started"), "{refused}");
    eventually("the vote", || async {
        ask_for_a_vote(&link, incarnation).await.ok().filter(|reply| reply.granted).map(drop)
    })
    .await;
    assert!(restarted.elapsed() >= cluster.members[&1].config.lease(), "{:?}", restarted.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_of_a_former_self_is_refused() {
    let (cluster, _) = one_of_three((200, 400)).await;
    let (link, incarnation) = connected(&cluster, 1).await;
    let refused = ask_for_a_vote(&link, incarnation ^ 1).await.expect_err("another data directory promised that");
    assert_eq!(refused.kind, ErrorKind::Stale, "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_a_directory_that_was_replaced_promises_nothing() {
    let mut cluster = Cluster::started(Shape::default()).await;
    let leader = cluster.leader().await;
    let replaced = if leader == 1 { 3 } else { 1 };
    let directory = cluster.members[&replaced].config.data_dir.clone();
    let older = directory.with_extension("older");
    cluster.member(replaced).stop().await;
    std::fs::rename(&directory, &older).unwrap();
    cluster.member(replaced).start().await.unwrap();
    let newer = connected(&cluster, replaced).await.1;
    eventually("the new directory to be taken in", || async {
        let (link, _) = connected(&cluster, leader).await;
        let status = link.call(Method::RaftStatus, &proto::RaftStatusRequest {}, None, deadline()).await.ok()?;
        let members = status.decode::<proto::RaftStatusReply>().unwrap().members?;
        members.nodes.iter().any(|node| node.incarnation == newer).then_some(())
    })
    .await;
    cluster.member(replaced).stop().await;
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&older, &directory).unwrap();
    cluster.member(replaced).start().await.unwrap();
    eventually("the older copy to be noticed", || async { cluster.members[&replaced].raft().status().outdated }).await;
    let (link, incarnation) = connected(&cluster, replaced).await;
    let refused = ask_for_a_vote(&link, incarnation).await.expect_err("the newer directory may have promised another");
    assert_eq!(refused.kind, ErrorKind::Stale, "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_snapshot_is_taken_only_behind_the_one_before_it() {
    let (cluster, _) = one_of_three((200, 400)).await;
    let (link, incarnation) = connected(&cluster, 1).await;
    let ask = |id, offset, bytes: &'static [u8]| {
        let vote = Some(proto::Vote { term: 1000, node_id: 2, committed: true });
        let piece = proto::SnapshotPiece { vote, id, offset, total: 100, crc: crc::crc32c(bytes), to: incarnation };
        let (link, payload) = (link.clone(), Some(Arc::new(Buffer::copy_of(bytes))));
        async move {
            let reply = link.call(Method::RaftSnapshot, &piece, payload, deadline()).await.unwrap();
            reply.decode::<proto::SnapshotReply>().unwrap().next_offset
        }
    };
    assert_eq!(ask(7, 10, b"early").await, 0, "the beginning is missing");
    assert_eq!(ask(7, 0, b"first").await, 5);
    assert_eq!(ask(7, 9, b"too far").await, 5);
    assert_eq!(ask(8, 5, b"of another").await, 0);
    assert_eq!(ask(7, 5, b"second").await, 11);
    cluster.stop().await;
}
