"""The whole life of a stack, in order: real CLI, real engine, real containers. Each test goes on where the one before ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mooseng_py.demo.harness import CommandFailed, wait_until
from mooseng_py.demo.stack import Stack, docker, run
from mooseng_py.observe.monitoring.alerts import alerts
from tests.infra.monitoring.support import Prometheus

# A test waits for containers, and each has its own limit; together they may take long on a busy machine.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

MASTERS = ("master-1", "master-2", "master-3")
CHUNKSERVERS = ("chunkserver-1", "chunkserver-2", "chunkserver-3")
CLIENTS = ("client-1", "client-2", "client-3")
NODES = {*MASTERS, *CHUNKSERVERS, *CLIENTS}
SERVICES = {"dashboard", "prometheus"}
WAIT_S = 180
PASSWORD = "correct-horse-battery"


def _sums(stack: Stack) -> dict[str, str]:
    """The checksum of the large file as each client has it."""
    return {node: stack.execute(node, f"sha256sum </mnt/mooseng/{node}/large") for node in CLIENTS}


def _readable(stack: Stack) -> bool:
    return len(set(_sums(stack).values())) == 1


def _changed(stack: Stack, before: dict[str, str]) -> set[str]:
    """Containers that are no longer, or not yet, the ones of `before`."""
    after = stack.containers()
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _leader(stack: Stack) -> str:
    """The master that leads, as the masters themselves say."""

    def found() -> str:
        for node in MASTERS:
            said = stack.execute(node, "mooseng health --ready --json --config /run/mooseng/config.toml || true")
            if said and json.loads(said).get("is_leader"):
                return node
        return ""

    return wait_until("a master leads", found, WAIT_S)


def test_up_makes_nine_healthy_containers_with_prometheus_and_the_dashboard(stack: Stack) -> None:
    assert set(stack.containers()) == NODES | SERVICES
    wait_until("all are healthy", lambda: all(stack.healthy(name) for name in NODES | SERVICES), WAIT_S)
    stack.expect_no_changes()


def test_the_outputs_say_where_everything_is_and_the_command_finds_the_cluster_by_them(stack: Stack) -> None:
    outputs = stack.outputs()
    assert set(outputs["masters"]) == set(MASTERS)
    assert set(outputs["chunkservers"]) == set(CHUNKSERVERS)
    assert outputs["mounts"] == {node: f"{stack.mounts}/{node}" for node in CLIENTS}
    assert outputs["image"].startswith("sha256:")
    for node, addresses in {**outputs["masters"], **outputs["chunkservers"], **outputs["clients"]}.items():
        assert addresses["http"].startswith("127.0.0.1:"), node
        with urllib.request.urlopen(f"http://{addresses['http']}/health/live", timeout=30) as answer:
            assert json.load(answer)["ok"] is True, node
    command = Path(sys.executable).with_name("mooseng")
    status = json.loads(run(command, "--stack", stack.name, "status", "--json", env=stack.env, cwd=stack.work))
    assert (len(status["masters"]), len(status["servers"])) == (3, 3)
    assert status["cluster_id"] == outputs["cluster_id"]


def test_prometheus_scrapes_all_nine_and_its_rules_and_panels_have_data(stack: Stack) -> None:
    prometheus = Prometheus(stack.outputs()["endpoints"]["prometheus"].removeprefix("http://"))
    up = 'sum by (role) (up{job="mooseng"})'
    expected = {"master": "3", "chunkserver": "3", "client": "3"}

    def scraped() -> bool:
        seen = {found["metric"]["role"]: found["value"][1] for found in prometheus.result(up)}
        if seen != expected:
            raise ValueError(f"{seen}")
        return True

    wait_until("all nine are scraped", scraped, WAIT_S)
    (group,) = prometheus.get("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule.name for rule in alerts()]
    wait_until("rules are evaluated", lambda: _healths(prometheus) == {"ok"}, WAIT_S)
    leaders = "sum(mooseng_master_is_leader)"  # as a panel of the dashboard "health" shows
    wait_until("one leads", lambda: [found["value"][1] for found in prometheus.result(leaders)] == ["1"], WAIT_S)


def _healths(prometheus: Prometheus) -> set[str]:
    return {rule["health"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]}


def test_only_clients_have_rights_and_none_is_privileged(stack: Stack) -> None:
    for node in sorted(NODES):
        rights = stack.inspect(
            node,
            "{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}} {{.Config.User}}",
        )
        added, user = ("[CAP_SYS_ADMIN]", "0:0") if node in CLIENTS else ("[]", "9420:9420")
        assert rights == f"false true {added} [ALL] {user}"


def test_files_written_in_client_1_are_read_in_the_others_and_on_the_host(stack: Stack) -> None:
    stack.execute(
        "client-1",
        "head -c 20000000 /dev/urandom >/mnt/mooseng/client-1/large && echo moose >/mnt/mooseng/client-1/small",
    )
    assert [stack.execute(node, f"cat /mnt/mooseng/{node}/small") for node in CLIENTS] == ["moose"] * 3
    assert _readable(stack)
    assert Path(stack.mounts, "client-2/small").read_text() == "moose\n"


def test_the_dashboard_sees_all_nine_nothing_wrong_and_the_files(stack: Stack) -> None:
    address = stack.outputs()["endpoints"]["dashboard"]

    def ask(page: str) -> Any:
        with urllib.request.urlopen(f"{address}/api/{page}", timeout=30) as answer:
            return json.load(answer)

    def good() -> bool:
        overview = ask("overview")
        if overview["verdict"]["state"] != "good":
            raise ValueError(f"{overview['verdict']}")
        mounts = [row for row in overview["clients"] if row["kind"] == "mount"]  # the dashboard is a client as well
        return [len(overview["masters"]), len(overview["chunkservers"]), len(mounts)] == [3, 3, 3]

    wait_until("the dashboard finds nothing wrong", good, WAIT_S)
    assert {entry["name"] for entry in ask("files?path=/")["entries"]} == {"large", "small"}


def test_a_leader_killed_on_the_host_comes_back_and_nothing_has_to_change(stack: Stack) -> None:
    leader = _leader(stack)
    stack.wait_until_back({leader: stack.crash(leader)}, WAIT_S)
    assert stack.inspect(leader, "{{.RestartCount}}") == "1"
    assert _readable(stack)
    stack.expect_no_changes()


def test_a_killed_client_mounts_again_over_its_dead_mount(stack: Stack) -> None:
    stack.wait_until_back({"client-1": stack.crash("client-1")}, WAIT_S)
    assert _readable(stack)
    assert Path(stack.mounts, "client-1/small").read_text() == "moose\n"


def test_a_container_removed_by_hand_comes_back_with_refresh(stack: Stack) -> None:
    before = stack.containers()
    docker("rm", "--force", f"{stack.name}-client-2")
    stack.up("--refresh")
    assert _changed(stack, before) == {"client-2"}
    assert _readable(stack)


def test_a_changed_setting_replaces_the_right_containers_role_by_role_and_keeps_data(stack: Stack) -> None:
    before, content = stack.containers(), _sums(stack)
    stack.configure({"settings.master.snapshot_every": 50_000, "settings.chunkserver.scrub_mb_s": 16})
    stack.up()
    assert _changed(stack, before) == {*MASTERS, *CHUNKSERVERS}
    made = {node: stack.inspect(node, "{{.Created}}") for node in (*MASTERS, *CHUNKSERVERS)}
    assert max(made[node] for node in MASTERS) < min(made[node] for node in CHUNKSERVERS)
    assert _sums(stack) == content
    stack.expect_no_changes()


@pytest.mark.parametrize("failed_container", ["removed", "kept"])
def test_a_check_that_cannot_pass_fails_up_with_a_clear_error_and_the_next_up_mends_it(
    stack: Stack, failed_container: str
) -> None:
    """Masters refuse volumes of another cluster. What is kept is in the state with its error, which an update alone would forget."""
    content = _sums(stack)
    stack.configure({"cluster_id": "another", "health.wait_timeout_s": 15})
    if failed_container == "kept":
        stack.env["MOOSENG_DOUBLE_KEEP_FAILED"] = "1"
    with pytest.raises(CommandFailed) as failed:
        stack.up()
    stack.env.pop("MOOSENG_DOUBLE_KEEP_FAILED", None)
    said = str(failed.value)
    assert any(f"{stack.name}-{node} is" in said for node in MASTERS), said
    stack.forget("cluster_id")
    stack.forget("health.wait_timeout_s")
    stack.up()
    assert set(stack.containers()) == NODES | SERVICES
    assert all(stack.healthy(node) for node in MASTERS)
    wait_until("what was written is there again", lambda: _sums(stack) == content, WAIT_S)


def test_a_port_that_is_taken_fails_up_with_a_clear_error_and_a_free_one_mends_it(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stack.configure({"prometheus.port": taken.getsockname()[1] - stack.port_offset})
        with pytest.raises(CommandFailed, match="address already in use") as failed:
            stack.up()
        assert f"{stack.name}-prometheus" in str(failed.value)
    stack.forget("prometheus.port")
    before = stack.containers()
    stack.up()
    assert _changed(stack, before) == {"prometheus"}


def test_grafanas_password_is_nowhere_in_clear(stack: Stack, image: str, tmp_path: Path) -> None:
    """Grafana's own image cannot be had everywhere: a stand-in that is healthy at once shows what the stack does with the secret."""
    stand_in = f"mooseng-test-grafana:{stack.name}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nUSER root\nRUN printf '#!/bin/sh\\n' >/usr/local/bin/wget && chmod +x /usr/local/bin/wget\n"
        'HEALTHCHECK NONE\nENTRYPOINT ["sleep", "inf"]\nCMD []\n'
    )
    docker("build", "--quiet", "--network", "none", "--tag", stand_in, str(tmp_path))
    try:
        before = stack.containers()
        stack.configure({"grafana.enabled": True, "grafana.mode": "existing", "grafana.image": stand_in})
        stack.pulumi("config", "set", "--secret", "mooseng:grafanaPassword", PASSWORD)
        said = stack.up()
        assert _changed(stack, before) == {"grafana"}
        assert stack.execute("grafana", "cat /etc/mooseng/grafana-password") == PASSWORD
        assert PASSWORD not in said
        assert PASSWORD not in docker("inspect", f"{stack.name}-grafana")
        stack.pulumi("refresh", "--yes", "--skip-preview")
        assert PASSWORD not in stack.pulumi("stack", "export")
        found = subprocess.run(
            ["grep", "-rl", PASSWORD, stack.state, stack.work], capture_output=True, text=True, check=False
        )
        assert found.stdout == ""
    finally:
        stack.forget("grafana")
        said = stack.up()
        docker("rmi", stand_in)
    assert "Grafana is left out by this stack's configuration" in said
    assert set(stack.containers()) == NODES | SERVICES


def test_protected_volumes_outlive_their_containers_and_are_used_again(stack: Stack) -> None:
    content = _sums(stack)
    stack.configure({"protect": True})
    stack.up()
    before = stack.containers()
    with pytest.raises(CommandFailed, match="protect"):
        stack.pulumi("destroy", "--yes", "--color", "never")
    assert _changed(stack, before) == set()
    stack.destroy("--exclude-protected")
    assert stack.containers() == {}
    volumes = {f"{stack.name}-{node}-data" for node in (*MASTERS, "prometheus")} | {
        f"{stack.name}-{node}-data-{disk}" for node in CHUNKSERVERS for disk in (1, 2, 3, 4)
    }
    assert set(docker("volume", "ls", "--quiet", "--filter", f"label=mooseng.stack={stack.name}").split()) == volumes
    stack.configure({"protect": False})
    stack.up()
    assert _sums(stack) == content


def test_destroy_leaves_nothing(stack: Stack) -> None:
    stack.destroy()
    assert stack.left() == []
    assert [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{stack.mounts}/" in line] == []
