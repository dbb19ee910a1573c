"""What the benchmarks share: sizes, payloads, and the CPU seconds of everything that took part."""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mooseng_py.demo.harness import Cluster

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
T = TypeVar("T")

_full = False


def choose_full(full: bool) -> None:
    """Called once by conftest before any benchmark is collected."""
    global _full
    _full = full


def sizes(*, smoke: T, full: T) -> T:
    """What to measure with: small enough for every test run, or real."""
    return full if _full else smoke


def payload(length: int, seed: int) -> bytes:
    """Bytes that do not compress and are the same in every run."""
    draw = random.Random(seed)
    return b"".join(draw.randbytes(min(MIB, length - start)) for start in range(0, length, MIB))


def same(read: memoryview, expected: bytes | memoryview) -> bool:
    """Whether the bytes are equal. `memoryview == ...` compares one by one, which takes 20 times the reading."""
    return bytes(read) == bytes(expected)


def content(index: int) -> bytes:
    """4 KiB that name themselves: a file that holds another one's bytes is found."""
    return index.to_bytes(4, "little") * KIB


@dataclass
class Spent:
    """CPU seconds of this process and of all nodes over a stretch of work."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def spending(cluster: Cluster | None) -> Iterator[Spent]:
    """Measure wall and CPU time (this process, its ended children and every node) of the block."""
    pids = [int(node["pid"]) for node in cluster.nodes() if node["pid"]] if cluster else []
    spent = Spent()
    before, begin = _cpu_now(pids), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - begin
    spent.cpu_s = _cpu_now(pids) - before


def _cpu_now(pids: Sequence[int]) -> float:
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return own + sum(_cpu_of(pid) for pid in pids)


def _cpu_of(pid: int) -> float:
    """User and system time of a process with all its threads. Source: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(
    benchmark: Any,
    cluster: Cluster | None,
    work: Callable[[int], object],
    *,
    rounds: int,
    operations: int = 0,
    octets: int = 0,
) -> None:
    """Run `work(round)` and put rates and CPU per operation or GiB beside the timing.

    `operations` and `octets` are those of one round. Rates are of the whole, and of the best round where there are more.
    """
    numbers = iter(range(rounds))
    with spending(cluster) as spent:
        benchmark.pedantic(lambda: work(next(numbers)), rounds=rounds, iterations=1)
    seconds = benchmark.stats.stats.total
    info = benchmark.extra_info
    if operations:
        info["operations_per_s"] = round(operations * rounds / seconds, 1)
        info["cpu_us_per_operation"] = round(spent.cpu_s / (operations * rounds) * 1e6, 2)
    if octets:
        info["mb_per_s"] = round(octets * rounds / seconds / 1e6, 1)
        info["cpu_s_per_gib"] = round(spent.cpu_s / (octets * rounds / GIB), 3)
        if rounds > 1:
            info["best_mb_per_s"] = round(octets / benchmark.stats.stats.min / 1e6, 1)


def in_parallel(
    benchmark: Any, cluster: Cluster | None, operation: Callable[[int], object], count: int, workers: int
) -> None:
    """Measure `operation(index)` for every index below `count`, by so many threads."""

    def share(worker: int) -> None:
        for index in range(worker, count, workers):
            operation(index)

    def work(_turn: int) -> None:
        if workers == 1:
            share(0)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(share, range(workers)))

    measured(benchmark, cluster, work, rounds=1, operations=count)
