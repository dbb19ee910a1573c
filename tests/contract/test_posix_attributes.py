"""Mode, owner, times and what changes them. Source: chmod(2), chown(2), utimensat(2), inode(7)."""

import ctypes
import errno
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import mooseng_py
from mooseng_py.demo.harness import Cluster, wait_until
from tests.contract.support import as_user, refused

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
libc = ctypes.CDLL(None, use_errno=True)


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]


def utimensat(path: Path, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    if libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# ---- times --------------------------------------------------------------------------------------------------------


def test_utime_omit_leaves_a_time_and_utime_now_takes_the_clocks(folder: Path) -> None:
    path = folder / "f"
    path.touch()
    utimensat(path, (100, 1), (200, 2))
    utimensat(path, (0, UTIME_OMIT), (300, 3))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (100_000_000_001, 300_000_000_003)
    utimensat(path, (400, 4), (0, UTIME_OMIT))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (400_000_000_004, 300_000_000_003)
    ctime = path.stat().st_ctime_ns
    time.sleep(0.02)
    utimensat(path, (0, UTIME_OMIT), (0, UTIME_OMIT))
    assert path.stat().st_ctime_ns == ctime
    before = time.time() - 1
    utimensat(path, (0, UTIME_NOW), (0, UTIME_NOW))
    assert before < path.stat().st_atime < time.time() + 1
    assert before < path.stat().st_mtime < time.time() + 1


@pytest.mark.parametrize("seconds", [-(1 << 31) + 1, -1, 0, (1 << 31) - 1, 9_300_000_000, 15_032_385_534])
def test_dates_from_1901_to_2446_come_back_to_the_nanosecond(folder: Path, seconds: int) -> None:
    (folder / "f").touch()
    wanted = seconds * 10**9 + 987_654_321
    os.utime(folder / "f", ns=(wanted, wanted - 1))
    kept = (folder / "f").stat()
    assert (kept.st_atime_ns, kept.st_mtime_ns) == (wanted, wanted - 1)


def test_dates_beyond_what_can_be_kept_are_the_nearest_and_never_others(folder: Path) -> None:
    (folder / "f").touch()
    for seconds, within in ((-(1 << 40), range(-(1 << 40), 0)), (1 << 40, range(15_032_385_535, 1 << 41))):
        os.utime(folder / "f", (seconds, seconds))
        assert (folder / "f").stat().st_mtime_ns // 10**9 in within


def test_statx_tells_when_a_file_was_made(folder: Path) -> None:
    before = time.time_ns()
    for name in ("f", "d"):
        (folder / name).mkdir() if name == "d" else (folder / name).write_bytes(b"x")
    time.sleep(0.02)
    (folder / "f").chmod(0o600)
    for name in ("f", "d"):
        said = subprocess.run(["stat", "--format=%W %.W", name], cwd=folder, capture_output=True, text=True, check=True)
        born_ns = round(float(said.stdout.split()[1]) * 10**9)
        assert abs(born_ns - before) < 10**9, said.stdout
        assert born_ns <= (folder / name).stat().st_ctime_ns + 1000


@pytest.fixture
def relatime_folder(folder: Path, is_mooseng: bool) -> Path:
    """`folder`, where times of access move as relatime says: a local one may be mounted otherwise, and then shows nothing."""
    done = subprocess.run(["findmnt", "-no", "OPTIONS", "-T", str(folder)], capture_output=True, text=True, check=False)
    if not is_mooseng and "relatime" not in done.stdout:
        pytest.skip("the local file system is not mounted with relatime")
    return folder


def listed(path: Path) -> None:
    os.listdir(path)


def followed(path: Path) -> None:
    os.readlink(path)


def read(path: Path) -> None:
    path.read_bytes()


@pytest.mark.parametrize(("name", "how"), [("small", read), ("large", read), ("dir", listed), ("link", followed)])
def test_reading_moves_the_time_of_access_once_after_a_change(
    relatime_folder: Path, name: str, how: Callable[[Path], None]
) -> None:
    folder = relatime_folder
    (folder / "small").write_bytes(b"x" * 100)
    (folder / "large").write_bytes(b"x" * 20_000)
    (folder / "dir").mkdir()
    (folder / "dir" / "f").touch()
    (folder / "link").symlink_to("small")
    path = folder / name
    before = path.lstat()
    time.sleep(0.05)
    assert path.lstat().st_atime_ns == before.st_atime_ns, "looking is no reading"
    how(path)
    after = path.lstat()
    assert after.st_atime_ns > before.st_atime_ns
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    time.sleep(0.05)
    how(path)
    assert path.lstat().st_atime_ns == after.st_atime_ns, "not with each read"


def test_a_date_of_access_that_is_set_stays_until_the_next_read(relatime_folder: Path) -> None:
    folder = relatime_folder
    (folder / "f").write_bytes(b"x" * 20_000)
    (folder / "f").read_bytes()
    os.utime(folder / "f", ns=(10**18, 10**18))
    time.sleep(1.5)
    assert (folder / "f").stat().st_atime_ns == 10**18
    (folder / "f").read_bytes()
    assert (folder / "f").stat().st_atime_ns > 10**18


def test_times_of_access_reach_the_others_and_noatime_moves_none(cluster: Cluster) -> None:
    here, there = cluster.mount(1) / "accessed", cluster.mount(2) / "accessed"
    here.write_bytes(b"x" * 20_000)
    before = there.stat().st_atime_ns
    with mooseng_py.connect(cluster.url(), atime="noatime") as fs:
        fs.read_bytes("/accessed")
    assert there.stat().st_atime_ns == before
    with mooseng_py.connect(cluster.url()) as fs:
        fs.read_bytes("/accessed")
        told = fs.stat("/accessed").st_atime_ns
        assert told > before
    assert there.stat().st_atime_ns == told, "a client that closes has told"
    here.write_bytes(b"y" * 20_000)
    assert here.read_bytes() == b"y" * 20_000
    wait_until("the other mount shows it", lambda: there.stat().st_atime_ns == here.stat().st_atime_ns > told)


def test_wrong_nanoseconds_are_einval(folder: Path) -> None:
    (folder / "f").touch()
    assert refused(lambda: utimensat(folder / "f", (1, 1_000_000_000), (1, 0))) == errno.EINVAL


def test_the_times_of_a_link_itself_can_be_set(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "link").symlink_to("f")
    before = (folder / "f").stat().st_mtime_ns
    utimensat(folder / "link", (5, 0), (7, 0), AT_SYMLINK_NOFOLLOW)
    assert (folder / "link").lstat().st_mtime == 7
    assert (folder / "f").stat().st_mtime_ns == before


def test_who_may_set_times_depends_on_which(folder: Path) -> None:
    for name, rights in [("w", 0o666), ("r", 0o644)]:
        (folder / name).touch()
        (folder / name).chmod(rights)
    script = """
for name in ('w', 'r'):
    print(refused(lambda: os.utime(name)), refused(lambda: os.utime(name, ns=(1, 1))))
"""
    assert as_user(script, cwd=folder).split("\n") == ["done EPERM", "EACCES EPERM"]


def changes(path: Path, work: Callable[[], object], *watched: str) -> dict[str, bool]:
    """Which of the times of `path` move when `work` is done."""
    before = path.lstat()
    time.sleep(0.02)
    work()
    after = path.lstat()
    return {name: getattr(before, f"st_{name}_ns") < getattr(after, f"st_{name}_ns") for name in watched}


@pytest.mark.parametrize(
    ("what", "work", "moves"),
    [
        ("write", lambda path: path.write_bytes(b"new"), {"mtime", "ctime"}),
        ("truncate", lambda path: os.truncate(path, 1), {"mtime", "ctime"}),
        ("chmod", lambda path: path.chmod(0o600), {"ctime"}),
        ("chown", lambda path: os.chown(path, 5, 5), {"ctime"}),
        ("link", lambda path: os.link(path, path.with_name("other")), {"ctime"}),
        ("rename", lambda path: (path.rename(path.with_name("o")), path.with_name("o").rename(path)), {"ctime"}),
        ("stat", lambda path: path.stat(), set()),
        ("open", lambda path: path.open("r+b").close(), set()),
        ("write of nothing", lambda path: os.close(_wrote_nothing(path)), set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_operation_moves_its_times(
    folder: Path, what: str, work: Callable[[Path], object], moves: set[str]
) -> None:
    path = folder / "f"
    path.write_bytes(b"content")
    seen = changes(path, lambda: work(path), "mtime", "ctime")
    assert {name for name, moved in seen.items() if moved} == moves, what


def _wrote_nothing(path: Path) -> int:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"")
    return fd


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("create", lambda folder: (folder / "new").touch()),
        ("mkdir", lambda folder: (folder / "new").mkdir()),
        ("symlink", lambda folder: (folder / "new").symlink_to("x")),
        ("link", lambda folder: os.link(folder / "f", folder / "new")),
        ("unlink", lambda folder: (folder / "f").unlink()),
        ("rmdir", lambda folder: (folder / "d").rmdir()),
        ("rename", lambda folder: (folder / "f").rename(folder / "g")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_change_of_entries_moves_the_directorys_times(
    folder: Path, what: str, work: Callable[[Path], object]
) -> None:
    (folder / "f").touch()
    (folder / "d").mkdir()
    assert changes(folder, lambda: work(folder), "mtime", "ctime") == {"mtime": True, "ctime": True}, what


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("how", ["close", "fsync", "close of a duplicate"])
def test_the_times_that_were_told_of_a_write_stay(folder: Path, size: int, how: str) -> None:
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"x" * size)
    told = os.fstat(fd)
    time.sleep(0.1)
    if how == "close":
        os.close(fd)
    elif how == "fsync":
        os.fsync(fd)
    else:
        os.close(os.dup(fd))
    after = (folder / "f").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (told.st_mtime_ns, told.st_ctime_ns)
    if how != "close":
        os.close(fd)
        assert (folder / "f").stat().st_mtime_ns == told.st_mtime_ns


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_date_that_is_set_between_a_write_and_the_close_stays(folder: Path, size: int) -> None:
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"x" * size)
    os.utime(fd, ns=(10**18, 10**18 + 5))
    told = os.fstat(fd).st_ctime_ns
    time.sleep(0.05)
    os.close(fd)
    after = (folder / "f").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (10**18 + 5, told)


def test_a_write_ends_a_date_in_the_future(folder: Path) -> None:
    (folder / "f").write_bytes(b"x")
    os.utime(folder / "f", ns=(0, time.time_ns() + 10**12))
    with (folder / "f").open("ab") as file:
        file.write(b"y")
    assert abs((folder / "f").stat().st_mtime_ns - time.time_ns()) < 10**10


@pytest.mark.parametrize("size", [513, 8192, 8193, 300_000])
def test_what_is_written_and_not_synced_counts_among_the_blocks(folder: Path, size: int) -> None:
    with (folder / "f").open("wb", buffering=0) as file:
        file.write(b"x" * size)
        blocks = os.fstat(file.fileno()).st_blocks
        assert size <= blocks * 512 <= size + 8192
    assert abs((folder / "f").stat().st_blocks - blocks) <= 16


def test_unlinking_one_of_two_names_moves_the_files_ctime(folder: Path) -> None:
    (folder / "a").touch()
    os.link(folder / "a", folder / "b")
    assert changes(folder / "b", (folder / "a").unlink, "ctime", "mtime") == {"ctime": True, "mtime": False}


# ---- chmod, chown -------------------------------------------------------------------------------------------------


def test_every_mode_bit_can_be_set_and_cleared(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "d").mkdir()
    for bits in (0o7777, 0o000, 0o4755, 0o2755, 0o1777, 0o123):
        for name in ("f", "d"):
            (folder / name).chmod(bits)
            assert mode(folder / name) == bits
    (folder / "d").chmod(0o700)


def test_an_owner_may_give_a_file_to_its_groups_only_and_never_away(folder: Path) -> None:
    folder.chmod(0o777)
    script = """
open('f', 'w').close()
print(refused(lambda: os.chown('f', -1, 77)), refused(lambda: os.chown('f', 1234, 77)))
print(refused(lambda: os.chown('f', -1, 78)), refused(lambda: os.chown('f', 0, -1)), refused(lambda: os.chown('f', -1, -1)))
"""
    assert as_user(script, cwd=folder, groups=(77,)).split("\n") == ["done done", "EPERM EPERM done"]
    assert ((folder / "f").stat().st_uid, (folder / "f").stat().st_gid) == (1234, 77)


def test_a_user_outside_the_files_group_cannot_set_its_set_gid_bit(folder: Path) -> None:
    (folder / "f").touch()
    os.chown(folder / "f", 1234, 99)
    assert as_user("print(refused(lambda: os.chmod('f', 0o2755)))", cwd=folder) == "done"
    assert mode(folder / "f") == 0o755
    assert as_user("print(refused(lambda: os.chmod('f', 0o2755)))", cwd=folder, groups=(99,)) == "done"
    assert mode(folder / "f") == 0o2755


@pytest.mark.parametrize(
    ("before", "after"), [(0o6777, 0o777), (0o6755, 0o755), (0o4711, 0o711), (0o2755, 0o755), (0o2745, 0o2745)]
)
def test_changing_the_owner_clears_set_id_bits_of_programs(folder: Path, before: int, after: int) -> None:
    (folder / "f").touch()
    (folder / "f").chmod(before)
    os.chown(folder / "f", 5, 6)
    assert mode(folder / "f") == after
    (folder / "d").mkdir()
    (folder / "d").chmod(0o6755)
    os.chown(folder / "d", 5, 6)
    assert mode(folder / "d") == 0o6755


@pytest.mark.parametrize(
    "change",
    [
        "fd = os.open('f', os.O_WRONLY); os.write(fd, b'y'); os.close(fd)",
        "os.truncate('f', 1)",
        "fd = os.open('f', os.O_WRONLY); os.ftruncate(fd, 1); os.close(fd)",
        "os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))",
        "fd = os.open('f', os.O_WRONLY | os.O_APPEND); os.write(fd, b'y' * 9000); os.close(fd)",
    ],
)
@pytest.mark.parametrize("size", [10, 50_000])
def test_a_user_that_changes_the_content_clears_set_id_bits(folder: Path, change: str, size: int) -> None:
    (folder / "f").write_bytes(b"x" * size)
    (folder / "f").chmod(0o6777)
    assert as_user(change, cwd=folder) == ""
    assert mode(folder / "f") == 0o777


@pytest.mark.parametrize("size", [10, 50_000])
@pytest.mark.parametrize(("before", "after"), [(0o4755, 0o755), (0o2755, 0o755), (0o6777, 0o777), (0o2745, 0o2745)])
def test_a_users_write_clears_set_id_bits_before_the_file_is_closed(
    folder: Path, size: int, before: int, after: int
) -> None:
    folder.chmod(0o777)
    steps = [
        f"fd = os.open('f', os.O_CREAT | os.O_RDWR); os.write(fd, b'x' * {size})",
        f"os.fchmod(fd, {before}); os.pwrite(fd, b'y', 3)",
        "print(oct(os.fstat(fd).st_mode & 0o7777))",
    ]
    assert as_user("\n".join(steps), cwd=folder) == oct(after)


@pytest.mark.parametrize("size", [10, 50_000])
def test_set_id_bits_that_a_user_sets_after_its_last_write_stay(folder: Path, size: int) -> None:
    """As `cp -p` does: the bytes, then owner and mode, then close."""
    folder.chmod(0o777)
    script = (
        f"fd = os.open('f', os.O_CREAT | os.O_WRONLY); os.write(fd, b'x' * {size}); os.fchmod(fd, 0o6755); os.close(fd)"
    )
    assert as_user(script, cwd=folder) == ""
    assert mode(folder / "f") == 0o6755


@pytest.mark.parametrize("size", [10, 50_000])
def test_set_id_bits_follow_who_writes_not_who_opened(folder: Path, size: int) -> None:
    path = folder / "f"
    path.write_bytes(b"x" * size)
    with path.open("r+b", buffering=0) as file:
        path.chmod(0o4755)
        as_user(f"os.pwrite({file.fileno()}, b'y', 0)", cwd=folder)
        assert mode(path) == 0o755, "root opened it, a user wrote"
    os.chown(path, 1234, 1234)
    reader, writer = socket.socketpair()
    with reader, writer:
        script = "socket.send_fds(writer, [b'f'], [os.open('f', os.O_WRONLY)])"
        assert as_user(script, cwd=folder, names={"socket": socket, "writer": writer}) == ""
        [fd] = socket.recv_fds(reader, 10, 1)[1]
        path.chmod(0o4755)
        os.pwrite(fd, b"z", 1)
        os.close(fd)
    assert mode(path) == 0o4755, "a user opened it, root wrote"
    assert path.read_bytes() == b"yz" + b"x" * (size - 2)


def test_root_keeps_set_id_bits_when_it_writes(folder: Path, is_mooseng: bool) -> None:
    (folder / "f").write_bytes(b"x")
    (folder / "f").chmod(0o6755)
    with (folder / "f").open("ab") as file:
        file.write(b"y")
    assert mode(folder / "f") == 0o6755


def test_the_mode_of_a_link_is_always_open_and_cannot_be_changed(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    assert mode(folder / "link") == 0o777
    assert refused(lambda: os.chmod(folder / "link", 0o600)) == errno.ENOENT
    os.lchown(folder / "link", 7, 8)
    assert ((folder / "link").lstat().st_uid, (folder / "link").lstat().st_gid) == (7, 8)


def test_rights_are_those_of_the_first_class_that_fits(folder: Path) -> None:
    """An owner without rights is refused although others have them."""
    (folder / "own").write_bytes(b"x")
    os.chown(folder / "own", 1234, 1)
    (folder / "own").chmod(0o077)
    (folder / "grp").write_bytes(b"x")
    os.chown(folder / "grp", 1, 77)
    (folder / "grp").chmod(0o707)
    script = "print(refused(lambda: open('own').close()), refused(lambda: open('grp').close()))"
    assert as_user(script, cwd=folder, groups=(77,)) == "EACCES EACCES"


# ---- sticky, set-gid ----------------------------------------------------------------------------------------------


def test_sticky_directories_protect_entries_from_all_but_the_owners(folder: Path) -> None:
    folder.chmod(0o777)
    (folder / "s").mkdir()
    (folder / "s").chmod(0o1777)
    for name in ("file", "target"):
        (folder / "s" / name).touch()
    (folder / "s" / "dir").mkdir()
    script = """
open('s/mine', 'w').close()
os.mkdir('s/my')
calls = [lambda: os.unlink('s/file'), lambda: os.rmdir('s/dir'), lambda: os.rename('s/file', 's/x'),
         lambda: os.rename('s/file', 'x'), lambda: os.rename('s/mine', 's/target'), lambda: os.rename('s/my', 's/dir'),
         lambda: os.rename('s/mine', 's/x'), lambda: os.rmdir('s/my')]
print(*(refused(call) for call in calls))
"""
    answer = as_user(script, cwd=folder).replace("EACCES", "EPERM")
    assert answer == "EPERM EPERM EPERM EPERM EPERM EPERM done done"
    os.chown(folder / "s", 1234, 1234)
    assert as_user("print(refused(lambda: os.unlink('s/file')))", cwd=folder) == "done"


def test_what_is_made_belongs_to_its_maker_and_to_the_set_gid_directorys_group(folder: Path) -> None:
    folder.chmod(0o777)
    (folder / "g").mkdir()
    os.chown(folder / "g", 0, 88)
    (folder / "g").chmod(0o2777)
    as_user(
        "\n".join(f"open('{at}f', 'w').close(); os.mkdir('{at}d'); os.symlink('x', '{at}l')" for at in ("", "g/")),
        cwd=folder,
    )
    for name in ("f", "d", "l"):
        assert ((folder / name).lstat().st_uid, (folder / name).lstat().st_gid) == (1234, 1234)
        assert (folder / "g" / name).lstat().st_gid == 88
    assert mode(folder / "g" / "d") & stat.S_ISGID
    assert not mode(folder / "g" / "f") & stat.S_ISGID


# ---- what is not there --------------------------------------------------------------------------------------------


def test_mknod_makes_regular_files(folder: Path) -> None:
    os.mknod(folder / "f", stat.S_IFREG | 0o640)
    assert stat.S_ISREG((folder / "f").stat().st_mode)
    assert refused(lambda: os.mknod(folder / "f", stat.S_IFREG | 0o640)) == errno.EEXIST


def is_still(count: Callable[[], int]) -> bool:
    before = count()
    time.sleep(0.5)
    return abs(count() - before) < 5


def test_statvfs_counts_each_inode_once(folder: Path, is_mooseng: bool) -> None:
    def used() -> int:
        stats = os.statvfs(folder)
        return stats.f_files - stats.f_ffree

    # What was deleted before goes in the background; others use the local disk too.
    wait_until("nothing else goes", lambda: is_still(used))
    before = used()
    for n in range(100):
        (folder / str(n)).touch()
    assert 95 <= used() - before < 2000
    if is_mooseng:
        assert used() < os.statvfs(folder).f_files // 1000


def test_statvfs_is_plausible_and_counts_what_is_written(folder: Path) -> None:
    room = os.statvfs(folder)
    assert room.f_namemax == 255
    assert 0 < room.f_bavail <= room.f_bfree <= room.f_blocks
    assert room.f_frsize >= 512
    fd = os.open(folder, os.O_RDONLY)
    assert os.fstatvfs(fd).f_blocks == room.f_blocks
    os.close(fd)
