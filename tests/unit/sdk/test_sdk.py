"""The file system object behaves as `os` and `io` do, over the real state machine and files kept in memory."""

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mooseng_py
from mooseng_py.errors import IntegrityError, NamespaceError, make_error
from mooseng_py.sdk import FileSystem
from tests.unit.sdk.model import ModelClient


@pytest.fixture
def client() -> ModelClient:
    return ModelClient()


@pytest.fixture
def fs(client: ModelClient) -> Iterator[FileSystem]:
    with FileSystem(client, umask=0o022) as found:
        yield found


def number(call: Any, *arguments: Any, **named: Any) -> int:
    """The errno of a call that must fail."""
    with pytest.raises(OSError) as caught:  # the number is what is looked at
        call(*arguments, **named)
    assert isinstance(caught.value, NamespaceError)
    assert caught.value.filename is not None
    return caught.value.errno or 0


# ---- files -----------------------------------------------------------------------------------------------------------
def test_what_is_written_is_read_back_in_every_way(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"hello world")
    assert fs.read_bytes("/f") == b"hello world"
    with fs.open("/f") as file:
        assert file.read() == "hello world"
    with fs.open("/f", "rb", buffering=0) as raw:
        target = bytearray(5)
        assert raw.readinto(target) == 5
        assert (bytes(target), raw.tell()) == (b"hello", 5)
        assert raw.read() == b" world"
        assert raw.read() == b""


def test_modes_do_what_they_do_for_local_files(fs: FileSystem, tmp_path: Path) -> None:
    def story(opened: Any) -> list[Any]:
        seen: list[Any] = []

        def step(mode: str, act: Any) -> None:
            try:
                with opened(mode) as file:
                    seen.append(act(file))
            except (OSError, ValueError) as error:
                seen.append(
                    (type(error).__mro__[-4 if isinstance(error, OSError) else 0].__name__, getattr(error, "errno", 0))
                )

        step("rb", lambda file: file.read())
        step("xb", lambda file: file.write(b"one"))
        step("xb", lambda file: file.write(b"two"))
        step("ab", lambda file: (file.write(b"+end"), file.tell()))
        step("r+b", lambda file: (file.write(b"ONE"), file.read(), file.seek(-2, 2), file.read(), file.truncate(5)))
        step("rb", lambda file: (file.read(), file.readable(), file.writable(), file.seekable()))
        step("rb", lambda file: file.write(b"no"))
        step("wb", lambda file: file.read())
        step("w+b", lambda file: (file.write(b"a\nb\n"), file.seek(0), file.readlines()))
        step("a+b", lambda file: (file.read(), file.seek(1), file.write(b"c"), file.seek(0), file.read()))
        step("w", lambda file: (file.write("ä\n"), file.mode))
        step("r", lambda file: (file.readline(), file.encoding))
        step("rw", lambda file: None)
        step("", lambda file: None)
        step("rbt", lambda file: None)
        return seen

    local = story(lambda mode: open(tmp_path / "f", mode, encoding=None if "b" in mode else "utf-8"))
    assert story(lambda mode: fs.open("/f", mode, encoding=None if "b" in mode else "utf-8")) == local


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "seek", "truncate", "read"]),
            st.integers(0, 300),
            st.binary(min_size=0, max_size=200),
        ),
        max_size=12,
    ),
    st.sampled_from(["r+b", "w+b", "a+b"]),
)
def test_any_sequence_on_an_open_file_is_as_in_memory(steps: list[tuple[str, int, bytes]], mode: str) -> None:
    import tempfile

    with FileSystem(ModelClient()) as fs, tempfile.TemporaryDirectory() as folder:
        local_path = Path(folder, "f")
        local_path.write_bytes(b"start")
        fs.write_bytes("/f", b"start")
        with open(local_path, mode) as local, fs.open("/f", mode) as ours:
            for what, where, data in steps:
                for file in (local, ours):
                    if what == "write":
                        file.write(data)
                    elif what == "seek":
                        file.seek(where)
                    elif what == "truncate":
                        file.flush()
                        file.truncate(where)
                assert local.tell() == ours.tell()
                if what == "read":
                    assert local.read(where) == ours.read(where)
        assert fs.read_bytes("/f") == local_path.read_bytes()


def test_buffered_layers_are_those_of_the_standard_library(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"")
    for mode, kind in (
        ("rb", io.BufferedReader),
        ("wb", io.BufferedWriter),
        ("r+b", io.BufferedRandom),
        ("r", io.TextIOWrapper),
    ):
        with fs.open("/f", mode) as file:
            assert type(file) is kind
    with pytest.raises(ValueError, match="unbuffered text"):
        fs.open("/f", "r", buffering=0)
    with pytest.raises(ValueError, match="binary mode"):
        fs.open("/f", "rb", encoding="utf-8")


def test_a_failed_open_leaves_no_handle(fs: FileSystem, client: ModelClient) -> None:
    with pytest.raises(LookupError):
        fs.open("/f", "w", encoding="no-such-encoding")
    assert client.files == {}


def test_fsync_reaches_the_engine_through_every_layer(fs: FileSystem, client: ModelClient) -> None:
    with fs.open("/f", "w") as file:
        file.write("text")
        fs.fsync(file)
        assert bytes(client.content[client.synced[0]]) == b"text"
    with open(__file__, "rb") as other, pytest.raises(TypeError):
        fs.fsync(other)


def test_a_close_that_fails_raises_once_and_names_the_file(fs: FileSystem, client: ModelClient) -> None:
    file = fs.open("/f", "wb", buffering=0)
    client.fail_close = make_error(errno.EIO, 3, "a copy is wrong")
    with pytest.raises(IntegrityError) as caught:
        file.close()
    assert (caught.value.filename, caught.value.errno) == ("/f", errno.EIO)
    assert file.closed
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        file.read()


def test_an_open_file_has_no_descriptor_and_says_where_to_get_one(fs: FileSystem) -> None:
    with fs.open("/f", "wb") as file, pytest.raises(io.UnsupportedOperation, match="mount"):
        file.fileno()


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "f2", "c16", "?", "U3", "i4,f8"])
def test_numpy_arrays_are_written_and_filled_without_a_copy_of_ours(fs: FileSystem, dtype: str) -> None:
    array = np.frombuffer(bytes(range(240)), dtype)
    assert fs.write_bytes("/array", array) == array.nbytes
    filled = np.empty_like(array)
    with fs.open("/array", "rb", buffering=0) as file:
        assert file.readinto(filled) == array.nbytes
    assert filled.tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_are_refused_before_anything_is_written(fs: FileSystem) -> None:
    fs.write_bytes("/array", b"before")
    for array in (np.zeros((4, 4)).T, np.zeros((4, 4))[:, 1]):
        with pytest.raises(TypeError, match="contiguous"):
            fs.write_bytes("/array", array)
    assert fs.read_bytes("/array") == b"before"


# ---- names -----------------------------------------------------------------------------------------------------------
def test_refusals_have_the_errno_and_the_name(fs: FileSystem) -> None:
    fs.makedirs("/d/sub")
    fs.write_bytes("/f", b"")
    assert number(fs.stat, "/none") == errno.ENOENT
    assert number(fs.stat, "/f/below") == errno.ENOTDIR
    assert number(fs.stat, "") == errno.ENOENT
    assert number(fs.stat, "a\0b") == errno.EINVAL
    assert number(fs.mkdir, "/d") == errno.EEXIST
    assert number(fs.mkdir, "/") == errno.EEXIST
    assert number(fs.mkdir, "/none/x") == errno.ENOENT
    assert number(fs.mkdir, "/" + "x" * 256) == errno.ENAMETOOLONG
    assert number(fs.rmdir, "/d") == errno.ENOTEMPTY
    assert number(fs.rmdir, "/") == errno.EBUSY
    assert number(fs.rmdir, "/f") == errno.ENOTDIR
    assert number(fs.remove, "/d") == errno.EISDIR
    assert number(fs.open, "/d") == errno.EISDIR
    assert number(fs.open, "/d", "w") == errno.EISDIR
    assert number(fs.listdir, "/f") == errno.ENOTDIR
    assert number(fs.readlink, "/f") == errno.EINVAL
    assert number(fs.rename, "/d", "/d/sub/x") == errno.EINVAL
    assert number(fs.truncate, "/f", -1) == errno.EINVAL
    assert number(fs.link, "/d", "/hard") == errno.EPERM
    assert number(fs.rename, "/f", "/d", overwrite=False) == errno.EEXIST
    with pytest.raises(FileNotFoundError) as caught:
        fs.rename("/none", "/other")
    assert (caught.value.filename, caught.value.filename2) == ("/none", "/other")


def test_names_of_bytes_give_bytes_and_any_byte_survives(fs: FileSystem) -> None:
    odd = b"/\xff \n'"
    fs.write_bytes(odd, b"x")
    assert fs.listdir(b"/") == [odd[1:]]
    assert os.fsencode(fs.listdir("/")[0]) == odd[1:]
    assert fs.read_bytes(os.fsdecode(odd)) == b"x"
    assert next(iter(fs.scandir(b"/"))).path == odd


def test_symlinks_are_followed_where_os_follows_them(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"data")
    fs.symlink("f", "/link")
    fs.symlink("made/here", "/dangling")
    fs.symlink("loop", "/loop")
    assert fs.read_bytes("/link") == b"data"
    assert (fs.islink("/link"), fs.isfile("/link"), fs.lstat("/link").st_size) == (True, True, 1)
    assert (fs.exists("/dangling"), fs.islink("/dangling")) == (False, True)
    assert number(fs.open, "/dangling", "w") == errno.ENOENT
    fs.mkdir("/made")
    fs.write_bytes("/dangling", b"through")
    assert fs.read_bytes("/made/here") == b"through"
    assert number(fs.open, "/dangling", "x") == errno.EEXIST
    assert number(fs.stat, "/loop") == errno.ELOOP
    assert number(fs.open, "/loop", "w") == errno.ELOOP
    assert fs.readlink(b"/link") == b"f"


def test_attributes_change_and_come_back(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"12345")
    fs.chmod("/f", 0o640)
    fs.chown("/f", 12, 34)
    fs.chown("/f", -1, 56)
    fs.utime("/f", ns=(-1, 1_234_567_890_123_456_789))
    fs.link("/f", "/g")
    found = fs.stat("/g")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_nlink) == (0o640, 12, 56, 2)
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_size) == (-1, 1_234_567_890_123_456_789, 5)
    assert found.st_mtime == pytest.approx(1_234_567_890.123456)
    fs.utime("/f", (1.5, 2.5))
    assert fs.stat("/f").st_atime_ns == 1_500_000_000
    fs.utime("/f")
    assert fs.stat("/f").st_mtime_ns > 10**18
    with pytest.raises(ValueError, match="not both"):
        fs.utime("/f", (1, 2), ns=(1, 2))
    fs.truncate("/f", 2)
    assert fs.read_bytes("/f") == b"12"


def test_the_umask_is_applied_and_permissions_are_given(fs: FileSystem) -> None:
    fs.mkdir("/d")
    fs.write_bytes("/f", b"")
    with fs.open("/s", "w", permissions=0o600):
        pass
    assert [stat.S_IMODE(fs.stat(path).st_mode) for path in ("/d", "/f", "/s")] == [0o755, 0o644, 0o600]


def test_access_answers_for_this_user(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"")
    assert fs.access("/f", os.R_OK)
    assert not fs.access("/f", os.X_OK)
    assert not fs.access("/none", os.F_OK)


def test_makedirs_walk_and_rmtree_do_what_those_of_os_do(fs: FileSystem, tmp_path: Path) -> None:
    sides: tuple[tuple[Any, Any, str], ...] = (
        (os.makedirs, lambda p: Path(p).write_bytes(b""), str(tmp_path)),
        (fs.makedirs, lambda p: fs.write_bytes(p, b""), ""),
    )
    for make, put, root in sides:
        make(root + "/t/a/b")
        make(root + "/t/c")
        make(root + "/t/c", exist_ok=True)
        with pytest.raises(FileExistsError):
            make(root + "/t/c")
        for name in ("/t/one", "/t/a/two", "/t/a/b/three"):
            put(root + name)
    (tmp_path / "t/link").symlink_to("a")
    fs.symlink("a", "/t/link")

    def shape(found: Any, root: str) -> list[Any]:
        return sorted((top.removeprefix(root), sorted(folders), sorted(files)) for top, folders, files in found)

    assert shape(fs.walk("/t"), "") == shape(os.walk(tmp_path / "t"), str(tmp_path))
    assert shape(fs.walk("/t", followlinks=True), "") == shape(os.walk(tmp_path / "t", followlinks=True), str(tmp_path))
    assert [top for top, _, _ in fs.walk("/t", topdown=False)][-1] == "/t"
    assert list(fs.walk("/none")) == []
    complaints: list[OSError] = []
    list(fs.walk("/none", onerror=complaints.append))
    assert complaints[0].errno == errno.ENOENT
    with pytest.raises(OSError, match="symlink"):
        fs.rmtree("/t/link")
    fs.rmtree("/t")
    assert fs.listdir("/") == []


def test_a_large_directory_is_listed_once_each(fs: FileSystem) -> None:
    for index in range(2100):
        fs.symlink("x", f"/{index}")
    assert sorted(map(int, fs.listdir("/"))) == list(range(2100))
    entry = next(iter(fs.scandir("/")))
    assert (entry.is_symlink(), entry.is_file(), entry.is_dir()) == (True, False, False)
    assert entry.inode() == fs.lstat(entry).st_ino


def test_a_directory_is_shown_page_by_page_while_names_come_and_go(fs: FileSystem) -> None:
    for index in range(10):
        fs.symlink("x", f"/{index}")
    first, mark = fs.scanpage("/", limit=4)
    assert len(first) == 4
    for entry in first:
        fs.unlink(entry.path)
    fs.symlink("x", "/late")
    seen = [entry.name for entry in first]
    while mark:
        page, mark = fs.scanpage("/", after=mark, limit=4)
        seen += [entry.name for entry in page]
    assert len(set(seen)) == len(seen)
    assert {str(index) for index in range(10)} <= set(seen)
    assert fs.scanpage(b"/", limit=1)[0][0].attributes.st_size == 1
    fs.mkdir("/empty")
    assert fs.scanpage("/empty") == ([], 0)
    with pytest.raises(FileNotFoundError):
        fs.scanpage("/none")


def test_where_a_small_file_lies_is_with_its_inode(fs: FileSystem) -> None:
    fs.write_bytes("/f", b"small")
    chunks, inline = fs.chunks("/f")
    assert (chunks, inline) == ([], True)
    fs.mkdir("/d")
    with pytest.raises(OSError):
        fs.chunks("/d")
    with pytest.raises(FileNotFoundError):
        fs.chunks("/none")


def test_statvfs_counts_in_blocks(fs: FileSystem) -> None:
    found = fs.statvfs()
    assert (found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail) == (1 << 30, 1 << 29)
    assert (found.f_ffree, found.f_namemax) == (9, 255)


# ---- in and out ------------------------------------------------------------------------------------------------------
def test_files_are_copied_in_and_out_whole_or_not_at_all(fs: FileSystem, client: ModelClient, tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    (tmp_path / "in").write_bytes(content)
    (tmp_path / "in").chmod(0o600)
    steps: list[int] = []
    assert fs.put(tmp_path / "in", "/file", progress=steps.append) == len(content) == sum(steps)
    assert len(steps) == 3
    assert stat.S_IMODE(fs.stat("/file").st_mode) == 0o600
    assert fs.get("/file", tmp_path / "out") == len(content)
    assert (tmp_path / "out").read_bytes() == content
    client.fail_close = make_error(errno.ENOSPC, 0, "the disks are full")
    with pytest.raises(OSError, match="full"):
        fs.put(tmp_path / "in", "/second")
    client.fail_close = None
    assert fs.listdir("/") == ["file"]
    with pytest.raises(FileNotFoundError):
        fs.get("/none", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


# ---- connecting ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("http://a:1", {}, "only one"),
        ("mooseng://a:1/path", {}, "names the path"),
        ("mooseng://a", {}, "host:port"),
        ("mooseng://", {}, "host:port"),
        ("mooseng://a:1,a:1/", {}, "without repeats"),
        ("mooseng://a:1/", {"deadlin_ms": 1}, "there is no option 'deadlin_ms'"),
        ("mooseng://a:1/", {"deadline_ms": "long"}, "deadline_ms is 'long'"),
    ],
)
def test_a_wrong_url_or_option_is_one_sentence(url: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mooseng_py.connect(url, **options)


def test_nobody_there_is_unavailable_after_the_deadline() -> None:
    with pytest.raises(mooseng_py.errors.UnavailableError):
        mooseng_py.connect("mooseng://127.0.0.1:1/", deadline_ms=100)


def test_importing_the_package_loads_and_connects_nothing() -> None:
    code = "import sys, mooseng_py; print([n for n in sys.modules if n.startswith('mooseng_py.') or n == 'cffi'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_file_system_closes_its_session_once(client: ModelClient) -> None:
    with FileSystem(client) as fs:
        fs.close()
    assert client.closed
