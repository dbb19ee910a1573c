"""What a node of a cluster counts, as its metrics page says it."""

import urllib.request

from mooseng_py.demo.harness import Cluster


def page_of(cluster: Cluster, name: str) -> str:
    """Where a node shows its metrics."""
    address = next(node["addresses"]["http"] for node in cluster.nodes() if node["name"] == name)
    return f"http://{address}/metrics"


def counted(page: str, series: str) -> float:
    """The value of the first series that begins so."""
    with urllib.request.urlopen(page, timeout=5) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(series)))
