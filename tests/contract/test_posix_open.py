"""Opening: flags and their errnos. Source: open(2), POSIX.1-2017 open()."""

import ctypes
import errno
import os
import stat
import time
from pathlib import Path

import pytest

from tests.contract.support import as_user, refused

libc = ctypes.CDLL(None, use_errno=True)


def test_creating_follows_o_excl_and_the_mode_follows_the_umask(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        os.close(os.open(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o777))
        os.mkdir(folder / "d", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o750
    assert refused(lambda: os.open(folder / "f", os.O_CREAT | os.O_EXCL)) == errno.EEXIST
    assert refused(lambda: os.open(folder / "d", os.O_CREAT | os.O_EXCL)) == errno.EEXIST


def test_a_mode_without_write_permission_still_gives_its_creator_a_writable_handle(folder: Path) -> None:
    folder.chmod(0o777)
    script = """
fd = os.open('f', os.O_CREAT | os.O_RDWR, 0o400)
os.write(fd, b'abc'); os.ftruncate(fd, 2); os.fsync(fd)
print(os.pread(fd, 10, 0), refused(lambda: os.open('f', os.O_WRONLY)), refused(lambda: os.truncate('f', 0)))
os.close(fd)
print(os.stat('f').st_size)
"""
    assert as_user(script, cwd=folder).split("\n") == ["b'ab' EACCES EACCES", "2"]


def test_o_directory_takes_directories_only(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "d").mkdir()
    os.close(os.open(folder / "d", os.O_RDONLY | os.O_DIRECTORY))
    assert refused(lambda: os.open(folder / "f", os.O_RDONLY | os.O_DIRECTORY)) == errno.ENOTDIR
    (folder / "link").symlink_to("d")
    os.close(os.open(folder / "link", os.O_RDONLY | os.O_DIRECTORY))
    assert refused(lambda: os.open(folder / "link", os.O_DIRECTORY | os.O_NOFOLLOW)) in (errno.ENOTDIR, errno.ELOOP)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT])
def test_a_directory_cannot_be_opened_for_writing(folder: Path, flags: int) -> None:
    (folder / "d").mkdir()
    assert refused(lambda: os.open(folder / "d", flags)) == errno.EISDIR


def test_reading_a_directory_as_a_file_is_eisdir(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert refused(lambda: os.read(fd, 10)) == errno.EISDIR
    finally:
        os.close(fd)


def test_a_handle_does_only_what_it_was_opened_for(folder: Path) -> None:
    (folder / "f").write_bytes(b"abc")
    reader, writer = os.open(folder / "f", os.O_RDONLY), os.open(folder / "f", os.O_WRONLY)
    try:
        assert refused(lambda: os.write(reader, b"x")) == errno.EBADF
        assert refused(lambda: os.read(writer, 1)) == errno.EBADF
        assert refused(lambda: os.ftruncate(reader, 0)) in (errno.EINVAL, errno.EBADF)
        os.fsync(reader)
        os.fdatasync(reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert (folder / "f").read_bytes() == b"abc"


def test_opening_checks_each_right_it_asks_for(folder: Path) -> None:
    for name, mode in [("r", 0o004), ("w", 0o002), ("rw", 0o006), ("no", 0o770)]:
        (folder / name).write_bytes(b"x")
        (folder / name).chmod(mode)
    script = """
for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
    print(*(refused(lambda: os.close(os.open(name, flags))) for name in ('r', 'w', 'rw', 'no')))
"""
    assert as_user(script, cwd=folder).split("\n") == [
        "done EACCES done EACCES",
        "EACCES done done EACCES",
        "EACCES EACCES done EACCES",
        "EACCES EACCES done EACCES",
    ]


def test_o_trunc_cuts_an_existing_file_and_leaves_the_other_handles_usable(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"x" * 30_000)
    with path.open("r+b", buffering=0) as held:
        with path.open("wb", buffering=0) as file:
            file.write(b"new")
            assert os.fstat(held.fileno()).st_size == 3
        assert held.read() == b"new"
        held.seek(10)
        held.write(b"y")
    assert path.read_bytes() == b"new" + bytes(7) + b"y"


def test_o_append_can_be_switched_by_fcntl(folder: Path) -> None:
    import fcntl

    (folder / "f").write_bytes(b"0123456789")
    fd = os.open(folder / "f", os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"end")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 13
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b"start", 0)
    finally:
        os.close(fd)
    assert (folder / "f").read_bytes() == b"start56789end"


def test_an_append_handle_reads_from_where_it_was_and_appends_after_what_others_wrote(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"a" * 10_000)
    with path.open("a+b", buffering=0) as appender, path.open("r+b", buffering=0) as other:
        appender.seek(0)
        assert appender.read(3) == b"aaa"
        other.seek(20_000)
        other.write(b"far")
        appender.write(b"end")
        assert appender.tell() == 20_006
        appender.seek(20_000)
        assert appender.read() == b"farend"
        os.ftruncate(other.fileno(), 5)
        appender.write(b"!")
    assert path.read_bytes() == b"aaaaa!"


def test_o_nofollow_refuses_links_only_as_the_last_component(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").touch()
    (folder / "dl").symlink_to("d")
    (folder / "d" / "fl").symlink_to("f")
    os.close(os.open(folder / "dl" / "f", os.O_RDONLY | os.O_NOFOLLOW))
    assert refused(lambda: os.open(folder / "d" / "fl", os.O_RDONLY | os.O_NOFOLLOW)) == errno.ELOOP
    handle = os.open(folder / "d" / "fl", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(handle).st_mode)
    os.close(handle)


def test_creating_through_a_dangling_link_makes_its_target(folder: Path) -> None:
    (folder / "link").symlink_to("target")
    (folder / "link").write_bytes(b"x")
    assert (folder / "target").read_bytes() == b"x"
    assert (folder / "link").is_symlink()


@pytest.mark.parametrize("sync", [os.O_SYNC, os.O_DSYNC])
def test_synchronous_writes_come_back(folder: Path, sync: int) -> None:
    fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR | sync)
    try:
        for index in range(5):
            assert os.write(fd, bytes([index]) * 5000) == 5000
    finally:
        os.close(fd)
    assert (folder / "f").read_bytes() == b"".join(bytes([index]) * 5000 for index in range(5))


def give_name(fd: int, name: Path) -> None:
    """linkat(2) with AT_SYMLINK_FOLLOW, which Python asks for only together with a directory."""
    here = os.open("/", os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=here)
    finally:
        os.close(here)


def test_o_tmpfile_makes_a_file_without_a_name_that_can_be_given_one(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    finally:
        os.umask(old)
    assert os.listdir(folder) == []
    os.write(fd, b"x" * 20_000)
    found = os.fstat(fd)
    assert (found.st_nlink, found.st_mode & 0o7777, found.st_size) == (0, 0o640, 20_000)
    give_name(fd, folder / "named")
    assert os.fstat(fd).st_nlink == 1
    assert refused(lambda: give_name(fd, folder / "named")) == errno.EEXIST
    os.close(fd)
    time.sleep(0.3)
    assert (folder / "named").read_bytes() == b"x" * 20_000
    assert (folder / "named").stat().st_ino == found.st_ino


def test_o_tmpfile_with_o_excl_never_gets_a_name_and_goes_with_its_last_close(folder: Path) -> None:
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    os.write(fd, b"x" * 20_000)
    time.sleep(0.3)
    assert os.pread(fd, 5, 0) == b"xxxxx"
    assert refused(lambda: give_name(fd, folder / "named")) == errno.ENOENT
    os.close(fd)
    assert os.listdir(folder) == []


def test_o_tmpfile_needs_a_directory_that_may_be_written(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "f").touch()
    assert refused(lambda: os.open(folder / "f", os.O_TMPFILE | os.O_RDWR)) == errno.ENOTDIR
    assert refused(lambda: os.open(folder, os.O_TMPFILE | os.O_RDONLY)) == errno.EINVAL
    assert as_user('print(refused(lambda: os.open(".", os.O_TMPFILE | os.O_RDWR)))', cwd=folder) == "EACCES"


def test_access_asks_for_the_real_user_and_every_right(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "f").chmod(0o000)
    assert os.access(folder / "f", os.R_OK | os.W_OK)
    assert not os.access(folder / "f", os.X_OK)
    (folder / "f").chmod(0o010)
    assert os.access(folder / "f", os.X_OK)
    os.chown(folder / "f", 1234, 4321)
    (folder / "f").chmod(0o420)
    script = "print(*(os.access('f', way) for way in (os.R_OK, os.W_OK, os.X_OK)))"
    assert as_user(script, cwd=folder) == "True False False"
    assert as_user(script, cwd=folder, uid=1, gid=1, groups=(4321,)) == "False True False"


class FileHandle(ctypes.Structure):
    """struct file_handle of open_by_handle_at(2)."""

    _fields_ = (("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int), ("f_handle", ctypes.c_char * 128))


def handle_of(path: Path) -> FileHandle:
    handle, mount_id = FileHandle(handle_bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return handle


def open_by_handle(mount: int, handle: FileHandle, flags: int = os.O_RDONLY) -> int:
    fd: int = libc.open_by_handle_at(mount, ctypes.byref(handle), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


@pytest.mark.skipif(os.geteuid() != 0, reason="open_by_handle_at needs CAP_DAC_READ_SEARCH")
@pytest.mark.parametrize("dropped", [False, True])
def test_a_file_handle_opens_its_inode_under_any_name_until_it_is_deleted(folder: Path, dropped: bool) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_text("found again")
    file, directory = handle_of(folder / "d" / "f"), handle_of(folder / "d")
    (folder / "d" / "f").rename(folder / "g")
    if dropped:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    mount = os.open(folder, os.O_RDONLY)
    try:
        fd = open_by_handle(mount, file)
        assert os.read(fd, 100) == b"found again"
        os.close(fd)
        fd = open_by_handle(mount, directory, os.O_RDONLY | os.O_DIRECTORY)
        assert os.listdir(fd) == []
        assert os.fstat(fd).st_ino == (folder / "d").stat().st_ino
        os.close(fd)
        (folder / "g").unlink()
        (folder / "d").rmdir()
        time.sleep(0.5)
        for gone in (file, directory):
            assert refused(lambda gone=gone: open_by_handle(mount, gone)) == errno.ESTALE  # type: ignore[misc]
    finally:
        os.close(mount)
