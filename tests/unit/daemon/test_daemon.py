"""The life of a daemon as seen from outside, without a cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.chunkserver.daemon import readiness as chunkserver_readiness
from mooseng_py.config import ChunkserverConfig, ConfigError, MasterConfig, MountConfig, load
from mooseng_py.daemon.arguments import parse
from mooseng_py.daemon.lifecycle import _Daemon
from mooseng_py.master.daemon import ROLE as MASTER
from mooseng_py.master.daemon import readiness as master_readiness
from mooseng_py.mount.daemon import prepare
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import probe

MOOSENG = [sys.executable, "-m", "mooseng_py.cli.main"]


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def test_flags_files_and_the_environment_meet_in_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('role = "mount"\nmasters = ["a:1"]\nthreads = 3\n')
    config = parse(MountConfig, ["--config", str(file), "--name", "n"], {"MOOSENG_DEADLINE_MS": "500"})
    assert (config.name, config.threads, config.deadline_ms) == ("n", 3, 500)
    with pytest.raises(SystemExit) as end:
        parse(MountConfig, ["--thread", "3"], {})
    assert end.value.code == 2


@pytest.mark.parametrize("role", ["master", "chunkserver", "mount", "dashboard"])
def test_help_lists_every_setting_with_what_it_does(role: str) -> None:
    done = subprocess.run([*MOOSENG, role, "--help"], capture_output=True, text=True, check=True)
    assert "--http-listen" in done.stdout
    assert "--config FILE" in done.stdout


def test_a_wrong_configuration_ends_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("node_id = 1\ncopys = 3\n")
    done = subprocess.run([*MOOSENG, "master", "--config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mooseng master: {file}: key 'copys' is unknown; did you mean 'copies'?")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def waiting_mount(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A client whose masters do not run yet."""
    address, log = free_address(), tmp_path / "log"
    arguments = ["mount", "--masters", free_address(), "--http-listen", address]
    with log.open("wb") as output, subprocess.Popen([*MOOSENG, *arguments], stderr=output) as child:
        deadline = time.monotonic() + 20
        while not probe(address, "live").good:
            assert time.monotonic() < deadline, log.read_text()
            assert child.poll() is None, log.read_text()
            time.sleep(0.02)
        yield child, address, log
        child.kill()


def test_a_daemon_without_masters_lives_waits_and_stops_on_a_signal(
    waiting_mount: tuple[subprocess.Popen[bytes], str, Path],
) -> None:
    child, address, log = waiting_mount
    answer = probe(address)
    assert not answer.good
    assert "leading master" in answer.reason or "waiting" in answer.reason
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
    assert "stopped" in log.read_text().splitlines()[-1]


def test_a_taken_http_address_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        arguments = ["mount", "--masters", free_address(), "--http-listen", address]
        done = subprocess.run([*MOOSENG, *arguments], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert f"http_listen = {address} cannot be used" in done.stderr


def test_a_taken_data_port_ends_the_daemon_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        flags = ["--server-id", "1", "--masters", free_address(), "--listen", address, "--disks", str(tmp_path)]
        arguments = [*MOOSENG, "chunkserver", *flags, "--http-listen", free_address()]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert address in done.stderr.splitlines()[-1]


def test_a_mount_point_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    log = Log("test", level="error")

    def config(path: Path | str) -> MountConfig:
        return load(MountConfig, flags={"masters": "a:1", "mount_point": str(path)})

    prepare(config(""), log)
    if not os.path.exists("/dev/fuse"):
        with pytest.raises(ConfigError, match="/dev/fuse"):
            prepare(config(tmp_path), log)
        return
    prepare(config(tmp_path), log)
    with pytest.raises(ConfigError, match="make the directory first"):
        prepare(config(tmp_path / "none"), log)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a directory"):
        prepare(config(tmp_path / "file"), log)
    with pytest.raises(ConfigError, match="has a proc mounted"):
        prepare(config("/proc"), log)


def test_readiness_follows_the_native_status() -> None:
    master = load(MasterConfig, flags={"node_id": "1", "data_dir": "/d", "cluster_id": "c"})
    base = {"term": 3, "leader": None, "leader_id": None, "is_leader": False, "ready": False, "failed": None}
    base |= {"no_leader": None, "outdated": None}
    assert not master_readiness(master, base).good
    assert master_readiness(master, base | {"leader": "h:1", "leader_id": 2, "ready": True}).good
    assert master_readiness(master, base | {"leader": "h:1", "leader_id": 1, "is_leader": True, "ready": True}).good
    failed = master_readiness(master, base | {"leader": "h:1", "failed": "fdatasync failed"})
    assert (failed.good, "fdatasync failed" in failed.reason) == (False, True)
    assert master_readiness(master, base | {"no_leader": "1 of 3 is there"}).reason == "1 of 3 is there"
    assert master_readiness(master, base | {"outdated": "an older copy"}).reason == "an older copy"
    server = load(ChunkserverConfig, flags={"server_id": "1", "masters": "a:1", "disks": "/d"})
    standing = {"registered": False, "leader": "", "epoch": 0, "state": "looking for the leader"}
    assert chunkserver_readiness(server, standing).reason == "looking for the leader"
    assert chunkserver_readiness(server, standing | {"registered": True, "leader": "h:1"}).good


def test_a_daemon_whose_node_failed_for_good_is_not_alive() -> None:
    class Failed:
        def status(self) -> dict[str, object]:
            return {"failed": "writing the log failed"}

    daemon = _Daemon(MASTER, load(MasterConfig, flags={"node_id": "1", "data_dir": "/d", "cluster_id": "c"}))
    assert daemon.live().good
    daemon.node = Failed()  # type: ignore[assignment]  # only its status is asked
    assert (daemon.live().good, daemon.live().reason) == (False, "writing the log failed")
