"""Disks of chunkservers that fill up, turn read-only, vanish or fail (FAULTS classes "failed fsync", "one bad disk").

Three chunkservers with one small ext4 image each. Whatever breaks: nothing acknowledged is lost, what fails says so.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooseng_py.demo.harness import Activity, Cluster, free_port_offset, wait_until
from tests.faults.images import Image, images
from tests.faults.tracing import injected

MIB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts images and traces processes: needs root")


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Image]]:
    base = tmp_path_factory.mktemp("disks")
    named = {f"chunkserver-{i}": Image(base / f"disk-{i}", 512) for i in (1, 2, 3)}
    with images(*named.values()):
        yield named


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, disks: dict[str, Image]) -> Iterator[Cluster]:
    settings = [f"--set={name}.disks={image.point}" for name, image in disks.items()]
    cluster = Cluster(tmp_path_factory.mktemp("cluster") / "c", "demo", free_port_offset(), settings)
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


def disk_state(cluster: Cluster, server: str) -> str:
    """What `mooseng status` says of its disk."""
    servers: list[dict[str, Any]] = cluster.status()["servers"]
    found = next(s for s in servers if s["server_id"] == int(server[-1]))
    return str(found["disks"][0]["state"])


def weights(cluster: Cluster) -> list[int]:
    """How likely each server gets a new chunk; 0 without room for one."""
    return [int(server["weight"]) for server in cluster.status()["servers"]]


def content(index: int, size: int) -> bytes:
    return (index.to_bytes(4, "little") * (size // 4 + 1))[:size]


def fill(folder: Path, size: int) -> tuple[list[int], OSError]:
    """Files until one fails; those whose close succeeded, and the error."""
    folder.mkdir(exist_ok=True)
    kept: list[int] = []
    for index in range(10_000):
        try:
            (folder / str(index)).write_bytes(content(index, size))
        except OSError as error:
            return kept, error
        kept.append(index)
    raise AssertionError("the disks never became full")


def grow(path: Path) -> int:
    """Append and fsync until there is no room; the size that was acknowledged."""
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        for _ in range(200):
            try:
                assert os.pwrite(file.fileno(), content(1, MIB), size) == MIB
                os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                return size
            size += MIB
    raise AssertionError("the disks never became full")


def check(folder: Path, kept: list[int], size: int) -> None:
    for index in kept:
        assert (folder / str(index)).read_bytes() == content(index, size), index


def test_full_disks_say_enospc_lose_nothing_and_serve_again_after_deletes(cluster: Cluster) -> None:
    folder, size = cluster.mount(1) / "full", 3 * MIB
    kept, error = fill(folder, size)
    assert error.errno == errno.ENOSPC, error
    assert len(kept) > 10
    check(cluster.mount(2) / "full", kept, size)
    # No room for a whole chunk more; what is there may grow until the very end.
    grown = grow(folder / "0")
    assert (cluster.mount(2) / "full" / "0").read_bytes()[:grown] == content(0, size) + content(1, grown - size)
    check(cluster.mount(3) / "full", kept[1:], size)
    wait_until(
        "told to all", lambda: os.statvfs(cluster.mount(1)).f_bavail * os.statvfs(cluster.mount(1)).f_frsize < MIB
    )
    (folder / "inline").write_bytes(b"a small file needs no chunk")
    for index in kept[::2]:
        (folder / str(index)).unlink()
    check(cluster.mount(2) / "full", kept[1::2], size)

    def writable() -> bool:
        (folder / "again").write_bytes(content(7, size))
        return True

    wait_until("room again", writable, timeout_s=30, every_s=0.3)
    assert (cluster.mount(3) / "full" / "again").read_bytes() == content(7, size)
    for path in folder.iterdir():
        path.unlink()
    wait_until("all room back", lambda: min(weights(cluster)) > 0)


def go_on(cluster: Cluster, name: str, size: int = 300_000) -> Activity:
    """Files, each fsynced, the first forty over and over: the disks are small."""
    folder = cluster.mount(1) / name
    folder.mkdir()

    def step(index: int) -> None:
        with (folder / str(index % 40)).open("wb") as file:
            file.write(content(index, size))
            os.fsync(file.fileno())

    return Activity(f"writing into {name}", step)


def check_last(cluster: Cluster, name: str, done: int, size: int = 300_000) -> None:
    """Each file holds what was acknowledged last (or the one write that was on its way)."""
    for index in range(max(0, done - 40), done):
        assert (cluster.mount(2) / name / str(index % 40)).read_bytes() == content(index, size)


def put_right(cluster: Cluster, server: str, image: Image) -> None:
    """As an operator: stop the server, check and mount its disk, start it; then every copy is made whole."""
    cluster.kill(server)
    image.detach()
    image.attach()
    cluster.restart(server)
    wait_until("all servers up", lambda: cluster.servers_up() == 3)
    wait_until("its disk in order", lambda: disk_state(cluster, server) == "ok")
    cluster.wait_until_whole()


def test_a_disk_that_turns_read_only_is_left_out_without_an_errno(cluster: Cluster, disks: dict[str, Image]) -> None:
    activity = go_on(cluster, "read-only")
    with activity.going_on():
        wait_until("some writes", lambda: activity.errors or activity.done > 10)
        disks["chunkserver-1"].abort()
        reached = activity.done
        wait_until("writes afterwards", lambda: activity.errors or activity.done > reached + 30)
        said = wait_until(
            "told in the status", lambda: s if (s := disk_state(cluster, "chunkserver-1")) != "ok" else ""
        )
    assert not activity.errors
    assert said.startswith(("read-only", "failed")), said
    check_last(cluster, "read-only", activity.done)
    put_right(cluster, "chunkserver-1", disks["chunkserver-1"])
    check_last(cluster, "read-only", activity.done)


def test_a_disk_that_vanishes_is_left_out_without_an_errno(cluster: Cluster, disks: dict[str, Image]) -> None:
    activity = go_on(cluster, "vanished")
    with activity.going_on():
        wait_until("some writes", lambda: activity.errors or activity.done > 10)
        disks["chunkserver-2"].detach()
        reached = activity.done
        wait_until("writes afterwards", lambda: activity.errors or activity.done > reached + 60)
        said = wait_until(
            "told in the status", lambda: s if (s := disk_state(cluster, "chunkserver-2")) != "ok" else ""
        )
    assert not activity.errors
    assert "vanished" in said
    check_last(cluster, "vanished", activity.done)
    assert not list(disks["chunkserver-2"].point.iterdir()), "it wrote into the empty mount point"
    put_right(cluster, "chunkserver-2", disks["chunkserver-2"])
    check_last(cluster, "vanished", activity.done)


@pytest.mark.parametrize(
    "rule", ["fdatasync:error=EIO:when=1", pytest.param("pwrite64:error=EIO:when=3", marks=pytest.mark.soak)]
)
def test_a_disk_that_fails_once_is_fenced_for_good_and_repaired(
    cluster: Cluster, disks: dict[str, Image], rule: str
) -> None:
    name = "failing-" + rule.partition(":")[0]
    activity = go_on(cluster, name)
    with activity.going_on():
        wait_until("some writes", lambda: activity.errors or activity.done > 10)
        with injected(int(cluster.node("chunkserver-3")["pid"]), rule):
            wait_until("fenced", lambda: disk_state(cluster, "chunkserver-3").startswith("failed"))
        reached = activity.done
        wait_until("writes afterwards", lambda: activity.errors or activity.done > reached + 30)
    assert not activity.errors
    assert disk_state(cluster, "chunkserver-3").startswith("failed"), "a failed sync must not be followed by a good one"
    check_last(cluster, name, activity.done)
    put_right(cluster, "chunkserver-3", disks["chunkserver-3"])
    check_last(cluster, name, activity.done)


def test_without_inodes_the_answer_is_enospc_and_deletes_help(tmp_path: Path) -> None:
    image = Image(tmp_path / "disk", 200, inodes=60)
    with images(image):
        cluster = Cluster(tmp_path / "c", "minimal", free_port_offset(), [f"--set=chunkserver.disks={image.point}"])
        cluster.up()
        try:
            folder = cluster.mount(1) / "inodes"
            kept, error = fill(folder, 20_000)
            assert error.errno == errno.ENOSPC, error
            check(folder, kept, 20_000)
            for index in kept[:5]:
                (folder / str(index)).unlink()

            def writable() -> bool:
                (folder / "again").write_bytes(content(7, 20_000))
                return True

            wait_until("room again", writable, timeout_s=30, every_s=0.3)
            check(folder, kept[5:], 20_000)
        finally:
            cluster.down()
