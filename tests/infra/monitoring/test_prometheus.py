"""A real cluster scraped by a real Prometheus: every panel has data, every rule reads metrics that somebody emits."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mooseng_py.demo.harness import Cluster, wait_until
from mooseng_py.observe import registry
from mooseng_py.observe.monitoring.alerts import alerts
from mooseng_py.observe.monitoring.dashboards import boards
from mooseng_py.observe.monitoring.promql import PANEL_WINDOW
from mooseng_py.topology import profile, render_prometheus
from tests.infra.monitoring.support import RULES, Prometheus, promtool, running

pytestmark = [pytest.mark.slow, pytest.mark.fuse]

MIB = 1 << 20
# A counter that moved once within it has a rate; long enough for a busy machine.
WINDOW = "2m"


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes every node each second, and evaluates the committed rules."""
    config = render_prometheus(
        profile("demo", port_offset=cluster.port_offset),
        resolve=lambda node: f"127.0.0.1:{node.ports.http}",
        cluster_id="test",
        scrape_interval_s=1,
        rule_files=[str(RULES)],
    )
    with running(config, tmp_path_factory.mktemp("prometheus") / "p") as server:
        wait_until("every node is scraped", lambda: len(server.result("up == 1")) == 9)
        yield server


@pytest.fixture(scope="module")
def loaded(cluster: Cluster, prometheus: Prometheus) -> Prometheus:
    """After writes, reads, and a chunkserver that died and came back."""
    work(cluster, "before")
    cluster.kill("chunkserver-3")
    down = ("MooseNGScrapeTargetDown", "chunkserver-3")
    wait_until("Prometheus sees the chunkserver down", lambda: down in prometheus.alerts("pending"))
    assert ("MooseNGScrapeTargetDown", "chunkserver-2") not in prometheus.alerts("pending")
    work(cluster, "without")
    cluster.restart("chunkserver-3")
    wait_until("the alert ends", lambda: down not in prometheus.alerts("pending"))
    cluster.wait_until_whole()
    work(cluster, "after")
    return prometheus


def work(cluster: Cluster, name: str) -> None:
    """A little of everything, by all clients."""
    for index in (1, 2):
        folder = cluster.mount(index) / f"{name}-{index}"
        folder.mkdir()
        for number in range(8):
            with (folder / str(number)).open("wb") as file:
                file.write(os.urandom(64 if number < 4 else 2 * MIB))
                os.fsync(file.fileno())
        (folder / "link").symlink_to("0")
        (folder / "0").rename(folder / "renamed")
        (folder / "1").unlink()
    for index in (1, 2):
        folder = cluster.mount(3) / f"{name}-{index}"
        assert not (folder / "missing").exists()
        assert sum(len(path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != "link") > 8 * MIB


def test_every_panel_of_every_dashboard_has_data(loaded: Prometheus) -> None:
    queries = {
        query.expr.text.replace(PANEL_WINDOW, WINDOW): query.expr
        for board in boards()
        for panel in board.panels
        for query in panel.queries
    }
    assert len(queries) > 100

    def complete() -> bool:
        empty = loaded.without_data(queries)
        if empty:
            raise ValueError(f"no data: {empty}")
        return True

    wait_until("every panel has data", complete, timeout_s=15, every_s=0.5)
    emitted = {name for expr in queries.values() for name in expr.series}
    assert loaded.never_seen(emitted) == []


def test_every_rule_is_valid_and_reads_metrics_that_somebody_emits(loaded: Prometheus) -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = alerts()
    (group,) = loaded.get("rules")["groups"]
    assert [(rule["name"], rule["health"], rule.get("lastError", "")) for rule in group["rules"]] == [
        (rule.name, "ok", "") for rule in rules
    ]
    assert loaded.never_seen({name for rule in rules for name in rule.expr.series}) == []


def test_a_healthy_cluster_fires_no_alert(loaded: Prometheus) -> None:
    assert loaded.alerts("firing") == set()


def test_a_metric_that_nobody_emits_is_found(loaded: Prometheus) -> None:
    misspelt = "sum(rate(mooseng_master_op_total[1m]))"
    assert loaded.without_data([misspelt, "up"]) == [misspelt]
    assert loaded.never_seen({"mooseng_master_op_total", "mooseng_master_ops_total"}) == ["mooseng_master_op_total"]


def test_nodes_emit_what_the_registry_says_with_its_labels_and_kinds(cluster: Cluster, loaded: Prometheus) -> None:
    leader = cluster.leader()
    for node in cluster.nodes():
        with urllib.request.urlopen(f"http://{node['addresses']['http']}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        shown = {sample.name: set(sample.labels) for family in families for sample in family.samples}
        expected = {
            series: set(metric.labels)
            for metric in registry.METRICS.values()
            if metric.role in ("", node["role"]) and metric.section != "Made by Prometheus itself"
            for series in metric.exported
        }
        if node["name"] != leader:
            for name in ("mooseng_raft_quorum_ack_age_seconds", "mooseng_raft_follower_lag_entries"):
                expected.pop(name, None)
        assert shown == expected, node["name"]
        for family in families:
            metric = registry.METRICS.get(family.name) or registry.METRICS[family.name + "_total"]
            assert (family.type, family.documentation) == (metric.kind, metric.help) or family.name.startswith(
                "process_"
            )


def test_the_files_that_pulumi_uploads_are_the_ones_tested_here() -> None:
    from infra.monitoring import Content

    assert Content.committed().rules == {"rules.yml": RULES.read_text()}
    assert sorted(Content.committed().dashboards) == sorted(f"{board.name}.json" for board in boards())


def test_prometheus_ends_with_its_test(tmp_path: Path) -> None:
    with running("scrape_configs: []\n", tmp_path / "p") as server:
        assert server.without_data(["vector(1)"]) == []
    with pytest.raises(OSError):
        server.get("query", query="1")
