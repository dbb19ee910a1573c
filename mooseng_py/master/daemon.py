"""`mooseng master`: a voter of the Raft group. Ready = it knows a leader, and if it is the leader, it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mooseng_py.config import MasterConfig
from mooseng_py.daemon.lifecycle import Part, Role, run
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer

if TYPE_CHECKING:
    from mooseng_py.native import Node


def readiness(config: MasterConfig, status: dict[str, Any]) -> Answer:
    """Judge the native status."""
    details = {key: status.get(key) for key in ("is_leader", "leader", "leader_id", "term")} | {
        "node_id": config.node_id
    }
    if status.get("is_leader"):
        if status.get("ready"):
            return Answer(True, f"leads in term {status['term']}", details)
        return Answer(False, "leads, but has not caught up with the log yet", details)
    if status.get("leader"):
        return Answer(True, f"follows {status['leader']} in term {status['term']}", details)
    return Answer(False, "knows no leader; is a majority of the masters running?", details)


def parts(config: MasterConfig, node: Node, log: Log) -> list[Part]:
    """gRPC and the planners' loop; their libraries are loaded now, while the native node finds its peers."""
    from .loop import PlannerLoop
    from .rpc import RpcServer

    return [
        RpcServer(config.grpc_listen, node, lambda: readiness(config, node.status()).good),
        PlannerLoop(config, node, log),
    ]


ROLE = Role(model=MasterConfig, native_role="master", readiness=readiness, stop_timeout_s=9.0, parts=parts)


def main(arguments: Sequence[str]) -> int:
    return run(ROLE, arguments)
