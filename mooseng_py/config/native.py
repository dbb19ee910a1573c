"""Settings in the words of the native nodes: the JSON that `Node` and `Client` take."""

from __future__ import annotations

from typing import Any

from .models import ChunkserverConfig, ClientSettings, DaemonConfig, MasterConfig, MountConfig


def node_settings(config: DaemonConfig) -> dict[str, Any]:
    """What the native node of this role is started with."""
    if isinstance(config, MasterConfig):
        return _master(config)
    if isinstance(config, ChunkserverConfig):
        return _chunkserver(config)
    if isinstance(config, MountConfig):
        return client_settings(config, name=config.name or "mount", cluster_id=config.cluster_id) | {
            "mount_point": config.mount_point,
            "allow_other": config.allow_other,
            "account_groups": config.account_groups,
            "threads": config.threads,
        }
    raise TypeError(f"{type(config).__name__} is not the configuration of a daemon")


def client_settings(config: ClientSettings, *, name: str, cluster_id: str = "") -> dict[str, Any]:
    """What the native client engine is opened with. `name` shows up in the list of sessions."""
    return {
        "cluster_id": cluster_id,
        "masters": list(config.masters),
        "name": name,
        "deadline_ms": config.deadline_ms,
        "read_ahead_bytes": config.read_ahead_bytes,
        "write_window_bytes": config.write_window_bytes,
        "atime": config.atime,
        "mount_point": "",
    }


def _master(config: MasterConfig) -> dict[str, Any]:
    return {
        "cluster_id": config.cluster_id,
        "node_id": config.node_id,
        "listen": config.listen,
        "advertise": config.advertised,
        "peers": config.peers or {str(config.node_id): config.advertised},
        "data_dir": config.data_dir,
        "copies": config.copies,
        "min_copies": config.min_copies,
        "inline_limit_bytes": config.inline_limit_bytes,
        "heartbeat_ms": config.heartbeat_ms,
        "election_min_ms": config.election_min_ms,
        "election_max_ms": config.election_max_ms,
        "snapshot_every": config.snapshot_every,
        "segment_bytes": config.segment_bytes,
        "session_timeout_ms": config.session_timeout_ms,
        "server_timeout_ms": config.server_timeout_ms,
    }


def _chunkserver(config: ChunkserverConfig) -> dict[str, Any]:
    return {
        "cluster_id": config.cluster_id,
        "server_id": config.server_id,
        "masters": list(config.masters),
        "listen": config.listen,
        "advertise": config.advertised,
        "disks": list(config.disks),
        "heartbeat_ms": config.heartbeat_ms,
        "direct_io": config.direct_io,
        "reserve_bytes": config.reserve_bytes,
        "scrub_mb_s": config.scrub_mb_s,
        "payload_budget_bytes": config.payload_budget_bytes,
    }
