"""`mooseng master`: a voter of the Raft group. Ready = it knows a leader, and if it is the leader, it serves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mooseng_py.config import MasterConfig
from mooseng_py.daemon.lifecycle import Part, Role, run, start_node
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer

if TYPE_CHECKING:
    from mooseng_py.native import NativeObject


# Holds this master at an older cluster level, to try how masters of two releases agree. For tests; no setting.
_LEVEL = "MOOSENG_LEVEL"


def start(config: MasterConfig) -> NativeObject:
    """The native node. Raises: MooseError."""
    held = os.environ.get(_LEVEL)
    # What is no number is out of bounds, which the node says.
    return start_node(config, {} if held is None else {"level": int(held) if held.isdecimal() else 0})


def readiness(config: MasterConfig, status: dict[str, Any]) -> Answer:
    """Judge the native status."""
    details = {key: status.get(key) for key in ("is_leader", "leader", "leader_id", "term", "snapshot_trouble")} | {
        "node_id": config.node_id
    }
    if status["failed"]:
        return Answer(False, status["failed"], details)
    if status["outdated"]:
        return Answer(False, status["outdated"], details)
    if status["is_leader"] and status["ready"]:
        return Answer(True, f"leads in term {status['term']}", details)
    if status["leader"] and status["ready"] and status["leader_id"] != config.node_id:
        return Answer(True, f"follows {status['leader']} in term {status['term']}", details)
    if status["leader_id"] == config.node_id:
        return Answer(False, "leads, but does not serve yet", details)
    return Answer(False, status["no_leader"] or "knows no leader; is a majority of the masters running?", details)


def start_anew(status: dict[str, Any]) -> str:
    """A master whose directory turned out to be an older copy begins again without it."""
    return status["outdated"] or ""


def failed(status: dict[str, Any]) -> str:
    """A log, a vote or a state that failed once is never tried again: only a new start reads what is on the disk."""
    return status["failed"] or ""


def parts(config: MasterConfig, node: NativeObject, log: Log) -> list[Part]:
    """gRPC and the planners' loop; their libraries are loaded now, while the native node finds its peers."""
    from mooseng_py.native import Node

    from .loop import PlannerLoop
    from .rpc import RpcServer
    from .space import DataDirectory

    if not isinstance(node, Node):
        raise TypeError("a master runs a native node")
    return [
        RpcServer(config.grpc_listen, node, lambda: readiness(config, node.status()).good),
        PlannerLoop(config, node, log),
        DataDirectory(config.data_dir),
    ]


ROLE = Role(
    model=MasterConfig,
    start=start,
    readiness=readiness,
    stop_timeout_s=9.0,
    parts=parts,
    start_anew=start_anew,
    failed=failed,
)


def main(arguments: Sequence[str]) -> int:
    return run(ROLE, arguments)
