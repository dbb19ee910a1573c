"""Access control lists by acl(5), set and shown by setfacl and getfacl."""

import errno
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster

from .support import as_user, copies_by_tools, refused

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@pytest.fixture(autouse=True)
def _tools() -> None:
    if shutil.which("setfacl") is None:
        if os.environ.get("CI"):
            pytest.fail("setfacl is not there: install the package acl")
        pytest.skip("setfacl is not there: install the package acl")


def setfacl(path: Path, *arguments: str) -> None:
    subprocess.run(["setfacl", *arguments, str(path)], check=True)


def getfacl(path: Path) -> list[str]:
    done = subprocess.run(
        ["getfacl", "--omit-header", "--numeric", "--absolute-names", "--no-effective", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def mode(path: Path) -> str:
    return f"{path.lstat().st_mode & 0o7777:o}"


def tried(folder: Path, path: str, uid: int = 1234, groups: tuple[int, ...] = ()) -> str:
    """Which of read, write and execute `uid` may: as open(2) and access(2) say it, which must agree."""
    script = f"""
import stat
is_dir = stat.S_ISDIR(os.stat({path!r}).st_mode)
for letter, flag, mask in (("r", os.O_RDONLY, os.R_OK), ("w", os.O_WRONLY, os.W_OK), ("x", None, os.X_OK)):
    may = os.access({path!r}, mask)
    if flag is not None and not is_dir:
        assert may == (refused(lambda: os.close(os.open({path!r}, flag))) == "done"), letter
    print(letter if may else "-", end="")
"""
    return as_user(script, cwd=folder, uid=uid, gid=uid, groups=groups)


def test_a_list_says_who_may_and_the_mode_shows_its_mask(folder: Path) -> None:
    folder.chmod(0o755)
    file = folder / "f"
    file.touch()
    file.chmod(0o640)
    setfacl(file, "-m", "u:1234:rw,g:77:rx")
    assert getfacl(file) == ["user::rw-", "user:1234:rw-", "group::r--", "group:77:r-x", "mask::rwx", "other::---"]
    assert mode(file) == "670"
    assert tried(folder, "f") == "rw-"
    assert tried(folder, "f", uid=2000) == "---"
    assert tried(folder, "f", uid=2000, groups=(77,)) == "r-x"
    file.chmod(0o640)
    assert getfacl(file)[1:5] == ["user:1234:rw-", "group::r--", "group:77:r-x", "mask::r--"]
    assert tried(folder, "f") == "r--"
    assert tried(folder, "f", uid=2000, groups=(77,)) == "r--"
    setfacl(file, "-x", "u:1234")
    assert tried(folder, "f") == "---"
    setfacl(file, "-b")
    assert getfacl(file) == ["user::rw-", "group::r--", "other::---"]
    assert mode(file) == "640"
    assert os.listxattr(file) == []


def test_a_list_on_a_directory_says_who_may_search_and_change_it(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "d").mkdir(mode=0o700)
    (folder / "d" / "f").write_text("seen")
    (folder / "d" / "f").chmod(0o644)
    script = 'print(refused(lambda: open("d/f").read()), refused(lambda: open("d/new", "w")), refused(lambda: os.listdir("d")))'
    assert as_user(script, cwd=folder) == "EACCES EACCES EACCES"
    setfacl(folder / "d", "-m", "u:1234:x")
    assert as_user(script, cwd=folder) == "done EACCES EACCES"
    setfacl(folder / "d", "-m", "u:1234:rwx")
    assert as_user(script, cwd=folder) == "done done done"
    assert (folder / "d" / "new").stat().st_uid == 1234


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_what_is_made_inherits_the_default_list_and_the_umask_does_not_count(folder: Path, umask: int) -> None:
    setfacl(folder, "-d", "-m", "u:1234:rwx,g::rx,o::r")
    old = os.umask(umask)
    try:
        os.close(os.open(folder / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.close(os.open(folder / "narrow", os.O_CREAT | os.O_WRONLY, 0o600))
        (folder / "d").mkdir(mode=0o777)
        os.mkfifo(folder / "p", 0o666)
        (folder / "l").symlink_to("f")
    finally:
        os.umask(old)
    assert getfacl(folder / "f") == ["user::rw-", "user:1234:rwx", "group::r-x", "mask::rw-", "other::r--"]
    assert getfacl(folder / "narrow") == ["user::rw-", "user:1234:rwx", "group::r-x", "mask::---", "other::---"]
    assert getfacl(folder / "p") == getfacl(folder / "f")
    own = ["user::rwx", "user:1234:rwx", "group::r-x", "mask::rwx", "other::r--"]
    assert getfacl(folder / "d") == own + ["default:" + entry for entry in own]
    assert [mode(folder / name) for name in ("f", "narrow", "d", "p")] == ["664", "600", "774", "664"]
    assert os.listxattr(folder / "l", follow_symlinks=False) == []
    setfacl(folder, "-k")
    old = os.umask(umask)
    try:
        os.close(os.open(folder / "later", os.O_CREAT | os.O_WRONLY, 0o666))
        (folder / "d2").mkdir(mode=0o777)
        os.mkfifo(folder / "p2", 0o666)
    finally:
        os.umask(old)
    assert [mode(folder / name) for name in ("later", "d2", "p2")] == [f"{m & ~umask:o}" for m in (0o666, 0o777, 0o666)]


def test_only_the_owner_and_root_change_a_list(folder: Path) -> None:
    folder.chmod(0o755)
    for name, owner in (("own", 1234), ("other", 0)):
        (folder / name).touch()
        (folder / name).chmod(0o666)
        os.chown(folder / name, owner, owner)
    said = as_user(
        """
value = bytes.fromhex("02000000 01000600ffffffff 02000700d2040000 04000400ffffffff 10000700ffffffff 20000000ffffffff")
for name in ("own", "other"):
    print(refused(lambda: os.setxattr(name, "system.posix_acl_access", value)))
print(refused(lambda: os.removexattr("other", "system.posix_acl_access")))
""",
        cwd=folder,
    )
    assert said.split() == ["done", "EPERM", "EPERM"]
    assert "user:1234:rwx" in getfacl(folder / "own")


def entries(*found: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in found)


def test_what_is_no_list_or_has_no_place_is_refused(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "l").symlink_to("f")
    none = 0xFFFFFFFF
    good = entries((1, 6, none), (2, 6, 7), (4, 4, none), (16, 6, none), (32, 0, none))
    without_mask = entries((1, 6, none), (2, 6, 7), (4, 4, none), (32, 0, none))

    def given(name: str, value: bytes, path: str = "f") -> int | None:
        return refused(lambda: os.setxattr(folder / path, name, value, follow_symlinks=False))

    assert given(ACCESS, without_mask) == errno.EINVAL
    assert given(ACCESS, entries((1, 6, none))) == errno.EINVAL
    assert given(ACCESS, good[:-1]) == errno.EINVAL
    assert given(ACCESS, b"") in (None, errno.EINVAL)
    assert given(DEFAULT, good) == errno.EACCES
    assert given(ACCESS, good, "l") == errno.EOPNOTSUPP
    assert given(ACCESS, good) is None
    assert os.getxattr(folder / "f", ACCESS) == good
    assert refused(lambda: os.getxattr(folder / "f", DEFAULT)) == errno.ENODATA
    assert refused(lambda: os.removexattr(folder / "f", DEFAULT)) is None
    assert refused(lambda: os.removexattr(folder / "f", ACCESS)) is None
    assert refused(lambda: os.removexattr(folder / "f", ACCESS)) is None


def test_setting_a_list_clears_set_gid_for_who_is_not_in_the_group(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "f").touch()
    os.chown(folder / "f", 1234, 77)
    (folder / "f").chmod(0o2755)
    script = 'import subprocess; subprocess.run(["setfacl", "-m", "u:7:r", "f"], check=True)'
    as_user(script, cwd=folder)
    assert mode(folder / "f") == "755"
    (folder / "f").chmod(0o2755)
    as_user(script.replace("u:7", "u:8"), cwd=folder, groups=(77,))
    assert mode(folder / "f") == "2755"


def test_tools_carry_lists_along(folder: Path) -> None:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "f").touch()
    setfacl(tree, "-m", "u:1234:rwx,d:u:1234:rx")
    setfacl(tree / "f", "-m", "g:77:w")
    for copy in copies_by_tools(folder, "-aAX", "--acls"):
        assert getfacl(copy) == getfacl(tree), copy
        assert getfacl(copy / "f") == getfacl(tree / "f"), copy


def test_a_list_counts_on_another_mount_at_once(cluster: Cluster) -> None:
    (cluster.mount(1) / "acl").mkdir()
    file = cluster.mount(1) / "acl" / "f"
    file.touch()
    file.chmod(0o600)
    for allowed in ("r", "rw", "-"):
        setfacl(file, "-m", f"u:1234:{allowed}")
        assert tried(cluster.mount(2) / "acl", "f") == {"r": "r--", "rw": "rw-", "-": "---"}[allowed]
