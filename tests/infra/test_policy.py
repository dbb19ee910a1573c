"""Each policy refuses what it is there to refuse; that every stack obeys them is in test_stacks.py."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from infra.policy import CONTAINER, NETWORK, VOLUME, Resource, violations
from tests.infra.support import run


@cache
def demo() -> dict[str, Resource]:
    return {made.name: made for made in run("demo").resources if made.type == CONTAINER}


def good(name: str) -> Resource:
    return demo()[name]


def complaints(name: str, change: dict[str, Any], production: bool = False) -> list[str]:
    made = good(name)
    return list(violations(replace(made, inputs={**made.inputs, **change}), production=production))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("master-1", {"privileged": True}, "is privileged"),
        ("master-1", {"capabilities": {"adds": ["CAP_SYS_ADMIN"], "drops": ["ALL"]}}, "has the capabilities"),
        ("client-1", {"capabilities": {"adds": ["CAP_SYS_ADMIN"]}}, "does not drop all"),
        ("client-1", {"capabilities": {"drops": ["ALL"]}}, "has the capabilities"),
        ("chunkserver-1", {"devices": [{"hostPath": "/dev/fuse"}]}, "has the devices"),
        ("master-1", {"securityOpts": ["apparmor=unconfined", "no-new-privileges"]}, "has the security options"),
        ("client-1", {"securityOpts": ["apparmor=unconfined"]}, "has the security options"),
        ("chunkserver-2", {"readOnly": False}, "can write to its root"),
        ("master-1", {"user": None}, "runs as root"),
        ("grafana", {"user": "0:0"}, "runs as root"),
        ("prometheus", {"volumes": [{"hostPath": "/var/run/docker.sock"}]}, "Docker's socket"),
        ("client-2", {"ports": [{"ip": "10.0.0.1", "external": 1.0}]}, "publishes port 1 on 10.0.0.1"),
        ("client-2", {"ports": [{"external": 1.0}]}, "publishes port 1 to everybody"),
        ("master-3", {"healthcheck": None}, "has no health check"),
        ("master-3", {"wait": False}, "is not waited for"),
        ("master-3", {"destroyGraceSeconds": None}, "gets 0 s to stop, less than 10 s"),
        ("client-3", {"destroyGraceSeconds": 10}, "gets 10 s to stop, less than 20 s"),
        ("client-3", {"restart": "always"}, "is not started again"),
        ("client-3", {"init": None}, "has no init process"),
    ],
)
def test_a_container_that_breaks_a_policy_is_named(name: str, change: dict[str, Any], sentence: str) -> None:
    assert complaints(name, {}) == []
    found = complaints(name, change)
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert sentence in found[0]


@pytest.mark.parametrize("duration", ["60s", "1m", "0s", "90s", "1h"])
def test_a_duration_in_another_form_than_docker_gives_back_is_refused(duration: str) -> None:
    check = {**good("master-1").inputs["healthcheck"], "interval": duration}
    assert len(complaints("master-1", {"healthcheck": check})) == 1


def test_production_takes_other_addresses_but_never_all_of_them_and_wants_limits_and_protection() -> None:
    elsewhere = {"ports": [{"ip": "10.0.0.1", "external": 1.0}], "memory": 1024.0}
    assert complaints("master-1", elsewhere, production=True) == []
    everywhere = {"ports": [{"ip": "0.0.0.0", "external": 1.0}], "memory": 1024.0}
    assert len(complaints("master-1", everywhere, production=True)) == 1
    assert complaints("master-1", {}, production=True) == ["master-1: has no memory limit in production"]
    volume = Resource(VOLUME, "data", {}, delete_before_replace=True)
    assert list(violations(volume, production=False)) == []
    assert len(list(violations(volume, production=True))) == 1
    assert list(violations(replace(volume, protect=True), production=True)) == []


@pytest.mark.parametrize("kind", [CONTAINER, NETWORK, VOLUME])
def test_what_has_a_fixed_name_goes_before_its_successor_comes(kind: str) -> None:
    made = good("master-1")
    late = Resource(kind, "x", made.inputs, replace_on_changes=made.replace_on_changes)
    assert list(violations(late, production=False)) == [
        "x: would be made before its predecessor is gone, under the same name"
    ]


def test_a_container_that_is_not_replaced_for_what_the_provider_ignores_is_refused() -> None:
    found = list(violations(replace(good("master-1"), replace_on_changes=("init",)), production=False))
    assert found == ["master-1: is not replaced for ['#initerror', 'healthcheck', 'tmpfs']"]
