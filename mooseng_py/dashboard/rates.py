"""From counters at two moments to rates, and the last minutes of them. Pure: time comes in as numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

# What is drawn: key to the counter behind it. Sums over all nodes that export it.
SERIES: dict[str, str] = {
    "read_bytes": "mooseng_chunkserver_read_bytes_total",
    "written_bytes": "mooseng_chunkserver_written_bytes_total",
    "name_ops": "mooseng_master_ops_total",
    "chunk_ops": "mooseng_chunkserver_ops_total",
    "copied_bytes": "mooseng_chunkserver_copied_bytes_total",
    "mount_read_bytes": "mooseng_fuse_read_bytes_total",
    "mount_written_bytes": "mooseng_fuse_written_bytes_total",
    "cpu_seconds": "process_cpu_seconds_total",
}
# Five minutes at the default pace.
HISTORY = 150


@dataclass(frozen=True)
class Counters:
    """One node's counters at a moment of the monotonic clock. `started`: which process counted."""

    at_s: float
    started: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """The cluster's rates at one moment (milliseconds since 1970). A series is absent while no node gave it."""

    at_ms: int
    rates: Mapping[str, float]
    nodes: int


def per_second(before: Counters, now: Counters) -> dict[str, float]:
    """Growth per second of each series. What a new process counted since its start counts as grown."""
    span_s = now.at_s - before.at_s
    if span_s <= 0:
        return {}
    found: dict[str, float] = {}
    for key, name in SERIES.items():
        if name in now.values and (now.started != before.started or name in before.values):
            fresh = now.started != before.started or now.values[name] < before.values[name]
            found[key] = (now.values[name] - (0.0 if fresh else before.values[name])) / span_s
    return found


@dataclass
class Rates:
    """Fed with what each look found; keeps the rates of each node and the sums of the last minutes."""

    last: dict[str, Counters] = field(default_factory=dict)
    nodes: dict[str, dict[str, float]] = field(default_factory=dict)
    history: deque[Point] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def add(self, at_ms: int, found: Mapping[str, Counters]) -> None:
        """`found`: the nodes that answered this time. A node that did not is left out of the sums, not taken for idle."""
        self.nodes = {
            name: per_second(self.last[name], counters) for name, counters in found.items() if name in self.last
        }
        self.last.update(found)
        sums: dict[str, float] = {}
        for rates in self.nodes.values():
            for key, value in rates.items():
                sums[key] = sums.get(key, 0.0) + value
        if self.nodes:
            self.history.append(Point(at_ms, sums, len(self.nodes)))
