"""Every committed stack, run against mocks: what it makes, in which order, under which names, and what it says."""

from __future__ import annotations

import tomllib
from functools import cache

import pytest

from infra.policy import CONTAINER, NETWORK, VOLUME, violations
from tests.infra.support import PASSWORD, STACKS, Outcome, run

ROLES = {"minimal": 1, "dev": 3, "demo": 3, "prod": 3, "ci": 3}
SERVICES = {
    "minimal": [],
    "dev": ["dashboard", "prometheus"],
    "demo": ["dashboard", "grafana", "prometheus"],
    "prod": ["dashboard", "grafana", "prometheus"],
    "ci": ["dashboard", "prometheus"],
}


@cache
def outcome(stack: str, preview: bool = False) -> Outcome:
    return run(stack, preview=preview)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_has_its_nodes_and_services_under_its_own_names(stack: str, preview: bool) -> None:
    made = outcome(stack, preview)
    nodes = [f"{role}-{index}" for role in ("chunkserver", "client", "master") for index in range(1, ROLES[stack] + 1)]
    assert sorted(made.containers) == sorted(nodes + SERVICES[stack])
    for name, inputs in made.containers.items():
        assert inputs["name"] == f"{stack}-{name}"
        assert inputs["hostname"] == name
        assert [network["aliases"] for network in inputs["networksAdvanced"]] == [[name]]


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_breaks_a_policy(stack: str) -> None:
    found = [text for made in outcome(stack).resources for text in violations(made, production=stack == "prod")]
    assert found == []


@pytest.mark.parametrize("stack", STACKS)
def test_preview_and_up_register_the_same_resources(stack: str) -> None:
    assert sorted((made.type, made.name) for made in outcome(stack, True).resources) == sorted(
        (made.type, made.name) for made in outcome(stack, False).resources
    )


@pytest.mark.parametrize("stack", STACKS)
def test_masters_have_one_volume_and_chunkservers_four_at_the_paths_of_their_daemons(stack: str) -> None:
    made = outcome(stack)
    for name, inputs in made.containers.items():
        volumes = [(volume["volumeName"], volume["containerPath"]) for volume in inputs.get("volumes") or ()]
        if name.startswith("master"):
            assert volumes == [(f"{stack}-{name}-data", "/var/lib/mooseng/data")]
            assert 'data_dir = "/var/lib/mooseng/data"' in inputs["envs"][0]
        elif name.startswith("chunkserver"):
            paths = [f"/var/lib/mooseng/data-{disk}" for disk in (1, 2, 3, 4)]
            assert volumes == [(f"{stack}-{name}-data-{disk}", path) for disk, path in enumerate(paths, 1)]
            assert all(path in inputs["envs"][0] for path in paths)
        elif name.startswith("client"):
            assert volumes == []
    # Of what stands beside the nodes, only the dashboard keeps nothing.
    assert len(made.of(VOLUME)) == 5 * ROLES[stack] + len(set(SERVICES[stack]) - {"dashboard"})


@pytest.mark.parametrize("stack", STACKS)
def test_masters_are_healthy_when_alive_and_the_others_when_they_do_their_work(stack: str) -> None:
    for name, inputs in outcome(stack).containers.items():
        test = inputs["healthcheck"]["tests"]
        if name in ("prometheus", "grafana"):
            continue
        assert test[:2] == ["CMD", "mooseng"]
        assert ("--live" in test) == name.startswith("master")
        assert ("--ready" in test) != name.startswith("master")


@pytest.mark.parametrize("stack", STACKS)
def test_chunkservers_wait_for_all_masters_and_clients_for_all_chunkservers(stack: str) -> None:
    made = outcome(stack)
    masters = {name for name in made.containers if name.startswith("master")}
    chunkservers = {name for name in made.containers if name.startswith("chunkserver")}
    rolling = stack == "prod"
    for name in masters:
        index = int(name[-1])
        assert made.containers_before(name) == ({f"master-{i}" for i in range(1, index)} if rolling else set())
    for name in chunkservers:
        index = int(name[-1])
        own = {f"chunkserver-{i}" for i in range(1, index)} if rolling else set()
        assert made.containers_before(name) == masters | own
    for name in made.containers:
        if name.startswith("client"):
            assert made.containers_before(name) == masters | chunkservers


@pytest.mark.parametrize("stack", STACKS)
def test_a_volume_needs_no_container_so_that_volumes_can_stay_alone(stack: str) -> None:
    """Pulumi keeps what a protected resource depends on: containers, if the order of starting held for volumes too."""
    made = outcome(stack)
    assert {name for volume in made.of(VOLUME) for name in made.containers_before(volume, VOLUME)} == set()


def test_production_stands_on_several_engines_and_its_nodes_meet_at_the_hosts_addresses() -> None:
    made = outcome("prod")
    assert made.of("pulumi:providers:docker") == ["engine-a", "engine-b", "engine-c"]
    assert sorted(made.of(NETWORK)) == ["network-a", "network-b", "network-c"]
    assert 'masters = ["10.0.0.11:9421", "10.0.0.12:9422", "10.0.0.13:9423"]' in made.containers["client-2"]["envs"][0]
    assert {port["ip"] for port in made.containers["client-2"]["ports"]} == {"10.0.0.12"}
    assert "10.0.0.13:9473" in made.containers["prometheus"]["uploads"][0]["content"]
    assert [mount["bindOptions"]["propagation"] for mount in made.containers["client-1"]["mounts"]] == ["rshared"]


def test_the_ci_stack_fetches_and_builds_nothing() -> None:
    assert {made.type for made in outcome("ci").resources if made.type.startswith("docker:")} == {
        CONTAINER,
        NETWORK,
        VOLUME,
    }


@pytest.mark.parametrize(
    ("stack", "image"),
    [("dev", "sha256:of-mooseng:local"), ("ci", "mooseng:local"), ("prod", "sha256:of-registry.example/mooseng:0.1.0")],
)
def test_nodes_run_the_image_by_its_id(stack: str, image: str) -> None:
    made = outcome(stack)
    assert {inputs["image"] for name, inputs in made.containers.items() if name not in ("prometheus", "grafana")} == {
        image
    }
    assert made.outputs["image"] == image


def test_outputs_say_where_everything_is() -> None:
    outputs = outcome("demo").outputs
    assert outputs["masters"]["master-2"] == {
        "frames": "127.0.0.1:9422",
        "grpc": "127.0.0.1:9432",
        "http": "127.0.0.1:9442",
    }
    assert outputs["chunkservers"]["chunkserver-1"] == {"frames": "127.0.0.1:9420", "http": "127.0.0.1:9471"}
    assert outputs["clients"]["client-3"] == {"http": "127.0.0.1:9447"}
    assert outputs["endpoints"] == {
        "prometheus": "http://127.0.0.1:9090",
        "grafana": "http://127.0.0.1:3000",
        "dashboard": "http://127.0.0.1:8080",
    }
    assert outputs["mounts"] == {}
    assert outputs["cluster_id"] == "mooseng-demo"
    assert outcome("prod").outputs["mounts"]["client-3"] == "/srv/mooseng/client-3"


def test_up_says_what_a_stack_leaves_out() -> None:
    assert outcome("demo").messages == []
    assert [text.split()[0] for text in outcome("dev").messages] == ["Grafana"]
    assert [text.split()[0] for text in outcome("ci").messages] == ["Grafana"]
    assert [text.split()[0] for text in outcome("minimal").messages] == ["Prometheus", "Grafana", "Dashboard"]


def test_the_demo_stack_has_twelve_services() -> None:
    assert len(outcome("demo").containers) == 12


@pytest.mark.parametrize("stack", [name for name in STACKS if "dashboard" in SERVICES[name]])
def test_the_dashboard_is_a_closed_container_that_waits_for_the_masters_and_keeps_nothing(stack: str) -> None:
    made = outcome(stack)
    dashboard = made.containers["dashboard"]
    assert made.containers_before("dashboard") == {f"master-{index}" for index in (1, 2, 3)}
    assert (dashboard["readOnly"], dashboard["user"], dashboard.get("volumes")) == (True, "9420:9420", None)
    assert dashboard["capabilities"] == {"drops": ["ALL"]}
    assert dashboard["healthcheck"]["tests"][:3] == ["CMD", "mooseng", "health"]
    assert [(port["internal"], port["external"]) for port in dashboard["ports"]] == [(8080, 8080)]
    told = tomllib.loads(dashboard["envs"][0].removeprefix("MOOSENG_CONFIG_TOML="))
    assert set(told["nodes"]) == {name for name in made.containers if "-" in name}
    where = "10.0.0.12:9422" if stack == "prod" else "master-2:9422"
    assert told["masters"][1] == where
    assert dashboard["ports"][0]["ip"] == ("10.0.0.12" if stack == "prod" else "127.0.0.1")


def test_grafanas_password_is_a_secret_and_in_nothing_but_its_own_file() -> None:
    made = outcome("demo")
    grafana = made.containers["grafana"]
    assert PASSWORD not in str({key: value for key, value in grafana.items() if key != "uploads"})
    assert {name for name, inputs in made.containers.items() if PASSWORD in str(inputs)} == {"grafana"}
    assert "GF_SECURITY_ADMIN_PASSWORD__FILE=/etc/mooseng/grafana-password" in grafana["envs"]
    assert PASSWORD not in str(made.outputs)
