"""A cluster as an operator handles it, however its nodes are run: what differs is abstract here, all else is the same.

Never reaches into a daemon and never invents a result.
"""

import abc
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mooseng_py.demo.watch import run_mooseng, wait_until

BLOCK_BYTES = 4096


class Operated(abc.ABC):
    """Nine nodes (or fewer) that can be started, broken, looked at and used."""

    # ---- what differs ---------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def up(self) -> float:
        """Everything runs, for the first time or again; the seconds until it was ready."""

    @abc.abstractmethod
    def down(self) -> None:
        """Stop everything."""

    @abc.abstractmethod
    def nodes(self) -> list[dict[str, Any]]:
        """Of each node: name, role, pid on this machine, state ("ready" when it does its work), data_directories."""

    @abc.abstractmethod
    def crash(self, name: str) -> None:
        """Kill the node's process (-9). Who watches over it may start it again."""

    @abc.abstractmethod
    def kill(self, name: str) -> None:
        """Kill the node's process (-9); it stays away until `restart`."""

    @abc.abstractmethod
    def restart(self, name: str) -> None:
        """The node runs again, and is ready."""

    @abc.abstractmethod
    def mount(self, index: int) -> Path:
        """Where the mount of client `index` lies on this machine."""

    @abc.abstractmethod
    def masters(self) -> str:
        """host:port,... at which the masters' frames ports answer on this machine."""

    @abc.abstractmethod
    def sdk_digests(self, paths: Iterable[str]) -> dict[str, str]:
        """SHA-256 of these files as the Python SDK reads them."""

    @property
    @abc.abstractmethod
    def logs(self) -> str:
        """Where the nodes' logs are when all is over."""

    # ---- its nodes ------------------------------------------------------------------------------------------------
    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.nodes() if node["name"] == name)

    def names(self, role: str) -> list[str]:
        return [node["name"] for node in self.nodes() if node["role"] == role]

    def kill_everything(self) -> None:
        """Every process, from outside and at once."""
        for node in self.nodes():
            if node["pid"]:  # 0 would be everything of our own process group
                os.kill(int(node["pid"]), signal.SIGKILL)

    # ---- what it says of itself -----------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """`mooseng status --json`: the cluster as its leader sees it."""
        answer: dict[str, Any] = json.loads(run_mooseng("status", "--masters", self.masters(), "--json"))
        return answer

    def info(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run_mooseng("info", path, "--masters", self.masters(), "--json"))
        return answer

    def leader(self) -> str:
        """Name of the leading master; "master-0" when none leads."""
        return f"master-{int(self.status()['leader_id'])}"

    def wait_for_leader(self, other_than: str | None = None, timeout_s: float = 15) -> str:
        def found() -> str | None:
            leader = self.leader()
            return leader if leader not in ("master-0", other_than) else None

        return wait_until("a new leader", found, timeout_s) or ""

    def wait_for_election(self, after_term: int, timeout_s: float = 15) -> str:
        """The leader of a later term than `after_term`."""

        def found() -> str | None:
            status = self.status()
            leads = int(status["leader_id"]) > 0 and int(status["term"]) > after_term
            return f"master-{int(status['leader_id'])}" if leads else None

        return wait_until(f"a leader in a later term than {after_term}", found, timeout_s) or ""

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

    # ---- what it stores -------------------------------------------------------------------------------------------
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
