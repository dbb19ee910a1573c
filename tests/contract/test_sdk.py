"""The SDK does what `os` and `io` do: every check also runs on those, over a local directory."""

import errno
import io
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import mooseng_py
from mooseng_py.demo.harness import Cluster
from tests.contract.support import MIB, refused


class LocalFiles:
    """`os`, `os.path` and `open` with the methods of the SDK's file system; its root is `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def open(self, path: str, *arguments: Any, **named: Any) -> Any:
        return open(self.at(path), *arguments, **named)

    def fsync(self, file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())

    def walk(self, top: str, **named: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, files in os.walk(self.at(top), **named):
            yield "/" + os.path.relpath(place, self.root), folders, files

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.at(path))

    def rmtree(self, path: str) -> None:
        shutil.rmtree(self.at(path))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(os, name, None) or getattr(os.path, name)

        def on_paths(*arguments: Any, **named: Any) -> Any:
            return call(*(self.at(a) if isinstance(a, str) else a for a in arguments), **named)

        return on_paths


@pytest.fixture(params=["local", "mooseng"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A file system whose directory /t is empty."""
    if request.param == "local":
        (tmp_path / "t").mkdir()
        yield LocalFiles(tmp_path)
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    with mooseng_py.connect(cluster.url()) as connected:
        connected.mkdir("/t")
        yield connected
        connected.rmtree("/t")


# ---- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "w", "a", "x", "r+", "w+", "a+", "x+"])
@pytest.mark.parametrize("there", [True, False])
def test_each_mode_of_open_reads_writes_creates_and_cuts_as_io_says(fs: Any, mode: str, there: bool) -> None:
    if there:
        with fs.open("/t/f", "wb") as file:
            file.write(b"0123456789")
    if there == ("x" in mode) and ("x" in mode or "r" in mode):
        with pytest.raises(FileExistsError if there else FileNotFoundError) as caught:
            fs.open("/t/f", mode + "b")
        assert str(caught.value.filename).endswith("/t/f")
        return
    with fs.open("/t/f", mode + "b") as file:
        kept = there and "w" not in mode
        assert file.readable() == ("r" in mode or "+" in mode)
        assert file.writable() == (mode != "r")
        assert file.tell() == (10 if kept and "a" in mode else 0)
        if file.writable():
            assert file.write(b"ab") == 2
            file.flush()
        else:
            with pytest.raises(io.UnsupportedOperation):
                file.write(b"x")
        if file.readable():
            file.seek(0)
            assert file.read() == {
                "r": b"0123456789", "r+": b"ab23456789", "a+": b"0123456789ab",
            }.get(mode if kept else "", b"ab")  # fmt: skip
        else:
            with pytest.raises(io.UnsupportedOperation):
                file.read()


@pytest.mark.parametrize("mode", ["", "z", "rw", "rbt", "ww", "+", "b"])
def test_a_wrong_mode_is_a_value_error(fs: Any, mode: str) -> None:
    with pytest.raises(ValueError):
        fs.open("/t/f", mode)


@pytest.mark.parametrize("buffering", [0, -1, 10])
def test_seek_tell_truncate_readinto_and_readline_do_as_in_io(fs: Any, buffering: int) -> None:
    with fs.open("/t/f", "w+b", buffering) as file:
        file.write(b"first\nsecond\nthird")
        assert (file.tell(), file.seek(0, os.SEEK_END), file.seek(-5, os.SEEK_CUR)) == (18, 18, 13)
        assert file.read(2) == b"th"
        assert file.seek(-18, os.SEEK_END) == 0
        assert (file.readline(), file.readline(), file.readline(), file.readline()) == (
            b"first\n",
            b"second\n",
            b"third",
            b"",
        )
        file.seek(6)
        target = bytearray(6)
        assert (file.readinto(target), bytes(target)) == (6, b"second")
        assert refused(lambda: file.seek(-1)) in (errno.EINVAL, None)
        file.seek(3)
        assert file.truncate() == 3
        assert file.truncate(8) == 8
        assert file.tell() == 3
        file.seek(0)
        assert file.read() == b"fir" + bytes(5)
        file.seek(20)
        file.write(b"!")
        file.seek(0)
        assert list(file) == [b"fir" + bytes(17) + b"!"]


def test_text_has_encodings_newlines_and_lines(fs: Any) -> None:
    with fs.open("/t/f", "w", encoding="utf-8") as file:
        file.write("grüße\n")
        file.writelines(["zwei\n", "drei"])
        print("vier", file=file)
    with fs.open("/t/f", encoding="utf-8") as file:
        assert list(file) == ["grüße\n", "zwei\n", "dreivier\n"]
        file.seek(0)
        assert file.readline() == "grüße\n"
        position = file.tell()
        file.readline()
        file.seek(position)
        assert file.readline() == "zwei\n"
    with fs.open("/t/f", "rb") as file:
        assert file.read(7) == "grüße".encode()
    with fs.open("/t/l", "w", encoding="latin-1", newline="\r\n") as file:
        file.write("ü\n")
    with fs.open("/t/l", "rb") as file:
        assert file.read() == b"\xfc\r\n"


def test_a_closed_file_refuses_everything_and_closing_twice_is_fine(fs: Any) -> None:
    for buffering in (0, -1):
        file = fs.open("/t/f", "w+b", buffering)
        file.write(b"x")
        file.close()
        file.close()
        assert file.closed
        for use in (file.read, lambda: file.write(b"x"), file.tell, lambda: file.seek(0), file.truncate, file.readable):  # noqa: B023
            with pytest.raises(ValueError):
                use()
        with pytest.raises(ValueError), file:
            pass


def test_large_reads_go_straight_into_numpy(fs: Any) -> None:
    values = np.random.default_rng(7).integers(0, 1 << 62, size=3 * MIB, dtype=np.int64)
    with fs.open("/t/array", "wb") as file:
        assert file.write(values) == values.nbytes
    target = np.zeros_like(values)
    with fs.open("/t/array", "rb") as file:
        filled = 0
        view = memoryview(cast(Any, target)).cast("B")
        while count := file.readinto(view[filled:]):
            filled += count
    assert filled == values.nbytes
    assert np.array_equal(values, target)
    with fs.open("/t/array", "rb") as file:
        file.seek(8 * 1000)
        assert np.frombuffer(file.read(8 * 100), dtype=np.int64).tolist() == values[1000:1100].tolist()


def test_two_handles_of_one_file_see_each_other(fs: Any) -> None:
    with fs.open("/t/f", "wb", 0) as writer, fs.open("/t/f", "rb", 0) as reader:
        for index in range(20):
            writer.write(bytes([index]) * 1000)
            assert reader.read(1000) == bytes([index]) * 1000
            assert fs.stat("/t/f").st_size == (index + 1) * 1000
            assert [entry.stat().st_size for entry in fs.scandir("/t")] == [(index + 1) * 1000]


def test_appends_of_two_handles_interleave(fs: Any) -> None:
    with fs.open("/t/f", "ab", 0) as first, fs.open("/t/f", "ab", 0) as second:
        for index in range(10):
            first.write(b"a%d;" % index * 300)
            second.write(b"b%d;" % index * 300)
    with fs.open("/t/f", "rb") as file:
        records = file.read().split(b";")[:-1]
    assert records == [b"%s%d" % (who, index) for index in range(10) for who in (b"a", b"b") for _ in range(300)]


# ---- names --------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Callable[[Any], object], type[OSError]]] = {
    "open what is not there": (lambda fs: fs.open("/t/none"), FileNotFoundError),
    "open below a file": (lambda fs: fs.open("/t/file/x"), NotADirectoryError),
    "open a directory": (lambda fs: fs.open("/t/full", "w"), IsADirectoryError),
    "stat": (lambda fs: fs.stat("/t/none"), FileNotFoundError),
    "mkdir": (lambda fs: fs.mkdir("/t/file"), FileExistsError),
    "makedirs": (lambda fs: fs.makedirs("/t/full"), FileExistsError),
    "makedirs over a file": (lambda fs: fs.makedirs("/t/file", exist_ok=True), FileExistsError),
    "remove a directory": (lambda fs: fs.remove("/t/full"), IsADirectoryError),
    "remove": (lambda fs: fs.remove("/t/none"), FileNotFoundError),
    "rmdir": (lambda fs: fs.rmdir("/t/full"), OSError),
    "rmdir a file": (lambda fs: fs.rmdir("/t/file"), NotADirectoryError),
    "listdir a file": (lambda fs: fs.listdir("/t/file"), NotADirectoryError),
    "listdir": (lambda fs: fs.listdir("/t/none"), FileNotFoundError),
    "scandir": (lambda fs: list(fs.scandir("/t/none")), FileNotFoundError),
    "rename": (lambda fs: fs.rename("/t/none", "/t/x"), FileNotFoundError),
    "replace a directory by a file": (lambda fs: fs.replace("/t/file", "/t/full"), IsADirectoryError),
    "replace a file by a directory": (lambda fs: fs.replace("/t/full", "/t/file"), NotADirectoryError),
    "symlink": (lambda fs: fs.symlink("x", "/t/file"), FileExistsError),
    "readlink": (lambda fs: fs.readlink("/t/file"), OSError),
    "chmod": (lambda fs: fs.chmod("/t/none", 0o600), FileNotFoundError),
    "utime": (lambda fs: fs.utime("/t/none"), FileNotFoundError),
    "truncate": (lambda fs: fs.truncate("/t/none", 1), FileNotFoundError),
    "link a directory": (lambda fs: fs.link("/t/full", "/t/x"), PermissionError),
    "a long name": (lambda fs: fs.stat("/t/" + "n" * 256), OSError),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_each_refusal_is_the_errors_class_and_names_the_path(fs: Any, what: str) -> None:
    fs.makedirs("/t/full/of/folders")
    with fs.open("/t/file", "w") as file:
        file.write("x")
    call, kind = REFUSALS[what]
    with pytest.raises(kind) as caught:
        call(fs)
    named = f"{caught.value.filename} {caught.value.filename2}"
    assert "/t/" in named or (what == "utime" and isinstance(fs, LocalFiles))  # os.utime tells none
    numbers = {"rmdir": errno.ENOTEMPTY, "readlink": errno.EINVAL, "a long name": errno.ENAMETOOLONG}
    assert caught.value.errno == numbers.get(what, caught.value.errno)
    if what.startswith(("rename", "replace")):
        assert "/t/" in str(caught.value.filename2)


def test_names_are_made_listed_moved_and_removed(fs: Any) -> None:
    fs.makedirs("/t/a/b/c")
    fs.makedirs("/t/a/b/c", exist_ok=True)
    with fs.open("/t/a/f", "w") as file:
        file.write("x" * 100)
    fs.symlink("f", "/t/a/l")
    fs.link("/t/a/f", "/t/a/h")
    assert sorted(fs.listdir("/t/a")) == ["b", "f", "h", "l"]
    found = {entry.name: (entry.is_dir(), entry.is_file(), entry.is_symlink()) for entry in fs.scandir("/t/a")}
    assert found == {
        "b": (True, False, False),
        "f": (False, True, False),
        "h": (False, True, False),
        "l": (False, True, True),
    }
    assert (fs.readlink("/t/a/l"), fs.stat("/t/a/l").st_size, fs.lstat("/t/a/l").st_size) == ("f", 100, 1)
    assert fs.stat("/t/a/f").st_nlink == 2
    assert (fs.exists("/t/a/l"), fs.isfile("/t/a/l"), fs.isdir("/t/a/b"), fs.islink("/t/a/l")) == (True,) * 4
    assert (fs.exists("/t/none"), fs.isfile("/t/a"), fs.isdir("/t/a/f"), fs.islink("/t/a/f")) == (False,) * 4
    fs.rename("/t/a/f", "/t/a/g")
    fs.replace("/t/a/h", "/t/a/g")
    fs.remove("/t/a/l")
    assert fs.getsize("/t/a/g") == 100
    fs.rmdir("/t/a/b/c")
    fs.rmtree("/t/a")
    assert fs.listdir("/t") == []


def test_walking_gives_what_os_walk_gives(fs: Any) -> None:
    for folder in ("/t/w/x/y", "/t/w/z"):
        fs.makedirs(folder)
    for path in ("/t/w/1", "/t/w/x/2", "/t/w/x/y/3"):
        fs.open(path, "w").close()
    fs.symlink("z", "/t/w/link")

    def seen(**named: Any) -> list[tuple[str, list[str], list[str]]]:
        return sorted((place, sorted(folders), sorted(files)) for place, folders, files in fs.walk("/t/w", **named))

    whole = [
        ("/t/w", ["link", "x", "z"], ["1"]), ("/t/w/x", ["y"], ["2"]), ("/t/w/x/y", [], ["3"]), ("/t/w/z", [], []),
    ]  # fmt: skip
    assert seen() == whole
    assert seen(topdown=False) == whole
    assert seen(followlinks=True) == sorted([*whole, ("/t/w/link", [], [])])
    for _, folders, _ in fs.walk("/t/w"):
        folders.clear()
    assert list(fs.walk("/t/none")) == []


def test_attributes_can_be_set_and_read_back(fs: Any) -> None:
    with fs.open("/t/f", "wb") as file:
        file.write(b"x" * 5000)
    fs.chmod("/t/f", 0o640)
    fs.chown("/t/f", 12, 34)
    fs.utime("/t/f", ns=(111_222_333_444, 555_666_777_888))
    found = fs.stat("/t/f")
    assert (found.st_mode, found.st_uid, found.st_gid, found.st_size) == (0o100640, 12, 34, 5000)
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_mtime) == (111_222_333_444, 555_666_777_888, 555.666777888)
    fs.utime("/t/f", (1.5, 2.5))
    assert (fs.stat("/t/f").st_atime, fs.stat("/t/f").st_mtime) == (1.5, 2.5)
    fs.utime("/t/f")
    assert fs.stat("/t/f").st_mtime > 1e9
    fs.chown("/t/f", -1, 35)
    assert (fs.stat("/t/f").st_uid, fs.stat("/t/f").st_gid) == (12, 35)
    fs.truncate("/t/f", 10)
    assert fs.getsize("/t/f") == 10
    assert fs.access("/t/f", os.R_OK)
    room = fs.statvfs("/t")
    assert room.f_blocks >= room.f_bfree >= room.f_bavail > 0


def test_paths_may_be_bytes_or_path_objects_and_answers_are_alike(fs: Any) -> None:
    if isinstance(fs, LocalFiles):
        return  # shown by the standard library itself
    fs.mkdir(b"/t/b\xff")
    assert fs.listdir(b"/t") == [b"b\xff"]
    assert fs.listdir("/t") == [os.fsdecode(b"b\xff")]
    with fs.open(Path("/t/p"), "w") as file:
        file.write("x")
    assert fs.stat(Path("/t/p")).st_size == 1


# ---- sharing ------------------------------------------------------------------------------------------------------


def test_threads_share_one_file_system(fs: Any) -> None:
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            fs.mkdir(f"/t/{index}")
            for number in range(10):
                data = bytes([index]) * (100 + 5000 * number)
                with fs.open(f"/t/{index}/{number}", "wb") as file:
                    file.write(data)
                with fs.open(f"/t/{index}/{number}", "rb") as file:
                    assert file.read() == data
            assert len(fs.listdir(f"/t/{index}")) == 10
        except BaseException as error:  # noqa: BLE001 - told by the test itself
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def _in_worker(url: str) -> bytes:
    with mooseng_py.connect(url) as fs:
        fs.write_bytes("/spawned", b"from a worker")
        return bytes(fs.read_bytes("/spawned"))


def test_a_spawned_worker_connects_for_itself(cluster: Cluster) -> None:
    with mooseng_py.connect(cluster.url()) as fs:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_in_worker, (cluster.url(),)) == b"from a worker"
        assert fs.read_bytes("/spawned") == b"from a worker"
        fs.remove("/spawned")


def test_a_closed_file_system_refuses_and_its_files_do_too(cluster: Cluster) -> None:
    fs = mooseng_py.connect(cluster.url())
    file = fs.open("/left-open", "wb", 0)
    file.write(b"kept")
    fs.close()
    fs.close()
    with pytest.raises((OSError, ValueError)):
        fs.listdir("/")
    with pytest.raises((OSError, ValueError)):
        file.write(b"x")
    with pytest.raises((OSError, ValueError)):
        file.close()
    assert file.closed
    assert (cluster.mount(1) / "left-open").read_bytes() == b"kept"
    (cluster.mount(1) / "left-open").unlink()
