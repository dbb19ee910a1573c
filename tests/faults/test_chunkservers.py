"""Chunkservers that die between two calls of an overwrite, crawl, or are given what belongs to others."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Activity, Cluster, wait_until
from tests.faults.tracing import injected

KIB = 1 << 10


def overwriting(cluster: Cluster, folder: str) -> tuple[Activity, dict[str, bytes]]:
    """Blocks of four files written over and fsynced, again and again; the second value: what must be there."""
    path = cluster.mount(1) / folder
    path.mkdir()
    kept = {str(i): bytes([i]) * (300 * KIB) for i in range(4)}
    for name, data in kept.items():
        (path / name).write_bytes(data)

    def step(index: int) -> None:
        name = str(index % 4)
        at = (index * 7919) % (290 * KIB)
        data = index.to_bytes(4, "little") * 1500
        after = bytearray(kept[name])
        after[at : at + len(data)] = data
        with (path / name).open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, at)
            os.fsync(file.fileno())
        kept[name] = bytes(after)

    return Activity(f"overwriting in {folder}", step), kept


@pytest.mark.slow
def test_a_chunkserver_killed_between_two_calls_of_an_overwrite_keeps_no_wrong_byte(cluster: Cluster) -> None:
    activity, kept = overwriting(cluster, "killed")
    server = "chunkserver-2"
    for rule in ("pwrite64:signal=KILL:when=3", "fdatasync:signal=KILL:when=1", "fdatasync:signal=KILL:when=4"):
        with activity.going_on(), injected(int(cluster.node(server)["pid"]), rule):
            wait_until("it is dead", lambda: cluster.node(server)["state"] != "ready")
        assert not activity.errors
        cluster.restart(server)
        wait_until("all servers up", lambda: cluster.servers_up() == 3)
        cluster.wait_until_whole()
    for name, data in kept.items():
        for mount in (1, 2, 3):
            assert (cluster.mount(mount) / "killed" / name).read_bytes() == data
    for name in cluster.names("chunkserver"):
        assert "bad block" not in (cluster.dir / "nodes" / name / "log").read_text(), "an unfinished write is no rot"


def test_a_slow_disk_slows_writers_and_throws_no_server_out(cluster: Cluster) -> None:
    activity, kept = overwriting(cluster, "slow")
    with activity.going_on():
        wait_until("some writes", lambda: activity.errors or activity.done > 5)
        with injected(int(cluster.node("chunkserver-3")["pid"]), "fdatasync:delay_enter=300000"):
            reached = activity.done
            wait_until("slow writes", lambda: activity.errors or activity.done > reached + 5, timeout_s=60)
            assert cluster.servers_up() == 3
    assert not activity.errors
    assert not int(cluster.status()["under_replicated"])
    for name, data in kept.items():
        assert (cluster.mount(2) / "slow" / name).read_bytes() == data


def chunkserver_command(tmp_path: Path, **settings: object) -> list[str]:
    """What starts one by hand, with these settings."""
    config = tmp_path / "chunkserver.toml"
    lines = ['role = "chunkserver"'] + [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    config.write_text("\n".join(lines) + "\n")
    return [sys.executable, "-m", "mooseng_py.cli.main", "chunkserver", "--config", str(config)]


def run_chunkserver(tmp_path: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """One started by hand that must end by itself."""
    command = chunkserver_command(tmp_path, **settings)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refused_by_masters(tmp_path: Path, **settings: object) -> str:
    """What one that its masters refuse says of itself: it stays, not ready, as the right masters may yet come."""
    with subprocess.Popen(chunkserver_command(tmp_path, **settings), stderr=subprocess.DEVNULL) as daemon:
        try:
            url = f"http://{settings['http_listen']}/health/ready"

            def reason() -> str:
                try:
                    urllib.request.urlopen(url, timeout=5)
                except urllib.error.HTTPError as answer:
                    said: str = json.load(answer)["reason"]
                    return said if "cluster" in said else ""
                return ""

            return wait_until("the refusal", reason)
        finally:
            daemon.terminate()


def fingerprint(path: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_disk_of_another_server_or_cluster_is_refused_and_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.mount(1) / "something").write_bytes(bytes(100_000))
    cluster.kill("chunkserver-1")
    node = cluster.node("chunkserver-1")
    disk = node["data_directories"][0]
    masters = [f"127.0.0.1:{port + cluster.port_offset}" for port in cluster.master_ports()]
    before = fingerprint(Path(disk))
    free = {
        "listen": f"127.0.0.1:{9490 + cluster.port_offset}",
        "http_listen": f"127.0.0.1:{9491 + cluster.port_offset}",
    }
    other_server = run_chunkserver(tmp_path, server_id=7, masters=masters, disks=[disk], **free)
    other_cluster = run_chunkserver(tmp_path, server_id=1, masters=masters, disks=[disk], cluster_id="others", **free)
    new = tmp_path / "new"
    new.mkdir()
    said = refused_by_masters(tmp_path, server_id=8, masters=masters, disks=[str(new)], cluster_id="others", **free)
    assert "another cluster" in said
    not_ours = tmp_path / "not-ours"
    not_ours.mkdir()
    (not_ours / "thesis.txt").write_text("mine")
    ours = cluster.status()["cluster_id"]
    somebody = run_chunkserver(tmp_path, server_id=9, masters=masters, disks=[str(not_ours)], cluster_id=ours, **free)
    for ended, words in [
        (other_server, "server 1"),
        (other_cluster, "cluster"),
        (somebody, "not-ours"),
    ]:
        last = (ended.stderr + ended.stdout).strip().splitlines()[-1]
        assert ended.returncode == 1, last
        assert words in last, last
    assert fingerprint(Path(disk)) == before
    assert [path.name for path in not_ours.iterdir()] == ["thesis.txt"]
    cluster.restart("chunkserver-1")
    wait_until("all servers up", lambda: cluster.servers_up() == 3)
    assert (cluster.mount(2) / "something").read_bytes() == bytes(100_000)
