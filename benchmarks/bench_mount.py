"""Programs on the mount: streams, random reads, and operations on names. Three copies, durable."""

import mmap
import os
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support import KIB, MIB, content, in_parallel, measured, payload, sizes
from mooseng_py.demo.harness import Cluster


def drop_kernel_cache(path: Path) -> None:
    """Make the next read of `path` ask the daemon, or the disk, again."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def drop_server_cache(nodes: Cluster) -> None:
    """Make the next read of any chunk come from the disk."""
    for server in nodes.names("chunkserver"):
        for path in nodes.data_files(server):
            drop_kernel_cache(path)


def write_stream(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        view = memoryview(data)
        for start in range(0, len(data), MIB):
            os.write(fd, view[start : start + MIB])
        os.fsync(fd)
    finally:
        os.close(fd)


def read_stream(path: Path, expected: bytes) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while piece := os.read(fd, MIB):
            assert piece == expected[at : at + len(piece)]
            at += len(piece)
        assert at == len(expected)
    finally:
        os.close(fd)


def bench_sequential_write(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    octets = sizes(smoke=32 * MIB, full=512 * MIB)
    data = payload(octets, seed=1)
    rounds = sizes(smoke=1, full=3)
    measured(benchmark, nodes, lambda turn: write_stream(folder / f"f{turn}", data), rounds=rounds, octets=octets)
    for turn in range(rounds):
        read_stream(folder / f"f{turn}", data)


def bench_sequential_read_cold(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    octets = sizes(smoke=32 * MIB, full=512 * MIB)
    data = payload(octets, seed=2)
    rounds = sizes(smoke=1, full=3)
    for turn in range(rounds):
        write_stream(folder / f"f{turn}", data)
        drop_kernel_cache(folder / f"f{turn}")
    drop_server_cache(nodes)
    others = nodes.mount(2) / folder.name
    measured(benchmark, nodes, lambda turn: read_stream(others / f"f{turn}", data), rounds=rounds, octets=octets)


@pytest.mark.parametrize("workers", [1, 16])
def bench_random_read_4k(benchmark: Any, nodes: Cluster, folder: Path, workers: int) -> None:
    octets = sizes(smoke=16 * MIB, full=256 * MIB)
    count = sizes(smoke=200, full=8000)
    data = payload(octets, seed=3)
    write_stream(folder / "f", data)
    drop_server_cache(nodes)
    draw = random.Random(4)
    offsets = [draw.randrange(octets // (4 * KIB)) * 4 * KIB for _ in range(count)]
    path = nodes.mount(2) / folder.name / "f"

    def read_some(mine: list[int]) -> None:
        # O_DIRECT: every read asks the daemon, as a reader of a file larger than memory would.
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, 4 * KIB) as page:
            for offset in mine:
                assert os.preadv(fd, [page], offset) == 4 * KIB
                assert page[:] == data[offset : offset + 4 * KIB]
        os.close(fd)

    def work(_turn: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(read_some, [offsets[index::workers] for index in range(workers)]))

    measured(benchmark, nodes, work, rounds=1, operations=count)


def bench_random_write_4k_fsync(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    octets, count = 16 * MIB, sizes(smoke=50, full=2000)
    model = bytearray(payload(octets, seed=5))
    write_stream(folder / "f", bytes(model))
    draw = random.Random(6)

    def work(_turn: int) -> None:
        fd = os.open(folder / "f", os.O_WRONLY)
        for _ in range(count):
            offset, block = draw.randrange(octets // (4 * KIB)) * 4 * KIB, draw.randbytes(4 * KIB)
            os.pwrite(fd, block, offset)
            os.fsync(fd)
            model[offset : offset + 4 * KIB] = block
        os.close(fd)

    measured(benchmark, nodes, work, rounds=1, operations=count)
    read_stream(nodes.mount(2) / folder.name / "f", bytes(model))


def bench_append_fsync(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    """What a log does that syncs each record."""
    count, record = sizes(smoke=50, full=1000), random.Random(7).randbytes(200)

    def work(_turn: int) -> None:
        fd = os.open(folder / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(count):
            os.write(fd, record)
            os.fsync(fd)
        os.close(fd)

    measured(benchmark, nodes, work, rounds=1, operations=count)
    assert (nodes.mount(2) / folder.name / "f").read_bytes() == record * count


def bench_sqlite_transaction(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    """One insert each, rollback journal, synchronous=FULL: what a small service does all day."""
    count = sizes(smoke=10, full=300)

    def work(_turn: int) -> None:
        with closing(sqlite3.connect(folder / "db", isolation_level=None)) as base:
            base.execute("pragma synchronous=full")
            base.execute("create table t (a integer primary key, b blob)")
            for number in range(count):
                base.execute("insert into t values (?, ?)", (number, content(number)[:500]))

    measured(benchmark, nodes, work, rounds=1, operations=count)
    with closing(sqlite3.connect(nodes.mount(2) / folder.name / "db")) as base:
        assert base.execute("select count(*), sum(a) from t").fetchone() == (count, count * (count - 1) // 2)


@pytest.mark.parametrize(
    ("workers", "folders"), [(1, 1), (8, 1), (8, 8)], ids=["1-worker", "8-workers", "8-workers-8-directories"]
)
def bench_create_write_close_4k(benchmark: Any, nodes: Cluster, folder: Path, workers: int, folders: int) -> None:
    count = sizes(smoke=160, full=8000)
    places = [str(name) for name in range(folders)] if folders > 1 else ["."]
    for name in places:
        (folder / name).mkdir(exist_ok=True)

    def path(root: Path, index: int) -> Path:
        return root / places[index % folders] / str(index)

    def create(index: int) -> None:
        fd = os.open(path(folder, index), os.O_CREAT | os.O_WRONLY | os.O_EXCL)
        os.write(fd, content(index))
        os.close(fd)

    in_parallel(benchmark, nodes, create, count, workers)
    other = nodes.mount(2) / folder.name
    assert sum(len(os.listdir(other / name)) for name in places) == count
    assert all(path(other, index).read_bytes() == content(index) for index in range(0, count, 37))


@pytest.mark.parametrize("workers", [1, 8])
def bench_stat(benchmark: Any, nodes: Cluster, folder: Path, workers: int) -> None:
    count = make_files(folder)
    other = nodes.mount(2) / folder.name

    def look(index: int) -> None:
        assert os.stat(other / str(index)).st_size == 4 * KIB

    in_parallel(benchmark, nodes, look, count, workers)


@pytest.mark.parametrize("workers", [1, 8])
def bench_open_read_4k(benchmark: Any, nodes: Cluster, folder: Path, workers: int) -> None:
    count = make_files(folder)
    other = nodes.mount(2) / folder.name

    def read(index: int) -> None:
        fd = os.open(other / str(index), os.O_RDONLY)
        assert os.read(fd, 4 * KIB) == content(index)
        os.close(fd)

    in_parallel(benchmark, nodes, read, count, workers)


def bench_rename(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    count = make_files(folder)
    in_parallel(benchmark, nodes, lambda index: os.rename(folder / str(index), folder / f"r{index}"), count, 1)
    assert sorted(os.listdir(nodes.mount(2) / folder.name)) == sorted(f"r{index}" for index in range(count))


def bench_unlink(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    count = make_files(folder)
    in_parallel(benchmark, nodes, lambda index: os.unlink(folder / str(index)), count, 1)
    assert os.listdir(nodes.mount(2) / folder.name) == []


def bench_mkdir(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    count = sizes(smoke=100, full=2000)
    in_parallel(benchmark, nodes, lambda index: os.mkdir(folder / str(index)), count, 1)
    assert len(os.listdir(nodes.mount(2) / folder.name)) == count


def bench_list_with_attributes(benchmark: Any, nodes: Cluster, folder: Path) -> None:
    count = make_files(folder)
    other = nodes.mount(2) / folder.name

    def work(_turn: int) -> None:
        with os.scandir(other) as entries:
            assert sum(1 for entry in entries if entry.stat().st_size == 4 * KIB) == count

    measured(benchmark, nodes, work, rounds=1, operations=count)


def make_files(folder: Path) -> int:
    """Files of 4 KiB that name themselves; return how many."""
    count = sizes(smoke=100, full=2000)

    def make(index: int) -> None:
        (folder / str(index)).write_bytes(content(index))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))
    return count
