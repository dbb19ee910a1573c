"""Space promised, given back, and looked at. Source: fallocate(2), lseek(2), posix_fallocate(3)."""

import errno
import mmap
import os
import random
import stat
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster
from tests.allocation import COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate
from tests.contract.support import KIB, MIB, as_user, refused


def stored(fd: int) -> int:
    os.fsync(fd)
    return os.fstat(fd).st_blocks * 512


@pytest.mark.parametrize("length", [5 * KIB, 3 * MIB])
def test_a_promise_grows_the_file_by_zeros_that_take_space_and_leaves_what_is_there(folder: Path, length: int) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        os.pwrite(fd, b"there", 1000)
        os.posix_fallocate(fd, 100, length)
        assert os.fstat(fd).st_size == 100 + length
        content = bytearray(100 + length)
        content[1000:1005] = b"there"
        assert os.pread(fd, 4 * MIB, 0) == content
        assert stored(fd) >= length
        os.posix_fallocate(fd, 0, 10)
        assert os.fstat(fd).st_size == 100 + length
    assert (folder / "f").read_bytes() == content


def test_a_promise_within_the_file_fills_its_holes_and_keeps_its_size(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        os.ftruncate(fd, 130 * MIB)
        os.pwrite(fd, b"x" * 10_000, 64 * MIB - 5000)
        before = stored(fd)
        assert before < MIB
        fallocate(fd, KEEP_SIZE, 63 * MIB, 2 * MIB)
        assert os.fstat(fd).st_size == 130 * MIB
        assert 2 * MIB <= stored(fd) <= 3 * MIB
        assert os.pread(fd, 10_002, 64 * MIB - 5001) == b"\0" + b"x" * 10_000 + b"\0"
        fallocate(fd, KEEP_SIZE, 200 * MIB, MIB)
        assert os.fstat(fd).st_size == 130 * MIB


def test_a_hole_reads_as_zeros_gives_its_space_back_and_keeps_the_size(folder: Path) -> None:
    data = random.Random(1).randbytes(4 * MIB)
    with (folder / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        os.pwrite(fd, data, 0)
        before = stored(fd)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, MIB + 10, 2 * MIB)
        expected = data[: MIB + 10] + bytes(2 * MIB) + data[3 * MIB + 10 :]
        assert os.pread(fd, 4 * MIB, 0) == expected
        assert os.fstat(fd).st_size == 4 * MIB
        assert before - stored(fd) >= 2 * MIB - 8 * KIB
        assert os.lseek(fd, MIB + 8 * KIB, os.SEEK_HOLE) == MIB + 8 * KIB
        assert os.lseek(fd, MIB + 8 * KIB, os.SEEK_DATA) == 3 * MIB
        # Behind the end, and where nothing is.
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 5 * MIB, MIB)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, MIB + 10, MIB)
        # Within one block.
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 100, 50)
        expected = expected[:100] + bytes(50) + expected[150:]
        assert os.fstat(fd).st_size == 4 * MIB
    assert (folder / "f").read_bytes() == expected


def test_a_small_file_has_holes_too(folder: Path) -> None:
    (folder / "f").write_bytes(b"abcdefgh" * 100)
    with (folder / "f").open("r+b", buffering=0) as file:
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 3, 790)
        fallocate(file.fileno(), KEEP_SIZE, 0, 700)
    assert (folder / "f").read_bytes() == b"abc" + bytes(790) + b"bcdefgh"


def test_a_range_of_zeros_takes_space_and_grows_the_file_unless_it_is_told_not_to(folder: Path) -> None:
    data = random.Random(2).randbytes(2 * MIB)
    with (folder / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        os.pwrite(fd, data, 0)
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, MIB + 1, 2 * MIB)
        assert os.fstat(fd).st_size == 2 * MIB
        assert os.pread(fd, 4 * MIB, 0) == data[: MIB + 1] + bytes(MIB - 1)
        assert stored(fd) >= 2 * MIB
        fallocate(fd, ZERO_RANGE, 10, 3 * MIB)
        assert os.fstat(fd).st_size == 3 * MIB + 10
        assert os.pread(fd, 4 * MIB, 0) == data[:10] + bytes(3 * MIB)
        assert stored(fd) >= 3 * MIB


def test_fallocate_refuses_as_fallocate_2_says(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 100)
    os.mkfifo(folder / "pipe")
    with (folder / "f").open("r+b", buffering=0) as file, (folder / "f").open("rb") as reader:
        fd = file.fileno()
        assert refused(lambda: fallocate(reader.fileno(), 0, 0, 10)) == errno.EBADF
        assert refused(lambda: fallocate(fd, 0, 0, 0)) == errno.EINVAL
        assert refused(lambda: fallocate(fd, 0, -1, 10)) == errno.EINVAL
        assert refused(lambda: fallocate(fd, PUNCH_HOLE, 0, 10)) == errno.EOPNOTSUPP
        assert refused(lambda: fallocate(fd, 1 << 20, 0, 10)) == errno.EOPNOTSUPP
        assert refused(lambda: fallocate(fd, 0, (1 << 63) - 10, 20)) == errno.EFBIG
        assert refused(lambda: fallocate(fd, 0, (1 << 62), 20)) == errno.EFBIG
    fifo = os.open(folder / "pipe", os.O_RDWR)
    assert refused(lambda: fallocate(fifo, 0, 0, 10)) == errno.ESPIPE
    os.close(fifo)
    directory = os.open(folder, os.O_RDONLY)
    assert refused(lambda: fallocate(directory, 0, 0, 10)) == errno.EBADF
    os.close(directory)
    assert (folder / "f").read_bytes() == b"x" * 100


def test_ranges_are_neither_collapsed_nor_inserted(folder: Path, is_mooseng: bool) -> None:
    if not is_mooseng:
        pytest.skip("ext4 moves whole blocks within a file; see docs/posix.md")
    with (folder / "f").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x" * 3 * 4096, 0)
        for mode in (COLLAPSE_RANGE, INSERT_RANGE):
            assert refused(lambda mode=mode: fallocate(file.fileno(), mode, 4096, 4096)) == errno.EOPNOTSUPP  # type: ignore[misc]


def test_more_than_there_is_room_for_is_refused_before_anything_is_changed(folder: Path, is_mooseng: bool) -> None:
    if not is_mooseng:
        pytest.skip("it would fill this machine's disk before it is refused")
    with (folder / "f").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x" * 20_000, 0)
        free = os.statvfs(folder)
        too_much = free.f_blocks * free.f_frsize * 2
        assert refused(lambda: os.posix_fallocate(file.fileno(), 0, min(too_much, 1 << 43))) == errno.ENOSPC
        os.pwrite(file.fileno(), b"y", 0)
        os.fsync(file.fileno())
    assert (folder / "f").read_bytes()[:20_000] == b"y" + b"x" * 19_999


def test_a_mapping_shows_a_hole_and_what_is_stored_in_it_afterwards(folder: Path) -> None:
    with (folder / "f").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x" * MIB, 0)
        with mmap.mmap(file.fileno(), MIB) as mapping:
            mapping[5000] = ord("m")
            fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 4096, 100_000)
            assert mapping[4095:4097] == b"x\0"
            assert mapping[5000] == 0
            mapping[6000] = ord("n")
            mapping.flush()
            assert os.pread(file.fileno(), 1, 6000) == b"n"


def test_fallocate_marks_the_time_and_takes_set_id_bits_away(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * 20_000)
    (folder / "f").chmod(0o6777)
    os.utime(folder / "f", (1, 1))
    script = "fd = os.open('f', os.O_RDWR); fallocate(fd, 3, 0, 8192); os.close(fd); print('made')"
    assert as_user(script, cwd=folder, names={"fallocate": fallocate}).strip() == "made"
    found = (folder / "f").stat()
    assert stat.S_IMODE(found.st_mode) == 0o777
    assert found.st_mtime > 1000
    assert (folder / "f").read_bytes() == bytes(8192) + b"x" * (20_000 - 8192)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_writes_cuts_holes_and_promises_reads_as_it_must(folder: Path, seed: int) -> None:
    dice, model = random.Random(seed), bytearray()
    span = dice.choice([6 * KIB, 40 * KIB, 3 * MIB])
    fd = os.open(folder / "f", os.O_CREAT | os.O_RDWR)

    def place() -> tuple[int, int]:
        start = dice.randrange(span)
        return start, dice.choice([1, 100, 4096, dice.randrange(1, span)])

    try:
        for _ in range(60):
            start, length = place()
            mode = dice.choice([None, None, "cut", "sync", 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE])
            end = start + length
            if mode is None:
                data = dice.randbytes(length)
                os.pwrite(fd, data, start)
                model.extend(bytes(max(0, end - len(model))))
                model[start:end] = data
            elif mode == "cut":
                os.ftruncate(fd, start)
                model = model[:start] + bytes(max(0, start - len(model)))
            elif mode == "sync":
                os.fsync(fd)
            else:
                assert isinstance(mode, int)
                fallocate(fd, mode, start, length)
                if not mode & KEEP_SIZE:
                    model.extend(bytes(max(0, end - len(model))))
                if mode & (PUNCH_HOLE | ZERO_RANGE):
                    end = min(end, len(model))
                    model[start:end] = bytes(max(0, end - start))
            assert os.fstat(fd).st_size == len(model)
            assert os.pread(fd, 8 * MIB, 0) == model
    finally:
        os.close(fd)
    assert (folder / "f").read_bytes() == model


def test_what_one_mount_punched_another_reads_as_zeros(cluster: Cluster) -> None:
    here, there = cluster.mount(1) / "punched", cluster.mount(2) / "punched"
    here.write_bytes(b"x" * 3 * MIB)
    assert there.read_bytes() == b"x" * 3 * MIB
    with there.open("rb", buffering=0) as watcher, here.open("r+b", buffering=0) as file:
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 4096, 2 * MIB)
        assert there.read_bytes() == b"x" * 4096 + bytes(2 * MIB) + b"x" * (MIB - 4096)
        os.fstat(watcher.fileno())
        assert os.pread(watcher.fileno(), 10, MIB) == bytes(10)
        assert there.stat().st_blocks * 512 <= MIB + 8 * KIB
