"""Content: sizes, holes, mappings, and the calls that move bytes. Source: the man pages named in each test."""

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import mooseng_py
from mooseng_py.demo.harness import Cluster, run_mooseng
from mooseng_py.demo.watch import CommandFailed
from mooseng_py.mount import mountpoint
from tests.contract.support import KIB, MIB, in_child, refused

libc = ctypes.CDLL(None, use_errno=True)


# ---- sizes --------------------------------------------------------------------------------------------------------


def test_truncate_refuses_as_truncate_2_says(folder: Path) -> None:
    (folder / "f").write_bytes(b"x")
    (folder / "d").mkdir()
    assert refused(lambda: os.truncate(folder / "d", 0)) == errno.EISDIR
    assert refused(lambda: os.truncate(folder / "none", 0)) == errno.ENOENT
    assert refused(lambda: os.truncate(folder / "f", -1)) == errno.EINVAL
    assert refused(lambda: os.truncate(folder / "f", (1 << 63) - 1)) in (errno.EFBIG, errno.EINVAL)
    assert (folder / "f").read_bytes() == b"x"


def test_offsets_beyond_4_gib_work(folder: Path) -> None:
    fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR)
    try:
        for at in ((1 << 31) - 2, (1 << 32) - 2, (1 << 40) + 5):
            assert os.pwrite(fd, b"abcd", at) == 4
            assert os.pread(fd, 4, at) == b"abcd"
            assert os.lseek(fd, 0, os.SEEK_END) == at + 4
        os.fsync(fd)
        assert os.pread(fd, 3, (1 << 33)) == bytes(3)
        assert os.fstat(fd).st_blocks * 512 < 2 * MIB
        os.ftruncate(fd, (1 << 32) - 1)
        assert os.pread(fd, 10, (1 << 32) - 3) == b"\0a"
    finally:
        os.close(fd)


def test_a_read_at_or_behind_the_end_is_empty(folder: Path) -> None:
    (folder / "f").write_bytes(b"abc")
    with (folder / "f").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 3) == b""
        assert os.pread(file.fileno(), 10, 1 << 40) == b""
        assert os.pread(file.fileno(), 10, 1) == b"bc"
        assert refused(lambda: os.pread(file.fileno(), 10, -1)) == errno.EINVAL
        assert refused(lambda: os.lseek(file.fileno(), -5, os.SEEK_SET)) == errno.EINVAL


def test_a_sparse_file_takes_the_space_of_its_data(folder: Path) -> None:
    with (folder / "f").open("wb", buffering=0) as file:
        for index in range(4):
            os.pwrite(file.fileno(), bytes([index + 1]) * 4096, index * 20 * MIB)
        os.fsync(file.fileno())
    assert (folder / "f").stat().st_size == 60 * MIB + 4096
    assert (folder / "f").stat().st_blocks > 0
    with (folder / "f").open("rb", buffering=0) as file:
        for index in range(4):
            assert os.pread(file.fileno(), 8192, index * 20 * MIB)[:4097].rstrip(b"\0") == bytes([index + 1]) * 4096


def runs(fd: int) -> list[tuple[int, int]]:
    """Where the data are, as SEEK_DATA and SEEK_HOLE say."""
    found, at, end = [], 0, os.fstat(fd).st_size
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


@pytest.mark.parametrize("synced", [False, True])
def test_seek_finds_data_and_holes_block_by_block(folder: Path, synced: bool) -> None:
    chunk = 64 * MIB
    with (folder / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        for start, length in ((MIB, 4096), (3 * MIB + 100, 5000), (chunk - 4096, 8192), (3 * chunk + 1, 1)):
            os.pwrite(fd, b"x" * length, start)
        os.ftruncate(fd, 4 * chunk)
        if synced:
            os.fsync(fd)
        assert runs(fd) == [
            (MIB, MIB + 4096),
            (3 * MIB, 3 * MIB + 8192),
            (chunk - 4096, chunk + 4096),
            (3 * chunk, 3 * chunk + 4096),
        ]
        assert os.lseek(fd, MIB + 10, os.SEEK_DATA) == MIB + 10
        assert os.lseek(fd, 10, os.SEEK_HOLE) == 10
        assert refused(lambda: os.lseek(fd, 3 * chunk + 4096, os.SEEK_DATA)) == errno.ENXIO
        assert os.lseek(fd, 3 * chunk + 4096, os.SEEK_HOLE) == 3 * chunk + 4096
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            assert refused(lambda whence=whence: os.lseek(fd, 4 * chunk, whence)) == errno.ENXIO  # type: ignore[misc]
        # What is cut off is no data when the file grows again.
        os.ftruncate(fd, 3 * MIB)
        os.ftruncate(fd, 4 * chunk)
        assert runs(fd) == [(MIB, MIB + 4096)]


def test_a_file_without_holes_is_data_to_its_end(folder: Path) -> None:
    for size in (1, 100, 8192, 8193, 100_000):
        (folder / "f").write_bytes(b"x" * size)
        with (folder / "f").open("rb") as file:
            assert runs(file.fileno()) == [(0, size)]


def test_a_sparse_tebibyte_is_looked_through_and_copied_at_the_cost_of_its_data(folder: Path) -> None:
    tebibyte = 1 << 40
    with (folder / "f").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x", tebibyte - 1)
        os.pwrite(file.fileno(), b"y", tebibyte // 2)
        os.fsync(file.fileno())
        began = time.monotonic()
        assert runs(file.fileno()) == [(tebibyte // 2, tebibyte // 2 + 4096), (tebibyte - 4096, tebibyte)]
        assert time.monotonic() - began < 5
    subprocess.run(["cp", "--sparse=always", "f", "copy"], cwd=folder, check=True, timeout=60)
    assert (folder / "copy").stat().st_size == tebibyte
    assert (folder / "copy").stat().st_blocks < 1000
    with (folder / "copy").open("rb") as copy:
        assert os.pread(copy.fileno(), 2, tebibyte // 2) == b"y\0"


def test_fallocate_reserves_or_says_that_it_cannot(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        file.write(b"abc")
        number = ctypes.c_long(100 * KIB)
        answer = libc.fallocate(file.fileno(), 0, ctypes.c_long(0), number)
        if answer == 0:
            assert os.fstat(file.fileno()).st_size == 100 * KIB
            assert os.pread(file.fileno(), 100 * KIB, 0) == b"abc" + bytes(100 * KIB - 3)
        else:
            assert ctypes.get_errno() == errno.EOPNOTSUPP
            assert os.pread(file.fileno(), 100, 0) == b"abc"
        punch = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        if libc.fallocate(file.fileno(), punch, ctypes.c_long(0), ctypes.c_long(4096)) != 0:
            assert ctypes.get_errno() == errno.EOPNOTSUPP


# ---- mappings -----------------------------------------------------------------------------------------------------


def test_a_private_mapping_never_reaches_the_file(folder: Path) -> None:
    (folder / "f").write_bytes(b"a" * 10_000)
    with (folder / "f").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[:5] = b"bbbbb"
        assert view[:6] == b"bbbbba"
    assert (folder / "f").read_bytes() == b"a" * 10_000


def test_stores_and_writes_see_each_other_at_once(folder: Path) -> None:
    (folder / "f").write_bytes(bytes(50_000))
    with (folder / "f").open("r+b", buffering=0) as file, mmap.mmap(file.fileno(), 0) as view:
        for index in range(1, 20):
            view[index * 1000] = index
            assert os.pread(file.fileno(), 1, index * 1000) == bytes([index])
            os.pwrite(file.fileno(), bytes([index + 100]), index * 2000)
            assert view[index * 2000] == index + 100


def test_two_processes_share_a_mapping(folder: Path) -> None:
    (folder / "f").write_bytes(bytes(8192))

    def child() -> None:
        with (folder / "f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[4000:4010] = b"from child"
            view.flush()

    with (folder / "f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        assert in_child(child) == 0
        assert view[4000:4010] == b"from child"
    assert (folder / "f").read_bytes()[4000:4010] == b"from child"


def test_a_mapping_outlives_its_descriptor_and_its_name(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 9000)
    fd = os.open(folder / "f", os.O_RDWR)
    view = mmap.mmap(fd, 0)
    os.close(fd)
    os.unlink(folder / "f")
    view[0:3] = b"abc"
    view.flush()
    assert view[:4] == b"abcx"
    view.close()


@pytest.mark.parametrize("size", [5000, 40_000])
def test_touching_a_mapping_behind_the_files_new_end_is_sigbus(folder: Path, size: int) -> None:
    (folder / "f").write_bytes(b"x" * size)

    def touch() -> None:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        fd = os.open(folder / "f", os.O_RDWR)
        view = mmap.mmap(fd, size)
        os.ftruncate(fd, 100)
        if view[50] != ord("x") or view[200] != 0:
            os._exit(7)
        view[size - 10]  # its page lies behind the end

    assert in_child(touch) == -signal.SIGBUS


def test_what_a_mapping_stores_behind_the_end_within_the_page_is_not_kept(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 100)
    with (folder / "f").open("r+b", buffering=0) as file, mmap.mmap(file.fileno(), 100) as view:
        view[50] = ord("y")
        view.flush()
    os.truncate(folder / "f", 5000)
    assert (folder / "f").read_bytes() == b"x" * 50 + b"y" + b"x" * 49 + bytes(4900)


# ---- calls that move bytes ----------------------------------------------------------------------------------------


def test_sendfile_copy_file_range_and_splice_move_bytes_exactly(folder: Path) -> None:
    data = os.urandom(700_001)
    (folder / "source").write_bytes(data)
    with (folder / "source").open("rb") as source, (folder / "sent").open("wb") as target:
        at = 0
        while count := os.sendfile(target.fileno(), source.fileno(), at, 300_000):
            at += count
    with (folder / "source").open("rb") as source, (folder / "copied").open("wb") as target:
        while os.copy_file_range(source.fileno(), target.fileno(), 300_000):
            pass
    reader, writer = os.pipe()
    with (folder / "source").open("rb") as source, (folder / "spliced").open("wb") as target:
        while count := os.splice(source.fileno(), writer, 60_000) if hasattr(os, "splice") else 0:
            while count:
                count -= os.splice(reader, target.fileno(), count)
    os.close(reader)
    os.close(writer)
    assert (folder / "sent").read_bytes() == data
    assert (folder / "copied").read_bytes() == data
    if hasattr(os, "splice"):
        assert (folder / "spliced").read_bytes() == data


def test_scattered_reads_and_writes_keep_their_order(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        parts = [bytes([index]) * (index * 700) for index in range(1, 9)]
        assert os.writev(file.fileno(), parts) == sum(map(len, parts))
        targets = [bytearray(len(part)) for part in parts]
        assert os.preadv(file.fileno(), targets, 0) == sum(map(len, parts))
        assert [bytes(target) for target in targets] == parts


def test_direct_io_reads_and_writes_aligned_blocks_or_is_refused(folder: Path) -> None:
    try:
        fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        assert error.errno == errno.EINVAL
        return
    try:
        block = mmap.mmap(-1, 128 * KIB)
        block[:] = os.urandom(128 * KIB)
        for index in range(10):
            assert os.pwritev(fd, [block], index * 128 * KIB) == 128 * KIB
        target = mmap.mmap(-1, 128 * KIB)
        assert os.preadv(fd, [target], 5 * 128 * KIB) == 128 * KIB
        assert target[:] == block[:]
        with (folder / "f").open("r+b", buffering=0) as cached:
            assert os.pread(cached.fileno(), 128 * KIB, 0) == block[:]
            os.pwrite(cached.fileno(), b"through the cache", 4096)
        assert os.preadv(fd, [target], 0) == 128 * KIB
        assert target[4096:4113] == b"through the cache"
        block[:5] = b"fresh"
        os.pwritev(fd, [block], 0)
        assert (folder / "f").read_bytes()[:5] == b"fresh"
    finally:
        os.close(fd)


def test_many_small_synced_writes_in_one_block_keep_every_byte(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        file.write(bytes(20_000))
        for index in range(40):
            os.pwrite(file.fileno(), bytes([index + 1]), 9000 + index * 3)
            os.fdatasync(file.fileno())
    content = (folder / "f").read_bytes()
    assert [content[9000 + index * 3] for index in range(40)] == list(range(1, 41))
    assert sum(content) == sum(range(1, 41))


def test_mooseng_sync_makes_durable_what_is_written_through_a_mount(cluster: Cluster, tmp_path: Path) -> None:
    files = [(cluster.mount(1) / f"unsynced-{n}").open("wb", buffering=0) for n in range(20)]
    try:
        for n, file in enumerate(files):
            file.write(bytes([n]) * (100 if n % 2 else 50_000))
        with mooseng_py.connect(cluster.url()) as fs:
            assert any(fs.stat(f"/unsynced-{n}").st_size == 0 for n in range(20)), "nothing would be shown"
            run_mooseng("sync", str(cluster.mount(1)))
            for n in range(20):
                assert fs.read_bytes(f"/unsynced-{n}") == bytes([n]) * (100 if n % 2 else 50_000)
        assert str(cluster.mount(1)) in mountpoint.ours(), "those that are synced when none is named"
    finally:
        for file in files:
            file.close()
    with pytest.raises(CommandFailed, match="is not on a mount of MooseNG"):
        run_mooseng("sync", str(tmp_path))
