"""Every metric of MooseNG: name, kind, unit, help. Code, documentation and checks take them from here and nowhere else.

A `summary` is exported by native code as NAME_sum and NAME_count. A metric that is not listed is a failing test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as exported, with unit and, for counters, `_total`."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()


_ALL = [
    # ---- every daemon (Python)
    Metric(
        "mooseng_node_info", "gauge", "", "Always 1; which node answers, in its labels.", ("role", "name", "version")
    ),
    Metric("mooseng_node_ready", "gauge", "", "1 when /health/ready says yes."),
    # ---- planners, on the leader (Python)
    Metric("mooseng_planner_rounds_total", "counter", "", "Rounds planned while this master led."),
    Metric(
        "mooseng_planner_failures_total", "counter", "", "Rounds that ended with an error; the next one tries again."
    ),
    Metric("mooseng_planner_intents_total", "counter", "", "Intents sent to the leader.", ("kind",)),
]

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def find(name: str) -> tuple[Metric, str] | None:
    """The metric that an exported sample belongs to, and which part of it: "" or, of a summary, "sum" or "count"."""
    if name in METRICS and METRICS[name].kind != "summary":
        return METRICS[name], ""
    base, _, part = name.rpartition("_")
    if part in ("sum", "count") and base in METRICS and METRICS[base].kind == "summary":
        return METRICS[base], part
    return None
