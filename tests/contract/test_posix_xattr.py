"""Extended attributes by xattr(7): what is kept, who may, and what tools carry along."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import mooseng_py
from mooseng_py.demo.harness import Cluster

from .support import as_user, copies_by_tools, refused

KIB = 1 << 10


def kept(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def test_values_come_back_and_flags_say_what_must_be_there(folder: Path) -> None:
    file = folder / "f"
    file.touch()
    assert os.listxattr(file) == []
    os.setxattr(file, "user.a", b"one")
    os.setxattr(file, "user.empty", b"")
    os.setxattr(file, "user.\N{SNOWMAN}", bytes(range(256)))
    assert refused(lambda: os.setxattr(file, "user.a", b"", os.XATTR_CREATE)) == errno.EEXIST
    assert refused(lambda: os.setxattr(file, "user.b", b"", os.XATTR_REPLACE)) == errno.ENODATA
    os.setxattr(file, "user.a", b"another", os.XATTR_REPLACE)
    assert kept(file) == {"user.a": b"another", "user.empty": b"", "user.\N{SNOWMAN}": bytes(range(256))}
    os.removexattr(file, "user.a")
    assert refused(lambda: os.removexattr(file, "user.a")) == errno.ENODATA
    assert refused(lambda: os.getxattr(file, "user.a")) == errno.ENODATA
    with file.open("rb") as opened:
        os.setxattr(opened.fileno(), "user.b", b"by descriptor")
        assert os.getxattr(opened.fileno(), "user.b") == b"by descriptor"


def test_a_change_moves_ctime_alone(folder: Path) -> None:
    file = folder / "f"
    file.touch()
    changes: list[Callable[[], None]] = [
        lambda: os.setxattr(file, "user.a", b"x"),
        lambda: os.removexattr(file, "user.a"),
    ]
    for change in changes:
        before = file.stat()
        time.sleep(0.02)
        change()
        after = file.stat()
        assert after.st_ctime_ns > before.st_ctime_ns
        assert (after.st_mtime_ns, after.st_atime_ns) == (before.st_mtime_ns, before.st_atime_ns)


def test_names_and_sizes_out_of_range_are_refused(folder: Path, is_mooseng: bool) -> None:
    file = folder / "f"
    file.touch()
    os.setxattr(file, "user." + "n" * 250, b"x")
    assert refused(lambda: os.setxattr(file, "user." + "n" * 251, b"x")) == errno.ERANGE
    assert refused(lambda: os.setxattr(file, "user.", b"x")) == errno.EINVAL
    assert refused(lambda: os.setxattr(file, "a", b"x")) == errno.EOPNOTSUPP
    assert refused(lambda: os.setxattr(file, "system.a", b"x")) == errno.EOPNOTSUPP
    assert refused(lambda: os.getxattr(file, "other.a")) == errno.EOPNOTSUPP
    assert refused(lambda: os.setxattr(file, "user.big", bytes(64 * KIB + 1))) == errno.E2BIG
    if is_mooseng:  # ext4 has no room for as much
        os.setxattr(file, "user.big", b"x" * 64 * KIB)
        assert os.getxattr(file, "user.big") == b"x" * 64 * KIB
    answers = [refused(lambda n=n: os.setxattr(file, f"user.{n}", b"x" * 60 * KIB)) for n in range(9)]  # type: ignore[misc]
    assert answers[-1] == errno.ENOSPC


def test_users_have_attributes_on_files_and_directories_only(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "l").symlink_to("d")
    os.mkfifo(folder / "p")
    os.setxattr(folder / "d", "user.a", b"x")
    for name in ("l", "p"):
        path = folder / name
        assert refused(lambda path=path: os.setxattr(path, "user.a", b"x", follow_symlinks=False)) == errno.EPERM  # type: ignore[misc]
        os.setxattr(path, "trusted.a", b"x", follow_symlinks=False)
        assert kept(path) == {"trusted.a": b"x"}
    assert os.getxattr(folder / "l", "user.a") == b"x"
    assert refused(lambda: os.getxattr(folder / "p", "user.a", follow_symlinks=False)) == errno.ENODATA


def test_each_name_space_has_its_rights(folder: Path) -> None:
    folder.chmod(0o755)
    for name, mode in (("own", 0o600), ("shown", 0o644), ("closed", 0o600)):
        (folder / name).touch()
        (folder / name).chmod(mode)
        os.setxattr(folder / name, "user.a", b"x")
        os.setxattr(folder / name, "trusted.a", b"x")
        os.setxattr(folder / name, "security.a", b"x")
    os.chown(folder / "own", 1234, 1234)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1777)
    said = as_user(
        """
for name in ("own", "shown", "closed"):
    print(refused(lambda: os.getxattr(name, "user.a")), refused(lambda: os.setxattr(name, "user.a", b"y")))
    print(refused(lambda: os.removexattr(name, "user.b")), refused(lambda: os.getxattr(name, "security.a")))
    print(refused(lambda: os.getxattr(name, "trusted.a")), refused(lambda: os.setxattr(name, "trusted.a", b"y")))
    print(refused(lambda: os.setxattr(name, "security.b", b"y")), *sorted(os.listxattr(name)))
print(refused(lambda: os.setxattr("sticky", "user.a", b"y")))
""",
        cwd=folder,
    )
    rest = ["done", "ENODATA", "EPERM", "EPERM", "security.a", "user.a"]
    assert said.split() == [
        *("done", "done", "ENODATA", *rest),
        *("done", "EACCES", "EACCES", *rest),
        *("EACCES", "EACCES", "EACCES", *rest),
        "EPERM",
    ]


def test_attributes_are_the_inodes_under_all_its_names(folder: Path) -> None:
    (folder / "a").touch()
    os.setxattr(folder / "a", "user.x", b"1")
    os.link(folder / "a", folder / "b")
    (folder / "a").rename(folder / "c")
    (folder / "b").unlink()
    assert kept(folder / "c") == {"user.x": b"1"}
    with (folder / "c").open("rb") as opened:
        (folder / "c").unlink()
        assert os.getxattr(opened.fileno(), "user.x") == b"1"
    (folder / "c").touch()
    assert kept(folder / "c") == {}


@pytest.mark.parametrize("how", ["write", "truncate", "chown"])
def test_capabilities_of_a_program_end_when_it_changes(folder: Path, how: str) -> None:
    file = folder / "program"
    file.write_bytes(b"x" * 20_000)
    capabilities = bytes.fromhex(
        "0100000200040000000000000000000000000000"
    )  # vfs_cap_data, revision 2: cap_net_bind_service
    os.setxattr(file, "security.capability", capabilities)
    assert os.getxattr(file, "security.capability") == capabilities
    if how == "write":
        with file.open("r+b", buffering=0) as opened:
            opened.write(b"y")
            os.fsync(opened.fileno())
    elif how == "truncate":
        os.truncate(file, 5)
    else:
        os.chown(file, 1, 1)
    assert refused(lambda: os.getxattr(file, "security.capability")) == errno.ENODATA


def test_tools_carry_attributes_along(folder: Path) -> None:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "f").write_bytes(b"content")
    os.setxattr(tree / "f", "user.note", b"binary \0 value")
    os.setxattr(tree, "user.dir", b"d")
    for copy in copies_by_tools(folder, "-aX", "--xattrs"):
        assert kept(copy) == {"user.dir": b"d"}, copy
        assert kept(copy / "f") == {"user.note": b"binary \0 value"}, copy


def test_another_mount_and_a_connection_see_the_same_at_once(cluster: Cluster) -> None:
    here, there = cluster.mount(1) / "xattrs", cluster.mount(2) / "xattrs"
    here.touch()
    with mooseng_py.connect(cluster.url()) as fs:
        for n in range(20):
            os.setxattr(here, "user.n", str(n).encode())
            assert os.getxattr(there, "user.n") == fs.getxattr("/xattrs", "user.n") == str(n).encode()
        fs.setxattr("/xattrs", "user.sdk", memoryview(b"value"))
        assert os.getxattr(there, "user.sdk") == b"value"
        assert sorted(fs.listxattr("/xattrs")) == sorted(os.listxattr(here)) == ["user.n", "user.sdk"]
        fs.removexattr("/xattrs", "user.n")
        assert os.listxattr(there) == ["user.sdk"]
        assert refused(lambda: fs.getxattr("/xattrs", "user.n")) == errno.ENODATA
        assert refused(lambda: fs.setxattr("/xattrs", "user.sdk", b"", os.XATTR_CREATE)) == errno.EEXIST
        fs.symlink("nowhere", "/dangling xattr")
        fs.setxattr("/dangling xattr", "trusted.a", b"1", follow_symlinks=False)
        assert os.getxattr(cluster.mount(2) / "dangling xattr", "trusted.a", follow_symlinks=False) == b"1"


def test_attributes_survive_the_masters(own_cluster: Cluster) -> None:
    file = own_cluster.mount(1) / "f"
    file.touch()
    os.setxattr(file, "user.a", b"x" * 5000)
    for name in ("master-1", "master-2", "master-3"):
        own_cluster.kill(name)
    for name in ("master-1", "master-2", "master-3"):
        own_cluster.restart(name)
    assert os.getxattr(own_cluster.mount(2) / "f", "user.a") == b"x" * 5000
    assert stat.S_ISREG(file.stat().st_mode)
