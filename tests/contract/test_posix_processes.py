"""Descriptors and programs across processes: unlinked files, dup and fork, passing descriptors, running what is stored."""

import array
import errno
import os
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.contract.support import as_user, in_child, refused


def test_a_file_unlinked_by_another_process_stays_whole_for_who_has_it_open(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 50_000)
    with (folder / "f").open("r+b", buffering=0) as file:
        assert in_child(lambda: os.unlink(folder / "f")) == 0
        assert os.listdir(folder) == []
        assert os.fstat(file.fileno()).st_nlink == 0
        os.pwrite(file.fileno(), b"y" * 100_000, 25_000)
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o600)
        os.ftruncate(file.fileno(), 110_000)
        assert os.pread(file.fileno(), 200_000, 0) == b"x" * 25_000 + b"y" * 85_000
        (folder / "f").write_bytes(b"another file of that name")
        assert os.pread(file.fileno(), 3, 0) == b"xxx"
        assert refused(lambda: os.link(f"/proc/self/fd/{file.fileno()}", folder / "back")) in (
            errno.ENOENT,
            errno.EXDEV,
            errno.EPERM,
        )


def test_a_file_replaced_by_rename_stays_whole_for_who_has_it_open(folder: Path) -> None:
    (folder / "f").write_bytes(b"old" * 10_000)
    (folder / "new").write_bytes(b"new")
    with (folder / "f").open("rb", buffering=0) as file:
        assert in_child(lambda: os.rename(folder / "new", folder / "f")) == 0
        assert file.read() == b"old" * 10_000
    assert (folder / "f").read_bytes() == b"new"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_process_stands_in_a_directory_that_is_gone(folder: Path, replaced: bool) -> None:
    """It is empty and has no links, nothing can be made there, and the way out works; also after the masters dropped it."""
    (folder / "d").mkdir()
    (folder / "new").mkdir()
    script = f"""
import time
os.chdir("d")
os.rename("../new", "../d") if {replaced} else os.rmdir("../d")
time.sleep(1.5)
print(os.stat(".").st_nlink, os.listdir("."), refused(lambda: os.mkdir("x")), refused(os.getcwd))
os.chdir("..")
print(sorted(os.listdir(".")))
"""
    said = as_user(script, cwd=folder, uid=0, gid=0).splitlines()
    assert said == ["0 [] ENOENT ENOENT", "['d']" if replaced else "['new']"]


def test_duplicates_share_the_offset_and_each_close_flushes(folder: Path) -> None:
    fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR)
    twin = os.dup(fd)
    os.write(fd, b"one")
    os.write(twin, b"two")
    assert os.lseek(fd, 0, os.SEEK_CUR) == 6
    os.close(fd)
    assert (folder / "f").read_bytes() == b"onetwo"
    os.write(twin, b"three")
    os.close(twin)
    assert (folder / "f").read_bytes() == b"onetwothree"


def test_a_forked_child_shares_the_offset_and_its_end_closes_nothing(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        file.write(b"parent ")
        assert in_child(lambda: file.write(b"child ")) == 0
        assert file.tell() == 13
        file.write(b"parent")
    assert (folder / "f").read_bytes() == b"parent child parent"


def test_a_descriptor_passed_to_another_process_works_there_after_the_sender_closed_it(folder: Path) -> None:
    ours, theirs = socket.socketpair()

    def receive() -> None:
        ours.close()
        _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_LEN(4))
        (fd,) = array.array("i", ancillary[0][2])
        os.write(fd, b"from the receiver")
        os.close(fd)

    fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR)
    os.unlink(folder / "f")
    child = os.fork()
    if child == 0:
        try:
            os.close(fd)
            receive()
        finally:
            os._exit(0)
    keep = os.dup(fd)
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)
    assert os.waitpid(child, 0)[1] == 0
    assert os.pread(keep, 100, 0) == b"from the receiver"
    os.close(keep)
    ours.close()
    theirs.close()


def test_what_a_killed_process_wrote_is_seen_by_others(folder: Path) -> None:
    """A write that returned belongs to the file on this machine, whatever becomes of the process. Source: write(2)."""

    def die() -> None:
        fd = os.open(folder / "f", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"a" * 100_000)
        os.kill(os.getpid(), 9)

    assert in_child(die) == -9
    assert (folder / "f").read_bytes() == b"a" * 100_000


# ---- running what is stored ---------------------------------------------------------------------------------------


def test_a_program_runs_for_whoever_may_execute_it_even_without_the_right_to_read(folder: Path) -> None:
    folder.chmod(0o755)
    shutil.copy("/bin/echo", folder / "program")
    (folder / "program").chmod(0o711)
    script = """
import subprocess
print(refused(lambda: open('program', 'rb')), subprocess.run(['./program', 'ran'], capture_output=True).stdout)
"""
    assert as_user(script, cwd=folder) == "EACCES b'ran\\n'"
    (folder / "program").chmod(0o644)
    script = "import subprocess\nprint(refused(lambda: subprocess.run(['./program'])))"
    assert as_user(script, cwd=folder) == "EACCES"
    assert refused(lambda: subprocess.run([folder / "program"], check=True)) == errno.EACCES


def test_a_script_runs_by_its_first_line(folder: Path) -> None:
    (folder / "script").write_text('#!/bin/sh\necho "$1 from $0"\n')
    (folder / "script").chmod(0o755)
    done = subprocess.run([folder / "script", "hello"], capture_output=True, text=True, check=True)
    assert done.stdout == f"hello from {folder}/script\n"


def test_a_running_program_cannot_be_written_or_is_not_harmed(folder: Path) -> None:
    shutil.copy("/bin/sleep", folder / "program")
    with subprocess.Popen([folder / "program", "5"]) as process:
        assert refused(lambda: os.open(folder / "program", os.O_WRONLY)) in (None, errno.ETXTBSY)
        os.unlink(folder / "program")
        assert process.poll() is None
        process.kill()


def test_a_library_can_be_loaded_and_a_database_kept(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "db") as db:
        db.execute("create table t (a integer primary key, b text)")
        db.executemany("insert into t (b) values (?)", [(f"row {index}",) for index in range(500)])
        db.commit()
        assert db.execute("select count(*), max(a) from t").fetchone() == (500, 500)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


# ---- many at once -------------------------------------------------------------------------------------------------


def test_many_threads_that_create_move_and_remove_leave_a_consistent_tree(folder: Path) -> None:
    places = [folder / name for name in "abcd"]
    for place in places:
        place.mkdir()
    surprises: list[str] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(60):
            path, other = (draw.choice(places) / str(draw.randrange(12)) for _ in range(2))
            action = draw.choice(["make", "folder", "move", "remove", "rmdir", "link"])
            try:
                if action == "make":
                    path.write_bytes(b"x" * draw.choice([10, 9000]))
                elif action == "folder":
                    path.mkdir()
                elif action == "move":
                    os.rename(path, other)
                elif action == "remove":
                    path.unlink()
                elif action == "rmdir":
                    path.rmdir()
                else:
                    os.link(path, other)
            except OSError as error:
                expected = {errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM}
                if error.errno not in expected:
                    surprises.append(f"{action}: {error}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not surprises
    links: dict[int, int] = {}
    for place in places:
        listed = os.listdir(place)
        assert len(listed) == len(set(listed))
        folders = 0
        for name in listed:
            found = (place / name).lstat()
            if (place / name).is_dir():
                folders += 1
                assert found.st_nlink == 2
            else:
                links[found.st_ino] = links.get(found.st_ino, 0) + 1
        assert place.stat().st_nlink == 2 + folders
    for place in places:
        for name in os.listdir(place):
            if not (place / name).is_dir():
                assert (place / name).stat().st_nlink == links[(place / name).stat().st_ino]
    shutil.rmtree(folder / "a")
    assert sorted(os.listdir(folder)) == ["b", "c", "d"]


def test_of_many_that_move_one_name_exactly_one_succeeds(folder: Path) -> None:
    for attempt in range(10):
        (folder / "token").touch()
        wins: list[int] = []

        def grab(index: int, wins: list[int] = wins) -> None:
            try:
                os.rename(folder / "token", folder / f"mine-{index}")
                wins.append(index)
            except FileNotFoundError:
                pass

        threads = [threading.Thread(target=grab, args=(index,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1, attempt
        os.unlink(folder / f"mine-{wins[0]}")
