"""Several mounts change one file at random, with and without nodes that die meanwhile; the history is judged by `history`.

Every round prints its seed when it fails. The same round again, on a cluster of its own:

    PYTHONPATH=. python tests/sharing/campaign.py --seed SEED [--kills]

Without --seed it goes on with one seed after the other for --seconds.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from mooseng_py.demo.harness import MOOSENG, Cluster, NotYet, free_port_offset, wait_until
from tests.allocation import punch_hole
from tests.sharing.history import BLOCK, Change, History, Look, Mark, Naming, found
from tests.sharing.support import (
    SERVERS,
    apart,
    away,
    kill_all,
    pid_of,
    restart_all,
    wait_until_copies_are_equal,
    write_mount_config,
)

# Sessions of killed mounts end soon, so that their copies are settled within a round.
SETTINGS = ("--set=master.session_timeout_ms=5000",)
SETTLED_S = 15
INLINE_BYTES = 8192


class Wrong(AssertionError):
    """A history that no file system may have."""


@dataclass
class Plan:
    """What a seed decides: who takes part, how large the file gets, what they do."""

    seed: int
    kills: bool
    mounts: int
    most: int
    steps: int
    holes: bool
    weights: dict[str, int]

    @staticmethod
    def of(seed: int, kills: bool) -> "Plan":
        dice = random.Random(seed)
        weights = {
            "write": 10, "append": 8, "cut": 3, "grow": 2, "punch": 3, "replace": 1, "fsync": 5, "reopen": 3, "look": 8,
            "watch": 6,
        }  # fmt: skip
        # Some rounds do without some of it: what is rare beside cuts is frequent without them.
        for kind in ("append", "cut", "grow", "punch", "replace", "fsync"):
            if dice.random() < 0.25:
                weights[kind] = 0
        return Plan(
            seed,
            kills,
            mounts=dice.choice([2, 3, 4]),
            most=dice.choice([3, 12, 60, 300]),
            steps=dice.choice([30, 60, 120]),
            holes=dice.random() < 0.5,
            weights=weights,
        )


@dataclass
class Opened:
    """One descriptor. `unstable`: what was written through it since its last sync."""

    fd: int
    inode: int
    unstable: list[Change] = field(default_factory=list)


class Client(threading.Thread):
    """What one mount does; its errors are kept."""

    def __init__(self, number: int, path: Path, plan: Plan, history: History) -> None:
        super().__init__(name=f"client {number}")
        self.number, self.path, self.plan, self.history = number, path, plan, history
        self.dice = random.Random(plan.seed * 10 + number)
        self.sequence = self.names = self.looked = 0
        self.files: dict[str, Opened] = {}
        self.errors: list[str] = []
        # Set while somebody kills this mount: errors are then as they should be.
        self.dying = threading.Event()
        self.back = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        doing: dict[str, Callable[[], None]] = {name: getattr(self, name) for name in self.plan.weights}
        step = 0
        while not self.over.is_set() and (self.plan.kills or step < self.plan.steps):
            step += 1
            (name,) = self.dice.choices(list(doing), list(self.plan.weights.values()))
            try:
                doing[name]()
            except OSError as error:
                if not self.dying.is_set():
                    self.errors.append(f"{self.name}: {name}: {error!r} at {time.monotonic():.3f}")
                    return
                self.back.wait(60)
                self.forget()
            time.sleep(self.dice.choice([0, 0, 0.002, 0.02]))

    def finish(self) -> None:
        """Close everything; all of it is stable then."""
        for role in list(self.files):
            self.close(role)

    def forget(self) -> None:
        """The mount is another one; the old descriptors are of no use."""
        for opened in self.files.values():
            with contextlib.suppress(OSError):
                os.close(opened.fd)
        self.files.clear()

    # ---- descriptors ----------------------------------------------------------------------------------------------
    def opened(self, role: str) -> Opened:
        flags = {"writer": os.O_RDWR, "appender": os.O_WRONLY | os.O_APPEND, "watcher": os.O_RDONLY}[role]
        if role not in self.files:
            self.files[role] = self.open_now(flags)
        return self.files[role]

    def open_now(self, flags: int) -> Opened:
        start = time.monotonic()
        fd = os.open(self.path, flags)
        inode = os.fstat(fd).st_ino
        self.history.opened.append(Naming(self.number, inode, start, time.monotonic()))
        return Opened(fd, inode)

    def close(self, role: str) -> None:
        opened = self.files.pop(role)
        os.close(opened.fd)
        self.stabilised(opened)

    def stabilised(self, opened: Opened) -> None:
        now = time.monotonic()
        for change in opened.unstable:
            change.stable = min(change.stable, now)
        opened.unstable.clear()

    # ---- changes ----------------------------------------------------------------------------------------------------
    def change(self, kind: str, inode: int, first: int, count: int = 0) -> Change:
        """Written down before it is tried: when it fails, nobody knows whether it was done."""
        self.sequence += 1
        made = Change(kind, self.number, self.sequence, inode, first, count, time.monotonic(), inf)
        self.history.changes.append(made)
        return made

    def blocks(self, change: Change) -> bytes:
        appended = change.kind == "append"
        start = 0 if appended else change.first
        marks = (Mark(change.inode, start + i, self.number, change.sequence, appended) for i in range(change.count))
        return b"".join(mark.block() for mark in marks)

    def length(self) -> int:
        return min(self.dice.choice([1, 1, 2, 3, 5, 20]), self.plan.most)

    def write(self) -> None:
        opened, count = self.opened("writer"), self.length()
        size = os.fstat(opened.fd).st_size // BLOCK
        room = self.plan.most if self.plan.holes else min(size, self.plan.most)
        made = self.change("write", opened.inode, self.dice.randint(0, room), count)
        opened.unstable.append(made)
        self.took(os.pwrite(opened.fd, self.blocks(made), made.first * BLOCK), made)

    def append(self) -> None:
        opened = self.opened("appender")
        if os.fstat(opened.fd).st_size > 3 * self.plan.most * BLOCK:
            return
        made = self.change("append", opened.inode, -1, self.length())
        opened.unstable.append(made)
        self.took(os.write(opened.fd, self.blocks(made)), made)

    def took(self, count: int, made: Change) -> None:
        if count != made.count * BLOCK:
            raise OSError(f"{made} took {count} bytes")
        made.end = time.monotonic()

    def cut(self) -> None:
        opened = self.opened("writer")
        size = os.fstat(opened.fd).st_size // BLOCK
        self.cut_to(opened, self.dice.choice([0, size // 2, max(0, size - 1), self.dice.randint(0, size)]))

    def grow(self) -> None:
        opened = self.opened("writer")
        self.cut_to(opened, os.fstat(opened.fd).st_size // BLOCK + self.length())

    def punch(self) -> None:
        """A hole within the file, as far as this mount knows; durable when it returns."""
        opened = self.opened("writer")
        size = os.fstat(opened.fd).st_size // BLOCK
        if size == 0:
            return
        first = self.dice.randrange(size)
        made = self.change("hole", opened.inode, first, min(self.length(), size - first))
        punch_hole(opened.fd, first * BLOCK, made.count * BLOCK)
        made.end = made.stable = time.monotonic()

    def cut_to(self, opened: Opened, size: int) -> None:
        made = self.change("cut", opened.inode, min(size, 4 * self.plan.most))
        os.ftruncate(opened.fd, made.first * BLOCK)
        made.end = made.stable = time.monotonic()

    def replace(self) -> None:
        """Another file, written and closed, in the name's place."""
        self.names += 1
        name = self.path.with_name(f"{self.path.name}.{self.number}.{self.names}")
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            made = self.change("write", os.fstat(fd).st_ino, 0, self.length())
            self.took(os.write(fd, self.blocks(made)), made)
        finally:
            os.close(fd)
        made.stable = time.monotonic()
        placed = Naming(self.number, made.inode, time.monotonic(), inf)
        self.history.placed.append(placed)
        os.rename(name, self.path)
        placed.end = time.monotonic()

    def fsync(self) -> None:
        for opened in list(self.files.values()):
            if opened.unstable:
                os.fsync(opened.fd)
                self.stabilised(opened)
                return

    def reopen(self) -> None:
        if self.files:
            self.close(self.dice.choice(sorted(self.files)))

    # ---- looks ------------------------------------------------------------------------------------------------------
    def look(self) -> None:
        start = time.monotonic()
        opened = self.open_now(os.O_RDONLY)
        try:
            self.read(opened, start)
        finally:
            os.close(opened.fd)

    def watch(self) -> None:
        """Through a descriptor that stays open."""
        self.read(self.opened("watcher"), time.monotonic())

    def read(self, opened: Opened, start: float) -> None:
        size = os.fstat(opened.fd).st_size
        content = b""
        while len(content) < size and (piece := os.pread(opened.fd, min(1 << 20, size - len(content)), len(content))):
            content += piece
        blocks = [found(content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)]
        self.looked += 1
        self.history.looks.append(Look(self.number, opened.inode, start, time.monotonic(), size, blocks))


@dataclass
class Round:
    """One seed on one cluster; or, without one, on folders of this machine."""

    plan: Plan
    cluster: Cluster | None
    folders: list[Path]
    history: History = field(default_factory=History)

    def run(self) -> None:
        """Raises: Wrong, with the command that does it again."""
        name = f"campaign-{self.plan.seed}-{self.plan.kills}"
        path = self.folders[0] / name
        path.touch()
        self.history.placed.append(Naming(0, path.stat().st_ino, -inf, -inf))
        clients = [
            Client(number, folder / name, self.plan, self.history)
            for number, folder in enumerate(self.folders[: self.plan.mounts], 1)
        ]
        for client in clients:
            client.start()
        try:
            if self.plan.kills and self.cluster:
                Breaker(self.cluster, clients, self.plan.seed, self.history).run()
        finally:
            for client in clients:
                if self.plan.kills:
                    client.over.set()
                client.join(120)
        wrong = [error for client in clients for error in client.errors]
        wrong += [f"{client.name} hangs" for client in clients if client.is_alive()]
        if not wrong:
            wrong += self.judge(name, clients)
        if wrong:
            more = f"\n  and {len(wrong) - 12} more" if len(wrong) > 12 else ""
            raise Wrong(f"{self.plan}; again with\n  {replay(self.plan)}\n  " + "\n  ".join(wrong[:12]) + more)
        for left in path.parent.glob(f"{name}*"):
            left.unlink()

    def judge(self, name: str, clients: list[Client]) -> list[str]:
        """Close, let every mount look, compare with the model, with each other, and copy with copy."""
        for client in clients:
            try:
                client.finish()
                client.look()
            except OSError as error:
                return [f"{client.name}: at the end: {error!r}"]
        for client in clients:
            client.look()
        wrong = self.history.problems()
        last = self.history.looks[-len(clients) :]
        for look in last[1:]:
            if (look.inode, look.size, look.blocks) != (last[0].inode, last[0].size, last[0].blocks):
                wrong.append(f"in the end {look} reads other blocks than {last[0]}")
        size = last[0].size
        if size > INLINE_BYTES and self.cluster and self.cluster.info(f"/{name}").get("chunks"):
            try:
                wait_until_copies_are_equal(self.cluster, name, size, timeout_s=SETTLED_S)
            except AssertionError as error:
                wrong.append(str(error))
        return wrong


class Breaker:
    """Kills and pauses nodes, one after the other, and mends them; from a process that has no file of a mount open."""

    def __init__(self, cluster: Cluster, clients: list[Client], seed: int, history: History) -> None:
        self.cluster, self.clients, self.history = cluster, clients, history
        self.dice = random.Random(~seed)

    def run(self) -> None:
        for _ in range(2):
            time.sleep(self.dice.random())
            self.dice.choice([self.chunkserver, self.every_chunkserver, self.pause, self.leader, self.mount])()
        time.sleep(0.5)

    def chunkserver(self) -> None:
        server = self.dice.choice(SERVERS)
        with self.failing():
            away(self.cluster.kill, server)
            time.sleep(self.dice.choice([0, 1, 4]))
            restart_all(self.cluster, [server])

    def every_chunkserver(self) -> None:
        with self.failing():
            kill_all(self.cluster, SERVERS)
            restart_all(self.cluster, SERVERS)

    def pause(self) -> None:
        pid = away(pid_of, self.cluster, self.dice.choice(SERVERS))
        with self.failing():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.dice.choice([0.5, 2, 5]))
            os.kill(pid, signal.SIGCONT)
            restart_all(self.cluster, [])

    def leader(self) -> None:
        leader = away(self.cluster.leader)
        if leader != "master-0":
            away(self.cluster.kill, leader)
            time.sleep(self.dice.random())
            away(self.cluster.restart, leader)

    def mount(self) -> None:
        client = self.dice.choice(self.clients[:3])  # a fourth mount is no node of the cluster
        client.back.clear()
        client.dying.set()
        begin = time.monotonic()
        away(self.cluster.kill, f"client-{client.number}")
        self.history.deaths.append((client.number, (begin, time.monotonic())))
        away(self.cluster.restart, f"client-{client.number}")
        client.back.set()
        reached = client.looked
        with contextlib.suppress(NotYet):  # it may have had no error at all
            wait_until("it works again", lambda: client.looked >= reached + 3, timeout_s=5)
        client.dying.clear()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """From before the first node is asked for until every chunk has its copies again."""
        begin = time.monotonic()
        yield
        self.history.failures.append((begin, time.monotonic()))


def replay(plan: Plan) -> str:
    return f"PYTHONPATH=. python tests/sharing/campaign.py --seed {plan.seed}{' --kills' if plan.kills else ''}"


@contextlib.contextmanager
def four_mounts(cluster: Cluster) -> Iterator[list[Path]]:
    """The cluster's three mounts, and one more beside them."""
    point, config = cluster.dir / "mnt-4", cluster.dir / "client-4.toml"
    point.mkdir(exist_ok=True)
    write_mount_config(cluster, config, point, 9499)
    with config.with_suffix(".log").open("ab") as log:
        daemon = subprocess.Popen([*MOOSENG, "mount", "--config", str(config)], stdout=log, stderr=log)
    try:
        wait_until("a fourth mount", lambda: os.path.ismount(point))
        yield [*(cluster.mount(number) for number in (1, 2, 3)), point]
    finally:
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)


def seeds_until(cluster: Cluster, first: int, seconds: float, *, kills: bool) -> int:
    """One seed after the other, the first at least; how many. Raises: Wrong."""
    until, count = time.monotonic() + seconds, 0
    with four_mounts(cluster) as folders:
        while count == 0 or time.monotonic() < until:
            Round(Plan.of(first + count, kills), cluster, folders).run()
            count += 1
    return count


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int)
    options.add_argument("--kills", action="store_true")
    options.add_argument("--seconds", type=float, default=60)
    chosen = options.parse_args()
    rounds = failed = 0
    apart()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "c", port_offset=free_port_offset(), extra=SETTINGS)
        cluster.up()
        try:
            until = time.monotonic() + chosen.seconds
            with four_mounts(cluster) as folders:
                while rounds == 0 or (chosen.seed is None and time.monotonic() < until and failed < 5):
                    seed = random.SystemRandom().randrange(1 << 31) if chosen.seed is None else chosen.seed
                    try:
                        Round(Plan.of(seed, chosen.kills), cluster, folders).run()
                    except Wrong as wrong:
                        print(wrong, flush=True)
                        failed += 1
                    rounds += 1
        finally:
            cluster.down()
    print(f"{rounds} seeds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
