"""Masters put back to an older state, or made anew, and a chunkserver put back to an older image of its disk.

Nothing is deleted for what somebody forgot, and no old or foreign byte is read.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Activity, Cluster, free_port_offset, run_mooseng, wait_until
from mooseng_py.local import process
from mooseng_py.sdk import connect
from tests.sharing.support import paused, pid_of, wait_until_copies_are_equal

KIB = 1 << 10
MASTERS = ("master-1", "master-2", "master-3")
SERVERS = ("chunkserver-1", "chunkserver-2", "chunkserver-3")
# The shortest that the settings allow: what wrongly counts as garbage goes soon.
ORPHAN_DELAY_S = 5


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    settings = [f"--set=master.orphan_delay_s={ORPHAN_DELAY_S}"]
    cluster = Cluster(tmp_path / "c", "demo", free_port_offset(), settings)
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


def data_of(cluster: Cluster, name: str) -> list[Path]:
    return [Path(path) for path in cluster.node(name)["data_directories"]]


def keep(cluster: Cluster, name: str, aside: Path) -> None:
    """Copy what a node has on its disks."""
    for index, path in enumerate(data_of(cluster, name)):
        shutil.copytree(path, aside / f"{name}-{index}")


def put_back(cluster: Cluster, name: str, aside: Path) -> None:
    for index, path in enumerate(data_of(cluster, name)):
        shutil.rmtree(path)
        shutil.copytree(aside / f"{name}-{index}", path)


def hold(cluster: Cluster, content: bytes) -> list[str]:
    """The servers that store `content` as it is."""
    return [name for name in SERVERS if any(content in path.read_bytes() for path in cluster.data_files(name))]


def put(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def stop(cluster: Cluster, *names: str) -> None:
    """kill -9: nobody says goodbye, as when a machine is switched off."""
    for name in names:
        cluster.kill(name)


def start(cluster: Cluster, *names: str) -> None:
    """Chunkservers before the masters: nobody waits for them to be ready then."""
    for name in names:
        cluster.restart(name)


def start_together(cluster: Cluster, *names: str) -> None:
    """Masters without data wait for each other, so none is ready before the last one runs."""
    for name in names:
        for path in data_of(cluster, name):
            path.mkdir(exist_ok=True)
        node = cluster.node(name)
        pid_file = cluster.dir / "nodes" / name / "pid"
        process.start(
            ["master", "--config", node["config"]], log=Path(node["log"]), pid_file=pid_file, environ=os.environ
        )


def all_up(cluster: Cluster) -> None:
    wait_until("all servers up", lambda: cluster.servers_up() == 3, timeout_s=60)


def content(index: int) -> bytes:
    return bytes([0xA0 + index]) * (200 * KIB)


def accept(cluster: Cluster) -> None:
    run_mooseng("accept-history", "--all", "--masters", cluster.masters())


def refused(cluster: Cluster) -> list[str]:
    """Why servers are refused, once all three are."""

    def all_refused() -> list[str]:
        found = [str(server["reason"]) for server in cluster.status().get("refused", [])]
        return found if len(found) == 3 else []

    return wait_until("every server is refused", all_refused, timeout_s=60)


def check_nothing_is_deleted(cluster: Cluster, written: list[bytes]) -> None:
    """Well after whatever counts as garbage would have gone."""
    time.sleep(2 * ORPHAN_DELAY_S + 2)
    for data in written:
        assert len(hold(cluster, data)) == 3


def check_no_foreign_bytes(root: Path, written: list[bytes]) -> None:
    """New files with holes show zeros where nobody wrote."""
    for index in range(10):
        path = root / f"new-{index}"
        with path.open("wb") as file:
            file.truncate(300 * KIB)
            file.seek(290 * KIB)
            file.write(b"new")
            file.flush()
            os.fsync(file.fileno())
        data = path.read_bytes()
        assert data == bytes(290 * KIB) + b"new" + bytes(10 * KIB - 3)
        assert not any(old[:100] in data for old in written)


def check_newer_copies_are_used(cluster: Cluster, version: int) -> None:
    """A file whose chunk went on without these masters: as long as they know it, its bytes as the servers have them."""
    newest = b"cut " * (25 * KIB) + bytes(50 * KIB) + b"after the cut"
    newest += bytes(200 * KIB - len(newest))
    wait_until("its copies are taken as they are", lambda: version_of(cluster, "cut later") > version, timeout_s=60)
    with connect(cluster.url()) as fs:
        assert fs.read_bytes("/cut later") == newest
        with fs.open("/cut later", "r+b") as file:
            file.write(b"now")
        assert fs.read_bytes("/cut later") == b"now" + newest[3:]
    wait_until_copies_are_equal(cluster, "cut later", 200 * KIB, timeout_s=20)


def version_of(cluster: Cluster, name: str) -> int:
    return int(cluster.info(f"/{name}")["chunks"][0]["info"]["chunk"]["version"])


def test_masters_put_back_to_an_older_state_are_refused_and_nothing_is_deleted(
    cluster: Cluster, tmp_path: Path
) -> None:
    root = cluster.mount(1)
    put(root / "old", b"old " * (50 * KIB))
    put(root / "cut later", b"cut " * (50 * KIB))
    version = version_of(cluster, "cut later")
    stop(cluster, *MASTERS)
    for name in MASTERS:
        keep(cluster, name, tmp_path)
    start(cluster, *MASTERS)
    all_up(cluster)
    written = [content(index) for index in range(5)]
    for index, data in enumerate(written):
        put(root / f"young-{index}", data)
    # Its chunk gets versions that the older masters never gave.
    os.truncate(root / "cut later", 100 * KIB)
    with (root / "cut later").open("r+b") as file:
        file.seek(150 * KIB)
        file.write(b"after the cut")
    time.sleep(2)
    stop(cluster, *MASTERS, *SERVERS)
    for name in MASTERS:
        put_back(cluster, name, tmp_path)
    start(cluster, *SERVERS, *MASTERS)
    for reason in refused(cluster):
        assert "put back to an older state" in reason
        assert "Nothing was deleted" in reason
        assert "accept-history" in reason
    assert "does not contain" in cluster.node("chunkserver-1")["reason"]
    check_nothing_is_deleted(cluster, written)
    assert (root / "old").read_bytes() == b"old " * (50 * KIB), "what the masters know can be read meanwhile"

    accept(cluster)
    all_up(cluster)
    assert not cluster.status().get("refused")
    check_newer_copies_are_used(cluster, version)
    check_no_foreign_bytes(root, written)
    check_nothing_is_deleted(cluster, written)
    assert int(cluster.status()["kept_orphans"]) >= 15
    run_mooseng("drop-unknown", "--masters", cluster.masters())
    wait_until("they are gone", lambda: not any(hold(cluster, data) for data in written), timeout_s=60)
    check_no_foreign_bytes(root, written)


def test_masters_made_anew_under_the_same_cluster_id_are_refused_and_nothing_is_deleted(cluster: Cluster) -> None:
    root = cluster.mount(1)
    written = [content(index) for index in range(3)]
    for index, data in enumerate(written):
        put(root / f"file-{index}", data)
    time.sleep(2)
    stop(cluster, *MASTERS, *SERVERS)
    for name in MASTERS:
        for path in data_of(cluster, name):
            shutil.rmtree(path)
    start(cluster, *SERVERS)
    start_together(cluster, *MASTERS)
    assert all("made anew" in reason for reason in refused(cluster))
    check_nothing_is_deleted(cluster, written)
    accept(cluster)
    all_up(cluster)
    cluster.restart("client-2")
    check_no_foreign_bytes(cluster.mount(2), written)
    check_nothing_is_deleted(cluster, written)


def read_anew(cluster: Cluster, names: list[str]) -> list[bytes]:
    """As a client that has nothing cached."""
    with connect(cluster.url()) as fs:
        return [fs.read_bytes(f"/{name}") for name in names]


def overwrite(cluster: Cluster, names: list[str], byte: bytes) -> None:
    """In place, a piece in the middle of each, durably."""
    for name in names:
        with (cluster.mount(1) / name).open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), byte * (100 * KIB), 50 * KIB)
            os.fsync(file.fileno())


@pytest.mark.parametrize(
    ("restarted", "masters_too"),
    [(True, False), pytest.param(False, False, marks=pytest.mark.soak), (False, True)],
    ids=["of an earlier registration", "of the same registration", "of the same registration, under a new leader"],
)
def test_a_chunkserver_put_back_to_an_older_image_serves_no_old_byte_and_is_healed(
    cluster: Cluster, tmp_path: Path, restarted: bool, masters_too: bool
) -> None:
    server = "chunkserver-2"
    names = [f"file-{index}" for index in range(4)]
    for name in names:
        put(cluster.mount(1) / name, b"old!" * (50 * KIB))
    time.sleep(2)
    if restarted:
        stop(cluster, server)
        keep(cluster, server, tmp_path)
        start(cluster, server)
        all_up(cluster)
        cluster.wait_until_whole()
    else:
        with paused(pid_of(cluster, server)):
            keep(cluster, server, tmp_path)
    overwrite(cluster, names, b"n")
    right = (b"old!" * (50 * KIB))[: 50 * KIB] + b"n" * (100 * KIB) + (b"old!" * (50 * KIB))[150 * KIB :]
    time.sleep(4)  # it writes down about once a second where the masters are, and tells them a second later
    stop(cluster, server)
    put_back(cluster, server, tmp_path)
    if masters_too:
        stop(cluster, *MASTERS)
        start_together(cluster, *MASTERS)

    def look(_index: int) -> None:
        for data in read_anew(cluster, names):
            if data != right:
                raise OSError("old bytes were read")

    looking = Activity("reading", look)
    with looking.going_on():
        start(cluster, server)
        all_up(cluster)
        wait_until("some reads", lambda: looking.errors or looking.done > 10, timeout_s=60)
        for name in names:
            assert wait_until_copies_are_equal(cluster, name, len(right), timeout_s=60) == right
        cluster.wait_until_whole()
    assert not looking.errors
    assert "older image" in (cluster.dir / "nodes" / server / "log").read_text()
