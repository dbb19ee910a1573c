//! Several members together: elections, losses, restarts, partitions.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, Shape, eventually};

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("batch {n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leader_is_elected_and_all_apply_what_it_was_told() {
    let cluster = Cluster::started(Shape::default()).await;
    let leader = cluster.leader().await;
    for (n, name) in names(0..20).iter().enumerate() {
        let proposed = cluster.members[&leader].raft().propose(Bytes::from(name.clone())).await.unwrap();
        assert_eq!(proposed.reply, (n + 1).to_string());
    }
    cluster.agreed(&names(0..20)).await;
    for (id, member) in &cluster.members {
        let status = member.raft().status();
        assert_eq!(status.leader, Some(leader));
        assert_eq!(status.members.iter().filter(|(_, _, _, voter)| *voter).count(), 3);
        if *id != leader {
            let refused = member.raft().propose(Bytes::from_static(b"x")).await.unwrap_err();
            assert_eq!(refused.leader.as_ref(), Some(&cluster.members[&leader].config.advertise));
            let refused = member.raft().may_read().unwrap_err();
            assert_eq!(refused.leader.as_ref(), Some(&cluster.members[&leader].config.advertise));
        }
    }
    assert_eq!(cluster.members[&leader].raft().status().elections, 1, "one election is enough");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_member_works() {
    let mut cluster = Cluster::started(Shape { count: 1, ..Shape::default() }).await;
    for name in names(0..10) {
        cluster.write(&name).await;
    }
    cluster.member(1).stop().await;
    cluster.member(1).start().await.unwrap();
    cluster.leader().await;
    cluster.agreed(&names(0..10)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_vanishes_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::started(Shape::default()).await;
    for name in names(0..10) {
        cluster.write(&name).await;
    }
    let old = cluster.leader().await;
    cluster.isolate(old, true);
    cluster.member(old).stop().await;
    let new = cluster.leader().await;
    assert_ne!(new, old);
    for name in names(10..20) {
        cluster.write(&name).await;
    }
    cluster.isolate(old, false);
    cluster.member(old).start().await.unwrap();
    cluster.agreed(&names(0..20)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_the_leader_hands_leadership_on_at_once() {
    let mut cluster = Cluster::started(Shape { election_ms: (2000, 3000), ..Shape::default() }).await;
    let old = cluster.leader().await;
    let started = Instant::now();
    cluster.member(old).stop().await;
    cluster.leader().await;
    assert!(started.elapsed() < Duration::from_millis(1500), "took {:?}, a lease is 3 s", started.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::started(Shape::default()).await;
    let old = cluster.leader().await;
    let target = cluster.members.keys().copied().find(|id| *id != old).unwrap();
    cluster.members[&old].raft().transfer(Some(target)).await.unwrap();
    assert!(cluster.members[&old].raft().may_read().is_err());
    assert_eq!(cluster.leader().await, target);
    let refused = cluster.members[&target].raft().transfer(Some(9)).await.unwrap_err();
    assert!(refused.message.contains("master 9 is no other voter"), "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_members_were_restarted() {
    let mut cluster = Cluster::started(Shape { snapshot_every: 20, ..Shape::default() }).await;
    for name in names(0..70) {
        cluster.write(&name).await;
    }
    for id in 1..=3 {
        cluster.isolate(id, true);
    }
    for id in 1..=3 {
        cluster.member(id).stop().await;
    }
    for id in 1..=3 {
        cluster.isolate(id, false);
        cluster.member(id).start().await.unwrap();
    }
    cluster.leader().await;
    cluster.agreed(&names(0..70)).await;
    assert_eq!(cluster.members[&1].journal.len(), 70, "each batch once");
    cluster.write("after").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_reads_and_writes_and_recovers() {
    let cluster = Cluster::started(Shape::default()).await;
    cluster.write("before").await;
    let old = cluster.leader().await;
    cluster.isolate(old, true);
    let cut = Instant::now();
    let isolated = cluster.members[&old].raft().clone();
    eventually("the isolated leader to refuse reads", || async { isolated.may_read().err() }).await;
    assert!(cut.elapsed() <= Duration::from_millis(400), "reads were served for {:?} after the cut", cut.elapsed());
    // Written by the majority meanwhile, and never readable on both sides at once.
    let new = eventually("another leader", || async {
        let others = cluster.members.iter().filter(|(id, _)| **id != old);
        others.filter(|(_, m)| m.raft().may_read().is_ok()).map(|(id, _)| *id).next()
    })
    .await;
    assert!(isolated.may_read().is_err());
    cluster.members[&new].raft().propose(Bytes::from_static(b"meanwhile")).await.unwrap();
    let refused = isolated.propose(Bytes::from_static(b"never")).await.unwrap_err();
    assert_eq!(refused.kind, base::ErrorKind::Unavailable);
    cluster.isolate(old, false);
    cluster.agreed(&["before".to_string(), "meanwhile".to_string()]).await;
    assert!(!cluster.members[&new].journal.batches().contains(&b"never".to_vec()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_is_gone_stops_everything_until_it_is_back() {
    let mut cluster = Cluster::started(Shape::default()).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = cluster.members.keys().copied().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.member(*id).stop().await;
    }
    let raft = cluster.members[&leader].raft().clone();
    eventually("the lease to end", || async { raft.may_read().err() }).await;
    assert!(raft.propose(Bytes::from_static(b"alone")).await.is_err());
    cluster.member(others[0]).start().await.unwrap();
    cluster.write("together").await;
    cluster.agreed(&["together".to_string()]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_at_once_are_applied_once_each_in_one_order() {
    let cluster = Cluster::started(Shape { segment_bytes: 65_536, ..Shape::default() }).await;
    let leader = cluster.members[&cluster.leader().await].raft().clone();
    let all = (0..2000).map(|n| {
        let leader = leader.clone();
        tokio::spawn(async move { leader.propose(Bytes::from(format!("{n:0200}"))).await.unwrap() })
    });
    let mut replies: Vec<String> = Vec::new();
    for task in all.collect::<Vec<_>>() {
        replies.push(String::from_utf8(task.await.unwrap().reply.to_vec()).unwrap());
    }
    replies.sort_by_key(|reply| reply.parse::<u32>().unwrap());
    assert_eq!(replies, (1..=2000).map(|n| n.to_string()).collect::<Vec<_>>());
    cluster.agreed(&[]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_member_gets_a_snapshot_while_the_others_go_on() {
    let mut cluster = Cluster::started(Shape { snapshot_every: 50, segment_bytes: 65_536, ..Shape::default() }).await;
    let leader = cluster.leader().await;
    let slow = cluster.members.keys().copied().find(|id| *id != leader).unwrap();
    cluster.member(slow).stop().await;
    let names: Vec<String> = (0..400).map(|n| format!("{n:01000}")).collect();
    for name in &names {
        cluster.write(name).await;
    }
    // On both: either may lead by the time the third is back.
    eventually("the logs to be compacted", || async {
        let mut others = cluster.members.iter().filter(|(id, _)| **id != slow);
        others.all(|(_, member)| member.raft().status().purged > 100).then_some(())
    })
    .await;
    cluster.member(slow).start().await.unwrap();
    cluster.agreed(&names).await;
    // The state is there before the figure of it is.
    eventually("the figure of a snapshot that came", || async {
        (cluster.members[&slow].raft().status().snapshot > 100).then_some(())
    })
    .await;
    let files = std::fs::read_dir(cluster.members[&leader].log_folder()).unwrap().count();
    assert!(files <= 6, "{files} log files for what fits in three");
    // And what came by snapshot survives a restart.
    cluster.member(slow).stop().await;
    cluster.member(slow).start().await.unwrap();
    cluster.agreed(&names).await;
    cluster.stop().await;
}
