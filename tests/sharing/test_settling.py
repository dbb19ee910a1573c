"""A writer dies, or every server does, between the copies of a chunk: afterwards all copies are equal, and nobody goes back.

Which of the bytes won does not matter. What nobody committed is not seen when the file grows over it (DESIGN section 3).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mooseng_py.asking import VIEW, ask
from mooseng_py.demo.harness import Cluster, wait_until
from mooseng_py.proto import cluster_pb2, name_pb2
from mooseng_py.sdk import connect
from tests.sharing.support import (
    BLOCK,
    MIB,
    SERVERS,
    FramesClient,
    kill_all,
    places,
    restart_all,
    running_cluster,
    same,
    send,
    wait_until_copies_are_equal,
)

OLD, NEW = b"\xee" * 200_000, b"N" * 20_000
AT = 64_000
# What the file may be, as a whole: the write reached some copies, and either won.
WON = OLD[:AT] + NEW + OLD[AT + len(NEW) :]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Sessions of dead clients end after seconds, so that a test can see what follows."""
    yield from running_cluster(tmp_path_factory.mktemp("settling"), "master.session_timeout_ms=5000")


def server_at(cluster: Cluster, address: str) -> str:
    """The name of the chunkserver that listens at `address`."""
    found = next(server for server in cluster.status()["servers"] if server["address"] == address)
    return f"chunkserver-{found['server_id']}"


def fresh_reads(cluster: Cluster, name: str, count: int) -> list[bytes]:
    """What so many new clients read, one after the other."""
    seen = []
    for _ in range(count):
        with connect(cluster.url()) as fs:
            seen.append(fs.read_bytes(f"/{name}"))
    return seen


def everybody_agrees(cluster: Cluster, name: str) -> None:
    """Within 15 s all copies are equal, all readers read that, and it stays so."""
    settled = wait_until_copies_are_equal(cluster, name, len(OLD), timeout_s=15)
    assert settled in (OLD, WON), "neither the old bytes nor the new ones"
    cluster.wait_until_whole()
    for content in fresh_reads(cluster, name, 20):
        same(content, settled, "a new reader")
    for place in (1, 2, 3):
        same((cluster.mount(place) / name).read_bytes(), settled, f"mount {place}")
    same(wait_until_copies_are_equal(cluster, name, len(OLD), timeout_s=5), settled, "the copies later")


def test_copies_are_equal_soon_after_a_writer_died_that_reached_only_two_of_three(cluster: Cluster) -> None:
    with connect(cluster.url()) as fs:
        fs.write_bytes("/two-of-three", OLD)
    writer = FramesClient(cluster, "dies")
    inode = writer.open("two-of-three")
    granted = writer.grant(inode)
    assert len(granted.replicas) == 3
    tail = server_at(cluster, granted.replicas[-1].address)
    kill_all(cluster, [tail])
    send(granted.replicas[:2], granted.chunk, AT, NEW)
    writer.die()
    cluster.restart(tail)
    everybody_agrees(cluster, "two-of-three")


def test_copies_are_equal_soon_after_a_writer_died_whose_bytes_reached_only_the_head(cluster: Cluster) -> None:
    """Every server lives; the chain just did not carry the piece to its end."""
    with connect(cluster.url()) as fs:
        fs.write_bytes("/head-only", OLD)
    writer = FramesClient(cluster, "dies")
    inode = writer.open("head-only")
    granted = writer.grant(inode)
    send(granted.replicas[:1], granted.chunk, AT, NEW)
    writer.die()
    everybody_agrees(cluster, "head-only")


def test_copies_are_equal_soon_after_a_writer_gave_its_grant_back_as_abandoned(cluster: Cluster) -> None:
    """It lives, but could not send the rest: it says so, and the leader compares."""
    with connect(cluster.url()) as fs:
        fs.write_bytes("/abandoned", OLD)
    with FramesClient(cluster, "abandons") as writer:
        inode = writer.open("abandoned")
        granted = writer.grant(inode)
        send(granted.replicas[:2], granted.chunk, AT, NEW)
        writer.ask(release_grants=name_pb2.ReleaseGrants(inode=inode, chunks=[granted.chunk], abandoned=True))
        everybody_agrees(cluster, "abandoned")


def test_copies_are_equal_soon_after_all_chunkservers_died_between_them_and_the_writer_too(cluster: Cluster) -> None:
    with connect(cluster.url()) as fs:
        fs.write_bytes("/all-died", OLD)
    writer = FramesClient(cluster, "dies")
    inode = writer.open("all-died")
    granted = writer.grant(inode)
    send(granted.replicas[:2], granted.chunk, AT, NEW)
    kill_all(cluster, SERVERS)
    writer.die()
    restart_all(cluster, SERVERS)
    everybody_agrees(cluster, "all-died")


def test_a_reader_never_goes_back_while_the_copies_of_a_dead_writer_are_settled(cluster: Cluster) -> None:
    """Once one of the new clients saw the dead writer's bytes, none sees the older ones any more."""
    with connect(cluster.url()) as fs:
        fs.write_bytes("/no-way-back", OLD)
    writer = FramesClient(cluster, "dies")
    inode = writer.open("no-way-back")
    granted = writer.grant(inode)
    send(granted.replicas[:2], granted.chunk, AT, NEW)
    seen = fresh_reads(cluster, "no-way-back", 10)
    writer.die()
    until = time.monotonic() + 7  # its session ends after 5 s
    while time.monotonic() < until:
        seen += fresh_reads(cluster, "no-way-back", 5)
    order = [content == WON for content in seen]
    assert all(content in (OLD, WON) for content in seen)
    assert order == sorted(order), f"{order.count(True)} of {len(order)} readers saw the new bytes, and some went back"
    everybody_agrees(cluster, "no-way-back")


@pytest.mark.parametrize("kind", ["sdk", "mounts"])
def test_bytes_that_a_dead_writer_never_committed_are_zeros_when_the_file_grows(cluster: Cluster, kind: str) -> None:
    name = f"grown-{kind}"
    with places(cluster, kind, 2) as (one, two):
        one.write_anew(name, OLD)
        with FramesClient(cluster, "dies") as writer:
            inode = writer.open(name)
            granted = writer.grant(inode)
            send(granted.replicas, granted.chunk, 300_000, NEW)
        two.cut(name, 400_000)
        right = OLD + bytes(200_000)
        same(one.read(name), right, "at once")
        wait_until("the dead writer's session gone", lambda: not session_named(cluster, "dies"), timeout_s=20)
        same(two.read(name), right, "after the end of its session")
        same(wait_until_copies_are_equal(cluster, name, len(right), timeout_s=15), right, "the copies")


def session_named(cluster: Cluster, name: str) -> bool:
    request = cluster_pb2.ViewRequest(with_sessions=True).SerializeToString()
    answers = [ask(address, VIEW, request, timeout_s=5) for address in cluster.masters().split(",")]
    views = [cluster_pb2.ClusterView.FromString(answer) for answer in answers]
    return any(session.name == name for view in views if view.is_leader for session in view.session_list)


def test_bytes_of_a_killed_process_beyond_what_was_committed_are_zeros_when_the_file_grows(cluster: Cluster) -> None:
    size = 12 * MIB
    with connect(cluster.url()) as fs:
        fs.write_bytes("/killed", OLD)
        script = (
            "import sys, time, mooseng_py\n"
            f"file = mooseng_py.connect({cluster.url()!r}).open('/killed', 'r+b', buffering=0)\n"
            f"file.seek({MIB})\n"
            f"file.write(b'K' * {8 * MIB})\n"
            "print('written', flush=True)\n"
            "time.sleep(60)\n"
        )
        with killed_at_the_end(script) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
            wait_until("its bytes on a server", lambda: cluster.find_block("chunkserver-1", b"K" * BLOCK), timeout_s=4)
        committed = max(0, fs.stat("/killed").st_size - MIB)  # in the background; most likely nothing
        right = OLD + bytes(MIB - len(OLD)) + b"K" * committed
        right += bytes(size - len(right))
        fs.truncate("/killed", size)
        same(fs.read_bytes("/killed"), right, f"at once, {committed} bytes committed before")
        wait_until_copies_are_equal(cluster, "killed", size, timeout_s=25)
        same(fs.read_bytes("/killed"), right, f"later, {committed} bytes committed before")


@contextlib.contextmanager
def killed_at_the_end(script: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A Python process; SIGKILL on the way out."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            os.kill(process.pid, signal.SIGKILL)
