"""The settings of each role. What a value does when it is too small or too large stands in its description.

Values only: nothing here opens a file, a port or a directory.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .limits import LIMITS

_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$")


def _address(value: str) -> str:
    match = _ADDRESS.match(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError("host:port with a port within 1-65535")
    return value


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("a list without repeats")
    return values


Address = Annotated[str, AfterValidator(_address)]
Masters = Annotated[list[Address], Field(min_length=1), AfterValidator(_distinct)]


def _number(role: str, name: str, description: str, *, most: int | None = None, default: int | None = None) -> Any:
    """A number that the native side checks too: that says what it may be. `most`, `default`: of a daemon's own."""
    least, bound, usual = LIMITS[role][name]
    usual = usual if default is None else default
    return Field(
        default=... if usual is None else usual, ge=least, le=bound if most is None else most, description=description
    )


class DaemonConfig(BaseModel):
    """What every daemon has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # Which daemon this is; the file's `role` key must say the same.
    role: ClassVar[str]

    name: str = Field(default="", description="Name of this node in logs and views; empty: role and id.")
    cluster_id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="The cluster this node belongs to. Data and peers of another cluster are refused. "
        "Empty: take what the data directory or the masters say; a master must be told.",
    )
    http_listen: Address = Field(
        default="127.0.0.1:9440",
        description="Where /health/live, /health/ready and /metrics are served. No authentication: keep it off public networks.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Lines for people, or one JSON object a line."
    )
    log_level: Literal["error", "warn", "info", "debug", "trace"] = Field(
        default="info", description="Least severe level that is logged. debug and trace slow the data path down."
    )


class MasterConfig(DaemonConfig):
    """A master: one voter of the Raft group that keeps the name space."""

    role: ClassVar[str] = "master"

    node_id: int = _number(
        "master",
        "node_id",
        "This master's id within `peers`. Never give a used id to another machine.",
    )
    listen: Address = Field(
        default="127.0.0.1:9421", description="Where clients, chunkservers and other masters connect."
    )
    advertise: Address | None = Field(default=None, description="How others reach `listen`; default: the same.")
    peers: dict[str, Address] = Field(
        default_factory=dict, description="All masters, id to host:port, this one included. Empty: a group of one."
    )
    grpc_listen: Address = Field(
        default="127.0.0.1:9431", description="Where gRPC (Cluster, NameSpace, health, reflection) is served."
    )
    data_dir: str = Field(
        min_length=1, description="Directory of the log, the vote and the snapshots. A fast, durable disk."
    )
    copies: int = _number(
        "master",
        "copies",
        "Copies of each chunk. Fewer: a dead disk loses data; more: each write costs more.",
    )
    min_copies: int = _number(
        "master",
        "min_copies",
        "Copies that a write needs. 1: an acknowledged write may have one copy; = copies: one dead server stops writes.",
    )
    inline_limit_bytes: int = _number(
        "master",
        "inline_limit_bytes",
        "Files up to this size lie in the master's memory. Too large: masters run out of memory; 0: each file takes a chunk.",
    )
    heartbeat_ms: int = _number(
        "master",
        "heartbeat_ms",
        "Leader to follower. Too small: idle load; above election_min_ms / 2: leaders fall for nothing.",
    )
    election_min_ms: int = _number(
        "master",
        "election_min_ms",
        "Silence before a master may stand for election. Too small: a busy machine elects for nothing.",
    )
    election_max_ms: int = _number(
        "master",
        "election_max_ms",
        "Longest such silence, and the leader's lease. Too large: writers stall that long when the leader dies.",
    )
    snapshot_every: int = _number(
        "master",
        "snapshot_every",
        "Log entries between snapshots. Too small: constant writing; too large: long log, slow restart.",
    )
    segment_bytes: int = _number(
        "master",
        "segment_bytes",
        "Size of a log file. Too small: many files; too large: disk space bound for nothing.",
    )
    session_timeout_ms: int = _number(
        "master",
        "session_timeout_ms",
        "A silent client's session ends after this. Too small: a paused client loses its open files; too large: deleted data stays.",
    )
    server_timeout_ms: int = _number(
        "master",
        "server_timeout_ms",
        "A silent chunkserver counts as down after this. Too small: needless healing; too large: late healing.",
    )
    plan_interval_ms: int = Field(
        default=500,
        ge=50,
        le=60_000,
        description="Between two rounds of the planners on the leader. Too large: lost copies are made late.",
    )
    heal_delay_ms: int = Field(
        default=10_000,
        ge=1000,
        le=86_400_000,
        description="A chunkserver down for longer is not waited for: its copies are made elsewhere. Too small: each restart moves data.",
    )
    heals_per_server: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Copies being made at a time from or to one chunkserver, half of those in the whole cluster. Too small: slow repair; too large: healing slows clients down.",
    )
    orphan_delay_s: int = Field(
        default=60,
        ge=5,
        le=86_400,
        description="Age at which a chunk that belongs to no file is deleted. Too small: a chunk just made may look unused.",
    )

    @property
    def advertised(self) -> str:
        """How others reach this master's frames port."""
        return self.advertise or self.listen

    @model_validator(mode="after")
    def _consistent(self) -> MasterConfig:
        if self.min_copies > self.copies:
            raise ValueError(f"min_copies = {self.min_copies} exceeds copies = {self.copies}; it must be at most that")
        if self.election_min_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"election_min_ms = {self.election_min_ms} must be at least twice heartbeat_ms = {self.heartbeat_ms}"
            )
        if self.election_max_ms <= self.election_min_ms:
            raise ValueError(
                f"election_max_ms = {self.election_max_ms} must exceed election_min_ms = {self.election_min_ms}"
            )
        for key in self.peers:
            if not (key.isascii() and key.isdigit() and 1 <= int(key) <= 255):
                raise ValueError(f"peers has the id {key!r}; ids are numbers within 1-255")
        if self.peers and str(self.node_id) not in self.peers:
            raise ValueError(
                f"peers lacks this master's own node_id = {self.node_id}; it has {', '.join(sorted(self.peers))}"
            )
        if self.peers and self.peers[str(self.node_id)] != self.advertised:
            raise ValueError(
                f"peers says {self.peers[str(self.node_id)]} of this master, advertise says {self.advertised}; both must be the same"
            )
        if not self.cluster_id:
            raise ValueError("cluster_id is empty; give all nodes of the cluster the same one")
        return self


class ChunkserverConfig(DaemonConfig):
    """A chunkserver: keeps chunks in its data directories and serves their bytes."""

    role: ClassVar[str] = "chunkserver"

    server_id: int = _number(
        "chunkserver",
        "server_id",
        "This server's id. It lies on its disks: never give a used id to another machine.",
    )
    masters: Masters = Field(description="Frames addresses of all masters, host:port.")
    listen: Address = Field(default="127.0.0.1:9420", description="Where clients and other chunkservers connect.")
    advertise: Address | None = Field(default=None, description="How others reach `listen`; default: the same.")
    disks: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)] = Field(
        description="Data directories, one per disk. Two on one disk gain nothing."
    )
    heartbeat_ms: int = _number(
        "chunkserver",
        "heartbeat_ms",
        "To the leader. Must stay well below the masters' server_timeout_ms, or the server counts as down.",
    )
    direct_io: Literal["auto", "on", "off"] = Field(
        default="auto", description="O_DIRECT for large writes. auto: where a probe of the disk shows that it wins."
    )
    reserve_bytes: int = _number(
        "chunkserver",
        "reserve_bytes",
        "Left free on each disk, at most a twentieth of it. Too small: the disk fills up and its file system slows down or fails.",
    )
    scrub_mb_s: int = _number(
        "chunkserver",
        "scrub_mb_s",
        "Rate at which stored blocks are checked. 0: never, so rot is found only when read; too large: clients wait.",
    )
    payload_budget_bytes: int = _number(
        "chunkserver",
        "payload_budget_bytes",
        "Chunk bytes of requests and of replies in memory at a time, half for each. Too small: writers wait for each other; too large: many writers before a stalled disk take the machine's memory.",
    )

    @property
    def advertised(self) -> str:
        """How others reach this server's frames port."""
        return self.advertise or self.listen


class ClientSettings(BaseModel):
    """The client engine, as the mount and the SDK use it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    masters: Masters = Field(description="Frames addresses of all masters, host:port.")
    deadline_ms: int = _number(
        "client",
        "deadline_ms",
        "An operation is retried this long before EIO. Too small: a leader's fail-over shows as errors; too large: programs hang.",
    )
    read_ahead_bytes: int = _number(
        "client",
        "read_ahead_bytes",
        "Fetched ahead of a sequential reader. 0: each read waits for the network; too large: memory per open file.",
    )
    write_window_bytes: int = _number(
        "client",
        "write_window_bytes",
        "Written but not yet committed, per open file. Too small: a stream commits often and waits; too large: memory, and long closes.",
    )
    atime: Literal["relatime", "noatime", "strictatime"] = Field(
        default="relatime",
        description="When reading moves the time of access, as the options of mount(8). strictatime: a commit a second while somebody reads.",
    )


class MountConfig(ClientSettings, DaemonConfig):
    """A FUSE client."""

    role: ClassVar[str] = "mount"

    mount_point: str = Field(default="", description="Directory to mount on. Empty: the engine runs without a mount.")
    allow_other: bool = Field(
        default=True, description="Other users may use the mount. Needs root, or user_allow_other in /etc/fuse.conf."
    )
    account_groups: bool = Field(
        default=False,
        description="Supplementary groups are those that this machine's account database gives a user, not those of the asking process: for processes of other pid name spaces, whose own cannot be seen.",
    )
    threads: int = _number(
        "mount",
        "threads",
        "Threads that take requests from the kernel. More than cores gains little.",
    )


class DashboardConfig(ClientSettings, DaemonConfig):
    """The web dashboard: shows a cluster and its files, changes nothing."""

    role: ClassVar[str] = "dashboard"

    http_listen: Address = Field(
        default="127.0.0.1:8080",
        description="Where pages, /health and /metrics are served. No authentication: who reaches it sees the cluster, and reads what this process may read.",
    )
    deadline_ms: int = _number(
        "client",
        "deadline_ms",
        "A listing or read is retried this long. Too small: a fail-over shows as errors; too large: pages hang.",
        default=5000,
        most=60_000,
    )
    read_ahead_bytes: int = _number(
        "client",
        "read_ahead_bytes",
        "Fetched ahead of each download: its speed, and its memory.",
        default=4 << 20,
    )
    nodes: dict[str, Address] = Field(
        default_factory=dict,
        description="Node name to its http_listen, as seen from here, for rates and readiness. Empty: only what masters know is shown.",
    )
    poll_ms: int = Field(
        default=2000,
        ge=250,
        le=60_000,
        description="Between two looks at the cluster, however many pages are open. Too small: load; too large: old figures.",
    )
    browse: bool = Field(
        default=True, description="Serve listings and contents of files. Off: only the cluster's state."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names with dots under which browsers may ask, as behind a proxy. Addresses and plain names always may; others are refused, or a foreign web site could read along.",
    )


MODELS: dict[str, type[DaemonConfig]] = {
    model.role: model for model in (MasterConfig, ChunkserverConfig, MountConfig, DashboardConfig)
}


def schema_of(model: type[BaseModel], key: str) -> dict[str, Any]:
    """The JSON schema of one field; that of the value where None is allowed too."""
    schema: dict[str, Any] = model.model_json_schema()["properties"][key]
    return next((option for option in schema.get("anyOf", ()) if option.get("type") != "null"), schema)


_KINDS = {
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "a text",
    "array": "a list of texts",
    "object": 'a table of names or ids, each = "host:port"',
}


def allowed(model: type[BaseModel], key: str) -> str:
    """What `key` may be, in words, for an error message."""
    schema = schema_of(model, key)
    if "enum" in schema:
        return "one of " + ", ".join(repr(value) for value in schema["enum"])
    words = _KINDS[schema["type"]]
    if "minimum" in schema and "maximum" in schema:
        words += f" within {schema['minimum']}-{schema['maximum']}"
    if "pattern" in schema:
        words += f" matching {schema['pattern']}"
    return words
