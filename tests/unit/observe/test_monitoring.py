"""Dashboards, alert rules and the page of metrics: made from the registry, current, and unable to name what is not there."""

import json
import re
from typing import Any

import pytest

from mooseng_py.observe import registry
from mooseng_py.observe.monitoring import generate
from mooseng_py.observe.monitoring.alerts import alerts
from mooseng_py.observe.monitoring.dashboards import boards
from mooseng_py.observe.monitoring.panels import Board, Panel, Row, graph, render
from mooseng_py.observe.monitoring.promql import Expr, QueryError, aggregate, grown, mean, rate, value

NAME = re.compile(r"\b(?:mooseng|process)_[a-z0-9_]+")


def expressions() -> list[Expr]:
    return [query.expr for board in boards() for panel in board.panels for query in panel.queries] + [
        rule.expr for rule in alerts()
    ]


@pytest.mark.parametrize("name", list(generate.files()))
def test_the_committed_file_is_what_the_registry_gives(name: str) -> None:
    assert (generate.ROOT / name).read_text() == generate.files()[name], "run `make monitoring`"


def test_nothing_else_lies_beside_the_generated_files() -> None:
    folder = generate.ROOT / "infra" / "monitoring"
    there = {str(path.relative_to(generate.ROOT)) for path in folder.rglob("*") if path.is_file()}
    assert there == {name for name in generate.files() if name.startswith("infra/")}


def test_a_panel_with_a_misspelt_metric_is_refused_and_the_right_name_told() -> None:
    with pytest.raises(
        QueryError, match=r"nobody emits mooseng_master_op_total; did you mean mooseng_master_ops_total\?"
    ):
        graph("Operations", (rate("mooseng_master_op_total"), "all"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: rate("mooseng_raft_term"), "is a gauge, and this needs a counter"),
        (lambda: value("mooseng_master_ops_total"), "is a counter, and this needs a gauge"),
        (lambda: value("mooseng_master_commit_seconds"), "is a summary, and this needs a gauge"),
        (lambda: mean("mooseng_raft_term"), "is a gauge, and this needs a summary"),
        (lambda: rate("mooseng_master_ops_total", "operation"), "has no label operation; it has op, instance"),
        (lambda: value("mooseng_chunkserver_disk_ok", path="/"), "has no label path; it has disk, instance"),
        (lambda: grown("mooseng_master_heals_total", "outcome", window="1h"), "has no label outcome; it has result"),
    ],
)
def test_an_expression_that_could_never_have_data_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        make()


def test_expressions_read_as_prometheus_wants_them() -> None:
    free, total = value("mooseng_chunkserver_disk_free_bytes"), value("mooseng_chunkserver_disk_total_bytes")
    assert (free / total).below(0.1).text == (
        "(mooseng_chunkserver_disk_free_bytes / mooseng_chunkserver_disk_total_bytes) < 0.1"
    )
    assert mean("mooseng_chunkserver_op_seconds", "instance", op="read", window="5m").text == (
        'sum by (instance) (rate(mooseng_chunkserver_op_seconds_sum{op="read"}[5m]))'
        ' / (sum by (instance) (rate(mooseng_chunkserver_op_seconds_count{op="read"}[5m])) > 0)'
    )
    assert value("mooseng_master_chunks").on_leader().text == (
        "max (mooseng_master_chunks and on (instance) (mooseng_master_is_leader == 1))"
    )
    assert aggregate("count", value("up", job="mooseng").equals(0)).or_zero().text == (
        'count (up{job="mooseng"} == 0) or vector(0)'
    )


def test_units_follow_from_the_registry() -> None:
    assert rate("mooseng_client_read_bytes_total").unit == "Bps"
    assert rate("mooseng_master_ops_total").unit == "ops"
    assert mean("mooseng_master_commit_seconds").unit == "s"
    assert mean("mooseng_master_batch_commands").unit == "short"
    assert (value("process_open_fds") / value("process_max_fds")).unit == "percentunit"


def test_an_expression_knows_the_series_that_its_text_names() -> None:
    for expr in expressions():
        named = set(NAME.findall(expr.text))
        assert named == {name for name in expr.series if name.startswith(("mooseng_", "process_"))}, expr.text


def test_the_committed_files_name_no_metric_that_the_registry_lacks() -> None:
    for name in generate.files():
        if name.startswith("infra/"):
            found = set(NAME.findall((generate.ROOT / name).read_text())) - {"mooseng_py"}
            assert {metric for metric in found if registry.find(metric) is None} == set(), name


def test_every_metric_of_ours_is_on_a_dashboard_or_in_a_rule() -> None:
    used = {series for expr in expressions() for series in expr.series}
    unused = {name for name, metric in registry.METRICS.items() if not used & set(metric.exported)}
    assert unused == {
        "mooseng_node_info",  # identity: for joins
        "process_virtual_memory_bytes",  # says little
        "mooseng_master_term",  # as Raft's
        "mooseng_master_elections_total",  # as Raft's
        "mooseng_master_committed_index",  # as Raft's
        "mooseng_master_applied_index",  # as Raft's
    }


def test_panels_have_their_own_place_and_id() -> None:
    for board in boards():
        made = json.loads(render(board))
        assert made["uid"] == f"mooseng-{board.name}"
        identities = [panel["id"] for panel in made["panels"]]
        assert len(set(identities)) == len(identities)
        taken: set[tuple[int, int]] = set()
        for panel in made["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, (board.name, panel["title"])
            assert all(x < 24 for x, _ in cells), (board.name, panel["title"])
            taken |= cells
            if panel["type"] != "row":
                assert panel["description"], (board.name, panel["title"])
                assert panel["fieldConfig"]["defaults"]["unit"]


def test_rendering_is_deterministic() -> None:
    board = Board("x", "X", "x", (Row("r", (Panel("p", graph("p", (value("up"), "")).queries),)),))
    assert render(board) == render(board)


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    rules = alerts()
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.summary.endswith("."), rule.name
        assert rule.mend.endswith("."), rule.name
        assert not re.search(r"\$__", rule.expr.text), f"{rule.name}: a rule has no window of Grafana's"
        for label in re.findall(r"\$labels\.(\w+)", rule.summary):
            assert re.search(rf"by \([^)]*\b{label}\b", rule.expr.text) or not re.search(
                r"\b(sum|max|count)\b", rule.expr.text
            )
