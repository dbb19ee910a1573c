"""One look at one source, bounded in time: a master's view over frames, a node's metrics and readiness over HTTP."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mooseng_py.asking import VIEW, ask
from mooseng_py.observe.probe import get
from mooseng_py.proto import cluster_pb2

# A paused process accepts connections and never answers: one look must not wait for it for long.
LOOK_TIMEOUT_S = 1.0
# Who reads metrics here, so that the maxima of a Prometheus stay its own.
_READER = "dashboard"

_LINE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ([^ ]+)$")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
# Series that are summed over their labels; what the dashboard does not show is not kept.
_SUMMED = frozenset(
    {
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "mooseng_node_ready",
        "mooseng_master_ops_total",
        "mooseng_master_file_bytes",
        "mooseng_master_elections_won_total",
        "mooseng_master_data_free_bytes",
        "mooseng_chunkserver_ops_total",
        "mooseng_chunkserver_read_bytes_total",
        "mooseng_chunkserver_written_bytes_total",
        "mooseng_chunkserver_copied_bytes_total",
        "mooseng_chunkserver_bad_blocks_total",
        "mooseng_chunkserver_chunks",
        "mooseng_fuse_read_bytes_total",
        "mooseng_fuse_written_bytes_total",
        "mooseng_fuse_open_files",
        "mooseng_client_dirty_bytes",
    }
)
_HEALS = "mooseng_master_heals_total"
_INFO = "mooseng_node_info"


@dataclass(frozen=True)
class NodeLook:
    """What one node says of itself. `values`: series summed over labels; `heals`: result to count; `said`: /health/ready."""

    values: Mapping[str, float]
    heals: Mapping[str, float] = field(default_factory=dict)
    role: str = ""
    version: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.values.get("mooseng_node_ready", 0.0) == 1.0

    @property
    def started(self) -> float:
        """When its process started, seconds since 1970; another value is another process."""
        return self.values.get("process_start_time_seconds", 0.0)


def look_at_master(address: str, with_sessions: bool, *, timeout_s: float = LOOK_TIMEOUT_S) -> cluster_pb2.ClusterView:
    """Raises: MooseError when it does not answer in time."""
    request = cluster_pb2.ViewRequest(with_chunks=True, with_sessions=with_sessions)
    return cluster_pb2.ClusterView.FromString(ask(address, VIEW, request.SerializeToString(), timeout_s=timeout_s))


def look_at_node(address: str, before: NodeLook | None, *, timeout_s: float = LOOK_TIMEOUT_S) -> NodeLook:
    """Metrics, and its own words where they may have changed. Raises: OSError, ValueError."""
    status, page = get(address, f"/metrics?reader={_READER}", timeout_s)
    if status != 200:
        raise ValueError(f"http://{address}/metrics answers {status}")
    found = parse_metrics(page.decode(errors="replace"))
    # /health/ready costs the node work (a mount stats itself), and says nothing new while it is ready and the same process.
    if before is not None and found.ready and before.ready and before.started == found.started:
        said: Mapping[str, Any] = before.said
    else:
        _, body = get(address, "/health/ready", timeout_s)
        answer = json.loads(body)
        said = answer if isinstance(answer, dict) else {}
    return NodeLook(found.values, found.heals, found.role, found.version, said)


def parse_metrics(text: str) -> NodeLook:
    """The series that the dashboard shows, of a page in Prometheus' text format; other lines are passed over."""
    values: dict[str, float] = defaultdict(float)
    heals: dict[str, float] = {}
    info: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#") or (match := _LINE.match(line)) is None:
            continue
        name, labels, number = match[1], match[2] or "", match[3]
        try:
            if name in _SUMMED:
                values[name] += float(number)
            elif name == _HEALS:
                heals[dict(_LABEL.findall(labels)).get("result", "")] = float(number)
            elif name == _INFO:
                info = dict(_LABEL.findall(labels))
        except ValueError:
            continue
    role = info.get("role", "")
    return NodeLook(dict(values), heals, "client" if role == "mount" else role, info.get("version", ""))
