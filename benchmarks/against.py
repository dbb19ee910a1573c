"""Two checkouts, workloads taking turns: whether a change made anything dearer, on a machine whose pace changes.

    python -m benchmarks.against ../before [--rounds 7] [--only stat]

Each side has nine nodes of its own, of its own checkout's library (`make build` in both, with the same NATIVE_PROFILE). Both
run the workloads of this file, for about a second each: this checkout first, the other one, the other one again, this one, and so
on. Printed are medians: rate and processor time of all nodes and the client per operation or GiB, and after / before.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mooseng_py
from mooseng_py.demo.harness import Cluster, free_port_offset
from mooseng_py.sdk import FileSystem

ROOT = Path(__file__).resolve().parent.parent
KIB, MIB = 1 << 10, 1 << 20
STREAM = 256 * MIB
SPREAD = 16 * MIB


@dataclass
class Side:
    """One cluster, a connection to it, and directories that no workload used before."""

    mount: Path
    fs: FileSystem
    used: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def folder(self) -> Path:
        self.used += 1
        path = self.mount / str(self.used)
        path.mkdir()
        return path

    def all(self, operation: Callable[[int], object], count: int, workers: int) -> int:
        """Carry out `operation(index)` for every index below `count`, by so many threads."""

        def share(worker: int) -> None:
            for index in range(worker, count, workers):
                operation(index)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(share, range(workers)))
        return count

    # ---- names ------------------------------------------------------------------------------------------------------
    def sdk_stat(self, workers: int) -> int:
        return self.all(lambda _index: self.fs.stat("/"), 8000, workers)

    def sdk_mkdir(self, workers: int) -> int:
        folder = self.folder().name
        return self.all(lambda index: self.fs.mkdir(f"/{folder}/{index}"), 1000 if workers == 1 else 4000, workers)

    def stat(self, workers: int) -> int:
        path = self.folder()
        return self.all(lambda _index: path.stat(), 4000, workers)

    def rename(self) -> int:
        folder = self.folder()
        (folder / "0").touch()
        return self.all(lambda index: (folder / str(index)).rename(folder / str(index + 1)), 800, 1)

    def create(self, workers: int, folders: int) -> int:
        places = [self.folder() for _ in range(folders)]
        data = self.dice.randbytes(4 * KIB)
        count = 500 if workers == 1 else 1500
        return self.all(lambda index: (places[index % folders] / str(index)).write_bytes(data), count, workers)

    def create_20k(self) -> int:
        folder, data = self.folder(), self.dice.randbytes(20 * KIB)
        return self.all(lambda index: (folder / str(index)).write_bytes(data), 200, 1)

    def open_read(self, workers: int) -> int:
        folder, data = self.folder(), self.dice.randbytes(4 * KIB)
        for number in range(20):
            (folder / str(number)).write_bytes(data)
        return self.all(lambda index: (folder / str(index % 20)).read_bytes(), 3000, workers)

    # ---- bytes ------------------------------------------------------------------------------------------------------
    def big(self) -> Path:
        path = self.mount / "big"
        if not path.exists():
            self.stream(path, SPREAD)
        return path

    def stream(self, path: Path, octets: int) -> int:
        piece = self.dice.randbytes(MIB)
        with path.open("wb", buffering=0) as file:
            for _ in range(octets // MIB):
                file.write(piece)
            os.fsync(file.fileno())
        return octets

    def sequential_write(self) -> int:
        return self.stream(self.folder() / "f", STREAM)

    def sequential_read(self) -> int:
        path = self.mount / "long"
        if not path.exists():
            self.stream(path, STREAM)
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(MIB):
                pass
        return STREAM

    def random_write_fsync(self) -> int:
        fd = os.open(self.big(), os.O_WRONLY)
        for _ in range(400):
            os.pwrite(fd, self.dice.randbytes(4 * KIB), self.dice.randrange(SPREAD // (4 * KIB)) * 4 * KIB)
            os.fsync(fd)
        os.close(fd)
        return 400

    def append_fsync(self) -> int:
        record = self.dice.randbytes(200)
        fd = os.open(self.folder() / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(300):
            os.write(fd, record)
            os.fsync(fd)
        os.close(fd)
        return 300

    def sqlite(self) -> int:
        with closing(sqlite3.connect(self.folder() / "db", isolation_level=None)) as base:
            base.execute("pragma synchronous=full")
            base.execute("create table t (a integer primary key, b blob)")
            for number in range(100):
                base.execute("insert into t values (?, ?)", (number, self.dice.randbytes(500)))
        return 100


WORKLOADS: dict[str, tuple[str, Callable[[Side], int]]] = {
    "sdk stat, 1 worker": ("/s", lambda side: side.sdk_stat(1)),
    "sdk stat, 8 workers": ("/s", lambda side: side.sdk_stat(8)),
    "sdk mkdir, 1 worker": ("/s", lambda side: side.sdk_mkdir(1)),
    "sdk mkdir, 64 workers": ("/s", lambda side: side.sdk_mkdir(64)),
    "stat, 1 worker": ("/s", lambda side: side.stat(1)),
    "stat, 8 workers": ("/s", lambda side: side.stat(8)),
    "rename": ("/s", lambda side: side.rename()),
    "create + write + close 4 KiB, 1 worker": ("/s", lambda side: side.create(1, 1)),
    "create + write + close 4 KiB, 8 workers": ("/s", lambda side: side.create(8, 1)),
    "the same, a directory each": ("/s", lambda side: side.create(8, 8)),
    "create + write + close 20 KiB": ("/s", lambda side: side.create_20k()),
    "open + read 4 KiB, 1 worker": ("/s", lambda side: side.open_read(1)),
    "open + read 4 KiB, 8 workers": ("/s", lambda side: side.open_read(8)),
    "random write 4 KiB + fsync": ("/s", lambda side: side.random_write_fsync()),
    "append 200 B + fsync": ("/s", lambda side: side.append_fsync()),
    "SQLite transaction": ("/s", lambda side: side.sqlite()),
    "sequential write": ("MB/s", lambda side: side.sequential_write()),
    "sequential read, server's caches warm": ("MB/s", lambda side: side.sequential_read()),
}


def cpu_ns(pids: list[int]) -> int:
    """On-CPU time of all threads of these processes. Source: Documentation/scheduler/sched-stats.rst."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue  # a thread that just ended
    return total


def serve() -> None:
    """One side: brings its cluster up, runs the workloads whose names come in, says what each took."""
    base = Path(tempfile.mkdtemp(prefix="against-"))
    cluster = Cluster(base / "c", port_offset=free_port_offset())
    cluster.up()
    try:
        pids = [int(node["pid"]) for node in cluster.nodes() if node["pid"]] + [os.getpid()]
        with mooseng_py.connect(cluster.url(), name="against") as fs:
            side = Side(cluster.mount(1), fs)
            print("ready", flush=True)
            for line in sys.stdin:
                _, run = WORKLOADS[line.strip()]
                before, start = cpu_ns(pids), time.perf_counter()
                done = run(side)
                print(json.dumps([done, time.perf_counter() - start, cpu_ns(pids) - before]), flush=True)
    finally:
        cluster.down()
        shutil.rmtree(base, ignore_errors=True)


class Worker:
    """The process of one side, with the Python environment of its checkout."""

    def __init__(self, checkout: Path) -> None:
        self.process = subprocess.Popen(
            [checkout / ".venv/bin/python", Path(__file__).resolve(), "--serve"],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return line
        raise SystemExit(f"a side ended with {self.process.wait()}")

    def run(self, name: str) -> tuple[int, float, int]:
        assert self.process.stdin
        print(name, file=self.process.stdin, flush=True)
        done, seconds, ns = json.loads(self.answer())
        return done, seconds, ns

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def worker(checkout: Path) -> Iterator[Worker]:
    it = Worker(checkout)
    try:
        yield it
    finally:
        it.end()


def compared(name: str, before: Worker, after: Worker, rounds: int) -> str:
    """One line of the table."""
    rates: dict[Worker, list[float]] = {before: [], after: []}
    costs: dict[Worker, list[float]] = {before: [], after: []}
    for number in range(rounds):
        for side in (after, before) if number % 2 == 0 else (before, after):
            done, seconds, ns = side.run(name)
            rates[side].append(done / seconds)
            costs[side].append(ns / done)
    unit = WORKLOADS[name][0]
    scale, cost_scale, cost_unit = (1e-6, (1 << 30) / 1e9, "s/GiB") if unit == "MB/s" else (1.0, 1e-3, "us")

    def row(values: dict[Worker, list[float]], scale: float, unit: str) -> str:
        old, new = (statistics.median(values[side]) * scale for side in (before, after))
        each = [b / a for a, b in zip(values[before], values[after], strict=True)]
        digits = 2 if unit == "s/GiB" else 0
        return f"{old:,.{digits}f} -> {new:,.{digits}f} {unit} | {statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"

    return f"| {name} | {row(rates, scale, unit)} | {row(costs, cost_scale, cost_unit)} |"


def compare(before: Path, rounds: int, only: str) -> None:
    with worker(before) as old, worker(ROOT) as new:
        print("| workload | rate | ratio | processor time | ratio |\n|---|---|---|---|---|", flush=True)
        for name in WORKLOADS:
            if only in name:
                print(compared(name, old, new, rounds), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout, built")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.before:
        compare(options.before.resolve(), options.rounds, options.only)
    else:
        parser.error("name the other checkout")


if __name__ == "__main__":
    main()
