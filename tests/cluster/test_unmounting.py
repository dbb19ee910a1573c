"""A mount is taken down in good order or not at all, and whoever takes it down never waits for ever.

The hard case is a file system in an image on the mount, mounted below: its end needs answers of the daemon that is to end.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, wait_until
from mooseng_py.mount import mountpoint
from tests.faults.images import Image, images
from tests.sharing.support import pid_of

MEGABYTES = 16
# Far above what it takes; what never ends does not end in that time either.
PATIENCE_S = 40

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a loop mount needs root")


@contextlib.contextmanager
def image_on(directory: Path, point: Path | None = None) -> Iterator[Image]:
    """An ext4 image that lies on the mount, mounted beside it or at `point`, with bytes that only the kernel has."""
    (directory / "disk").mkdir(exist_ok=True)
    with images(Image(directory / "disk", MEGABYTES)) as (image,):
        if point is not None:
            image.detach()
            point.mkdir()
            image.point = point
            image.attach()
        (image.point / "unsynced").write_bytes(bytes(1 << 20))
        yield image


def local(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mooseng local ...`; fails when it does not come to its end."""
    command = [sys.executable, "-m", "mooseng_py.cli.main", "local", *arguments, "--dir", str(cluster.dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def log_of(cluster: Cluster, name: str) -> str:
    return (cluster.dir / "nodes" / name / "log").read_text()


def check_loop_devices_work(directory: Path) -> None:
    """That no worker of a loop device waits for what is gone: the next one would wait for it."""
    program = "import sys; from pathlib import Path; from tests.faults.images import Image, images\nwith images(Image(Path(sys.argv[1]), 8)): pass"
    subprocess.run([sys.executable, "-c", program, str(directory / "other")], check=True, timeout=PATIENCE_S)


def test_what_is_mounted_below_is_a_refusal_with_a_sentence(cluster: Cluster) -> None:
    root = cluster.mount(1)
    with image_on(root) as image:
        for arguments in (["down"], ["down", "--purge"], ["restart", "client-1"]):
            done = local(cluster, *arguments)
            assert done.returncode == 1
            assert f"client-1 is in use, nothing was stopped: {image.point} is mounted below" in done.stderr
            assert f"umount {image.point}" in done.stderr
        os.kill(pid_of(cluster, "client-1"), signal.SIGTERM)
        wait_until(
            "the daemon says so", lambda: f"not stopped: {image.point} is mounted below" in log_of(cluster, "client-1")
        )
        assert all(node["state"] == "ready" for node in cluster.nodes())
        assert (image.point / "unsynced").stat().st_size == 1 << 20
    assert local(cluster, "restart", "client-1").returncode == 0


def test_a_loop_device_on_a_file_of_the_mount_is_a_refusal_wherever_it_is_mounted(
    cluster: Cluster, tmp_path: Path
) -> None:
    root = cluster.mount(2)
    with image_on(root, tmp_path / "elsewhere") as image:
        done = local(cluster, "restart", "client-2")
        assert done.returncode == 1
        assert f"is the file {image.file}" in done.stderr
        assert "losetup -d /dev/loop" in done.stderr
    assert local(cluster, "restart", "client-2").returncode == 0


def test_a_killed_daemon_is_replaced_whatever_is_mounted_below(cluster: Cluster, tmp_path: Path) -> None:
    root = cluster.mount(1)
    with image_on(root) as image:
        cluster.kill("client-1")
        assert mountpoint.is_dead(root)
        began = time.monotonic()
        assert local(cluster, "restart", "client-1").returncode == 0
        assert time.monotonic() - began < 20
        assert image.file.stat().st_size == MEGABYTES << 20
    check_loop_devices_work(tmp_path)


def test_a_daemon_dies_while_another_name_space_holds_its_mount_and_what_is_below(
    cluster: Cluster, tmp_path: Path
) -> None:
    root = cluster.mount(3)
    with image_on(root) as image:
        hold = f"mount --make-rprivate / && echo ready && exec sleep {PATIENCE_S}"
        with subprocess.Popen(["unshare", "--mount", "sh", "-c", hold], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            subprocess.run(["umount", "-l", str(image.point)], check=True)
            subprocess.run(["umount", "-l", str(root)], check=True)
            os.kill(pid_of(cluster, "client-3"), signal.SIGKILL)
            holder.kill()
    assert local(cluster, "restart", "client-3").returncode == 0
    check_loop_devices_work(tmp_path)


def test_open_files_and_working_directories_do_not_hold_up_the_end(cluster: Cluster) -> None:
    root = cluster.mount(2)
    (root / "here").mkdir()
    (root / "here" / "file").write_bytes(b"x" * 100_000)
    program = "import os, sys\nos.chdir(sys.argv[1])\nfile = open('file', 'rb')\nprint('ready', flush=True)\nsys.stdin.readline()\nfile.read()"
    user = subprocess.Popen(
        [sys.executable, "-c", program, str(root / "here")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "ready\n"
    began = time.monotonic()
    assert local(cluster, "restart", "client-2").returncode == 0
    assert time.monotonic() - began < 20
    _, said = user.communicate("\n", timeout=PATIENCE_S)
    assert os.strerror(errno.ENOTCONN) in said
    assert (root / "here" / "file").read_bytes() == b"x" * 100_000
