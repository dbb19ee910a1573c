"""Nodes die, pause, lose their disks and come back; what was acknowledged stays (DESIGN section 3)."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from mooseng_py.demo.harness import (
    BLOCK_BYTES,
    Activity,
    Cluster,
    flip_byte,
    read_past_cache,
    run_mooseng,
    sha256,
    wait_until,
)

MIB = 1 << 20


def writer(folder: Path, size: int = 20_000) -> Activity:
    """Files of known content, each fsynced, one after the other."""
    folder.mkdir()

    def step(index: int) -> None:
        with (folder / str(index)).open("wb") as file:
            file.write(bytes([index % 251]) * size)
            os.fsync(file.fileno())

    return Activity(f"writing into {folder.name}", step)


def check(cluster: Cluster, folder: Path, count: int, size: int = 20_000) -> None:
    """Everything acknowledged is there, through another mount."""
    other = cluster.mount(3) / folder.name
    for index in range(count):
        assert (other / str(index)).read_bytes() == bytes([index % 251]) * size


def work_through(cluster: Cluster, name: str, *, size: int = 20_000, longest_gap_s: float, damage: object) -> None:
    folder = cluster.mount(1) / name
    activity = writer(folder, size)
    with activity.going_on():
        wait_until("some writes", lambda: activity.done > 10)
        damage()  # type: ignore[operator]
        reached = activity.done
        wait_until("writes afterwards", lambda: activity.errors or activity.done > reached + 20, timeout_s=40)
    assert not activity.errors
    assert activity.longest_gap_s < longest_gap_s
    check(cluster, folder, activity.done, size)


def test_killing_a_follower_is_not_noticed(cluster: Cluster) -> None:
    follower = next(name for name in cluster.names("master") if name != cluster.leader())
    work_through(cluster, "follower", longest_gap_s=2, damage=lambda: cluster.kill(follower))
    cluster.restart(follower)
    wait_until("the follower back", lambda: cluster.node(follower)["state"] == "ready")


def test_killing_the_leader_stalls_writers_for_seconds_without_an_errno(cluster: Cluster) -> None:
    leader = cluster.leader()
    work_through(cluster, "leader", longest_gap_s=5, damage=lambda: cluster.kill(leader))
    assert cluster.leader() != leader
    cluster.restart(leader)
    wait_until("the old leader back", lambda: cluster.node(leader)["state"] == "ready")


def test_a_paused_leader_is_replaced_and_cannot_speak_for_the_cluster_afterwards(cluster: Cluster) -> None:
    leader = cluster.leader()
    pid = int(cluster.node(leader)["pid"])
    try:
        work_through(cluster, "paused", longest_gap_s=8, damage=lambda: os.kill(pid, signal.SIGSTOP))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_until("another leader", lambda: cluster.leader() != leader)
    wait_until("the old one follows", lambda: cluster.node(leader)["state"] == "ready")


@pytest.mark.parametrize("size", [3000, 300_000])
def test_killing_a_chunkserver_is_no_errno_and_its_copies_come_back(cluster: Cluster, size: int) -> None:
    work_through(cluster, f"server-{size}", size=size, longest_gap_s=3, damage=lambda: cluster.kill("chunkserver-1"))
    cluster.restart("chunkserver-1")
    wait_until("registered again", lambda: cluster.servers_up() == 3)
    cluster.wait_until_whole()


def test_a_paused_chunkserver_stalls_writers_for_seconds_at_most(cluster: Cluster) -> None:
    pid = int(cluster.node("chunkserver-3")["pid"])
    try:
        work_through(cluster, "slow", size=200_000, longest_gap_s=10, damage=lambda: os.kill(pid, signal.SIGSTOP))
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("registered again", lambda: cluster.servers_up() == 3)
    cluster.wait_until_whole()


def test_a_minority_of_masters_acknowledges_nothing_and_recovers(cluster: Cluster) -> None:
    leader = cluster.leader()
    others = [name for name in cluster.names("master") if name != leader]
    (cluster.mount(1) / "majority").mkdir()
    for name in others:
        cluster.kill(name)
    attempt = Activity("mkdir without a majority", lambda index: (cluster.mount(1) / "majority" / str(index)).mkdir())
    with attempt.going_on():
        time.sleep(4)  # the leader's lease ends well within
        assert attempt.done == 0, "a minority acknowledged a directory"
        for name in others:
            cluster.restart(name)
        wait_until("work goes on", lambda: attempt.errors or attempt.done > 5, timeout_s=40)
    assert not attempt.errors
    assert sorted(os.listdir(cluster.mount(2) / "majority"), key=int)[: attempt.done] == [
        str(i) for i in range(attempt.done)
    ]


def test_masters_that_all_died_are_restarted_one_after_the_other(cluster: Cluster) -> None:
    (cluster.mount(1) / "kept").write_bytes(b"through the night")
    masters = cluster.names("master")
    for name in masters:
        cluster.kill(name)
    said = []
    for name in masters:
        report = json.loads(run_mooseng("local", "restart", name, "--dir", str(cluster.dir), "--json"))
        said.append((report["ready"], " ".join(report["notes"])))
    assert [ready for ready, _ in said] == [False, True, True]
    assert "1 of 3 masters run, 2 are needed" in said[0][1]
    assert (cluster.mount(2) / "kept").read_bytes() == b"through the night"


def test_a_wiped_master_rejoins_and_can_carry_the_cluster(cluster: Cluster) -> None:
    folder = cluster.mount(1) / "wiped"
    folder.mkdir()
    for index in range(50):
        (folder / str(index)).write_bytes(b"kept")
    victim = next(name for name in cluster.names("master") if name != cluster.leader())
    cluster.kill(victim)
    for path in cluster.node(victim)["data_directories"]:
        shutil.rmtree(path)
        os.mkdir(path)
    cluster.restart(victim)
    wait_until("the wiped master back", lambda: cluster.node(victim)["state"] == "ready", timeout_s=30)

    def voter_again() -> bool:
        masters = {int(m["node_id"]): m["role"] for m in cluster.status()["masters"]}
        return bool(masters[int(victim[-1])] == "follower")

    wait_until("a voter again", voter_again)
    third = next(name for name in cluster.names("master") if name not in (victim, cluster.leader()))
    cluster.kill(third)
    (folder / "after").write_bytes(b"with the wiped one's vote")
    assert sorted(os.listdir(cluster.mount(2) / "wiped")) == sorted([str(i) for i in range(50)] + ["after"])
    cluster.restart(third)
    wait_until("all masters", lambda: cluster.node(third)["state"] == "ready")


def test_a_flipped_byte_is_never_read_and_its_copy_is_repaired(cluster: Cluster) -> None:
    data = os.urandom(8 * MIB)
    path = cluster.mount(1) / "flipped"
    path.write_bytes(data)
    cluster.wait_until_whole()
    block = data[5 * MIB : 5 * MIB + BLOCK_BYTES]
    for server in cluster.names("chunkserver"):
        found = cluster.find_block(server, block)
        assert found, f"{server} has no copy"
        flip_byte(found[0], found[1] + 99)

        def repaired(server: str = server) -> bool:
            for index in (1, 2, 3):
                assert read_past_cache(cluster.mount(index) / "flipped", 0, len(data)) == data
            return cluster.find_block(server, block) is not None

        wait_until(f"{server} repaired", repaired, timeout_s=60)
        cluster.wait_until_whole()


def test_after_killing_all_nine_everything_fsynced_is_there(cluster: Cluster) -> None:
    activity = writer(cluster.mount(1) / "everything", size=12_000)
    big = cluster.mount(2) / "everything-big"
    data = os.urandom(100 * MIB)
    with big.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    digest = sha256(big)
    with activity.going_on():
        wait_until("some writes", lambda: activity.done > 30)
        acknowledged = activity.done
        pids = [int(node["pid"]) for node in cluster.nodes() if node["role"] != "client"]
        clients = [int(node["pid"]) for node in cluster.nodes() if node["role"] == "client"]
        for pid in pids + clients:
            os.kill(pid, signal.SIGKILL)
    cluster.up()
    check(cluster, cluster.mount(1) / "everything", acknowledged, size=12_000)
    assert sha256(cluster.mount(3) / "everything-big") == digest


def test_a_dead_client_mounts_again_at_once_and_its_unlinked_files_are_freed(cluster: Cluster) -> None:
    (cluster.mount(1) / "survivor").write_bytes(b"x")
    cluster.kill("client-1")
    with pytest.raises(OSError):
        os.listdir(cluster.mount(1))
    cluster.restart("client-1")
    wait_until("mounted", lambda: (cluster.mount(1) / "survivor").read_bytes() == b"x")


def test_a_second_up_says_that_the_cluster_runs(cluster: Cluster) -> None:
    with pytest.raises(Exception, match="running"):
        run_mooseng(
            "local", "up", "--profile", "demo", "--dir", str(cluster.dir), "--port-offset", str(cluster.port_offset)
        )
