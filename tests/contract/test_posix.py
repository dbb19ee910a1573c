"""What any program may expect of the mount. Every check also runs on the local file system, which shows that it is right.

Sources: POSIX.1-2017, and the man pages named in each test.
"""

import errno
import mmap
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.support import MIB, as_user, refused

# ---- names ------------------------------------------------------------------------------------------------------------


def test_a_name_of_255_bytes_works_and_one_of_256_is_enametoolong(folder: Path) -> None:
    (folder / ("n" * 255)).touch()
    assert os.listdir(folder) == ["n" * 255]
    assert refused(lambda: (folder / ("n" * 256)).touch()) == errno.ENAMETOOLONG


def test_names_keep_any_byte_but_slash_and_nul(folder: Path) -> None:
    names = sorted([b"\xff\xfe", b" ", b"\n", b"\x01", b"\xc3\xa9", b"e\xcc\x81", b"..."])
    for name in names:
        os.close(os.open(os.fsencode(folder) + b"/" + name, os.O_CREAT))
    assert sorted(os.listdir(os.fsencode(folder))) == names


def test_exclusive_create_has_one_winner(folder: Path) -> None:
    wins: list[int] = []

    def attempt(index: int) -> None:
        try:
            os.close(os.open(folder / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            wins.append(index)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=attempt, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1


def test_exclusive_create_is_refused_on_a_dangling_symlink(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    assert refused(lambda: os.open(folder / "link", os.O_CREAT | os.O_EXCL)) == errno.EEXIST


def test_a_loop_of_symlinks_is_eloop(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert refused(lambda: os.open(folder / "a", os.O_RDONLY)) == errno.ELOOP
    assert refused(lambda: os.open(folder / "a", os.O_RDONLY | os.O_NOFOLLOW)) == errno.ELOOP


def test_a_symlink_holds_its_target_to_the_byte(folder: Path) -> None:
    target = "x" * 4000
    (folder / "link").symlink_to(target)
    assert os.readlink(folder / "link") == target
    assert os.lstat(folder / "link").st_size == 4000


# ---- directories ------------------------------------------------------------------------------------------------------


def test_directories_count_their_subdirectories_as_links(folder: Path) -> None:
    before = folder.stat().st_nlink
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "f").touch()
    assert folder.stat().st_nlink == before + 2
    (folder / "a").rmdir()
    assert folder.stat().st_nlink == before + 1
    assert (folder / "b").stat().st_nlink == 2


def test_rmdir_refuses_what_is_not_an_empty_directory(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").touch()
    assert refused((folder / "d").rmdir) == errno.ENOTEMPTY
    assert refused((folder / "d" / "f").rmdir) == errno.ENOTDIR
    assert refused((folder / "none").rmdir) == errno.ENOENT
    assert refused(lambda: os.unlink(folder / "d")) == errno.EISDIR


def test_a_big_directory_lists_every_name_once_while_others_come_and_go(folder: Path) -> None:
    for index in range(3000):
        (folder / f"stays-{index:05}").touch()
    seen: list[str] = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 100 == 0 and number < 2000:
                (folder / f"new-{number}").touch()
                (folder / f"new-{number}").unlink()
    stays = [name for name in seen if name.startswith("stays-")]
    assert sorted(stays) == [f"stays-{index:05}" for index in range(3000)]


def test_deleting_while_listing_misses_nothing(folder: Path) -> None:
    for index in range(1500):
        (folder / f"{index:04}").touch()
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(folder) == []


def test_inode_numbers_in_a_listing_are_those_of_stat(folder: Path) -> None:
    (folder / "f").touch()
    (folder / "d").mkdir()
    with os.scandir(folder) as entries:
        for entry in entries:
            assert entry.inode() == os.stat(entry.path).st_ino


# ---- rename, link, unlink -------------------------------------------------------------------------------------------------


def test_rename_replaces_the_target_and_open_handles_keep_the_old_file(folder: Path) -> None:
    (folder / "a").write_bytes(b"new")
    (folder / "b").write_bytes(b"old")
    with (folder / "b").open("rb") as held:
        os.rename(folder / "a", folder / "b")
        assert held.read() == b"old"
        assert os.fstat(held.fileno()).st_nlink == 0
    assert (folder / "b").read_bytes() == b"new"
    assert not (folder / "a").exists()


def test_renaming_one_of_two_names_of_a_file_over_the_other_changes_nothing(folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    os.link(folder / "a", folder / "b")
    os.rename(folder / "a", folder / "b")
    assert sorted(os.listdir(folder)) == ["a", "b"]


def test_rename_refuses_as_rename_2_says(folder: Path) -> None:
    (folder / "d" / "sub").mkdir(parents=True)
    (folder / "full" / "x").mkdir(parents=True)
    (folder / "f").touch()
    assert refused(lambda: os.rename(folder / "d", folder / "d" / "sub" / "in")) == errno.EINVAL
    assert refused(lambda: os.rename(folder / "d", folder / "full")) == errno.ENOTEMPTY
    assert refused(lambda: os.rename(folder / "f", folder / "d")) == errno.EISDIR
    assert refused(lambda: os.rename(folder / "d", folder / "f")) == errno.ENOTDIR
    assert refused(lambda: os.rename(folder / "none", folder / "x")) == errno.ENOENT


def test_a_directory_moves_over_an_empty_one_and_keeps_its_content(folder: Path) -> None:
    (folder / "from").mkdir()
    (folder / "from" / "f").write_bytes(b"1")
    (folder / "to").mkdir()
    os.rename(folder / "from", folder / "to")
    assert (folder / "to" / "f").read_bytes() == b"1"
    assert folder.stat().st_nlink == 3


def test_the_name_exists_at_every_instant_of_a_rename_over(folder: Path) -> None:
    (folder / "target").write_bytes(b"0")
    missing: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                os.stat(folder / "target")
            except FileNotFoundError:
                missing.append("gone")

    thread = threading.Thread(target=watch)
    thread.start()
    for index in range(200):
        (folder / "source").write_bytes(str(index).encode())
        os.rename(folder / "source", folder / "target")
    stop.set()
    thread.join()
    assert not missing


def test_an_unlinked_file_lives_until_its_last_close(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        file.write(b"before")
        os.unlink(folder / "f")
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b" after")
        file.seek(0)
        assert file.read() == b"before after"
        os.fsync(file.fileno())
    assert os.listdir(folder) == []


def test_hard_links_share_one_inode(folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    os.link(folder / "a", folder / "b")
    assert (folder / "a").stat().st_ino == (folder / "b").stat().st_ino
    assert (folder / "b").stat().st_nlink == 2
    (folder / "b").write_bytes(b"22")
    assert (folder / "a").read_bytes() == b"22"
    (folder / "a").unlink()
    assert (folder / "b").stat().st_nlink == 1
    (folder / "d").mkdir()
    assert refused(lambda: os.link(folder / "d", folder / "e")) == errno.EPERM


# ---- content ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8192, 8193, 100_000, 3 * MIB + 17, 70 * MIB])
def test_bytes_come_back_as_they_were_written(folder: Path, size: int) -> None:
    data = os.urandom(size)
    (folder / "f").write_bytes(data)
    assert (folder / "f").stat().st_size == size
    assert (folder / "f").read_bytes() == data


def test_growing_in_small_steps_across_the_inline_limit_keeps_every_byte(folder: Path) -> None:
    expected = b""
    for index in range(60):
        with (folder / "f").open("ab") as file:
            file.write(bytes([index]) * 400)
        expected += bytes([index]) * 400
        if index % 7 == 0:
            assert (folder / "f").read_bytes() == expected
    assert (folder / "f").read_bytes() == expected


def test_holes_read_as_zeros_and_take_no_space(folder: Path) -> None:
    with (folder / "f").open("wb") as file:
        file.seek(200 * MIB)
        file.write(b"end")
    assert (folder / "f").stat().st_size == 200 * MIB + 3
    assert (folder / "f").stat().st_blocks * 512 < 10 * MIB
    with (folder / "f").open("rb") as file:
        assert file.read(MIB) == bytes(MIB)
        file.seek(130 * MIB)
        assert file.read(MIB) == bytes(MIB)
        file.seek(200 * MIB - 5)
        assert file.read() == bytes(5) + b"end"


@pytest.mark.parametrize("size", [5000, 100_000, 66 * MIB])
def test_shrinking_and_growing_again_shows_zeros(folder: Path, size: int) -> None:
    path = folder / "f"
    path.write_bytes(b"\xaa" * size)
    os.truncate(path, size // 2 + 1)
    assert path.stat().st_size == size // 2 + 1
    os.truncate(path, size)
    content = path.read_bytes()
    assert content == b"\xaa" * (size // 2 + 1) + bytes(size - size // 2 - 1)
    with path.open("r+b") as file:
        file.seek(size - 10)
        file.write(b"tail")
    content = path.read_bytes()
    assert content[size // 2 + 1 :] == bytes(size - 10 - size // 2 - 1) + b"tail" + bytes(6)


def test_ftruncate_of_an_open_file_drops_what_was_not_yet_flushed(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        file.write(b"x" * 50_000)
        os.ftruncate(file.fileno(), 10)
        assert os.fstat(file.fileno()).st_size == 10
        file.seek(20)
        file.write(b"y")
        file.seek(0)
        assert file.read() == b"x" * 10 + bytes(10) + b"y"


def test_open_with_o_trunc_empties_the_file(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 20_000)
    with (folder / "f").open("wb"):
        assert (folder / "f").stat().st_size == 0


def test_random_writes_and_reads_agree_with_a_model(folder: Path) -> None:
    import random

    draw = random.Random(20261123)
    model = bytearray()
    with (folder / "f").open("w+b", buffering=0) as file:
        for _ in range(300):
            action = draw.random()
            offset = draw.randrange(0, 3 * MIB)
            if action < 0.55:
                data = draw.randbytes(draw.choice([1, 100, 4096, 5000, 70_000, 300_000]))
                os.pwrite(file.fileno(), data, offset)
                if len(model) < offset + len(data):
                    model.extend(bytes(offset + len(data) - len(model)))
                model[offset : offset + len(data)] = data
            elif action < 0.9:
                length = draw.choice([1, 4096, 50_000, 400_000])
                assert os.pread(file.fileno(), length, offset) == bytes(model[offset : offset + length])
            elif action < 0.95:
                os.ftruncate(file.fileno(), offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            else:
                os.fsync(file.fileno())
            assert os.fstat(file.fileno()).st_size == len(model)
    assert (folder / "f").read_bytes() == bytes(model)


def test_two_descriptors_of_one_file_see_each_others_writes_at_once(folder: Path) -> None:
    path = folder / "f"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for index in range(50):
            writer.write(bytes([index]) * 1000)
            assert os.fstat(reader.fileno()).st_size == (index + 1) * 1000
            assert reader.read(1000) == bytes([index]) * 1000


def test_appending_from_two_descriptors_loses_nothing(folder: Path) -> None:
    path = folder / "log"
    with path.open("ab", buffering=0) as first, path.open("ab", buffering=0) as second:
        for index in range(100):
            first.write(b"a%03d\n" % index)
            second.write(b"b%03d\n" % index)
    lines = path.read_bytes().split(b"\n")[:-1]
    assert sorted(lines) == sorted([b"a%03d" % i for i in range(100)] + [b"b%03d" % i for i in range(100)])


def test_a_mapped_file_can_be_read(folder: Path) -> None:
    data = os.urandom(300_000)
    (folder / "f").write_bytes(data)
    with (folder / "f").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == data


def test_stores_to_a_shared_mapping_reach_the_file(folder: Path) -> None:
    (folder / "f").write_bytes(bytes(100_000))
    with (folder / "f").open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as view:
            view[5000:5005] = b"hello"
            view.flush()
        os.fsync(file.fileno())
    assert (folder / "f").read_bytes() == bytes(5000) + b"hello" + bytes(94_995)


def test_a_write_beyond_the_largest_file_is_efbig(folder: Path) -> None:
    with (folder / "f").open("wb", buffering=0) as file:
        assert refused(lambda: os.pwrite(file.fileno(), b"x", (1 << 63) - 10)) in (errno.EFBIG, errno.EINVAL)
        assert os.fstat(file.fileno()).st_size == 0


# ---- attributes -----------------------------------------------------------------------------------------------------------------


def test_times_keep_nanoseconds_and_years_before_1970_and_after_2106(folder: Path) -> None:
    path = folder / "f"
    path.touch()
    for when in (123_456_789_123_456_789, 1, 5_000_000_000_000_000_001):
        os.utime(path, ns=(when, when + 1))
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (when, when + 1)


def test_changes_move_the_times_that_posix_names(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"1")
    old = 1_000_000_000_000_000_000

    def moved(change: Callable[[], object]) -> set[str]:
        os.utime(path, ns=(old, old))
        os.utime(folder, ns=(old, old))
        ctime = path.stat().st_ctime_ns
        change()
        status = os.stat(path)
        which = {"mtime"} if status.st_mtime_ns != old else set()
        which |= {"ctime"} if status.st_ctime_ns != ctime else set()
        which |= {"parent"} if folder.stat().st_mtime_ns != old else set()
        return which

    def write() -> None:
        with path.open("r+b") as file:
            file.write(b"2")

    assert moved(write) == {"mtime", "ctime"}
    assert moved(lambda: os.truncate(path, 100)) == {"mtime", "ctime"}
    assert moved(lambda: os.chmod(path, 0o640)) == {"ctime"}
    assert moved(lambda: os.link(path, folder / "g")) == {"ctime", "parent"}
    assert moved(lambda: os.unlink(folder / "g")) == {"ctime", "parent"}
    assert moved(lambda: path.read_bytes()) == set()


def test_modes_and_owners_are_kept(folder: Path) -> None:
    path = folder / "f"
    path.touch()
    os.chmod(path, 0o4751)
    os.chown(path, 1, 2)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1, 2)
    os.chmod(path, 0o2640)
    assert stat.S_IMODE(path.stat().st_mode) == 0o2640


def test_the_umask_applies_to_new_files_and_directories(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        os.close(os.open(folder / "f", os.O_CREAT, 0o666))
        os.mkdir(folder / "d", 0o777)
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o750


def test_statvfs_tells_space_and_name_length(folder: Path) -> None:
    status = os.statvfs(folder)
    assert status.f_namemax == 255
    assert 0 < status.f_bavail <= status.f_blocks


# ---- rights ----------------------------------------------------------------------------------------------------------------------


def test_rights_follow_owner_group_and_others(folder: Path) -> None:
    folder.chmod(0o777)
    for name, mode, uid, gid in [
        ("own", 0o600, 1234, 1),
        ("grp", 0o060, 1, 77),
        ("oth", 0o006, 1, 1),
        ("no", 0o770, 1, 1),
    ]:
        (folder / name).write_bytes(b"x")
        os.chown(folder / name, uid, gid)
        os.chmod(folder / name, mode)
    script = "print([refused(lambda: open(n, 'r+b').close()) for n in ('own', 'grp', 'oth', 'no')])"
    assert as_user(script, groups=(77,), cwd=folder) == "['done', 'done', 'done', 'EACCES']"
    assert as_user(script, cwd=folder) == "['done', 'EACCES', 'done', 'EACCES']"


def test_search_permission_is_needed_on_each_directory(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "d").mkdir(mode=0o700)
    (folder / "d" / "f").write_bytes(b"x")
    script = "print(refused(lambda: os.stat('d/f')), refused(lambda: os.listdir('d')))"
    assert as_user(script, cwd=folder) == "EACCES EACCES"


def test_others_cannot_change_what_they_do_not_own(folder: Path) -> None:
    folder.chmod(0o777)
    (folder / "f").write_bytes(b"x")
    os.chmod(folder / "f", 0o666)
    script = """
print(refused(lambda: os.chmod('f', 0o777)), refused(lambda: os.chown('f', 1234, 1234)),
      refused(lambda: os.utime('f', ns=(1, 1))), refused(lambda: os.utime('f')))
"""
    assert as_user(script, cwd=folder) == "EPERM EPERM EPERM done"


def test_a_sticky_directory_protects_the_files_of_others(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "theirs").touch()
    script = """
open('mine', 'w').close()
print(refused(lambda: os.unlink('theirs')), refused(lambda: os.rename('mine', 'theirs')), refused(lambda: os.unlink('mine')))
"""
    assert as_user(script, cwd=folder) in ("EPERM EPERM done", "EACCES EACCES done")


def test_a_set_gid_directory_passes_its_group_on(folder: Path) -> None:
    os.chown(folder, 0, 88)
    folder.chmod(0o2777)
    as_user("open('f', 'w').close(); os.mkdir('d')", cwd=folder)
    assert (folder / "f").stat().st_gid == 88
    assert (folder / "d").stat().st_gid == 88
    assert (folder / "d").stat().st_mode & stat.S_ISGID


def test_writing_by_a_user_clears_the_set_id_bits(folder: Path) -> None:
    folder.chmod(0o777)
    (folder / "f").write_bytes(b"x")
    os.chmod(folder / "f", 0o6777)
    as_user("file = open('f', 'r+b'); file.write(b'y'); file.close()", cwd=folder)
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o777


def test_access_answers_for_the_real_user(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "f").write_bytes(b"x")
    os.chmod(folder / "f", 0o644)
    script = "print(os.access('f', os.R_OK), os.access('f', os.W_OK), os.access('none', os.F_OK))"
    assert as_user(script, cwd=folder) == "True False False"


# ---- real programs -------------------------------------------------------------------------------------------------------------


def test_tar_cp_and_rm_work_on_a_tree(folder: Path) -> None:
    source = folder / "tree"
    for index in range(40):
        (source / f"d{index % 5}").mkdir(parents=True, exist_ok=True)
        (source / f"d{index % 5}" / f"f{index}").write_bytes(os.urandom(index * 700))
    subprocess.run(["tar", "cf", "tree.tar", "tree"], cwd=folder, check=True)
    (folder / "out").mkdir()
    subprocess.run(["tar", "xf", "tree.tar", "-C", "out"], cwd=folder, check=True)
    subprocess.run(["diff", "-r", "tree", "out/tree"], cwd=folder, check=True)
    subprocess.run(["cp", "-a", "tree", "copy"], cwd=folder, check=True)
    subprocess.run(["diff", "-r", "tree", "copy"], cwd=folder, check=True)
    subprocess.run(["rm", "-rf", "copy", "out", "tree"], cwd=folder, check=True)
    assert os.listdir(folder) == ["tree.tar"]


def test_git_can_keep_a_repository(folder: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    for index in range(20):
        (folder / f"f{index}").write_text(f"{index}\n" * index)
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert git("status", "--porcelain") == ""
    git("fsck", "--strict")
