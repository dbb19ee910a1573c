"""The whole life of a stack, in order: real CLI, real engine, real containers. Each test goes on where the one before ended."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .harness import CommandFailed, Stack, docker, eventually, run

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

MASTERS = ("master-1", "master-2", "master-3")
CHUNKSERVERS = ("chunkserver-1", "chunkserver-2", "chunkserver-3")
CLIENTS = ("client-1", "client-2", "client-3")
NODES = {*MASTERS, *CHUNKSERVERS, *CLIENTS}
PASSWORD = "correct-horse-battery"


def _sums(stack: Stack) -> dict[str, str]:
    """The checksum of the large file as each client has it."""
    return {node: stack.execute(node, f"sha256sum </mnt/mooseng/{node}/large") for node in CLIENTS}


def _readable(stack: Stack) -> bool:
    return len(set(_sums(stack).values())) == 1


def test_up_makes_nine_healthy_containers(stack: Stack) -> None:
    assert set(stack.containers()) == NODES
    eventually("all nine are healthy", lambda: all(stack.healthy(node) for node in NODES))
    stack.expect_no_changes()


def test_the_outputs_say_where_everything_is(stack: Stack) -> None:
    outputs = stack.outputs()
    assert set(outputs["masters"]) == set(MASTERS)
    assert set(outputs["chunkservers"]) == set(CHUNKSERVERS)
    assert outputs["mounts"] == {node: f"{stack.mounts}/{node}" for node in CLIENTS}
    assert outputs["image"].startswith("sha256:")
    host, _, port = outputs["masters"]["master-1"]["http"].rpartition(":")
    assert host == "127.0.0.1"
    assert '"ok": true' in run("curl", "--silent", f"http://127.0.0.1:{port}/health/live")


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


def test_a_leader_killed_on_the_host_comes_back_and_nothing_has_to_change(stack: Stack) -> None:
    stack.kill_and_see_it_return(stack.leader())
    assert _readable(stack)
    stack.expect_no_changes()


def test_a_killed_client_mounts_again_over_its_dead_mount(stack: Stack) -> None:
    stack.kill_and_see_it_return("client-1")
    assert _readable(stack)
    assert Path(stack.mounts, "client-1/small").read_text() == "moose\n"


def test_a_container_removed_by_hand_comes_back_with_refresh(stack: Stack) -> None:
    before = stack.containers()
    docker("rm", "--force", f"{stack.name}-client-2")
    stack.up("--refresh")
    after = stack.containers()
    assert {node for node in NODES if before[node] != after.get(node)} == {"client-2"}
    assert _readable(stack)


def test_a_changed_setting_replaces_the_right_containers_role_by_role_and_keeps_data(stack: Stack) -> None:
    before, content = stack.containers(), _sums(stack)
    stack.configure({"settings.master.snapshot_every": 50_000, "settings.chunkserver.scrub_mb_s": 16})
    stack.up()
    after = stack.containers()
    assert {node for node in NODES if before[node] != after.get(node)} == {*MASTERS, *CHUNKSERVERS}
    made = {node: stack.inspect(node, "{{.Created}}") for node in (*MASTERS, *CHUNKSERVERS)}
    assert max(made[node] for node in MASTERS) < min(made[node] for node in CHUNKSERVERS)
    assert _sums(stack) == content
    stack.expect_no_changes()


def test_volumes_of_another_cluster_fail_up_with_a_clear_error_and_the_next_up_mends_it(stack: Stack) -> None:
    content = _sums(stack)
    stack.configure({"cluster_id": "another", "health.wait_timeout_s": 8})
    with pytest.raises(CommandFailed) as failed:
        stack.up()
    assert f"container {stack.name}-master-1 is" in str(failed.value)
    assert "the last check said" in str(failed.value)
    assert set(stack.containers()).isdisjoint(MASTERS)
    stack.forget("cluster_id")
    stack.forget("health.wait_timeout_s")
    stack.up()
    assert set(stack.containers()) == NODES
    eventually("what was written is there again", lambda: _sums(stack) == content)


def test_grafanas_password_is_nowhere_in_clear(stack: Stack, image: str, tmp_path: Path) -> None:
    """Grafana's own image cannot be had everywhere: a stand-in that is healthy at once shows what the stack does with the secret."""
    stand_in = f"mooseng-test-monitoring:{stack.name}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nUSER root\nRUN printf '#!/bin/sh\\nexec sleep inf\\n' >/usr/local/bin/prometheus"
        " && printf '#!/bin/sh\\n' >/usr/local/bin/promtool && cp /usr/local/bin/promtool /usr/local/bin/wget"
        ' && chmod +x /usr/local/bin/*\nHEALTHCHECK NONE\nENTRYPOINT ["prometheus"]\nCMD []\n'
    )
    docker("build", "--quiet", "--network", "none", "--tag", stand_in, str(tmp_path))
    try:
        before = stack.containers()
        for service in ("prometheus", "grafana"):
            stack.configure({f"{service}.enabled": True, f"{service}.mode": "existing", f"{service}.image": stand_in})
        stack.pulumi("config", "set", "--secret", "mooseng:grafanaPassword", PASSWORD)
        said = stack.up()
        assert set(stack.containers()) == {*NODES, "prometheus", "grafana"}
        assert {node for node in NODES if before[node] != stack.containers()[node]} == set()
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
        for service in ("grafana", "prometheus"):
            stack.forget(f"{service}.enabled")
        stack.up()
        docker("rmi", stand_in)
    assert set(stack.containers()) == NODES


def test_destroy_leaves_nothing(stack: Stack) -> None:
    stack.destroy()
    assert stack.left() == []
    assert [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{stack.mounts}/" in line] == []
