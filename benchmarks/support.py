"""What the benchmarks share: sizes, payloads, and the CPU seconds of everything that took part."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass
class Spent:
    """CPU seconds of this process and of all nodes over a stretch of work."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def spending(cluster: Cluster | None) -> Iterator[Spent]:
    """Measure wall and CPU time (this process, its children and every node) of the block."""
    spent = Spent()
    before, begin = _cpu_now(cluster), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - begin
    spent.cpu_s = _cpu_now(cluster) - before


def _cpu_now(cluster: Cluster | None) -> float:
    times = os.times()
    return (
        times.user
        + times.system
        + times.children_user
        + times.children_system
        + (cluster.cpu_seconds() if cluster else 0.0)
    )


def measured(
    benchmark: Any,
    cluster: Cluster | None,
    work: Callable[[int], None],
    *,
    rounds: int,
    operations: int = 0,
    octets: int = 0,
) -> None:
    """Run `work(round)` and put rates and CPU per operation or GiB beside the timing."""
    numbers = iter(range(rounds))
    with spending(cluster) as spent:
        benchmark.pedantic(lambda: work(next(numbers)), rounds=rounds, iterations=1)
    seconds = benchmark.stats.stats.total
    if operations:
        benchmark.extra_info["operations_per_s"] = round(operations * rounds / seconds, 1)
        benchmark.extra_info["cpu_us_per_operation"] = round(spent.cpu_s / (operations * rounds) * 1e6, 1)
    if octets:
        benchmark.extra_info["mb_per_s"] = round(octets * rounds / seconds / 1e6, 1)
        benchmark.extra_info["cpu_s_per_gib"] = round(spent.cpu_s / (octets * rounds / GIB), 2)
