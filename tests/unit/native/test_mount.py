"""One mount over real masters and chunkservers in this process: what the FUSE adapter itself is answerable for."""

import errno
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooseng_py import native

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no /dev/fuse: load the fuse module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting without fusermount needs root"),
]

Mounter = Callable[[str], tuple[native.Node, Path]]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of one master, with three chunkservers behind it."""
    base, address = tmp_path_factory.mktemp("nodes"), free_address()
    (base / "master").mkdir()
    nodes = [
        native.Node(
            "master",
            {
                "cluster_id": "test",
                "node_id": 1,
                "listen": address,
                "advertise": address,
                "peers": {"1": address},
                "data_dir": str(base / "master"),
            },
        )
    ]
    for number in (1, 2, 3):
        disk = base / f"disk{number}"
        disk.mkdir()
        config = {"server_id": number, "masters": [address], "listen": "127.0.0.1:0", "disks": [str(disk)]}
        nodes.append(native.Node("chunkserver", config))
    yield [address]
    for node in reversed(nodes):
        node.close()


@pytest.fixture
def points() -> Iterator[Path]:
    """Where mount points are made; other users may go through it."""
    with tempfile.TemporaryDirectory(prefix="mooseng-mount-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def mount(masters: list[str], points: Path) -> Iterator[Mounter]:
    """Mounts by name; unmounted after the test, whatever it did to them."""
    mounted: list[tuple[native.Node, Path]] = []

    def start(name: str) -> tuple[native.Node, Path]:
        point = points / name
        if name not in os.listdir(points):
            point.mkdir()
        node = native.Node("mount", {"masters": masters, "name": name, "mount_point": str(point), "threads": 2})
        mounted.append((node, point))
        return node, point

    yield start
    for node, point in reversed(mounted):
        node.close()
        subprocess.run(["umount", "-l", point], capture_output=True)


def own(point: Path) -> Path:
    """A directory of this test's own: the file system is shared by all of them."""
    folder = point / f"{time.monotonic_ns()}"
    folder.mkdir()
    return folder


def test_a_rewrite_of_equal_length_is_seen_at_the_next_open(mount: Mounter) -> None:
    (_, a), (_, b) = mount("a"), mount("b")
    name = own(a).name + "/f"
    for turn in range(10):
        for writer, reader in ((a, b), (b, a)):
            data = bytes([turn, writer is a]) * 30_000
            (writer / name).write_bytes(data)
            assert (reader / name).read_bytes() == data


def test_unchanged_content_is_read_from_the_page_cache(mount: Mounter) -> None:
    node, point = mount("a")
    path = own(point) / "f"
    data = os.urandom(300_000)
    path.write_bytes(data)

    def bytes_read() -> float:
        return next(value for name, _, value in node.metrics() if name == "mooseng_fuse_read_bytes_total")

    assert path.read_bytes() == data
    before = bytes_read()
    assert path.read_bytes() == data
    assert bytes_read() == before


def test_appends_through_two_mounts_lose_nothing(mount: Mounter) -> None:
    (_, a), (_, b) = mount("a"), mount("b")
    name = own(a).name + "/log"
    with open(a / name, "ab", buffering=0) as first, open(b / name, "a+b", buffering=0) as second:
        for turn in range(30):
            first.write(b"a%03d\n" % turn)
            second.write(b"b%03d\n" % turn)
    lines = (a / name).read_bytes().split()
    assert sorted(lines) == sorted(b"%c%03d" % (who, turn) for who in b"ab" for turn in range(30))
    assert (b / name).read_bytes() == (a / name).read_bytes()


def test_a_mapping_writes_through_to_another_mount(mount: Mounter) -> None:
    (_, a), (_, b) = mount("a"), mount("b")
    path = own(a) / "f"
    path.write_bytes(bytes(100_000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5000:5005] = b"hello"
        mapping[99_990:99_995] = b"world"
    seen = (b / path.relative_to(a)).read_bytes()
    assert (seen[5000:5005], seen[99_990:99_995], len(seen)) == (b"hello", b"world", 100_000)


def test_an_unlinked_file_lives_until_its_last_close(mount: Mounter) -> None:
    (_, a), (_, b) = mount("a"), mount("b")
    path = own(a) / "f"
    with open(path, "w+b") as file, open(path, "rb") as reader:
        file.write(b"x" * 50_000)
        file.flush()
        os.fsync(file.fileno())
        (b / path.relative_to(a)).unlink()
        assert not path.exists()
        assert os.fstat(reader.fileno()).st_nlink == 0
        assert reader.read() == b"x" * 50_000
        file.write(b"y")
        file.seek(0)
        assert len(file.read()) == 50_001


def test_a_large_directory_is_listed_whole_while_it_is_emptied(mount: Mounter) -> None:
    _, a = mount("a")
    folder = own(a)
    names = {f"file-{number:04}" for number in range(1200)}
    for name in names:
        (folder / name).touch()
    assert set(os.listdir(folder)) == names
    seen = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino
            seen.add(entry.name)
            os.unlink(entry.path)
    assert seen == names
    assert os.listdir(folder) == []


def test_a_rewound_directory_shows_what_came_since(mount: Mounter) -> None:
    _, a = mount("a")
    folder = own(a)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        assert os.listdir(descriptor) == []
        (folder / "new").touch()
        assert os.listdir(descriptor) == ["new"]
    finally:
        os.close(descriptor)


def test_times_before_1970_keep_their_nanoseconds(mount: Mounter) -> None:
    _, a = mount("a")
    path = own(a) / "f"
    path.touch()
    os.utime(path, ns=(-1_500_000_001, -1))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (-1_500_000_001, -1)


def run_as(uid: int, groups: list[int], code: str) -> str:
    script = f"import os\nos.setgroups({groups})\nos.setgid({uid})\nos.setuid({uid})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/")
    return (done.stdout + done.stderr.strip().rpartition("\n")[2]).strip()


def test_rights_are_those_of_user_group_and_supplementary_groups(mount: Mounter) -> None:
    _, a = mount("a")
    folder = own(a)
    secret = folder / "secret"
    secret.write_text("told")
    os.chown(secret, 0, 777)
    secret.chmod(0o640)
    read = f"print(open({str(secret)!r}).read())"
    assert run_as(1000, [777], read) == "told"
    assert "Permission denied" in run_as(1000, [], read)
    folder.chmod(0o777)
    made = (
        f"os.umask(0o027); open({str(folder / 'mine')!r}, 'w'); print(oct(os.stat({str(folder / 'mine')!r}).st_mode))"
    )
    assert run_as(1000, [], made) == "0o100640"


def test_a_write_by_a_stranger_clears_set_id_bits(mount: Mounter) -> None:
    _, a = mount("a")
    path = own(a) / "tool"
    path.write_bytes(b"old")
    os.chown(path, 1000, 1000)
    for change in ("open(p, 'r+').write('n')", "os.truncate(p, 0)", "open(p, 'w')"):
        path.chmod(0o6777)
        run_as(1001, [], f"p = {str(path)!r}; {change}")
        assert oct(path.stat().st_mode) == "0o100777", change


def test_what_the_file_system_has_not_is_refused_with_the_right_errno(mount: Mounter) -> None:
    _, a = mount("a")
    folder = own(a)
    (folder / "f").touch()
    refused: dict[int, Callable[[], object]] = {
        errno.EOPNOTSUPP: lambda: os.setxattr(folder / "f", "security.selinux", b"1"),
        errno.ENAMETOOLONG: lambda: (folder / ("n" * 256)).touch(),
        errno.EINVAL: lambda: folder.rename(folder / "below"),
    }
    for number, attempt in refused.items():
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == number


def test_a_busy_mount_still_ends_and_its_data_is_safe(mount: Mounter) -> None:
    (node, a), (_, b) = mount("a"), mount("b")
    path = own(a) / "f"
    start = time.monotonic()
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"safe")
    node.close()
    assert time.monotonic() - start < 20
    assert not os.path.ismount(a)
    with pytest.raises(OSError):
        os.write(descriptor, b"late")
    with pytest.raises(OSError):
        os.close(descriptor)
    assert (b / path.relative_to(a)).read_bytes() == b"safe"


def test_an_unmount_from_outside_is_noticed(mount: Mounter) -> None:
    node, a = mount("a")
    subprocess.run(["umount", a], check=True)
    deadline = time.monotonic() + 5
    while node.status()["mount"]["mounted"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    node.close()


def test_a_dead_mount_is_replaced(mount: Mounter, masters: list[str], points: Path) -> None:
    point = points / "dead"
    point.mkdir()
    script = (
        "import os, mooseng_py.native as native\n"
        f"node = native.Node('mount', {{'masters': {masters!r}, 'mount_point': {str(point)!r}}})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    with pytest.raises(OSError) as caught:
        os.listdir(point)
    assert caught.value.errno == errno.ENOTCONN
    mount("dead")
    assert os.path.ismount(point)


def test_a_mount_point_that_cannot_be_used_is_named(mount: Mounter, masters: list[str], points: Path) -> None:
    mount("a")
    full = points / "full"
    full.mkdir()
    (full / "file").touch()
    for point, number, why in (
        (full, errno.ENOTEMPTY, "is not empty"),
        (points / "none", errno.ENOENT, "does not exist"),
        (points / "a", errno.EBUSY, "mounted already"),
    ):
        with pytest.raises(OSError, match=why) as caught:
            native.Node("mount", {"masters": masters, "mount_point": str(point)})
        assert caught.value.errno == number
