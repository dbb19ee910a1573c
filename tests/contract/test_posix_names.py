"""Names: moving, linking, and the errno of each bad path in each call. Source: rename(2), link(2), path_resolution(7)."""

import ctypes
import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.support import as_user, refused

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)


def renameat2(source: Path, target: Path, flags: int) -> None:
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), source)


# ---- rename -------------------------------------------------------------------------------------------------------


def test_a_moved_directory_has_its_new_parent_above_and_both_link_counts_follow(folder: Path) -> None:
    (folder / "a" / "moved" / "below").mkdir(parents=True)
    (folder / "b").mkdir()
    os.rename(folder / "a" / "moved", folder / "b" / "moved")
    assert ((folder / "a").stat().st_nlink, (folder / "b").stat().st_nlink) == (2, 3)
    above = os.stat(folder / "b" / "moved" / "..")
    assert above.st_ino == (folder / "b").stat().st_ino
    inside = os.open(folder / "b" / "moved" / "below", os.O_RDONLY)
    os.rename(folder / "b" / "moved", folder / "a" / "back")
    assert os.stat("../..", dir_fd=inside).st_ino == (folder / "a").stat().st_ino
    os.close(inside)
    with os.scandir(folder / "a" / "back") as entries:
        assert [entry.name for entry in entries] == ["below"]


def test_a_directory_replacing_an_empty_one_across_parents_keeps_the_counts(folder: Path) -> None:
    (folder / "a" / "d").mkdir(parents=True)
    (folder / "b" / "d").mkdir(parents=True)
    os.rename(folder / "a" / "d", folder / "b" / "d")
    assert ((folder / "a").stat().st_nlink, (folder / "b").stat().st_nlink) == (2, 3)


def test_noreplace_refuses_an_existing_target_and_moves_to_a_free_one(folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    assert refused(lambda: renameat2(folder / "a", folder / "b", RENAME_NOREPLACE)) == errno.EEXIST
    assert refused(lambda: renameat2(folder / "none", folder / "b", RENAME_NOREPLACE)) in (errno.ENOENT, errno.EEXIST)
    renameat2(folder / "a", folder / "c", RENAME_NOREPLACE)
    assert sorted(os.listdir(folder)) == ["b", "c"]
    (folder / "dangling").symlink_to("nowhere")
    assert refused(lambda: renameat2(folder / "b", folder / "dangling", RENAME_NOREPLACE)) == errno.EEXIST


def test_exchange_swaps_files_and_directories_across_parents(folder: Path) -> None:
    (folder / "p").mkdir()
    (folder / "p" / "d").mkdir()
    (folder / "f").write_bytes(b"file")
    renameat2(folder / "f", folder / "p" / "d", RENAME_EXCHANGE)
    assert (folder / "f").is_dir()
    assert (folder / "p" / "d").read_bytes() == b"file"
    assert ((folder / "p").stat().st_nlink, folder.stat().st_nlink) == (2, 4)
    assert refused(lambda: renameat2(folder / "p", folder / "none", RENAME_EXCHANGE)) == errno.ENOENT
    assert refused(lambda: renameat2(folder / "p", folder / "p" / "d", RENAME_EXCHANGE)) == errno.EINVAL
    both = RENAME_EXCHANGE | RENAME_NOREPLACE
    assert refused(lambda: renameat2(folder / "f", folder / "p", both)) == errno.EINVAL


def test_a_whiteout_is_left_where_something_was_moved_away(folder: Path) -> None:
    (folder / "up").mkdir()
    (folder / "f").write_text("moved")
    (folder / "d").mkdir()
    for name in ("f", "d"):
        renameat2(folder / name, folder / "up" / name, RENAME_WHITEOUT)
        left = (folder / name).lstat()
        assert stat.S_ISCHR(left.st_mode)
        assert left.st_rdev == 0
    assert (folder / "up" / "f").read_text() == "moved"
    assert (folder.stat().st_nlink, (folder / "up").stat().st_nlink) == (3, 3)
    (folder / "g").touch()
    for flags, errno_ in ((RENAME_NOREPLACE, errno.EEXIST), (RENAME_EXCHANGE, errno.EINVAL)):
        assert (
            refused(lambda flags=flags: renameat2(folder / "g", folder / "up" / "f", RENAME_WHITEOUT | flags)) == errno_  # type: ignore[misc]
        )


def test_both_names_exist_at_every_instant_of_an_exchange(folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    missing: list[str] = []
    stop = threading.Event()

    def watch(name: str) -> None:
        while not stop.is_set():
            if not os.path.lexists(folder / name):
                missing.append(name)

    threads = [threading.Thread(target=watch, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for _ in range(101):
        renameat2(folder / "a", folder / "b", RENAME_EXCHANGE)
    stop.set()
    for thread in threads:
        thread.join()
    assert not missing
    assert ((folder / "a").read_bytes(), (folder / "b").read_bytes()) == (b"2", b"1")


def test_the_dot_entries_cannot_be_renamed_or_removed(folder: Path) -> None:
    (folder / "d").mkdir()
    assert refused(lambda: os.rename(f"{folder}/d/.", folder / "x")) in (errno.EBUSY, errno.EINVAL)
    assert refused(lambda: os.rename(f"{folder}/d/..", folder / "x")) in (errno.EBUSY, errno.EINVAL, errno.ENOTEMPTY)
    assert refused(lambda: os.rmdir(f"{folder}/d/.")) == errno.EINVAL
    assert refused(lambda: os.rmdir(f"{folder}/d/..")) == errno.ENOTEMPTY
    assert refused(lambda: os.mkdir(f"{folder}/d/.")) == errno.EEXIST


def test_moving_a_directory_needs_the_right_to_write_to_it(folder: Path) -> None:
    """Its entry `..` changes."""
    folder.chmod(0o777)
    script = """
os.mkdir('a'); os.mkdir('b'); os.mkdir('a/d')
os.chmod('a/d', 0o555)
print(refused(lambda: os.rename('a/d', 'b/d')), refused(lambda: os.rename('a/d', 'a/e')))
"""
    assert as_user(script, cwd=folder) == "EACCES done"


def test_names_can_be_taken_away_only_where_the_directory_may_be_written(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"")
    (folder / "d" / "f").chmod(0o666)
    (folder / "d").chmod(0o755)
    script = """
print(*(refused(call) for call in (
    lambda: os.unlink('d/f'), lambda: os.rename('d/f', 'd/g'), lambda: os.mkdir('d/x'), lambda: os.symlink('x', 'd/x'),
    lambda: os.link('d/f', 'd/x'), lambda: os.close(os.open('d/x', os.O_CREAT)))))
"""
    assert as_user(script, cwd=folder) == " ".join(["EACCES"] * 5 + ["EACCES"])


# ---- links --------------------------------------------------------------------------------------------------------


def test_hard_links_lie_in_any_directory_and_survive_the_others(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "a" / "f").write_bytes(b"x" * 20_000)
    for index in range(50):
        os.link(folder / "a" / "f", folder / "b" / str(index))
    assert (folder / "a" / "f").stat().st_nlink == 51
    (folder / "a" / "f").unlink()
    assert (folder / "b" / "7").stat().st_nlink == 50
    assert (folder / "b" / "49").read_bytes() == b"x" * 20_000
    assert refused(lambda: os.link(folder / "b" / "1", folder / "b" / "2")) == errno.EEXIST
    assert refused(lambda: os.link(folder / "none", folder / "x")) == errno.ENOENT


def test_a_link_to_a_symlink_is_another_name_of_the_symlink(folder: Path) -> None:
    (folder / "s").symlink_to("nowhere")
    os.link(folder / "s", folder / "t", follow_symlinks=False)
    assert os.readlink(folder / "t") == "nowhere"
    assert (folder / "s").lstat().st_nlink == 2


def test_readlink_of_what_is_no_link_is_einval(folder: Path) -> None:
    (folder / "f").touch()
    assert refused(lambda: os.readlink(folder / "f")) == errno.EINVAL
    assert refused(lambda: os.readlink(folder)) == errno.EINVAL
    assert refused(lambda: os.symlink("", folder / "empty")) == errno.ENOENT
    assert refused(lambda: os.symlink("x" * 4096, folder / "long")) == errno.ENAMETOOLONG


def test_forty_links_in_a_row_are_followed_and_more_are_eloop(folder: Path) -> None:
    (folder / "0").write_bytes(b"end")
    for index in range(1, 42):
        (folder / str(index)).symlink_to(str(index - 1))
    assert (folder / "40").read_bytes() == b"end"
    assert refused(lambda: (folder / "41").read_bytes()) == errno.ELOOP


# ---- bad paths ----------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[str], object]] = {
    "open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "create": lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    "stat": os.stat,
    "lstat": os.lstat,
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, 0, 0),
    "truncate": lambda path: os.truncate(path, 0),
    "utime": os.utime,
    "unlink": os.unlink,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "readlink": os.readlink,
    "symlink": lambda path: os.symlink("x", path),
    "link from": lambda path: os.link(path, path + "-2"),
    "rename from": lambda path: os.rename(path, path + "-2"),
    "listdir": os.listdir,
    "statvfs": os.statvfs,
    "access": lambda path: _accessed(path),
}


def _accessed(path: str) -> None:
    if libc.access(os.fsencode(path), os.F_OK) != 0:
        raise OSError(ctypes.get_errno(), "access")


@pytest.mark.parametrize("name", CALLS)
def test_each_call_answers_a_bad_path_with_its_errno(folder: Path, name: str) -> None:
    (folder / "f").touch()
    (folder / "loop").symlink_to("loop")
    call = CALLS[name]
    assert refused(lambda: call(f"{folder}/f/x")) == errno.ENOTDIR
    assert refused(lambda: call(f"{folder}/none/x")) == errno.ENOENT
    assert refused(lambda: call(f"{folder}/loop/x")) == errno.ELOOP
    assert refused(lambda: call(f"{folder}/{'n' * 256}")) == errno.ENAMETOOLONG
    assert refused(lambda: call(f"{folder}/{'n' * 256}/x")) == errno.ENAMETOOLONG
    assert refused(lambda: call(f"{folder}/" + "d/" * 2048)) == errno.ENAMETOOLONG
    assert refused(lambda: call("")) == errno.ENOENT
    if name not in ("create", "mkdir", "symlink"):
        assert refused(lambda: call(f"{folder}/none")) == errno.ENOENT
    assert sorted(os.listdir(folder)) == ["f", "loop"]


@pytest.mark.parametrize("name", CALLS)
def test_each_call_needs_search_permission_on_every_directory_of_the_path(folder: Path, name: str) -> None:
    (folder / "closed" / "open").mkdir(parents=True)
    (folder / "closed" / "open" / "f").touch()
    (folder / "closed" / "open").chmod(0o777)
    (folder / "closed").chmod(0o644)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.chdir(folder)
        os.setgroups([])
        os.setgid(1234)
        os.setuid(1234)
        os.write(writer, str(refused(lambda: CALLS[name]("closed/open/f"))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    answer = os.read(reader, 100)
    os.close(reader)
    assert answer == str(errno.EACCES).encode()


def test_a_trailing_slash_wants_a_directory(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "d").mkdir()
    assert refused(lambda: os.stat(f"{folder}/f/")) == errno.ENOTDIR
    assert refused(lambda: os.open(f"{folder}/new/", os.O_CREAT | os.O_WRONLY)) == errno.EISDIR
    os.mkdir(f"{folder}/e/")
    os.rename(f"{folder}/d/", f"{folder}/g/")
    assert sorted(os.listdir(folder)) == ["e", "f", "g"]
    assert refused(lambda: os.rename(folder / "f", f"{folder}/h/")) == errno.ENOTDIR


def test_nothing_can_be_made_in_a_removed_directory(folder: Path) -> None:
    (folder / "d").mkdir()
    fd = os.open(folder / "d", os.O_RDONLY)
    try:
        (folder / "d").rmdir()
        until = time.monotonic() + 1  # the leader forgets it within some tenths of a second
        while time.monotonic() < until:
            assert os.fstat(fd).st_nlink == 0
            time.sleep(0.05)
        assert os.listdir(fd) == []
        assert refused(lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)) == errno.ENOENT
        assert refused(lambda: os.mkdir("x", dir_fd=fd)) == errno.ENOENT
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- listings -----------------------------------------------------------------------------------------------------


def test_a_position_in_a_listing_stays_right_while_entries_are_deleted(folder: Path) -> None:
    libc.opendir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    libc.readdir.restype = ctypes.c_void_p
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    names = {f"{index:04}" for index in range(600)}
    for name in names:
        (folder / name).touch()
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))

    def names_from_here() -> list[str]:
        found = []
        while entry := libc.readdir(stream):
            found.append(ctypes.string_at(entry + 19).decode())
        return found

    try:
        before = [ctypes.string_at(libc.readdir(stream) + 19).decode() for _ in range(300)]
        place = libc.telldir(stream)
        expected = names_from_here()
        for name in before[::2]:
            if name in names:
                (folder / name).unlink()
        for name in expected[::3]:
            (folder / name).unlink()
        libc.seekdir(stream, place)
        gone = set(expected[::3])
        seen = names_from_here()
        assert [name for name in seen if name not in gone] == [name for name in expected if name not in gone]
        libc.rewinddir(stream)
        assert set(names_from_here()) - {".", ".."} == set(os.listdir(folder))
    finally:
        libc.closedir(stream)


def test_a_listing_names_kinds_and_the_dot_entries_inodes(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").touch()
    (folder / "l").symlink_to("f")
    with os.scandir(folder) as entries:
        kinds = {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False), entry.is_symlink())
            for entry in entries
        }
    assert kinds == {"d": (True, False, False), "f": (False, True, False), "l": (False, False, True)}
    assert os.stat(f"{folder}/d/..").st_ino == folder.stat().st_ino


def test_a_listing_shows_the_sizes_of_files_that_are_being_written(folder: Path) -> None:
    with (folder / "f").open("wb", buffering=0) as file:
        for size in (100, 20_000, 300_000):
            file.seek(size - 1)
            file.write(b"x")
            with os.scandir(folder) as entries:
                assert [entry.stat().st_size for entry in entries] == [size]


def test_a_descriptor_of_a_directory_anchors_names(folder: Path) -> None:
    (folder / "d").mkdir()
    fd = os.open(folder / "d", os.O_RDONLY)
    try:
        os.rename(folder / "d", folder / "moved")
        os.close(os.open("f", os.O_CREAT, dir_fd=fd))
        os.mkdir("sub", dir_fd=fd)
        os.rename("f", "g", src_dir_fd=fd, dst_dir_fd=fd)
        assert sorted(os.listdir(folder / "moved")) == ["g", "sub"]
        os.unlink("g", dir_fd=fd)
        os.rmdir("sub", dir_fd=fd)
        os.fsync(fd)
    finally:
        os.close(fd)
