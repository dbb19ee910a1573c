"""What a stack uploads to Prometheus and Grafana fits together: paths, address, uids."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.infra.support import run


def uploads(name: str) -> dict[str, str]:
    inputs: Any = run("demo", preview=False).containers[name]
    found = inputs["uploads"]
    # A list with a secret in it is a secret as a whole: wrapped.
    files = found["value"] if isinstance(found, dict) else found
    return {file["file"]: file["content"] for file in files if "password" not in file["file"]}


def test_grafana_finds_every_dashboard_where_its_provisioning_says() -> None:
    files = uploads("grafana")
    (provider,) = yaml.safe_load(files["/etc/grafana/provisioning/dashboards/mooseng.yaml"])["providers"]
    boards = {path: json.loads(text) for path, text in files.items() if path.endswith(".json")}
    assert sorted(boards) == [
        f"{provider['options']['path']}/{name}.json" for name in ("health", "performance", "raft", "storage")
    ]
    (source,) = yaml.safe_load(files["/etc/grafana/provisioning/datasources/mooseng.yaml"])["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for board in boards.values():
        used = {panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"}
        assert used == {source["uid"]}


def test_prometheus_reads_the_rules_that_are_uploaded() -> None:
    files = uploads("prometheus")
    (config,) = (yaml.safe_load(text) for path, text in files.items() if path.endswith("prometheus.yml"))
    (rules,) = config["rule_files"]
    names = [rule["alert"] for group in yaml.safe_load(files[rules])["groups"] for rule in group["rules"]]
    assert "MooseNGNoLeader" in names
