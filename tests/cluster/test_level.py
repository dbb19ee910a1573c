"""Masters of two releases: they commit what the older one can do, agree on more when it was replaced, and no call fails.

`MOOSENG_LEVEL` holds a master at an older cluster level: to the others it is one whose software is older.
"""

import contextlib
import errno
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooseng_py.asking import FILE_INFO, VIEW, ask
from mooseng_py.demo.harness import Activity, Cluster, free_port_offset, run_mooseng, wait_until
from mooseng_py.demo.watch import CommandFailed
from mooseng_py.proto.cluster_pb2 import ClusterView, FileInfo, FileInfoRequest
from tests.contract.support import refused

HELD = "MOOSENG_LEVEL"
NEWEST = 3


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose masters all do the first level only."""
    cluster = Cluster(tmp_path / "c", "demo", free_port_offset(), ["--set=master.snapshot_every=100"])
    with monkeypatch.context() as patch:
        patch.setenv(HELD, "1")
        cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


def said(cluster: Cluster) -> dict[str, Any]:
    """The cluster level, and what each master can do."""
    answer: dict[str, Any] = json.loads(run_mooseng("cluster", "level", "--json", "--masters", cluster.masters()))
    return answer


def level(cluster: Cluster) -> int:
    return int(said(cluster)["level"])


def able(cluster: Cluster) -> dict[str, int | None]:
    found: dict[str, int | None] = said(cluster)["masters"]
    return found


def every_operation(folder: Path, seed: int) -> None:
    """Each change of names, attributes and content that a mount has, some of them refused."""
    dice = random.Random(seed)
    folder.mkdir()
    (folder / "small").write_bytes(dice.randbytes(100))
    (folder / "large").write_bytes(dice.randbytes(300_000))
    with (folder / "large").open("ab") as file:
        file.write(b"more")
    os.truncate(folder / "large", 5_000)
    os.truncate(folder / "small", 50_000)
    os.link(folder / "small", folder / "linked")
    os.symlink("small", folder / "symbolic")
    os.chmod(folder / "small", 0o640)
    os.utime(folder / "large", ns=(seed, seed))
    (folder / "inner").mkdir()
    (folder / "large").rename(folder / "inner" / "moved")
    (folder / "inner" / "moved").replace(folder / "linked")
    (folder / "inner").rmdir()
    with pytest.raises(FileExistsError):
        folder.mkdir()
    (folder / "gone").write_bytes(b"")
    (folder / "gone").unlink()
    with contextlib.suppress(NotYetInTheLevel):
        make_fifo(folder / "pipe")


class NotYetInTheLevel(Exception):
    """Both releases of the masters must know an operation."""


def make_fifo(path: Path) -> None:
    """An operation of level 2."""
    try:
        os.mkfifo(path)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise NotYetInTheLevel(path) from error
        raise


def stand(cluster: Cluster, address: str) -> list[object]:
    """What one master says by itself: how much there is, and each file."""
    view = ClusterView.FromString(ask(address, VIEW, b"", timeout_s=5))
    found: list[object] = [view.inodes, view.chunks, view.level]
    for path in sorted(cluster.mount(1).rglob("*")):
        request = FileInfoRequest(path=str(path.relative_to(cluster.mount(1))))
        info = FileInfo.FromString(ask(address, FILE_INFO, request.SerializeToString(), timeout_s=5))
        found.append((request.path, str(info.attr), info.is_inline, [str(place.info.chunk) for place in info.chunks]))
    return found


def all_stand_alike(cluster: Cluster) -> bool:
    first, *others = (stand(cluster, address) for address in cluster.masters().split(","))
    return all(other == first for other in others)


def test_a_held_master_keeps_the_level_down_and_the_last_one_replaced_raises_it_under_load(
    old: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert level(old) == 1
    for name in ("master-1", "master-2"):
        old.restart(name)
    wait_until("two can do more", lambda: sorted(str(one) for one in able(old).values()) == ["1", "3", "3"])
    for seed in range(8):  # enough for snapshots of the old format
        every_operation(old.mount(1 + seed % 3) / f"old-{seed}", seed)
    assert level(old) == 1
    with pytest.raises(NotYetInTheLevel):
        make_fifo(old.mount(1) / "early")
    assert refused(lambda: os.setxattr(old.mount(1), "user.early", b"")) == errno.EOPNOTSUPP
    wait_until("all masters stand alike", lambda: all_stand_alike(old))

    def change(index: int) -> None:
        every_operation(old.mount(1 + index % 2) / f"load-{index}", index)

    with Activity("changing everything", change).going_on() as load:
        old.restart("master-3")
        wait_until("the level is raised", lambda: level(old) == NEWEST)
        reached = load.done
        wait_until("work goes on", lambda: load.done > reached + 3 or load.errors)
    assert not load.errors
    make_fifo(old.mount(1) / "late")
    os.setxattr(old.mount(1) / "late", "trusted.late", b"value")
    assert os.getxattr(old.mount(2) / "late", "trusted.late") == b"value"
    wait_until("all masters stand alike", lambda: all_stand_alike(old))
    with monkeypatch.context() as patch:
        patch.setenv(HELD, "1")
        _ends_with_a_sentence(old, "master-2")
    old.restart("master-2")
    wait_until("it is back", lambda: able(old)["2"] == NEWEST)
    wait_until("all masters stand alike", lambda: all_stand_alike(old))


def _ends_with_a_sentence(cluster: Cluster, name: str) -> None:
    """A master that went back to older software takes no part."""
    log = Path(cluster.node(name)["log"])
    before = log.stat().st_size
    with pytest.raises(CommandFailed, match="cluster level 3"):
        cluster.restart(name)
    assert "start it with the software of the other masters" in log.read_text()[before:]


def test_every_node_is_restarted_one_after_the_other_while_the_level_rises_and_no_call_fails(old: Cluster) -> None:
    def write(index: int) -> None:
        path = old.mount(1) / f"rolling-{index % 50}"
        with path.open("wb") as file:
            file.write(bytes([index % 251]) * 20_000)
            os.fsync(file.fileno())
        assert path.read_bytes() == bytes([index % 251]) * 20_000

    with Activity("writing", write).going_on() as load:
        for name in (*old.names("master"), *old.names("chunkserver"), "client-2", "client-3"):
            old.restart(name)
    assert not load.errors
    assert load.done > 20
    old.restart("client-1")
    assert (old.mount(1) / "rolling-0").stat().st_size == 20_000
    wait_until("the level is raised", lambda: level(old) == NEWEST)
    old.wait_until_whole()
