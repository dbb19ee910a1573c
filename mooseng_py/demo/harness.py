"""A local cluster as an operator handles it: through the `mooseng` command, its mounts and its signals only.

Used by the demonstration and by the cluster tests. Never reaches into a daemon and never invents a result.
"""

import contextlib
import hashlib
import json
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooseng_py.demo.digests import digests
from mooseng_py.demo.operated import BLOCK_BYTES, Operated
from mooseng_py.demo.watch import MOOSENG, CommandFailed, NotYet, run_mooseng, wait_until

__all__ = [
    "BLOCK_BYTES",
    "MOOSENG",
    "Activity",
    "Cluster",
    "CommandFailed",
    "NotYet",
    "Operated",
    "flip_byte",
    "free_port_offset",
    "read_past_cache",
    "run_mooseng",
    "sha256",
    "tree_hashes",
    "wait_until",
]

# A whole profile's nodes, and what a stack may publish beside them: Grafana, the dashboard, Prometheus.
_PORTS = (*range(9400, 9500), 3000, 8080, 9090)


def free_port_offset() -> int:
    """An offset at which none of the profile's ports is taken, so that clusters may run side by side.

    Each process begins its search elsewhere: between the look and the use, another one must not find the same.
    """
    offsets = range(1000, 20000, 100)  # below the ports that the kernel gives to connections
    first = os.getpid() % len(offsets)
    in_turn: list[int] = [*offsets[first:], *offsets[:first]]
    for offset in in_turn:
        if all(_port_is_free(port + offset) for port in _PORTS):
            return offset
    raise NotYet("no free block of a hundred ports between 10400 and 29400")


def _port_is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every regular file below `root`, by relative path."""
    return {
        os.path.relpath(os.path.join(folder, name), root): sha256(Path(folder, name))
        for folder, _, names in os.walk(root)
        for name in names
        if not os.path.islink(os.path.join(folder, name))
    }


@dataclass
class Cluster(Operated):
    """One cluster of processes under one directory, run by `mooseng local`."""

    dir: Path
    profile: str = "demo"
    port_offset: int = 0
    extra: Sequence[str] = ()

    @property
    def logs(self) -> str:
        return f"{self.dir}/nodes/*/log"

    # ---- the whole ------------------------------------------------------------------------------------------------
    def up(self) -> float:
        """Start (or start again) everything; return the seconds until it was ready."""
        start = time.monotonic()
        run_mooseng(
            "local", "up", "--profile", self.profile, "--dir", str(self.dir),
            "--port-offset", str(self.port_offset), *self.extra,
        )  # fmt: skip
        return time.monotonic() - start

    def down(self) -> None:
        run_mooseng("local", "down", "--dir", str(self.dir))

    def nodes(self) -> list[dict[str, Any]]:
        """`mooseng local status --json`: name, role, pid, state, addresses, mount, data directories of each node."""
        answer = json.loads(run_mooseng("local", "status", "--dir", str(self.dir), "--json"))
        nodes: list[dict[str, Any]] = answer["nodes"]
        return nodes

    def crash(self, name: str) -> None:
        self.kill(name)

    def kill(self, name: str) -> None:
        run_mooseng("local", "kill", name, "--dir", str(self.dir))

    def restart(self, name: str) -> None:
        run_mooseng("local", "restart", name, "--dir", str(self.dir))

    # ---- the data ---------------------------------------------------------------------------------------------------
    def mount(self, index: int) -> Path:
        return self.dir / "mnt" / str(index)

    def url(self) -> str:
        return f"mooseng://{self.masters()}/"

    def masters(self) -> str:
        return ",".join(f"127.0.0.1:{port + self.port_offset}" for port in self.master_ports())

    def master_ports(self) -> list[int]:
        return [9421] if self.profile == "minimal" else [9421, 9422, 9423]

    def sdk_digests(self, paths: Iterable[str]) -> dict[str, str]:
        return digests(self.url(), paths)


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte on disk behind the daemon's back, past any page cache of ours."""
    fd = os.open(path, os.O_RDWR)
    try:
        (value,) = os.pread(fd, 1, offset)
        os.pwrite(fd, bytes([value ^ 0x40]), offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def read_past_cache(path: Path, offset: int, length: int) -> bytes:
    """So many bytes at `offset`, both multiples of 4096, from the daemon and not from the kernel's page cache. Source: open(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as pages:
            return pages[: os.preadv(fd, [pages], offset)]
    finally:
        os.close(fd)


@dataclass
class Activity:
    """Work that goes on in a thread while something is broken; remembers stalls and errors."""

    what: str
    step: Callable[[int], None]
    longest_gap_s: float = 0.0
    done: int = 0
    errors: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def going_on(self) -> Iterator["Activity"]:
        stop = threading.Event()

        def work() -> None:
            last = time.monotonic()
            while not stop.is_set():
                try:
                    self.step(self.done)
                except OSError as error:
                    self.errors.append(f"{self.what}: {error}")
                    return
                now = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now
                self.done += 1

        thread = threading.Thread(target=work, name=self.what)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
