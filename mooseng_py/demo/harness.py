"""A local cluster as an operator handles it: through the `mooseng` command, its mounts and its signals only.

Used by the demonstration and by the cluster tests. Never reaches into a daemon and never invents a result.
"""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

MOOSENG = [sys.executable, "-m", "mooseng_py.cli.main"]
BLOCK_BYTES = 4096
T = TypeVar("T")


class CommandFailed(RuntimeError):
    """A `mooseng` command ended with an error; the text is what it printed."""


class NotYet(RuntimeError):
    """A condition did not come true in time; the text says what was seen last."""


def run_mooseng(*arguments: str, timeout_s: float = 120) -> str:
    """Run one `mooseng` command and return what it printed.

    Raises: CommandFailed with its last words.
    """
    done = subprocess.run([*MOOSENG, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"mooseng {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def wait_until(what: str, check: Callable[[], T], timeout_s: float = 30, every_s: float = 0.05) -> T:
    """Poll `check` until it returns something true; return that.

    Raises: NotYet naming `what` and the last thing seen (a value or an error).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: Any
        try:
            seen = check()
            if seen:
                return seen  # type: ignore[no-any-return]
        except (OSError, CommandFailed, ValueError, KeyError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise NotYet(f"{what}: not within {timeout_s:g} s; last seen: {seen!r}")
        time.sleep(every_s)


def free_port_offset() -> int:
    """An offset at which none of the profile's ports is taken, so that clusters may run side by side.

    Each process begins its search elsewhere: between the look and the use, another one must not find the same.
    """
    offsets = range(1000, 20000, 100)  # below the ports that the kernel gives to connections
    first = os.getpid() % len(offsets)
    in_turn: list[int] = [*offsets[first:], *offsets[:first]]
    for offset in in_turn:
        if all(_port_is_free(port + offset) for port in range(9400, 9500)):
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
class Cluster:
    """One cluster under one directory."""

    dir: Path
    profile: str = "demo"
    port_offset: int = 0
    extra: Sequence[str] = ()

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

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.nodes() if node["name"] == name)

    def names(self, role: str) -> list[str]:
        return [node["name"] for node in self.nodes() if node["role"] == role]

    def kill(self, name: str) -> None:
        run_mooseng("local", "kill", name, "--dir", str(self.dir))

    def restart(self, name: str) -> None:
        run_mooseng("local", "restart", name, "--dir", str(self.dir))

    # ---- what it says of itself -----------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """`mooseng status --json`: the cluster as its leader sees it."""
        answer: dict[str, Any] = json.loads(run_mooseng("status", "--dir", str(self.dir), "--json"))
        return answer

    def info(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run_mooseng("info", path, "--dir", str(self.dir), "--json"))
        return answer

    def leader(self) -> str:
        """Name of the leading master."""
        return f"master-{int(self.status()['leader_id'])}"

    def wait_for_leader(self, other_than: str | None = None, timeout_s: float = 15) -> str:
        def found() -> str | None:
            leader = self.leader()
            return leader if leader not in ("master-0", other_than) else None

        return wait_until("a new leader", found, timeout_s) or ""

    def wait_until_whole(self, timeout_s: float = 60) -> None:
        """Every chunk has all its copies."""

        def whole() -> bool:
            status = self.status()
            return (
                not int(status["under_replicated"]) and not int(status["missing"]) and not int(status["heals_running"])
            )

        wait_until("every chunk with all its copies", whole, timeout_s, every_s=0.2)

    def servers_up(self) -> int:
        return sum(1 for server in self.status()["servers"] if server["up"])

    # ---- the data ---------------------------------------------------------------------------------------------------
    def mount(self, index: int) -> Path:
        return self.dir / "mnt" / str(index)

    def url(self) -> str:
        masters = ",".join(f"127.0.0.1:{port + self.port_offset}" for port in self.master_ports())
        return f"mooseng://{masters}/"

    def master_ports(self) -> list[int]:
        return [9421] if self.profile == "minimal" else [9421, 9422, 9423]

    def data_files(self, server: str) -> list[Path]:
        """The chunk data files that a chunkserver keeps (FORMAT.md, "Chunk data file")."""
        return sorted(path for folder in self.node(server)["data_directories"] for path in Path(folder).rglob("*.data"))

    def find_block(self, server: str, block: bytes) -> tuple[Path, int] | None:
        """The data file and offset where `server` stores this 4 KiB block."""
        for path in self.data_files(server):
            content = path.read_bytes()
            at = content.find(block)
            while at >= 0 and at % BLOCK_BYTES:
                at = content.find(block, at + 1)
            if at >= 0:
                return path, at
        return None


def flip_byte(path: Path, offset: int) -> None:
    """Change one byte on disk behind the daemon's back, past any page cache of ours."""
    fd = os.open(path, os.O_RDWR)
    try:
        (value,) = os.pread(fd, 1, offset)
        os.pwrite(fd, bytes([value ^ 0x40]), offset)
        os.fsync(fd)
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
