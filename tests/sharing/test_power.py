"""The power goes for all servers while files are written over in place: fsynced bytes are exact, and all copies are equal.

What was not fsynced is, sector by sector, one of the things written there; and the same one on every server.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, free_port_offset, wait_until
from tests.faults.images import Image, images
from tests.faults.test_power import cut
from tests.sharing.support import KIB, SERVERS, wait_until_copies_are_equal

SECTOR = 512
SIZES = (40 * KIB, 300 * KIB, 2048 * KIB)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts images: needs root")


@pytest.fixture(scope="module")
def powered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, list[Image]]]:
    """A cluster with a disk of its own for each server."""
    base = tmp_path_factory.mktemp("sharing-power")
    masters = {f"master-{i}": Image(base / f"master-{i}", 256) for i in (1, 2, 3)}
    servers = {name: Image(base / name, 512) for name in SERVERS}
    disks = [*masters.values(), *servers.values()]
    settings = ["--set=master.segment_bytes=4194304", "--set=master.session_timeout_ms=5000"]
    settings += [f"--set={name}.data_dir={image.point}" for name, image in masters.items()]
    settings += [f"--set={name}.disks={image.point}" for name, image in servers.items()]
    with images(*disks):
        cluster = Cluster(base / "c", "demo", free_port_offset(), settings)
        cluster.up()
        try:
            yield cluster, disks
        finally:
            cluster.down()


class Overwriter(threading.Thread):
    """Writes over one file through one descriptor until the power goes; knows what each sector may be.

    `stable`: as of the last fsync that returned; `since`: by sector, what was written there after that one began.
    """

    def __init__(self, path: Path, size: int, seed: int) -> None:
        super().__init__(name=f"overwriting {path.name}")
        self.path, self.dice = path, random.Random(seed)
        self.stable = bytearray(self.dice.randbytes(size))
        self.since: dict[int, list[bytes]] = {}
        self.synced = 0
        path.write_bytes(self.stable)

    def run(self) -> None:
        try:
            with self.path.open("r+b", buffering=0) as file:
                while True:
                    self.overwrite(file.fileno())
                    if self.dice.random() < 0.25:
                        os.fsync(file.fileno())
                        self.settle()
        except OSError:
            pass  # the power went

    def overwrite(self, fd: int) -> None:
        sectors = len(self.stable) // SECTOR
        first = self.dice.randrange(sectors)
        data = self.dice.randbytes(min(self.dice.randrange(1, 40), sectors - first) * SECTOR)
        for at in range(0, len(data), SECTOR):
            self.since.setdefault(first + at // SECTOR, []).append(data[at : at + SECTOR])
        os.pwrite(fd, data, first * SECTOR)

    def settle(self) -> None:
        for sector, written in self.since.items():
            self.stable[sector * SECTOR : (sector + 1) * SECTOR] = written[-1]
        self.since.clear()
        self.synced += 1

    def wrong(self, content: bytes) -> str:
        """What is wrong with the file's content after the power came back, or nothing."""
        if len(content) != len(self.stable):
            return f"{len(content)} bytes, right are {len(self.stable)}"
        for sector in range(len(content) // SECTOR):
            found = content[sector * SECTOR : (sector + 1) * SECTOR]
            stable = bytes(self.stable[sector * SECTOR : (sector + 1) * SECTOR])
            since = self.since.get(sector, [])
            if found != stable and found not in since:
                return (
                    f"sector {sector} is neither what was fsynced nor one of {len(since)} written since: {found[:8]!r}"
                )
        return ""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(100, 150), marks=pytest.mark.soak)], ids=["2 seeds", "50 seeds"]
)
def test_after_a_power_cut_amid_overwrites_fsynced_bytes_are_exact_and_copies_equal(
    powered: tuple[Cluster, list[Image]], seeds: range
) -> None:
    cluster, disks = powered
    for seed in seeds:
        writers = [
            Overwriter(cluster.mount(index + 1) / f"over-{seed}-{size}", size, 10 * seed + index)
            for index, size in enumerate(SIZES)
        ]
        for writer in writers:
            writer.start()
        wait_until("some fsyncs", lambda writers=writers: all(w.synced > 3 for w in writers))  # type: ignore[misc]
        time.sleep(random.Random(seed).random())  # the power goes at any moment
        cut(cluster, disks)
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive()
        cluster.up()
        for writer in writers:
            name, size = writer.path.name, len(writer.stable)
            copy = wait_until_copies_are_equal(cluster, name, size, timeout_s=25)
            for mount in (1, 2, 3):
                content = (cluster.mount(mount) / name).read_bytes()
                wrong = writer.wrong(content)
                assert not wrong, f"seed {seed}: {name} on mount {mount}: {wrong}"
                assert content == copy, f"seed {seed}: {name} on mount {mount} is not what its copies are"
            writer.path.unlink()
        cluster.wait_until_whole()
