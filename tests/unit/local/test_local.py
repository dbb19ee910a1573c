"""The local runner's parts: layout, processes, ports, mount points. No cluster is started here."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mooseng_py.local import LocalCluster, LocalError, process
from mooseng_py.local.layout import Layout, last_log_line
from mooseng_py.local.ports import require_free
from mooseng_py.mount import mountpoint
from mooseng_py.topology import NodeSpec, Ports


def free_offset() -> int:
    for offset in range(20_000, 50_000, 100):
        try:
            for port in (9421, 9441, 9420):
                with socket.create_server(("127.0.0.1", port + offset)):
                    pass
        except OSError:
            continue
        return offset
    raise AssertionError("no free ports")


def node_on(port: int) -> NodeSpec:
    return NodeSpec("master-1", "master", 1, "localhost", Ports(http=port))


def test_a_directory_without_a_cluster_says_how_to_start_one(tmp_path: Path) -> None:
    for call in (LocalCluster(tmp_path).status, LocalCluster(tmp_path).down, LocalCluster(tmp_path).masters):
        with pytest.raises(LocalError, match="mooseng local up"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_refused_up_leaves_no_trace(tmp_path: Path) -> None:
    for arguments, sentence in (
        ({"profile": "huge"}, "minimal, demo"),
        ({"settings": {"master": {"heartbeet_ms": "1"}}}, "heartbeat_ms"),
        ({"settings": {"master-9": {"heartbeat_ms": "1"}}}, "master-9"),
        ({"settings": {"master": {"heartbeat_ms": "soon"}}}, "whole number"),
    ):
        with pytest.raises(LocalError, match=sentence):
            LocalCluster(tmp_path / "new").up(port_offset=free_offset(), **arguments)
        assert not (tmp_path / "new").exists()


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    offset = free_offset()
    with (
        socket.create_server(("127.0.0.1", 9421 + offset)),
        pytest.raises(LocalError, match=rf"port {9421 + offset} is taken by process {os.getpid()}, '.*--port-offset"),
    ):
        LocalCluster(tmp_path / "new").up("minimal", port_offset=offset)
    assert not (tmp_path / "new").exists()


def test_a_port_in_time_wait_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first waits
        client.recv(1)
        client.close()
    require_free([node_on(port)])


def test_another_profile_or_offset_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write(layout.new("minimal", 100, {}))
    with pytest.raises(LocalError, match="profile 'minimal', not 'demo'"):
        LocalCluster(tmp_path).up("demo")
    with pytest.raises(LocalError, match="port offset 100, not 200"):
        LocalCluster(tmp_path).up(port_offset=200)


def test_a_broken_identity_file_is_one_sentence(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"profile": "demo"}'):
        (tmp_path / "cluster.json").write_text(text)
        with pytest.raises(LocalError, match=r"cluster\.json cannot be used"):
            LocalCluster(tmp_path).status()


def test_two_commands_cannot_change_one_cluster_at_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write(layout.new("minimal", 0, {}))
    with layout.locked(), pytest.raises(LocalError, match="another command"):
        LocalCluster(tmp_path).down()
    assert LocalCluster(tmp_path).down() == []


def test_a_cluster_that_was_never_started_is_stopped(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write(layout.new("minimal", free_offset(), {}))
    status = LocalCluster(tmp_path).status()
    assert (status.state, status.leader) == ("stopped", "")
    assert {node.state for node in status.nodes} == {"stopped"}
    with pytest.raises(LocalError, match="does not run"):
        LocalCluster(tmp_path).kill("master-1")
    with pytest.raises(LocalError, match="chunkserver-1"):
        LocalCluster(tmp_path).kill("master-7")


def test_a_node_whose_process_is_gone_is_dead_and_not_stopped(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    identity = layout.new("minimal", free_offset(), {})
    layout.write(identity)
    master = identity.spec().masters[0]
    layout.node(master).mkdir(parents=True)
    layout.pid_file(master).write_text("999999 1\n")
    node = LocalCluster(tmp_path).status().nodes[0]
    assert (node.state, node.pid) == ("dead", None)
    assert "restart master-1" in node.reason


def test_purging_removes_everything_and_nothing_else(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write(layout.new("minimal", 0, {}))
    (tmp_path / "nodes" / "master-1").mkdir(parents=True)
    (tmp_path / "mine").write_text("stays")
    LocalCluster(tmp_path).down(purge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_process_is_known_by_its_start_time_too(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ours = process.Process(
            child.pid, int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        )
        stranger = process.Process(child.pid, ours.start_ticks - 1)
        assert ours.alive()
        assert not stranger.alive()
        stranger.send(signal.SIGKILL)
        assert child.poll() is None
        assert process.stop([ours], 10) == []
        assert not ours.alive()
    finally:
        child.kill()
        child.wait()


def test_a_process_that_ignores_the_request_to_stop_is_killed() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stubborn = process.Process(
            child.pid, int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        )
        assert process.stop([stubborn], 0.1) == [stubborn]
        assert not stubborn.alive()


def test_a_started_daemon_runs_in_its_own_session_and_logs_to_its_file(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "log", tmp_path / "pid"
    started = process.start(
        ["master", "--nonsense"], log=log, pid_file=pid_file, environ={**os.environ, "MOOSENG_MASTERS": "bad"}
    )
    assert process.read(pid_file) == started
    assert process.wait_gone([started], 10) == []
    assert "--nonsense" in last_log_line(log)


def test_a_cut_pid_file_is_nobody(tmp_path: Path) -> None:
    for text in ("", "12", "x y"):
        (tmp_path / "pid").write_text(text)
        assert process.read(tmp_path / "pid") is None


def test_the_last_log_line_is_of_this_start_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    assert last_log_line(log) == "old"
    assert last_log_line(log, since=4) == ""
    log.write_text("old\nnew\n\n")
    assert last_log_line(log, since=4) == "new"
    assert last_log_line(tmp_path / "none") == ""


def test_a_plain_directory_is_no_mount_and_is_never_unmounted(tmp_path: Path) -> None:
    assert mountpoint.mounted_type(tmp_path) is None
    assert mountpoint.mounted_type("/proc") == "proc"
    assert not mountpoint.is_dead(tmp_path)
    mountpoint.detach(tmp_path)
    mountpoint.detach("/proc")
    assert mountpoint.mounted_type("/proc") == "proc"


def test_what_is_mounted_below_is_in_the_way_also_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    above = next(above for mount in mountpoint._mounts() if (above := os.path.dirname(mount.path)) != "/")
    assert "is mounted below" in mountpoint.in_the_way(above)
    assert "is mounted below" in mountpoint.in_the_way(tmp_path / "link" / above[1:])
    assert mountpoint.mounted_type(tmp_path / "link" / "proc") == "proc"
    assert mountpoint.in_the_way(tmp_path) == ""


def test_an_unmounting_that_does_not_come_to_its_end_is_given_up_and_the_connection_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that stands for umount waits as one does that the kernel holds."""
    waits = tmp_path / "umount"
    waits.write_text("#!/bin/sh\nexec sleep 30\n")
    waits.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(mountpoint, "_UMOUNT_TIMEOUT_S", 0.05)
    mount = mountpoint._Mount(str(tmp_path / "mnt"), "fuse", "mooseng", 77)
    monkeypatch.setattr(mountpoint, "_mounts", lambda: [mount])
    cut: list[int] = []
    monkeypatch.setattr(mountpoint, "_abort", cut.append)
    with pytest.raises(OSError, match="still mounted"):
        mountpoint.detach(tmp_path / "mnt")
    assert set(cut) == {77}


def test_a_protected_mount_point_takes_no_files(tmp_path: Path) -> None:
    point = tmp_path / "mount point"
    point.mkdir()
    if not mountpoint.protect(point):
        pytest.skip("this file system or user cannot make directories immutable")
    try:
        with pytest.raises(PermissionError):
            (point / "file").write_text("lost under the mount")
    finally:
        assert mountpoint.unprotect(point)
    (point / "file").write_text("x")


def test_a_missing_mount_point_cannot_be_protected(tmp_path: Path) -> None:
    assert not mountpoint.protect(tmp_path / "none")
    assert not mountpoint.unprotect(tmp_path / "none")


def test_the_dashboard_stands_beside_the_nodes_and_is_known_where_there_is_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    offset = free_offset()
    layout.write(layout.new("minimal", offset, {}, dashboard=True))
    status = LocalCluster(tmp_path).status()
    assert [node.name for node in status.nodes] == ["master-1", "chunkserver-1", "client-1", "dashboard"]
    assert status.nodes[-1].addresses == {"http": f"127.0.0.1:{8080 + offset}"}
    with pytest.raises(LocalError, match="dashboard does not run"):
        LocalCluster(tmp_path).kill("dashboard")
    assert LocalCluster(tmp_path).down() == []


def test_a_cluster_made_before_there_were_dashboards_has_none(tmp_path: Path) -> None:
    text = '{"profile": "minimal", "port_offset": 0, "cluster_id": "c", "settings": {}}'
    (tmp_path / "cluster.json").write_text(text)
    assert Layout(tmp_path).read().services() == ()
    with pytest.raises(LocalError, match="there is no node 'dashboard'"):
        LocalCluster(tmp_path).kill("dashboard")


def test_settings_of_a_dashboard_that_is_not_there_are_refused_and_its_taken_port_can_be_left_out(
    tmp_path: Path,
) -> None:
    offset = free_offset()
    with pytest.raises(LocalError, match="no such node or daemon"):
        LocalCluster(tmp_path / "a").up("minimal", port_offset=offset, settings={"dashboard": {"poll_ms": "500"}})
    with (
        socket.create_server(("127.0.0.1", 8080 + offset)),
        pytest.raises(LocalError, match="leave it out with --no-dashboard"),
    ):
        LocalCluster(tmp_path / "b").up("minimal", port_offset=offset, dashboard=True)
    assert not (tmp_path / "b").exists()
