"""The power goes, for all at once: what was fsynced, closed or named is there afterwards, the rest old, new or zero.

One ext4 image for each master and chunkserver. EXT4_IOC_SHUTDOWN throws away what the disk was not told to keep, which
kill -9 does not: the page cache survives that.
"""

import os
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, free_port_offset, wait_until
from tests.faults.images import Image, images
from tests.faults.tracing import is_running

KIB = 1 << 10
BLOCK = 4096
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts images: needs root")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, list[Image]]]:
    base = tmp_path_factory.mktemp("power")
    masters = {f"master-{i}": Image(base / f"master-{i}", 512) for i in (1, 2, 3)}
    servers = {f"chunkserver-{i}": Image(base / f"server-{i}", 768) for i in (1, 2, 3)}
    disks = [*masters.values(), *servers.values()]
    settings = ["--set=master.segment_bytes=4194304", "--set=master.snapshot_every=500"]
    settings += [f"--set={name}.data_dir={image.point}" for name, image in masters.items()]
    settings += [f"--set={name}.disks={image.point}" for name, image in servers.items()]
    with images(*disks):
        cluster = Cluster(base / "c", "demo", free_port_offset(), settings)
        cluster.up()
        try:
            yield cluster, disks
        finally:
            cluster.down()


class Writer(threading.Thread):
    """Writes until the power goes; remembers what it was promised."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        self.folder, self.dice = folder, random.Random(seed)
        # Name: what must be there; and what may be there instead, byte by byte.
        self.kept: dict[str, bytes] = {}
        self.maybe: dict[str, bytes] = {}
        self.gone: set[str] = set()

    def run(self) -> None:
        try:
            for index in range(100_000):
                self.step(index)
        except OSError:
            pass  # the power went

    def step(self, index: int) -> None:
        raise NotImplementedError

    def check(self, folder: Path) -> None:
        for name, kept in self.kept.items():
            found = (folder / name).read_bytes()
            maybe = self.maybe.get(name, b"")
            if found == kept:
                continue
            assert len(kept) <= len(found) <= max(len(kept), len(maybe)), f"{folder}/{name} has {len(found)} bytes"
            for at in range(0, len(found), 512):
                sector = found[at : at + 512]
                old, new = kept[at : at + 512], maybe[at : at + 512]
                assert sector in (old, new) or not (old or any(sector)), (
                    f"{folder}/{name} at {at} is neither old nor new"
                )
        assert not self.gone & set(os.listdir(folder))


class Small(Writer):
    """Inline files: closed, renamed, removed."""

    def step(self, index: int) -> None:
        data = self.dice.randbytes(self.dice.randrange(1, 5000))
        name = f"{index}"
        (self.folder / f"{name}.new").write_bytes(data)
        (self.folder / f"{name}.new").rename(self.folder / name)
        self.kept[name] = data
        self.gone.add(f"{name}.new")
        if index % 5 == 4:
            victim = f"{index - 2}"
            self.kept.pop(victim)
            (self.folder / victim).unlink()
            self.gone.add(victim)


class Middle(Writer):
    """A chunk each."""

    def step(self, index: int) -> None:
        data = self.dice.randbytes(100 * KIB + index)
        (self.folder / str(index)).write_bytes(data)
        self.kept[str(index)] = data


class Overwrite(Writer):
    """Pieces of fsynced files written over, now and then fsynced again."""

    def step(self, index: int) -> None:
        if index < 4:
            data = self.dice.randbytes(300 * KIB)
            (self.folder / str(index)).write_bytes(data)
            self.kept[str(index)] = data
            return
        name = str(index % 4)
        maybe = bytearray(self.kept[name])
        with (self.folder / name).open("r+b", buffering=0) as file:
            for _ in range(3):
                at, length = self.dice.randrange(290 * KIB), self.dice.randrange(1, 9000)
                # Whole sectors, so that each is old or new.
                at, length = at // 512 * 512, -(-length // 512) * 512
                data = self.dice.randbytes(length)
                maybe[at : at + length] = data
                self.maybe[name] = bytes(maybe)
                os.pwrite(file.fileno(), data, at)
            os.fsync(file.fileno())
            self.kept[name] = bytes(maybe)


class Stream(Writer):
    """One long file, fsynced every few MiB."""

    def step(self, index: int) -> None:
        with (self.folder / "stream").open("ab" if index else "wb", buffering=0) as file:
            data = self.dice.randbytes(1 << 20)
            before = self.maybe.get("stream", b"")
            self.maybe["stream"] = before + data
            if len(before) > 60 << 20:
                raise OSError("long enough")
            file.write(data)
            if index % 3 == 0:
                os.fsync(file.fileno())
        self.kept["stream"] = before + data  # closed


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_after_a_power_cut_everything_promised_is_there(cluster: tuple[Cluster, list[Image]], rounds: int) -> None:
    nodes, disks = cluster
    for number in range(rounds):
        writers: list[Writer] = []
        for kind in (Small, Middle, Overwrite, Stream):
            folder = nodes.mount(1 + len(writers) % 3) / f"{kind.__name__}-{rounds}-{number}"
            folder.mkdir()
            writers.append(kind(folder, seed=100 * rounds + number))
        for writer in writers:
            writer.start()
        wait_until("enough written", partial(enough, writers))
        cut(nodes, disks)
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive()
        nodes.up()
        for index, writer in enumerate(writers):
            writer.check(nodes.mount(1 + (index + 1) % 3) / writer.folder.name)
        nodes.wait_until_whole()
        for writer in writers:
            writer.check(nodes.mount(3) / writer.folder.name)


def enough(writers: list[Writer]) -> bool:
    return all(len(w.kept) > 5 or w.maybe for w in writers) and len(writers[1].kept) > 20


def cut(cluster: Cluster, disks: list[Image]) -> None:
    """Freeze everything, cut the power of every disk, and put the machines back without starting anything."""
    nodes = cluster.nodes()
    for node in nodes:
        os.kill(int(node["pid"]), signal.SIGSTOP)
    for disk in disks:
        disk.cut_power()
    for node in nodes:
        os.kill(int(node["pid"]), signal.SIGKILL)
    for node in nodes:
        wait_until(f"{node['name']} gone", partial(ended, int(node["pid"])))
    for disk in disks:
        disk.replay()


def ended(pid: int) -> bool:
    return not is_running(pid)
