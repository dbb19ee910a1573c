"""`mooseng chunkserver`: keeps chunks and serves their bytes; all of that is native. Ready = registered with the leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mooseng_py.config import ChunkserverConfig
from mooseng_py.daemon.lifecycle import Role, run, start_node
from mooseng_py.observe.probe import Answer


def readiness(config: ChunkserverConfig, status: dict[str, Any]) -> Answer:
    """Judge the native status."""
    details = {"server_id": config.server_id, "leader": status.get("leader", ""), "epoch": status.get("epoch", 0)}
    if status["registered"]:
        return Answer(True, f"registered with {status['leader']}", details)
    return Answer(False, str(status["state"]), details)


ROLE = Role(model=ChunkserverConfig, start=start_node, readiness=readiness, stop_timeout_s=13.0)


def main(arguments: Sequence[str]) -> int:
    return run(ROLE, arguments)
