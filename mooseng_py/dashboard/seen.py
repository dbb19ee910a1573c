"""What the dashboard knows at one moment, and since when: values that never change once made, shared by all requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from mooseng_py.proto import cluster_pb2

from .events import Event, Facts
from .rates import Point
from .sources import NodeLook

WhatT = TypeVar("WhatT")


@dataclass(frozen=True)
class Seen(Generic[WhatT]):
    """The last good answer of a source, and how it does now. Times are of the monotonic clock."""

    what: WhatT | None = None
    at_s: float = 0.0
    error: str = ""
    failing_since_s: float | None = None

    @property
    def answers(self) -> bool:
        """It answered when it was last asked."""
        return self.what is not None and self.failing_since_s is None

    def good(self, what: WhatT, at_s: float) -> Seen[WhatT]:
        return Seen(what, at_s)

    def failed(self, error: str, at_s: float) -> Seen[WhatT]:
        since = at_s if self.failing_since_s is None else self.failing_since_s
        return replace(self, error=error, failing_since_s=since)

    def age_ms(self, now_s: float) -> int | None:
        """Of the last good answer; None when there never was one."""
        return None if self.what is None else max(0, int((now_s - self.at_s) * 1000))


@dataclass(frozen=True)
class Snapshot:
    """Everything that was seen.

    `led`: the newest answer of a master that led, the only one to know disks and danger. `sessions`: by number, as the
    master tells that was asked for them.
    """

    began_ms: int = 0
    looks: int = 0
    masters: Mapping[str, Seen[cluster_pb2.ClusterView]] = field(default_factory=dict)
    nodes: Mapping[str, Seen[NodeLook]] = field(default_factory=dict)
    led: Seen[cluster_pb2.ClusterView] = Seen()
    sessions: Seen[Mapping[int, cluster_pb2.SessionView]] = Seen()
    rates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    history: tuple[Point, ...] = ()
    # Newest first.
    events: tuple[Event, ...] = ()

    def newest(self) -> Seen[cluster_pb2.ClusterView]:
        """Of the masters' answers the one to believe: of those that answer now, the newest term, the leader's own."""
        known = [seen for seen in self.masters.values() if seen.what is not None]
        if not known:
            return Seen()
        now = [seen for seen in known if seen.answers] or [max(known, key=lambda seen: seen.at_s)]
        return max(now, key=lambda seen: (seen.what.term, seen.what.is_leader) if seen.what else (0, False))

    @property
    def heard_s(self) -> float | None:
        """When any master last answered."""
        times = [seen.at_s for seen in self.masters.values() if seen.what is not None]
        return max(times) if times else None


def master_name(number: int) -> str:
    return f"master-{number}"


def server_name(number: int) -> str:
    return f"chunkserver-{number}"


def master_addresses(snapshot: Snapshot) -> dict[str, int]:
    """Frames address to node id, as the masters themselves say."""
    view = snapshot.newest().what
    return {master.address: master.node_id for master in view.masters} if view else {}


def facts(snapshot: Snapshot) -> Facts:
    """What the last look showed. Sources that did not answer it give nothing, save that they did not."""
    newest, led = snapshot.newest(), snapshot.led
    numbers = master_addresses(snapshot)
    view = newest.what if newest.answers else None
    fresh = led.what if led.answers else None
    told = snapshot.sessions.what if snapshot.sessions.answers else None
    looks = {name: seen.what for name, seen in snapshot.nodes.items() if seen.what is not None and seen.answers}
    leader = None if view is None else (master_name(view.leader_id) if view.leader_id and view.leader else "")
    return Facts(
        leader=leader,
        term=view.term if view else 0,
        masters={
            master_name(numbers[address]) if address in numbers else address: seen.answers
            for address, seen in snapshot.masters.items()
        },
        servers={server_name(server.server_id): server.up for server in view.servers} if view else {},
        disks={
            f"{server_name(server.server_id)} {disk.path}": (disk.condition == cluster_pb2.DISK_OK, disk.state)
            for server in (fresh.servers if fresh else ())
            for disk in server.disks
        },
        clients={
            name: bool(seen.answers and seen.what and seen.what.ready)
            for name, seen in snapshot.nodes.items()
            if seen.what is not None and seen.what.role == "client"
        },
        processes={name: look.started for name, look in looks.items()},
        sessions={number: session.name for number, session in told.items()} if told is not None else None,
        under_replicated=fresh.under_replicated if fresh else None,
        missing=fresh.missing if fresh else None,
        healing=fresh.heals_running if fresh else None,
        heals={name: look.heals for name, look in looks.items() if look.heals},
        bad_blocks={
            name: look.values["mooseng_chunkserver_bad_blocks_total"]
            for name, look in looks.items()
            if "mooseng_chunkserver_bad_blocks_total" in look.values
        },
    )
