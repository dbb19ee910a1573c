"""Random operations on one file, in the manner of fsx, through two mounts, against a bytearray.

Every run prints its seed. The same operations again, on any two mounts of one cluster (or twice the same directory):

    python tests/stress/test_file_stress.py --mounts DIR1 DIR2 --seed SEED [--seconds S]

Without --seed it goes on with one seed after the other. `kept` names the seeds that once found a fault.
"""

import argparse
import collections
import itertools
import mmap
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster

KIB, MIB, CHUNK = 1 << 10, 1 << 20, 64 << 20
BUDGET_S = 20
FAULTY_S = 12
STEPS = 150
KEPT: tuple[int, ...] = (2679568873, 1822549567)


class Wrong(AssertionError):
    """The file is not what the model is."""


@dataclass
class FileStress:
    """One seed's life of one file. Deterministic but for time."""

    mounts: tuple[Path, Path]
    seed: int
    model: bytearray = field(default_factory=bytearray)
    done: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=40))

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        # Small files live in their inode, larger ones in chunks; the borders are where faults are.
        self.most, self.base = self.draw.choice(
            [(9 * KIB, 0), (24 * KIB, 0), (300 * KIB, 0), (3 * MIB, 0), (MIB, CHUNK - 512 * KIB)]
        )
        self.name = f"stress-{self.seed}"
        self.side = self.count = 0
        self.fd = -1
        self.appender = -1
        self.watcher = -1

    # ---- life ---------------------------------------------------------------------------------------------------
    def run(self, steps: int, until: float = float("inf")) -> None:
        try:
            self.reopen(os.O_CREAT | os.O_TRUNC)
            for _ in range(steps):
                if time.monotonic() > until:
                    break
                self.step()
            self.hand_over()
            self.check_all()
            self.close()
            os.unlink(self.path)
        except (OSError, Wrong) as error:
            story = "\n  ".join(self.done)
            raise Wrong(
                f"seed {self.seed}, file of up to {self.most} bytes from {self.base}: {error!r} after\n  {story}"
            ) from error
        finally:
            self.close(quietly=True)

    @property
    def path(self) -> Path:
        return self.mounts[self.side] / self.name

    @property
    def other(self) -> Path:
        return self.mounts[1 - self.side] / self.name

    def close(self, *, quietly: bool = False) -> None:
        for fd in (self.fd, self.appender, self.watcher):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    if not quietly:
                        raise
        self.fd = self.appender = self.watcher = -1

    def note(self, text: str) -> None:
        self.count += 1
        self.done.append(f"{self.count} mount {self.side + 1}: {text}; {len(self.model)} bytes")

    # ---- what is drawn ------------------------------------------------------------------------------------------
    def place(self) -> int:
        near = self.draw.random()
        if near < 0.3 and self.model:
            return max(0, len(self.model) - self.draw.randrange(5000))
        at = self.base + self.draw.randrange(self.most)
        return at // 4096 * 4096 if near < 0.5 else at

    def length(self) -> int:
        return self.draw.choice([1, 7, 100, 4095, 4096, 4097, 8192, 10_000, 65_536, 131_072, 400_000])

    def step(self) -> None:
        steps = {
            self.write: 22, self.read: 16, self.append: 6, self.map_write: 6, self.map_read: 5, self.truncate: 7,
            self.sync: 5, self.reopen: 4, self.check_other: 5, self.hand_over: 4, self.drop_cache: 4,
            self.check_size: 5, self.write_sync: 2, self.watch: 3, self.seek_write: 3, self.vector: 2,
        }  # fmt: skip
        (chosen,) = self.draw.choices(list(steps), list(steps.values()))
        chosen()

    # ---- changing -----------------------------------------------------------------------------------------------
    def write(self) -> None:
        at, data = self.place(), self.draw.randbytes(self.length())
        self.note(f"pwrite {at}+{len(data)}")
        taken = os.pwrite(self.fd, data, at)
        self.same(taken, len(data), "bytes taken")
        self.put(at, data)

    def seek_write(self) -> None:
        at, data = self.place(), self.draw.randbytes(self.length())
        self.note(f"lseek {at}, write {len(data)}")
        os.lseek(self.fd, at, os.SEEK_SET)
        self.same(os.write(self.fd, data), len(data), "bytes taken")
        self.put(at, data)
        self.same(os.lseek(self.fd, 0, os.SEEK_CUR), at + len(data), "position")

    def vector(self) -> None:
        at, parts = self.place(), [self.draw.randbytes(self.length()) for _ in range(3)]
        self.note(f"pwritev {at}+{[len(part) for part in parts]}")
        self.same(os.pwritev(self.fd, parts, at), sum(map(len, parts)), "bytes taken")
        self.put(at, b"".join(parts))

    def write_sync(self) -> None:
        at, data = self.place(), self.draw.randbytes(self.length())
        self.note(f"O_SYNC pwrite {at}+{len(data)}")
        fd = os.open(self.path, os.O_WRONLY | os.O_SYNC)
        try:
            self.same(os.pwrite(fd, data, at), len(data), "bytes taken")
        finally:
            os.close(fd)
        self.put(at, data)

    def append(self) -> None:
        data = self.draw.randbytes(self.length())
        if len(self.model) + len(data) > self.base + 2 * self.most + 500_000:
            return
        if self.appender < 0:
            flags = self.draw.choice([os.O_WRONLY, os.O_RDWR])
            self.appender = os.open(self.path, flags | os.O_APPEND)
        self.note(f"append {len(data)}")
        self.same(os.write(self.appender, data), len(data), "bytes taken")
        self.put(len(self.model), data)

    def map_write(self) -> None:
        size = len(self.model)
        if not size:
            return
        at = min(self.place(), size - 1)
        data = self.draw.randbytes(min(self.length(), size - at))
        if not data:
            return
        flush, start = self.draw.random() < 0.5, at // mmap.PAGESIZE * mmap.PAGESIZE
        self.note(f"store {at}+{len(data)} through a mapping{', msync' if flush else ''}")
        with mmap.mmap(self.fd, at + len(data) - start, offset=start) as view:
            view[at - start :] = data
            if flush:
                view.flush()
        self.put(at, data)

    def truncate(self) -> None:
        size = self.place() if self.draw.random() < 0.7 else self.draw.choice([0, len(self.model)])
        by_path = self.draw.random() < 0.4
        self.note(f"{'truncate' if by_path else 'ftruncate'} {size}")
        os.truncate(self.path if by_path else self.fd, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def put(self, at: int, data: bytes) -> None:
        self.model.extend(bytes(max(0, at + len(data) - len(self.model))))
        self.model[at : at + len(data)] = data

    # ---- looking ------------------------------------------------------------------------------------------------
    def read(self) -> None:
        at, length = self.place(), self.length()
        self.note(f"pread {at}+{length}")
        self.compare(os.pread(self.fd, length, at), at, length)

    def map_read(self) -> None:
        if not self.model:
            return
        start = min(self.place(), len(self.model) - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        length = min(self.length(), len(self.model) - start)
        self.note(f"load {start}+{length} through a mapping")
        with mmap.mmap(self.fd, length, prot=mmap.PROT_READ, offset=start) as view:
            self.compare(view[:], start, length)

    def check_size(self) -> None:
        self.note("stat, fstat, lseek, scandir")
        size = len(self.model)
        self.same(os.fstat(self.fd).st_size, size, "fstat")
        self.same(os.stat(self.path).st_size, size, "stat")
        self.same(os.lseek(self.fd, 0, os.SEEK_END), size, "end")
        with os.scandir(self.path.parent) as entries:
            sizes = [entry.stat().st_size for entry in entries if entry.name == self.name]
        self.same(sizes, [size], "size in a listing")

    def check_all(self) -> None:
        self.note("read all")
        start = max(0, self.base - MIB) if self.draw.random() < 0.9 else 0
        self.compare(os.pread(self.fd, len(self.model) + 10, start), start, len(self.model) + 10)

    def check_other(self) -> None:
        self.note("fsync; open and read on the other mount")
        os.fsync(self.fd)
        at, length = max(0, self.place() - 100_000), 300_000
        self.same(self.other.stat().st_size, len(self.model), "size on the other mount")
        with self.other.open("rb", buffering=0) as file:
            self.compare(os.pread(file.fileno(), length, at), at, length)

    def watch(self) -> None:
        """A descriptor of the other mount that stays open sees what was synced, from its next fstat on."""
        if self.watcher < 0:
            self.note("open on the other mount, keep it")
            os.fsync(self.fd)
            self.watcher = os.open(self.other, os.O_RDONLY)
        self.note("fsync; fstat and read through the descriptor kept on the other mount")
        os.fsync(self.fd)
        self.same(os.fstat(self.watcher).st_size, len(self.model), "size at the watcher")
        at, length = max(0, self.place() - 100_000), 300_000
        self.compare(os.pread(self.watcher, length, at), at, length)

    # ---- coming and going ---------------------------------------------------------------------------------------
    def sync(self) -> None:
        self.note("fsync")
        self.draw.choice([os.fsync, os.fdatasync])(self.fd)

    def reopen(self, flags: int = 0) -> None:
        self.note("close, open")
        self.close()
        self.fd = os.open(self.path, os.O_RDWR | flags, 0o644)

    def hand_over(self) -> None:
        """The other mount goes on with the file."""
        self.close()
        self.side = 1 - self.side
        self.note("goes on here")
        self.fd = os.open(self.path, os.O_RDWR)
        self.same(os.fstat(self.fd).st_size, len(self.model), "size after opening")

    def drop_cache(self) -> None:
        self.note("fsync, drop cached pages, read")
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        at, length = self.place(), self.length()
        self.compare(os.pread(self.fd, length, at), at, length)

    # ---- judging ------------------------------------------------------------------------------------------------
    def same(self, seen: object, expected: object, what: str) -> None:
        if seen != expected:
            raise Wrong(f"{what}: {seen}, not {expected}")

    def compare(self, seen: bytes, at: int, length: int) -> None:
        expected = bytes(self.model[at : at + length])
        self.same(len(seen), len(expected), f"bytes read at {at}")
        if seen != expected:
            first = next(index for index in range(len(seen)) if seen[index] != expected[index])
            wrong = sum(1 for index in range(len(seen)) if seen[index] != expected[index])
            raise Wrong(f"{wrong} bytes differ, the first at {at + first}: {seen[first]}, not {expected[first]}")


@pytest.mark.slow
def test_random_operations_on_a_file_agree_with_a_model_on_two_mounts(cluster: Cluster) -> None:
    until = time.monotonic() + BUDGET_S
    mounts = (cluster.mount(1), cluster.mount(2))
    for seed in KEPT:
        FileStress(mounts, seed).run(STEPS)
    while time.monotonic() < until:
        seed = random.SystemRandom().randrange(1 << 32)
        FileStress(mounts, seed).run(STEPS, until)


@pytest.mark.slow
def test_random_operations_agree_with_the_model_while_chunkservers_and_the_leader_die(cluster: Cluster) -> None:
    until = time.monotonic() + FAULTY_S
    over = threading.Event()

    def break_nodes() -> None:
        victims = itertools.cycle(["chunkserver-1", "leader", "chunkserver-2"])
        while not over.is_set():
            victim = next(victims)
            name = cluster.leader() if victim == "leader" else victim
            cluster.kill(name)
            over.wait(1)
            cluster.restart(name)
            over.wait(1)

    breaker = threading.Thread(target=break_nodes)
    breaker.start()
    try:
        while time.monotonic() < until:
            seed = random.SystemRandom().randrange(1 << 32)
            FileStress((cluster.mount(1), cluster.mount(2)), seed).run(STEPS, until)
    finally:
        over.set()
        breaker.join()


def test_the_stress_holds_on_the_local_file_system_too(tmp_path: Path) -> None:
    for seed in (*KEPT, *range(5)):
        FileStress((tmp_path, tmp_path), seed).run(STEPS)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mounts", nargs=2, type=Path, required=True)
    options.add_argument("--seed", type=int)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--seconds", type=float, default=60)
    chosen = options.parse_args()
    until, runs = time.monotonic() + chosen.seconds, 0
    failed = 0
    while time.monotonic() < until:
        seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(1 << 32)
        try:
            FileStress(tuple(chosen.mounts), seed).run(chosen.steps)
        except Wrong as wrong:
            print(wrong, flush=True)
            failed += 1
            if failed >= 5:
                break
        runs += 1
        if chosen.seed is not None:
            break
    print(f"{runs} seeds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
