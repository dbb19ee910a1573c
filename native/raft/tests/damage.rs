//! Directories that were lost, damaged, foreign or in use.

mod common;

use std::path::{Path, PathBuf};

use common::{Cluster, Shape, eventually};

fn only_log_file(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}

async fn filled(count: usize) -> (Cluster, Vec<String>) {
    let cluster = Cluster::started(Shape::default()).await;
    let names: Vec<String> = (0..count).map(|n| format!("batch {n}")).collect();
    for name in &names {
        cluster.write(name).await;
    }
    cluster.agreed(&names).await;
    (cluster, names)
}

async fn is_voter_again(cluster: &Cluster, id: u64) {
    eventually("the member to vote again", || async {
        let status = cluster.members[&id].raft().status();
        let leader = status.leader?;
        let seen = cluster.members.get(&leader)?.consensus.as_ref()?.status_reply().members?;
        // With its new directory: the former self may still be a voter, and goes when the leader hears of it.
        let own = cluster.members[&id].raft().status_reply().incarnation;
        let is_known = seen.nodes.iter().any(|node| node.id == id && node.incarnation == own);
        (is_known && seen.sets.len() == 1 && seen.sets[0].ids.contains(&id)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_taken_in_again_and_counts_for_a_majority() {
    let (mut cluster, mut names) = filled(20).await;
    let leader = cluster.leader().await;
    let wiped = cluster.members.keys().copied().find(|id| *id != leader).unwrap();
    let third = cluster.members.keys().copied().find(|id| *id != leader && *id != wiped).unwrap();
    cluster.member(wiped).stop().await;
    std::fs::remove_dir_all(&cluster.members[&wiped].config.data_dir).unwrap();
    cluster.member(wiped).start().await.unwrap();
    is_voter_again(&cluster, wiped).await;
    cluster.agreed(&names).await;
    cluster.member(third).stop().await;
    cluster.write("with the one that was wiped").await;
    names.push("with the one that was wiped".to_string());
    cluster.agreed(&names).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_leader_is_taken_in_again() {
    let (mut cluster, names) = filled(20).await;
    let wiped = cluster.leader().await;
    cluster.member(wiped).stop().await;
    std::fs::remove_dir_all(&cluster.members[&wiped].config.data_dir).unwrap();
    cluster.member(wiped).start().await.unwrap();
    is_voter_again(&cluster, wiped).await;
    cluster.agreed(&names).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_members_never_elect_anyone_with_what_they_lost() {
    let (mut cluster, _) = filled(5).await;
    let leader = cluster.leader().await;
    let wiped: Vec<u64> = cluster.members.keys().copied().filter(|id| *id != leader).collect();
    for id in 1..=3 {
        cluster.isolate(id, true);
        cluster.member(id).stop().await;
    }
    for id in &wiped {
        cluster.isolate(*id, false);
        std::fs::remove_dir_all(&cluster.members[id].config.data_dir).unwrap();
    }
    // A majority of empty directories, and one that knows better: no leader, no empty cluster.
    cluster.isolate(leader, false);
    for id in 1..=3 {
        cluster.member(id).start().await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    for member in cluster.members.values() {
        assert!(member.raft().may_read().is_err());
        assert!(!member.raft().leadership().borrow().is_leader);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_middle_is_refused_and_fetched_again() {
    let (mut cluster, names) = filled(30).await;
    let leader = cluster.leader().await;
    let victim = cluster.members.keys().copied().find(|id| *id != leader).unwrap();
    cluster.member(victim).stop().await;
    let path = only_log_file(&cluster.members[&victim].log_folder());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"batch 15").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    cluster.member(victim).start().await.unwrap();
    is_voter_again(&cluster, victim).await;
    cluster.agreed(&names).await;
    let aside = std::fs::read_dir(&cluster.members[&victim].config.data_dir).unwrap();
    let aside =
        aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("raft.damaged-"));
    assert_eq!(aside.count(), 1, "the damaged directory is kept");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_member_with_a_damaged_log_stops_and_says_so() {
    let mut cluster = Cluster::started(Shape { count: 1, ..Shape::default() }).await;
    for n in 0..10 {
        cluster.write(&format!("batch {n}")).await;
    }
    cluster.member(1).stop().await;
    let path = only_log_file(&cluster.members[&1].log_folder());
    let whole = std::fs::read(&path).unwrap();
    let at = whole.windows(7).position(|window| window == b"batch 4").unwrap();
    let mut bytes = whole.clone();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = cluster.member(1).start().await.unwrap_err();
    assert!(refused.message.contains("only master") && refused.message.contains("unreadable"), "{refused}");
    // The last entry too: it was noted as durable.
    let at = whole.windows(7).rposition(|window| window == b"batch 9").unwrap();
    let mut bytes = whole.clone();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(cluster.member(1).start().await.is_err());
    std::fs::write(&path, whole).unwrap();
    cluster.member(1).start().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_cluster_or_master_or_in_use_is_refused() {
    let mut cluster = Cluster::started(Shape { count: 1, ..Shape::default() }).await;
    let mut second = cluster.members[&1].config.clone();
    let journal = std::sync::Arc::new(common::Journal::default());
    let refused = raft::Consensus::start(second.clone(), journal.clone()).await.err().unwrap();
    assert!(refused.message.contains("in use by another process"), "{refused}");
    cluster.member(1).stop().await;
    cluster.member(1).consensus = None;
    second.cluster_id = "other".to_string();
    let refused = raft::Consensus::start(second.clone(), journal.clone()).await.err().unwrap();
    assert!(refused.message.contains("belongs to cluster \"test\""), "{refused}");
    second.cluster_id = "test".to_string();
    second.node_id = 2;
    second.peers = [(2, second.advertise.clone())].into();
    let refused = raft::Consensus::start(second, journal).await.err().unwrap();
    assert!(refused.message.contains("belongs to master 1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_kept_out() {
    let mut cluster = Cluster::new(Shape::default()).await;
    cluster.member(3).config.cluster_id = "other".to_string();
    for id in 1..=3 {
        cluster.member(id).start().await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    assert!(cluster.members.values().all(|member| member.raft().may_read().is_err()), "no cluster begins without all");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_written_is_told_and_tried_again_while_the_member_goes_on() {
    let mut cluster = Cluster::started(Shape { count: 1, snapshot_every: 20, ..Shape::default() }).await;
    let folder = cluster.members[&1].config.data_dir.join("raft/snapshot");
    let away = folder.with_file_name("away");
    std::fs::rename(&folder, &away).unwrap();
    let mut names: Vec<String> = (0..50).map(|n| format!("batch {n}")).collect();
    for name in &names {
        cluster.write(name).await;
    }
    let reason = eventually("the reason", || async { cluster.members[&1].raft().status().snapshot_trouble }).await;
    assert!(reason.contains("no snapshot can be written") && reason.contains("raft/snapshot"), "{reason}");
    let raft = cluster.members[&1].raft();
    assert_eq!((raft.status().role.name(), raft.status().failed, raft.status().snapshot), ("leader", None, 0));
    cluster.write("meanwhile").await;
    names.push("meanwhile".to_string());
    std::fs::rename(&away, &folder).unwrap();
    eventually("a later snapshot", || async {
        let status = cluster.members[&1].raft().status();
        (status.snapshot >= 50 && status.snapshot_trouble.is_none()).then_some(())
    })
    .await;
    cluster.member(1).stop().await;
    cluster.member(1).start().await.unwrap();
    cluster.agreed(&names).await;
    cluster.stop().await;
}
