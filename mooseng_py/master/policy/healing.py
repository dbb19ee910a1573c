"""Which copies to drop and which to make, most endangered chunk first.

Invariants: a chunk is never left without a good copy; a copy is never made on a server that is in the write set; a
chunk gets one intent a round, because each intent changes its version.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mooseng_py.proto.cluster_pb2 import (
    ChunkState,
    ChunkTrouble,
    ClusterView,
    DropIntent,
    HealIntent,
    LeaderPolicy,
    ServerView,
)

from .weights import CHUNK_BYTES, free_bytes, takes_chunks

# What the smallest copy counts as: even an empty one costs commits, syncs and round trips.
_LEAST_COST_BYTES = 4 << 20
# Copies in the whole cluster at a time, as a multiple of those of one server.
_SERVERS_AT_ONCE = 2


def cost_bytes(chunk: ChunkState) -> int:
    """What copying `chunk` takes of the budget."""
    return max(chunk.stored_bytes, _LEAST_COST_BYTES)


@dataclass(frozen=True, slots=True)
class HealingBudget:
    """What healing may use.

    `heals_per_server`: copies that the leader makes at a time from or to one server; more slow clients down.
    `bytes_per_server`: named to the leader at a time, so that it never waits for the next round. `quiet_ms`: a large chunk
    written to more recently is left alone, unless one copy is left; a small one is copied in the time of a few writes,
    and some are never left alone for so long. `down_ms`: a server silent for longer is not waited for; shorter makes
    copies for every restart.
    """

    heals_per_server: int = 2
    bytes_per_server: int = 256 << 20
    quiet_ms: int = 1000
    down_ms: int = 10_000
    drops: int = 1000

    @classmethod
    def of(cls, *, heals_per_server: int, down_ms: int) -> HealingBudget:
        """What an operator decides; twice as much is named as can run."""
        return cls(
            heals_per_server=heals_per_server, bytes_per_server=2 * heals_per_server * CHUNK_BYTES, down_ms=down_ms
        )

    def policy(self) -> LeaderPolicy:
        """What of it the leader carries out itself."""
        return LeaderPolicy(
            heal_delay_ms=self.down_ms,
            heals_per_server=self.heals_per_server,
            heals_running=_SERVERS_AT_ONCE * self.heals_per_server,
        )


@dataclass(frozen=True, slots=True)
class HealingPlan:
    heal: list[HealIntent]
    drop: list[DropIntent]


class _Room:
    """What is left of the budget and of the disks while a plan grows."""

    def __init__(self, cluster: ClusterView, budget: HealingBudget) -> None:
        self.servers = {server.server_id: server for server in cluster.servers}
        self.bytes_per_server = budget.bytes_per_server
        self.busy_bytes: Counter[int] = Counter()
        for chunk in cluster.healing:
            self.busy_bytes[chunk.heal_target] += cost_bytes(chunk)
        self.promised_bytes: Counter[int] = Counter()

    def source(self, trouble: ChunkTrouble) -> int | None:
        """The least busy live copy."""
        able = [server for server in _good(trouble) if self._has_budget(server, trouble.chunk)]
        return min(able, key=lambda server: (self.busy_bytes[server], server), default=None)

    def target(self, chunk: ChunkState) -> int | None:
        """The least busy server outside the write set, of these the one with the most room left."""
        members = set(chunk.servers)
        able = [
            server
            for server in self.servers.values()
            if server.server_id not in members and self._has_room(server) and self._has_budget(server.server_id, chunk)
        ]
        if not able:
            return None
        return min(
            able, key=lambda server: (self.busy_bytes[server.server_id], -self._left(server), server.server_id)
        ).server_id

    def exists_target(self, members: set[int]) -> bool:
        """As `target`, without looking at how busy servers are."""
        return any(server.server_id not in members and self._has_room(server) for server in self.servers.values())

    def take(self, chunk: ChunkState, source: int, target: int) -> None:
        self.busy_bytes[source] += cost_bytes(chunk)
        self.busy_bytes[target] += cost_bytes(chunk)
        self.promised_bytes[target] += CHUNK_BYTES

    def _has_budget(self, server: int, chunk: ChunkState) -> bool:
        return self.busy_bytes[server] + cost_bytes(chunk) <= self.bytes_per_server

    def _has_room(self, server: ServerView) -> bool:
        return (
            server.up
            and server.inventory_known
            and any(map(takes_chunks, server.disks))
            and self._left(server) >= CHUNK_BYTES
        )

    def _left(self, server: ServerView) -> int:
        return free_bytes(server) - self.promised_bytes[server.server_id]


def plan_healing(cluster: ClusterView, *, budget: HealingBudget) -> HealingPlan:
    """Copies to drop and to make now. No clock, no I/O: same view, same plan."""
    plan = HealingPlan(heal=[], drop=[])
    room = _Room(cluster, budget)
    running = {chunk.id for chunk in cluster.healing}
    for trouble in sorted(cluster.troubled, key=lambda trouble: (len(_good(trouble)), trouble.chunk.id)):
        chunk = trouble.chunk
        good = _good(trouble)
        if chunk.heal_id or chunk.id in running or not good:
            continue
        busy = trouble.idle_ms < budget.quiet_ms and chunk.stored_bytes > _LEAST_COST_BYTES
        if busy and len(good) > 1:
            continue
        running.add(chunk.id)  # a chunk listed twice still gets one intent
        if (dropped := _to_drop(trouble, room, budget)) is not None:
            if len(plan.drop) < budget.drops:
                plan.drop.append(DropIntent(chunk_id=chunk.id, version=chunk.version, server_id=dropped))
        elif len(chunk.servers) < cluster.copies:
            source, target = room.source(trouble), room.target(chunk)
            if source is not None and target is not None:
                room.take(chunk, source, target)
                plan.heal.append(HealIntent(chunk_id=chunk.id, version=chunk.version, source=source, target=target))
    return plan


def _good(trouble: ChunkTrouble) -> set[int]:
    """Members of the write set whose copy can be read now."""
    return set(trouble.live).intersection(trouble.chunk.servers).difference(trouble.bad)


def _to_drop(trouble: ChunkTrouble, room: _Room, budget: HealingBudget) -> int | None:
    """The member to leave out first: a bad copy; else one on a server that is gone, once another can take its place."""
    members = set(trouble.chunk.servers)
    if bad := sorted(members.intersection(trouble.bad)):
        return bad[0]
    gone = sorted(member for member in members.difference(_good(trouble)) if _is_gone(room.servers.get(member), budget))
    return gone[0] if gone and room.exists_target(members) else None


def _is_gone(server: ServerView | None, budget: HealingBudget) -> bool:
    return server is None or (not server.up and server.last_seen_ms >= budget.down_ms)
