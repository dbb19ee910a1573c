"""The containers are the same cluster as `mooseng local`'s, and the repository's copies of one fact agree."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from infra.config import parse, table
from infra.plan import Plan, plan
from mooseng_py.local.cluster import LocalCluster
from mooseng_py.local.layout import Layout
from mooseng_py.topology import PROFILES, NodeSpec
from tests.infra.support import ROOT

CLUSTER_ID = "c1"


def in_containers(profile: str, disks: int) -> Plan:
    return plan("dev", "mooseng", parse({"profile": profile, "disks": disks, "cluster_id": CLUSTER_ID}))


def local_file(cluster: LocalCluster, profile: str, node: NodeSpec) -> str:
    identity = Layout("/nowhere").new(profile, 0, {})
    mount = "/nowhere/mnt" if node.role == "client" else ""
    text = cluster._rendered(identity, node, mount)
    return text.replace(identity.cluster_id, CLUSTER_ID)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_containers_and_local_processes_are_the_same_nodes_with_the_same_files(profile: str, tmp_path: Path) -> None:
    cluster = LocalCluster("/nowhere")
    local = Layout("/nowhere").new(profile, 0, {}).spec()
    made = in_containers(profile, disks=len(local.chunkservers[0].data_directories))
    assert made.spec == local
    for node in made.spec.nodes:
        text = made.configuration(node)
        # All that may differ: how others reach a node, what it binds to, where its files lie.
        for other in made.spec.nodes:
            if other.ports.frames is not None:
                text = text.replace(f'"{other.hostname}:', '"127.0.0.1:')
        text = text.replace("0.0.0.0:", "127.0.0.1:")
        text = text.replace("/var/lib/mooseng/", f"/nowhere/nodes/{node.name}/")
        text = text.replace(f"/mnt/mooseng/{node.name}", "/nowhere/mnt")
        assert text == local_file(cluster, profile, node)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_the_dashboard_in_a_container_and_as_a_local_process_are_told_the_same(profile: str) -> None:
    local = Layout("/nowhere").new(profile, 100, {}, dashboard=True)
    (node,) = local.services()
    text = LocalCluster("/nowhere")._rendered(local, node, "").replace(local.cluster_id, CLUSTER_ID)
    values = {"profile": profile, "port_offset": 100, "cluster_id": CLUSTER_ID, "dashboard": {"enabled": True}}
    made = plan("dev", "mooseng", parse(values))
    assert made.dashboard == node
    assert len(made.spec.nodes) == len(local.spec().nodes)
    told = made.configuration(node).replace("0.0.0.0:", "127.0.0.1:")
    for other in made.spec.nodes:
        told = told.replace(f'"{other.hostname}:', '"127.0.0.1:')
    assert told == text


@pytest.mark.parametrize("profile", list(PROFILES))
def test_prometheus_scrapes_the_http_port_of_every_node(profile: str) -> None:
    made = in_containers(profile, disks=4)
    config = yaml.safe_load(made.prometheus_file(["/etc/mooseng/rules/a.yml"]))
    found = {
        entry["labels"]["instance"]: (entry["targets"], entry["labels"]["role"])
        for entry in config["scrape_configs"][0]["static_configs"]
    }
    assert found == {node.name: ([f"{node.hostname}:{node.ports.http}"], node.role) for node in made.spec.nodes}
    assert config["rule_files"] == ["/etc/mooseng/rules/a.yml"]
    assert "rule_files" not in yaml.safe_load(made.prometheus_file([]))


def test_requirements_are_those_of_the_infra_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = (ROOT / "requirements.txt").read_text().split("\n")
    assert [line for line in wanted if line] == project["optional-dependencies"]["infra"]


def test_the_program_needs_nothing_of_the_installed_package() -> None:
    """A machine that runs `pulumi up` has only what requirements.txt names: no native library, no CLI, no metrics."""
    code = (
        "import sys, json, infra.program;"
        "print(json.dumps(sorted(name for name in sys.modules if name.split('.')[0] in"
        " ('cffi', 'typer', 'rich', 'prometheus_client')"
        " or name.startswith('mooseng_py.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    ours = {name.split(".")[1] for name in json.loads(done.stdout) if name.startswith("mooseng_py.")}
    assert ours == {"config", "topology"}
    assert [name for name in json.loads(done.stdout) if not name.startswith("mooseng_py.")] == []


def test_the_table_of_settings_in_the_guide_is_that_of_the_model() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text()
    assert table() in guide, "put what infra.config.table() returns into docs/deploy.md"
