"""Copies that belong to no chunk of the committed table, and may go."""

from __future__ import annotations

from mooseng_py.proto.cluster_pb2 import ClusterView, DeleteIntent

# Per round: a delete is a small disk write on the server, and the next round comes soon.
_MOST_PER_ROUND = 1000


def plan_deletion(cluster: ClusterView, *, delay_ms: int) -> list[DeleteIntent]:
    """Orphans known for longer than `delay_ms`, oldest first.

    The delay covers what is legal for a moment: a chunk written on its servers, its grant still on the way.
    """
    old = [orphan for orphan in cluster.orphans if orphan.age_ms > delay_ms]
    old.sort(key=lambda orphan: (-orphan.age_ms, orphan.server_id, orphan.chunk_id))
    return [
        DeleteIntent(server_id=orphan.server_id, chunk_id=orphan.chunk_id, version=orphan.version)
        for orphan in old[:_MOST_PER_ROUND]
    ]
