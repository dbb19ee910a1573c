"""The rules of the docker plugin's test double: what it refuses, what a change replaces, what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.pulumi_resource_docker.rules import (
    CONTAINER,
    NETWORK,
    UNKNOWN,
    VOLUME,
    check,
    diff,
    nanoseconds,
)

BASE: dict[str, Any] = {
    "name": "ci-master-1",
    "image": "sha256:1",
    "envs": ["A=1"],
    "healthcheck": {"tests": ["CMD", "true"], "interval": "2s"},
    "wait": True,
}
STATE = {**BASE, "networkDatas": [{"networkName": "ci", "ipAddress": "172.18.0.2"}]}


def test_the_same_inputs_are_no_change_whatever_the_engine_computed() -> None:
    found = diff(CONTAINER, STATE, BASE)
    assert (found.changes, found.replaces, found.delete_before_replace) == ({}, (), False)


@pytest.mark.parametrize("name", ["image", "envs", "labels", "command", "ports", "volumes", "stopTimeout"])
def test_what_a_container_is_made_with_replaces_it_old_one_first(name: str) -> None:
    found = diff(CONTAINER, STATE, {**BASE, name: ["other"]})
    assert found.replaces == (name,)
    assert found.delete_before_replace


@pytest.mark.parametrize(
    "name",
    ["restart", "memory", "memorySwap", "cpuShares", "cpuSet", "maxRetryCount", "destroyGraceSeconds", "waitTimeout"],
)
def test_what_can_be_changed_in_place_replaces_nothing(name: str) -> None:
    found = diff(CONTAINER, STATE, {**BASE, name: 7.0})
    assert found.changes == {name: "add"}
    assert found.replaces == ()
    assert not found.delete_before_replace


@pytest.mark.parametrize("name", ["healthcheck", "init", "tmpfs"])
def test_upstreams_blind_spots_are_updates_without_effect(name: str) -> None:
    found = diff(CONTAINER, STATE, {**BASE, name: {"other": True}})
    assert set(found.changes) == {name}
    assert found.replaces == ()


def test_a_property_taken_out_is_a_change() -> None:
    without = {name: value for name, value in BASE.items() if name != "envs"}
    assert diff(CONTAINER, STATE, without).changes == {"envs": "delete"}


def test_nothing_given_and_an_empty_list_are_the_same() -> None:
    assert diff(CONTAINER, STATE, {**BASE, "devices": [], "memory": None}).changes == {}


def test_a_value_that_preview_cannot_know_differs() -> None:
    assert diff(CONTAINER, STATE, {**BASE, "envs": [UNKNOWN]}).replaces == ("envs",)
    assert diff(CONTAINER, {**STATE, "image": UNKNOWN}, {**BASE, "image": UNKNOWN}).replaces == ("image",)


def test_a_stopped_container_that_must_run_is_started_not_replaced() -> None:
    found = diff(CONTAINER, {**STATE, "mustRun": False}, {**BASE, "mustRun": True})
    assert found.changes == {"mustRun": "update"}
    assert found.replaces == ()


@pytest.mark.parametrize("kind", [NETWORK, VOLUME])
def test_networks_and_volumes_are_only_ever_replaced(kind: str) -> None:
    found = diff(kind, {"name": "ci", "mountpoint": "/x"}, {"name": "ci", "driver": "other"})
    assert found.replaces == ("driver",)
    assert not found.delete_before_replace


def test_unknown_types_and_properties_are_refused_by_name() -> None:
    assert check("docker:index/secret:Secret", {})[0][1].startswith(
        "the test double of the docker plugin does not know"
    )
    assert [name for name, _ in check(CONTAINER, {**BASE, "privileged": True})] == ["privileged"]
    assert [name for name, _ in check(CONTAINER, {"name": "x"})] == ["image"]
    assert check(CONTAINER, BASE) == []


def test_waiting_without_a_health_check_is_refused() -> None:
    assert check(CONTAINER, {"name": "x", "image": "y", "wait": True}) == [("wait", "wait needs a healthcheck")]


@pytest.mark.parametrize(
    ("text", "expected"), [("2s", 2 * 10**9), ("1m0s", 60 * 10**9), ("1h2m3s", 3723 * 10**9), ("500ms", 5 * 10**8)]
)
def test_durations_are_gos(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5 s", "1m-3s", "s"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        nanoseconds(text)
