"""How many of the new chunks each chunkserver should get. The draw itself happens inside the state machine."""

from __future__ import annotations

from mooseng_py.proto.cluster_pb2 import DISK_OK, ClusterView, DiskStatus, ServerView, ServerWeight

# Weight of the server with the most room; others get their share of it.
FULL_WEIGHT = 100
# Changes below this are not worth a log entry: free space moves all the time.
_STEP = 10
# A disk takes chunks while a whole one fits.
CHUNK_BYTES = 64 << 20


def free_bytes(server: ServerView) -> int:
    """Room for chunks on the disks of `server` that take any."""
    return sum(disk.free_bytes for disk in server.disks if takes_chunks(disk))


def takes_chunks(disk: DiskStatus) -> bool:
    return disk.condition == DISK_OK and disk.free_bytes >= CHUNK_BYTES


def plan_weights(cluster: ClusterView) -> list[ServerWeight]:
    """Weights that should change, by server id: in proportion to free space, 0 where nothing fits.

    A server that is down keeps its weight: the draw leaves it out anyway, and it comes back as it was. So does one
    whose disks this leader has not heard of yet: unknown is not full.
    """
    room = {server.server_id: free_bytes(server) for server in cluster.servers if server.up and server.disks}
    most = max(room.values(), default=0)
    changes = []
    for server in sorted(cluster.servers, key=lambda server: server.server_id):
        if server.server_id not in room:
            continue
        free = room[server.server_id]
        wanted = max(1, round(FULL_WEIGHT * free / most)) if free else 0
        if _worth_a_change(server.weight, wanted):
            changes.append(ServerWeight(server_id=server.server_id, weight=wanted))
    return changes


def _worth_a_change(weight: int, wanted: int) -> bool:
    return (weight == 0) != (wanted == 0) or abs(weight - wanted) >= _STEP
