"""A cluster as a value: nodes, ports, data directories. Starts nothing, reads nothing, imports neither pulumi nor native code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The dashboard stands beside the nodes of a cluster; a `ClusterSpec` never holds one.
Role = Literal["master", "chunkserver", "client", "dashboard"]
PortKind = Literal["frames", "grpc", "http"]

# The `mooseng` sub-command that runs a node of each role.
COMMANDS: dict[Role, str] = {
    "master": "master",
    "chunkserver": "chunkserver",
    "client": "mount",
    "dashboard": "dashboard",
}
# Seconds from SIGTERM to SIGKILL, longer than a clean stop takes: a client flushes, a master hands the leadership over.
STOP_GRACE_S: dict[Role, int] = {"master": 10, "chunkserver": 15, "client": 20, "dashboard": 10}


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one node. `frames`: clients, chunkservers and Raft peers; a client listens on `http` only."""

    http: int
    frames: int | None = None
    grpc: int | None = None

    def items(self) -> list[tuple[PortKind, int]]:
        """The ports that this node listens on, by kind."""
        found: list[tuple[PortKind, int]] = [("http", self.http)]
        if self.frames is not None:
            found.append(("frames", self.frames))
        if self.grpc is not None:
            found.append(("grpc", self.grpc))
        return found


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node. `index` counts from 1 within its role and is its Raft or server id."""

    name: str
    role: Role
    index: int
    hostname: str
    ports: Ports
    # Relative to the node's own directory; a client has none.
    data_directories: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The `mooseng` sub-command that runs this node."""
        return COMMANDS[self.role]

    @property
    def stop_grace_s(self) -> int:
        """How long a clean stop may take."""
        return STOP_GRACE_S[self.role]

    def arguments(self, config_file: str) -> tuple[str, ...]:
        """The command line of the daemon, after the `mooseng` executable."""
        return (self.command, "--config", config_file)

    def health_command(self, config_file: str, *, ready: bool = True) -> tuple[str, ...]:
        """Exit code 0 when the node is ready (or, with `ready` false, merely alive)."""
        return ("mooseng", "health", "--ready" if ready else "--live", "--config", config_file)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The nodes of one cluster and how many copies its chunks have.

    Raises: ValueError when names or ports repeat, a role is missing, or there are fewer chunkservers than copies.
    """

    profile: str
    nodes: tuple[NodeSpec, ...]
    copies: int
    min_copies: int

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"node names repeat in {names}; each node needs its own")
        taken: dict[int, str] = {}
        for node in self.nodes:
            for kind, port in node.ports.items():
                if not 1 <= port <= 65535:
                    raise ValueError(
                        f"{node.name}'s {kind} port {port} is not within 1-65535; choose another port offset"
                    )
                if port in taken:
                    raise ValueError(f"{node.name} and {taken[port]} both want port {port}; give one of them another")
                taken[port] = node.name
        if not self.masters:
            raise ValueError("a cluster needs at least one master")
        if not 1 <= self.min_copies <= self.copies <= len(self.chunkservers):
            raise ValueError(
                f"copies={self.copies}, min_copies={self.min_copies} do not fit {len(self.chunkservers)} chunkservers; "
                "1 <= min_copies <= copies <= chunkservers must hold"
            )

    @property
    def masters(self) -> tuple[NodeSpec, ...]:
        return self._of("master")

    @property
    def chunkservers(self) -> tuple[NodeSpec, ...]:
        return self._of("chunkserver")

    @property
    def clients(self) -> tuple[NodeSpec, ...]:
        return self._of("client")

    def node(self, name: str) -> NodeSpec:
        """The node called `name`. Raises: KeyError with a sentence that lists the names."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"there is no node {name!r}; the nodes are {', '.join(node.name for node in self.nodes)}")

    def _of(self, role: Role) -> tuple[NodeSpec, ...]:
        return tuple(node for node in self.nodes if node.role == role)
