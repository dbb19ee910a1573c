"""What a stack may say; everything else ends in one sentence before anything is made."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra.config import ConfigurationError, parse
from infra.options import duration
from infra.plan import plan
from tests.infra.support import SECRET, STACKS, committed, object_config, run

HOSTS = {name: {"docker": f"ssh://root@{name}", "address": f"10.0.0.{i}"} for i, name in enumerate("ab", 1)}
NODES = [f"{role}-1" for role in ("master", "chunkserver", "client")]
ON_A = {name: {"host": "a"} for name in NODES}
PULLED = {"mode": "pull", "name": "x"}


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        plan("dev", "mooseng", parse(values))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("stack", STACKS)
def test_every_committed_stack_is_accepted(stack: str) -> None:
    assert plan(stack, "mooseng", parse(committed(stack)["mooseng:cluster"])).spec.masters


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"profil": "demo"}, "mooseng:cluster.profil is unknown; did you mean 'profile'?"),
        ({"image": {"tag": "x"}}, "mooseng:cluster.image.tag is unknown; allowed here: mode, name"),
        ({"hosts": {"a": {"dokcer": "x"}}}, "mooseng:cluster.hosts.a."),
        ({"profile": "huge"}, "mooseng:cluster.profile is 'huge'; allowed: one of 'minimal', 'demo'"),
        ({"image": {"mode": "magic"}}, "mooseng:cluster.image.mode is 'magic'; allowed: 'build', 'existing' or 'pull'"),
        ({"port_offset": "ten"}, "mooseng:cluster.port_offset is wrong: input should be a valid integer"),
        ({"disks": 5}, "mooseng:cluster.disks is wrong"),
        ({"mounts": "relative"}, "an absolute path on the Docker host"),
        ({"hosts": {"a": {"docker": "host-a", "address": "10.0.0.1"}}}, "ssh://USER@HOST"),
        ({"hosts": {"a": {"docker": "ssh://a", "address": "a.example"}}}, "an IPv4 address"),
        ({"limits": {"prometheus": {}}}, "mooseng:cluster.limits.prometheus"),
        ({"cluster_id": "a b"}, "mooseng:cluster.cluster_id is wrong"),
        ({"grafanaPassword": "x"}, "mooseng:cluster.grafanaPassword is unknown"),
    ],
)
def test_an_unknown_key_or_wrong_value_is_named_with_what_is_allowed(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"grafana": {"enabled": True}}, "there is no Prometheus to show"),
        ({"hosts": HOSTS}, "mooseng:cluster.nodes.master-1.host is missing"),
        ({"profile": "minimal", "nodes": {"master-2": {"host": "a"}}}, "is no node of this profile"),
        ({"profile": "minimal", "nodes": {"master-1": {"host": "z"}}}, "which mooseng:cluster.hosts does not list"),
        (
            {"profile": "minimal", "hosts": HOSTS, "nodes": ON_A, "prometheus": {"enabled": True}},
            "mooseng:cluster.prometheus.host is ''",
        ),
        (
            {"profile": "minimal", "hosts": HOSTS, "nodes": {**ON_A, "client-1": {"host": "b"}}},
            "push it to a registry and use pull",
        ),
        (
            {
                "profile": "minimal",
                "hosts": {**HOSTS, "b": {"docker": "ssh://b", "address": "127.0.0.2"}},
                "nodes": {**ON_A, "client-1": {"host": "b"}},
                "image": PULLED,
            },
            "which other hosts cannot reach",
        ),
        ({"prometheus": {"enabled": True, "port": 9421}}, "is master-1's as well"),
        ({"port_offset": 50_000, "prometheus": {"enabled": True, "port": 60_000}}, "above 65535"),
        ({"settings": {"master-9": {}}}, "mooseng:cluster.settings.master-9 is no node or daemon"),
        ({"settings": {"master": {"listen": "x"}}}, "sets 'listen' of master-1, which the stack itself decides"),
        ({"settings": {"client-1": {"mount_point": "/x"}}}, "which the stack itself decides"),
        ({"settings": {"master": {"snapshot_evry": 1}}}, "key 'snapshot_evry' is unknown; did you mean"),
        ({"settings": {"master-2": {"heartbeat_ms": "fast"}}}, "mooseng:cluster.settings (master-2): key"),
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**values)


def test_a_nodes_own_setting_wins_over_its_daemons() -> None:
    made = plan(
        "dev", "mooseng", parse({"settings": {"master": {"snapshot_every": 500}, "master-2": {"snapshot_every": 700}}})
    )
    texts = [made.configuration(node) for node in made.spec.masters]
    assert ["snapshot_every = 500" in text for text in texts] == [True, False, True]
    assert "snapshot_every = 700" in texts[1]


def test_one_changed_setting_changes_the_files_of_its_own_role_only() -> None:
    before, after = (
        plan("dev", "mooseng", parse(values)) for values in ({}, {"settings": {"chunkserver": {"scrub_mb_s": 3}}})
    )
    changed = [node.name for node in before.spec.nodes if before.configuration(node) != after.configuration(node)]
    assert changed == ["chunkserver-1", "chunkserver-2", "chunkserver-3"]


def test_a_stacks_name_that_cannot_be_part_of_a_containers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the stack is called 'a b'"):
        plan("a b", "mooseng", parse({}))


def test_one_remote_engine_needs_no_addresses_of_others() -> None:
    made = plan("dev", "mooseng", parse({"profile": "minimal", "hosts": HOSTS, "nodes": ON_A}))
    assert made.hosts == ("a",)
    assert made.inner_address(made.spec.masters[0], "frames") == "master-1:9421"
    assert made.published(made.spec.masters[0])["frames"] == "10.0.0.1:9421"


@pytest.mark.parametrize(
    ("config", "secrets", "sentence"),
    [
        ({"mooseng:cluster": {"x": 1}}, (), "mooseng:cluster.x is unknown"),
        ({"mooseng:cluster": "{"}, (), "must be an object"),
        ({"mooseng:cluster": [1]}, (), "must be an object"),
        (
            {"mooseng:clusters": {}},
            (),
            "mooseng:clusters is unknown; allowed: mooseng:cluster, mooseng:grafanaPassword",
        ),
        ({SECRET: "x"}, (), "stands in clear text"),
        (
            object_config(prometheus={"enabled": True}, grafana={"enabled": True}),
            (),
            "is missing, and Grafana needs it",
        ),
    ],
)
@pytest.mark.parametrize("preview", [True, False])
def test_a_mistake_stops_the_program_with_one_sentence_before_it_makes_anything(
    config: dict[str, Any], secrets: tuple[str, ...], sentence: str, preview: bool
) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        run("dev", config, preview=preview, secrets=secrets)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_other_namespaces_are_left_alone() -> None:
    assert run("dev", {"docker:host": "unix:///x", **object_config(profile="minimal")}, secrets=()).containers


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "2s"), (60, "1m0s"), (90, "1m30s"), (3600, "1h0m0s"), (3661, "1h1m1s"), (300, "5m0s")]
)
def test_durations_are_written_as_docker_gives_them_back(seconds: int, text: str) -> None:
    assert duration(seconds) == text
