"""Which nodes and ports a profile has, and what their configuration files say."""

import subprocess
import sys
import tomllib

import pytest

from mooseng_py.config import MODELS, DashboardConfig, check_text
from mooseng_py.topology import (
    DASHBOARD_PORT,
    PROFILES,
    ClusterSpec,
    NodeSpec,
    Ports,
    dashboard_node,
    profile,
    render_config,
)


def resolve(node: NodeSpec) -> str:
    return f"127.0.0.1:{node.ports.frames}"


def render(spec: ClusterSpec, node: NodeSpec) -> str:
    return render_config(spec, node, resolve=resolve, directory="/d", cluster_id="c1", mount_point="/m")


def test_the_demo_profile_has_the_documented_ports() -> None:
    spec = profile("demo")
    assert [node.ports.frames for node in spec.masters] == [9421, 9422, 9423]
    assert [node.ports.grpc for node in spec.masters] == [9431, 9432, 9433]
    assert [node.ports.http for node in spec.masters] == [9441, 9442, 9443]
    assert [node.ports.frames for node in spec.chunkservers] == [9420, 9450, 9460]
    assert [node.ports.http for node in spec.chunkservers] == [9471, 9472, 9473]
    assert [node.ports.http for node in spec.clients] == [9427, 9437, 9447]
    assert (spec.copies, spec.min_copies) == (3, 2)
    assert all(len(node.data_directories) == 2 for node in spec.chunkservers)


def test_the_minimal_profile_has_one_node_of_each_role_and_one_copy() -> None:
    spec = profile("minimal")
    assert [node.name for node in spec.nodes] == ["master-1", "chunkserver-1", "client-1"]
    assert spec.copies == 1


@pytest.mark.parametrize("name", list(PROFILES))
def test_an_offset_moves_every_port_and_nothing_else(name: str) -> None:
    here, there = profile(name), profile(name, port_offset=1000)
    for node, moved in zip(here.nodes, there.nodes, strict=True):
        assert [(kind, port + 1000) for kind, port in node.ports.items()] == moved.ports.items()
        assert (node.name, node.role, node.data_directories) == (moved.name, moved.role, moved.data_directories)


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_rendered_file_is_accepted_by_its_daemon(name: str) -> None:
    spec = profile(name)
    for node in spec.nodes:
        config = check_text(MODELS[node.command], render(spec, node), "rendered")
        assert config.name == node.name
        assert render(spec, node) == render(spec, node)


@pytest.mark.parametrize("name", list(PROFILES))
def test_the_dashboard_is_told_of_every_node_and_is_none_of_them(name: str) -> None:
    spec = profile(name, port_offset=100)
    node = dashboard_node(DASHBOARD_PORT + 100)
    assert node not in spec.nodes
    text = render_config(
        spec,
        node,
        resolve=resolve,
        resolve_http=lambda other: f"h:{other.ports.http}",
        directory="/d",
        cluster_id="c1",
        settings={"poll_ms": 500},
    )
    config = check_text(DashboardConfig, text, "rendered")
    assert config.http_listen == "127.0.0.1:8180"
    assert config.nodes == {other.name: f"h:{other.ports.http}" for other in spec.nodes}
    assert (config.masters, config.poll_ms) == ([resolve(master) for master in spec.masters], 500)


def test_only_the_resolved_addresses_differ_between_runners() -> None:
    spec = profile("demo")
    for node in spec.nodes:
        text = render_config(
            spec,
            node,
            resolve=lambda other: f"{other.hostname}:{other.ports.frames}",
            directory="/d",
            cluster_id="c1",
            mount_point="/m",
        )
        for other in spec.nodes:
            text = text.replace(f"{other.hostname}:{other.ports.frames}", resolve(other))
        assert text == render(spec, node)


def test_any_text_survives_the_toml_file() -> None:
    spec = profile("minimal")
    awkward = 'a"b\\c\n\td \x7f é \U0001f98c'
    text = render_config(spec, spec.clients[0], resolve=resolve, directory="/d", cluster_id="c", mount_point=awkward)
    assert tomllib.loads(text)["mount_point"] == awkward


def test_settings_win_over_rendered_values() -> None:
    spec = profile("minimal")
    text = render_config(
        spec, spec.masters[0], resolve=resolve, directory="/d", cluster_id="c", settings={"copies": 2, "name": "x"}
    )
    assert tomllib.loads(text)["copies"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"copies": 4}, "do not fit 3 chunkservers"),
        ({"min_copies": 0}, "1 <= min_copies"),
        ({"nodes": ()}, "at least one master"),
    ],
)
def test_a_specification_that_cannot_run_is_refused(change: dict[str, object], sentence: str) -> None:
    spec = profile("demo")
    values: dict[str, object] = {"profile": "x", "nodes": spec.nodes, "copies": 3, "min_copies": 2} | change
    with pytest.raises(ValueError, match=sentence):
        ClusterSpec(**values)  # type: ignore[arg-type]


def test_repeated_ports_names_and_impossible_offsets_are_refused() -> None:
    node = NodeSpec("master-1", "master", 1, "h", Ports(http=1000, frames=1000))
    with pytest.raises(ValueError, match="both want port 1000"):
        ClusterSpec("x", (node,), 1, 1)
    with pytest.raises(ValueError, match="repeat"):
        ClusterSpec("x", profile("minimal").nodes * 2, 1, 1)
    with pytest.raises(ValueError, match="1-65535"):
        profile("demo", port_offset=60_000)
    with pytest.raises(ValueError, match="minimal, demo"):
        profile("huge")


def test_an_unknown_node_is_refused_with_the_list_of_nodes() -> None:
    with pytest.raises(KeyError, match="master-1"):
        profile("demo").node("master-9")


def test_the_topology_needs_neither_pulumi_nor_native_code_nor_pydantic() -> None:
    code = (
        "import sys, mooseng_py.topology;"
        "print([name for name in sys.modules if name.split('.')[0] in ('pulumi', 'pydantic', 'cffi', 'grpc')"
        " or name.startswith('mooseng_py.native')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_health_command_asks_the_nodes_own_file() -> None:
    node = profile("demo").masters[0]
    assert node.health_command("/c.toml") == ("mooseng", "health", "--ready", "--config", "/c.toml")
    assert "--live" in node.health_command("/c.toml", ready=False)
