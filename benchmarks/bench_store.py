"""The chunk store by itself: writing against a plain loop that checks and keeps nothing, and verified reading."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.support import MIB, measured, payload, same, sizes
from mooseng_py.native import AlignedBuffer, ChunkStore, plain_loop

CHUNK_BYTES = 64 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on the disk that tests use; given back at once, for chunks are big."""
    path = Path(tempfile.mkdtemp(dir=tmp_path))
    yield path
    shutil.rmtree(path)


def write_chunk(store: ChunkStore, chunk: int, data: memoryview) -> float:
    """Seconds to write a chunk in steps of 1 MiB and make it stable."""
    start = time.perf_counter()
    for offset in range(0, CHUNK_BYTES, MIB):
        store.write(chunk, 1, offset, data[offset % len(data) :][:MIB])
    store.sync(chunk, 1)
    return time.perf_counter() - start


def bench_store_write_against_a_plain_loop(benchmark: Any, disk: Path) -> None:
    """Chunk by chunk in turn with two loops that write the same bytes, so that all meet the same disk.

    Ratios are medians over the turns. The promised one is to the O_DIRECT loop, as the store writes past the page cache.
    """
    rounds = sizes(smoke=4, full=40)
    (disk / "store").mkdir()
    seconds: dict[str, list[float]] = {"store": [], "buffered_loop": [], "direct_loop": []}
    with ChunkStore([disk / "store"]) as store, AlignedBuffer(CHUNK_BYTES) as buffer, AlignedBuffer(MIB) as back:
        buffer.view[:] = payload(CHUNK_BYTES, seed=10)

        def work(turn: int) -> None:
            seconds["direct_loop"].append(plain_loop(disk, buffer.view, direct=True))
            seconds["store"].append(write_chunk(store, 1 + turn, buffer.view))
            seconds["buffered_loop"].append(plain_loop(disk, buffer.view, direct=False))

        measured(benchmark, None, work, rounds=rounds, operations=3)
        for offset in range(0, CHUNK_BYTES, MIB):
            store.read(rounds, 1, offset, back.view)
            assert same(back.view, buffer.view[offset : offset + MIB])
        benchmark.extra_info["store_uses_direct_io"] = bool(store.status()["disks"][0]["direct_io"])
    for what, times in seconds.items():
        benchmark.extra_info[f"{what}_mb_per_s"] = round(CHUNK_BYTES / median(times) / 1e6, 1)
    for key, loop in ("ratio_to_plain_loop", "direct_loop"), ("ratio_to_buffered_loop", "buffered_loop"):
        benchmark.extra_info[key] = round(median(map(truediv, seconds[loop], seconds["store"])), 3)


def bench_store_read(benchmark: Any, disk: Path) -> None:
    """Every block verified, the way a reader gets it."""
    with ChunkStore([disk]) as store, AlignedBuffer(CHUNK_BYTES) as buffer, AlignedBuffer(MIB) as back:
        buffer.view[:] = payload(CHUNK_BYTES, seed=11)
        write_chunk(store, 1, buffer.view)

        def work(_turn: int) -> None:
            for offset in range(0, CHUNK_BYTES, MIB):
                store.read(1, 1, offset, back.view)
                assert same(back.view, buffer.view[offset : offset + MIB])

        measured(benchmark, None, work, rounds=sizes(smoke=2, full=20), octets=CHUNK_BYTES)
