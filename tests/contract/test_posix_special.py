"""Fifos, sockets and devices: names for what a kernel keeps, with the rights of any other file. Source: mknod(2), fifo(7), unix(7)."""

import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

import mooseng_py
from mooseng_py.demo.harness import Cluster
from tests.contract.support import as_user, refused

NULL = os.makedev(1, 3)
KINDS = {
    "fifo": (stat.S_IFIFO, 0),
    "socket": (stat.S_IFSOCK, 0),
    "character device": (stat.S_IFCHR, os.makedev(511, 0xABCDE)),
    "block device": (stat.S_IFBLK, os.makedev(7, 300)),
}


@pytest.mark.parametrize("what", KINDS)
def test_a_special_file_shows_what_it_is_and_moves_links_and_goes_like_any_other(folder: Path, what: str) -> None:
    kind, device = KINDS[what]
    before = os.umask(0o027)
    try:
        os.mknod(folder / "a", kind | 0o666, device)
    finally:
        os.umask(before)
    found = (folder / "a").lstat()
    assert (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)) == (kind, 0o640)
    assert (found.st_rdev, found.st_size, found.st_blocks, found.st_nlink) == (device, 0, 0, 1)
    assert refused(lambda: os.mknod(folder / "a", kind | 0o666, device)) == errno.EEXIST
    os.link(folder / "a", folder / "b")
    os.rename(folder / "a", folder / "c")
    (folder / "file").write_bytes(b"x")
    os.rename(folder / "c", folder / "file")
    assert sorted(os.listdir(folder)) == ["b", "file"]
    assert (folder / "file").lstat().st_ino == (folder / "b").lstat().st_ino == found.st_ino
    assert (folder / "b").lstat().st_nlink == 2
    os.chmod(folder / "b", 0o604)
    os.chown(folder / "b", 12, 34)
    os.utime(folder / "b", ns=(1, 2))
    changed = (folder / "file").lstat()
    assert (stat.S_IMODE(changed.st_mode), changed.st_uid, changed.st_gid) == (0o604, 12, 34)
    assert (changed.st_mtime_ns, changed.st_rdev) == (2, device)
    assert refused(lambda: os.truncate(folder / "b", 0)) == errno.EINVAL
    for name in ("b", "file"):
        os.unlink(folder / name)
    assert os.listdir(folder) == []


def test_a_listing_tells_the_kinds(folder: Path) -> None:
    for name, (kind, device) in KINDS.items():
        os.mknod(folder / name, kind | 0o600, device)
    listed = subprocess.run(["find", ".", "-printf", "%f %y\n"], cwd=folder, capture_output=True, text=True, check=True)
    assert sorted(listed.stdout.splitlines()) == [". d", "block device b", "character device c", "fifo p", "socket s"]


def test_bytes_go_through_a_fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    data = os.urandom(50_000)  # what the next pipe takes
    with subprocess.Popen(["cat", "pipe"], cwd=folder, stdout=subprocess.PIPE) as reader:
        (folder / "pipe").write_bytes(data)
        assert reader.communicate(timeout=30)[0] == data
    assert (folder / "pipe").lstat().st_size == 0
    assert refused(lambda: os.open(folder / "pipe", os.O_WRONLY | os.O_NONBLOCK)) == errno.ENXIO


def test_a_socket_is_bound_and_found_by_its_name(folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    path = f"/proc/self/fd/{here}/s"  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        assert stat.S_ISSOCK((folder / "s").lstat().st_mode)
        client.connect(path)
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(10) == b"hello"
    with socket.socket(socket.AF_UNIX) as late:
        assert refused(lambda: late.connect(path)) == errno.ECONNREFUSED
    assert refused(lambda: os.open(folder / "s", os.O_RDONLY)) == errno.ENXIO
    os.close(here)


def test_only_root_makes_devices_and_everybody_the_rest_and_whiteouts(folder: Path) -> None:
    folder.chmod(0o777)
    said = as_user(
        """
import stat
print(refused(lambda: os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 3))))
print(refused(lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))))
print(refused(lambda: os.mkfifo("pipe", 0o600)))
print(refused(lambda: os.mknod("socket", stat.S_IFSOCK | 0o600)))
print(refused(lambda: os.mknod("whiteout", stat.S_IFCHR, 0)))
print(os.lstat("pipe").st_uid, os.lstat("whiteout").st_rdev)
""",
        cwd=folder,
    )
    assert said.split() == ["EPERM", "EPERM", "done", "done", "done", "1234", "0"]
    folder.chmod(0o755)
    assert as_user("print(refused(lambda: os.mkfifo('other')))", cwd=folder).strip() == "EACCES"


def test_copies_of_a_tree_keep_special_files(folder: Path) -> None:
    (folder / "tree").mkdir()
    for name, (kind, device) in KINDS.items():
        os.mknod(folder / "tree" / name, kind | 0o640, device)
    subprocess.run(["cp", "-a", "tree", "copy"], cwd=folder, check=True)
    subprocess.run("tar c tree | tar x --one-top-level=out", shell=True, cwd=folder, check=True)
    for name, (kind, device) in KINDS.items():
        for copy in ("copy", "out/tree"):
            if (copy, name) == ("out/tree", "socket"):
                continue  # tar leaves sockets out
            found = (folder / copy / name).lstat()
            assert (found.st_mode, found.st_rdev) == (kind | 0o640, device), (copy, name)
    shutil.rmtree(folder / "copy")


def test_another_mount_and_a_connection_see_the_same(cluster: Cluster) -> None:
    for name, (kind, device) in KINDS.items():
        os.mknod(cluster.mount(1) / name, kind | 0o640, device)
    with mooseng_py.connect(cluster.url()) as fs:
        for name, (kind, device) in KINDS.items():
            seen, told = (cluster.mount(2) / name).lstat(), fs.stat("/" + name)
            assert (seen.st_mode, seen.st_rdev) == (told.st_mode, told.st_rdev) == (kind | 0o640, device)
            assert refused(lambda name=name: fs.open("/" + name, "rb", buffering=0)) == errno.ENXIO  # type: ignore[misc]
        fs.mkfifo("/made", 0o644)
        fs.mknod("/null", stat.S_IFCHR | 0o600, NULL)
        fs.mknod("/plain", 0o600)
        assert refused(lambda: fs.mkfifo("/made")) == errno.EEXIST
        assert refused(lambda: fs.mknod("/folder", stat.S_IFDIR)) == errno.EINVAL
    assert stat.S_ISFIFO((cluster.mount(2) / "made").lstat().st_mode)
    assert (cluster.mount(2) / "null").lstat().st_rdev == NULL
    assert (cluster.mount(2) / "plain").read_bytes() == b""
    # Mounts are made `nodev`: a device is kept and shown, and opens nothing.
    assert refused(lambda: os.open(cluster.mount(2) / "null", os.O_RDONLY)) == errno.EACCES
