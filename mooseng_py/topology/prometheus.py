"""What Prometheus scrapes: the configuration that lists every node of a cluster. Which rules it evaluates comes in as file names."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .render import Resolve
from .spec import ClusterSpec


def render_prometheus(
    spec: ClusterSpec,
    *,
    resolve: Resolve,
    cluster_id: str,
    scrape_interval_s: int = 5,
    rule_files: Sequence[str] = (),
) -> str:
    """The text of prometheus.yml. `resolve`: where Prometheus reaches a node's http port. Same arguments, same bytes.

    Every series carries `instance` (the node's name), `role` and, towards other systems, `cluster`.
    """
    lines = [
        "global:",
        f"  scrape_interval: {scrape_interval_s}s",
        f"  evaluation_interval: {scrape_interval_s}s",
        "  external_labels:",
        f"    cluster: {json.dumps(cluster_id)}",
    ]
    if rule_files:
        lines += ["rule_files:", *(f"  - {json.dumps(name)}" for name in rule_files)]
    lines += ["scrape_configs:", "  - job_name: mooseng", "    static_configs:"]
    for node in spec.nodes:
        lines += [
            f"      - targets: [{json.dumps(resolve(node))}]",
            f"        labels: {{instance: {json.dumps(node.name)}, role: {node.role}}}",
        ]
    return "\n".join(lines) + "\n"
