"""Rights by a supplementary group, asked by processes whose groups the mount cannot see: it runs in a pid name space of its own."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mooseng_py.demo.harness import MOOSENG, Cluster, wait_until
from tests.sharing.support import write_mount_config

UID, GROUP = 41234, 41235
SENTENCE = "run the mount in the pid name space of the host, or set account_groups"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes name spaces and acts as other users: needs root")


@contextmanager
def apart(cluster: Cluster, folder: Path, account_groups: bool) -> Iterator[tuple[Callable[[], int], Path]]:
    """A mount in pid and mount name spaces of its own, where user UID is in group GROUP. -> reads `file` there as a process
    of this pid name space that has the group, and the mount's log."""
    point, config, log = folder / "mnt", folder / "apart.toml", folder / "log"
    point.mkdir()
    for name, line in (("passwd", f"someone:x:{UID}:{UID}::/:/bin/sh"), ("group", f"some:x:{GROUP}:someone")):
        (folder / name).write_text(Path(f"/etc/{name}").read_text() + line + "\n")
    write_mount_config(cluster, config, point, 9498, account_groups=account_groups)
    ours = " && ".join(f"mount --bind {folder}/{name} /etc/{name}" for name in ("passwd", "group"))
    shell = ["sh", "-c", f'{ours} && exec "$@"', "sh", *MOOSENG, "mount", "--config", str(config)]
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", *shell], stdout=output, stderr=output
        )

    def children() -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()]

    def inside(*command: str) -> int:
        if not children():
            return -1
        entered = ["nsenter", "--mount", "--target", str(children()[0]), *command]
        return subprocess.run(entered, check=False, capture_output=True, timeout=30).returncode

    def read() -> int:
        as_user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", f"--groups={GROUP}"]
        return inside(*as_user, "cat", str(point / "file"))

    try:
        wait_until("the mount", lambda: inside("mountpoint", "-q", str(point)) == 0, timeout_s=20)
        yield read, log
    finally:
        for child in children():
            os.kill(child, signal.SIGTERM)
        daemon.wait(30)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may pass."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def readable(cluster: Cluster) -> None:
    """A file that only its group may read."""
    path = cluster.mount(1) / "file"
    path.write_bytes(b"of the group")
    os.chown(path, 0, GROUP)
    path.chmod(0o640)


def test_groups_that_cannot_be_seen_do_not_count_and_the_log_says_so_once(
    cluster: Cluster, readable: None, folder: Path
) -> None:
    with apart(cluster, folder, account_groups=False) as (read, log):
        assert [read() for _ in range(3)] == [1, 1, 1]
        assert log.read_text().count(SENTENCE) == 1


def test_the_account_database_of_the_mount_counts_where_it_is_asked(
    cluster: Cluster, readable: None, folder: Path
) -> None:
    with apart(cluster, folder, account_groups=True) as (read, log):
        assert read() == 0
        os.chown(cluster.mount(1) / "file", 0, GROUP + 1)
        assert read() == 1
        assert SENTENCE not in log.read_text()
