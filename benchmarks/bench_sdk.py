"""Programs that import the SDK: streams, random reads, and operations on names. Three copies, durable, no mount."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mooseng_py
from benchmarks.support import KIB, MIB, content, in_parallel, measured, payload, same, sizes
from mooseng_py.demo.harness import Cluster
from mooseng_py.native import AlignedBuffer
from mooseng_py.sdk import FileSystem


@pytest.fixture(scope="module")
def fs(nodes: Cluster) -> Iterator[FileSystem]:
    with mooseng_py.connect(nodes.url(), name="benchmark") as connected:
        yield connected


@pytest.fixture(scope="module")
def other(nodes: Cluster) -> Iterator[FileSystem]:
    """A second connection, which has seen nothing of what the first one did."""
    with mooseng_py.connect(nodes.url(), name="benchmark-reader") as connected:
        yield connected


@pytest.fixture
def home(folder: Path) -> str:
    return f"/{folder.name}"


def write_stream(fs: FileSystem, path: str, data: bytes) -> None:
    view = memoryview(data)
    with fs.open(path, "wb", buffering=0) as file:
        for start in range(0, len(data), MIB):
            file.write(view[start : start + MIB])


def read_stream(fs: FileSystem, path: str, expected: bytes) -> None:
    with fs.open(path, "rb", buffering=0) as file, AlignedBuffer(MIB) as buffer:
        at = 0
        while count := file.readinto(buffer.view):
            assert same(buffer.view[:count], expected[at : at + count])
            at += count
        assert at == len(expected)


def bench_sdk_sequential_write(benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str) -> None:
    octets, rounds = sizes(smoke=32 * MIB, full=512 * MIB), sizes(smoke=1, full=3)
    data = payload(octets, seed=21)
    measured(benchmark, nodes, lambda turn: write_stream(fs, f"{home}/f{turn}", data), rounds=rounds, octets=octets)
    for turn in range(rounds):
        read_stream(other, f"{home}/f{turn}", data)


def bench_sdk_sequential_read(benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str) -> None:
    octets, rounds = sizes(smoke=32 * MIB, full=512 * MIB), sizes(smoke=1, full=3)
    data = payload(octets, seed=22)
    for turn in range(rounds):
        write_stream(fs, f"{home}/f{turn}", data)
    measured(benchmark, nodes, lambda turn: read_stream(other, f"{home}/f{turn}", data), rounds=rounds, octets=octets)


@pytest.mark.parametrize("workers", [1, 16])
def bench_sdk_random_read_4k(
    benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str, workers: int
) -> None:
    octets, count = sizes(smoke=16 * MIB, full=256 * MIB), sizes(smoke=200, full=8000)
    data = payload(octets, seed=23)
    write_stream(fs, f"{home}/f", data)
    draw = random.Random(24)
    offsets = [draw.randrange(octets // (4 * KIB)) * 4 * KIB for _ in range(count)]

    def read_some(mine: list[int]) -> None:
        page = bytearray(4 * KIB)
        with other.open(f"{home}/f", "rb", buffering=0) as file:
            for offset in mine:
                file.seek(offset)
                assert file.readinto(page) == len(page)
                assert page == data[offset : offset + len(page)]

    def work(_turn: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(read_some, [offsets[index::workers] for index in range(workers)]))

    measured(benchmark, nodes, work, rounds=1, operations=count)


@pytest.mark.parametrize("workers", [1, 8])
def bench_sdk_create_write_close_4k(
    benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str, workers: int
) -> None:
    count = sizes(smoke=160, full=4000)

    def create(index: int) -> None:
        with fs.open(f"{home}/{index}", "xb", buffering=0) as file:
            file.write(content(index))

    in_parallel(benchmark, nodes, create, count, workers)
    assert sorted(map(int, other.listdir(home))) == list(range(count))
    assert all(other.read_bytes(f"{home}/{index}") == content(index) for index in range(0, count, 37))


@pytest.mark.parametrize("workers", [1, 8])
def bench_sdk_stat(benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str, workers: int) -> None:
    count = make_files(fs, home)

    def look(index: int) -> None:
        assert other.stat(f"{home}/{index}").st_size == 4 * KIB

    in_parallel(benchmark, nodes, look, count, workers)


@pytest.mark.parametrize("workers", [1, 8])
def bench_sdk_open_read_4k(
    benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str, workers: int
) -> None:
    count = make_files(fs, home)

    def read(index: int) -> None:
        page = bytearray(4 * KIB)
        with other.open(f"{home}/{index}", "rb", buffering=0) as file:
            assert file.readinto(page) == len(page)
        assert page == content(index)

    in_parallel(benchmark, nodes, read, count, workers)


def bench_sdk_rename(benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str) -> None:
    count = make_files(fs, home)
    in_parallel(benchmark, nodes, lambda index: fs.rename(f"{home}/{index}", f"{home}/r{index}"), count, 1)
    assert sorted(other.listdir(home)) == sorted(f"r{index}" for index in range(count))


def bench_sdk_unlink(benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str) -> None:
    count = make_files(fs, home)
    in_parallel(benchmark, nodes, lambda index: fs.remove(f"{home}/{index}"), count, 1)
    assert other.listdir(home) == []


def bench_sdk_list_with_attributes(
    benchmark: Any, nodes: Cluster, fs: FileSystem, other: FileSystem, home: str
) -> None:
    count = make_files(fs, home)

    def work(_turn: int) -> None:
        assert sum(1 for entry in other.scandir(home) if entry.stat().st_size == 4 * KIB) == count

    measured(benchmark, nodes, work, rounds=1, operations=count)


def make_files(fs: FileSystem, home: str) -> int:
    """Files of 4 KiB that name themselves; return how many."""
    count = sizes(smoke=100, full=2000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: fs.write_bytes(f"{home}/{index}", content(index)), range(count)))
    return count
