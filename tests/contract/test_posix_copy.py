"""Copies that the file system makes by itself. Source: copy_file_range(2)."""

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster
from tests.contract.support import KIB, MIB, refused
from tests.scrape import counted, page_of

SENT = "mooseng_client_sent_bytes_total"


def copy(source: int, target: int, count: int, at: int, to: int) -> int:
    """As a program does that goes on after a short answer."""
    done = 0
    while done < count:
        step = os.copy_file_range(source, target, count - done, at + done, to + done)
        if step == 0:
            break
        done += step
    return done


@pytest.mark.parametrize("size", [100, 9 * KIB, 300 * KIB, 5 * MIB + 77])
def test_a_copy_of_any_size_is_the_same_bytes(folder: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (folder / "a").write_bytes(data)
    with (folder / "a").open("rb") as source, (folder / "b").open("wb") as target:
        assert copy(source.fileno(), target.fileno(), size + 1000, 0, 0) == size
        assert os.fstat(target.fileno()).st_size == size
    assert (folder / "b").read_bytes() == data


@pytest.mark.parametrize(("at", "to"), [(0, 0), (1, 4097), (5000, 3), (MIB - 1, 2 * MIB + 1)])
def test_a_copy_takes_the_part_that_was_asked_for_and_leaves_the_rest(folder: Path, at: int, to: int) -> None:
    data, old = random.Random(1).randbytes(5 * MIB), random.Random(2).randbytes(4 * MIB)
    (folder / "a").write_bytes(data)
    (folder / "b").write_bytes(old)
    with (folder / "a").open("rb") as source, (folder / "b").open("r+b", buffering=0) as target:
        assert copy(source.fileno(), target.fileno(), MIB + 12345, at, to) == MIB + 12345
        expected = old[:to] + data[at : at + MIB + 12345] + old[to + MIB + 12345 :]
        assert os.pread(target.fileno(), 8 * MIB, 0) == expected
    assert (folder / "b").read_bytes() == expected


def test_a_copy_across_the_borders_of_chunks_holds(folder: Path) -> None:
    border = 64 * MIB
    data = random.Random(3).randbytes(3 * MIB)
    with (folder / "a").open("w+b", buffering=0) as source, (folder / "b").open("w+b", buffering=0) as target:
        os.pwrite(source.fileno(), data, border - MIB)
        # What is not synced yet is copied too.
        assert copy(source.fileno(), target.fileno(), 3 * MIB, border - MIB, 2 * border - 2 * MIB - 5) == 3 * MIB
        assert os.pread(target.fileno(), 3 * MIB, 2 * border - 2 * MIB - 5) == data
        assert os.pread(target.fileno(), 10, 2 * border - 2 * MIB - 15) == bytes(10)
        assert os.fstat(target.fileno()).st_size == 2 * border + MIB - 5


def test_within_one_file_a_copy_works_and_one_over_itself_is_refused(folder: Path) -> None:
    data = random.Random(4).randbytes(MIB)
    with (folder / "f").open("w+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, 0)
        assert copy(file.fileno(), file.fileno(), 500_000, 0, MIB) == 500_000
        assert os.pread(file.fileno(), 2 * MIB, 0) == data + data[:500_000]
        over = refused(lambda: os.copy_file_range(file.fileno(), file.fileno(), 500_000, 0, 1000))
        assert over == errno.EINVAL


def test_holes_are_copied_as_zeros_and_cost_little(folder: Path, is_mooseng: bool) -> None:
    with (folder / "a").open("w+b", buffering=0) as source, (folder / "b").open("w+b", buffering=0) as target:
        os.pwrite(target.fileno(), b"old" * MIB, 60 * MIB)
        os.ftruncate(source.fileno(), 300 * MIB)
        os.pwrite(source.fileno(), b"x" * 5000, 200 * MIB)
        assert copy(source.fileno(), target.fileno(), 300 * MIB, 0, 0) == 300 * MIB
        assert os.fstat(target.fileno()).st_size == 300 * MIB
        assert os.pread(target.fileno(), 5002, 200 * MIB - 1) == b"\0" + b"x" * 5000 + b"\0"
        assert os.pread(target.fileno(), 3 * MIB, 60 * MIB) == bytes(3 * MIB)
        os.fsync(target.fileno())
        if is_mooseng:  # ext4 copies through the page cache, byte by byte
            assert os.fstat(target.fileno()).st_blocks * 512 < 3 * MIB


def test_copy_file_range_refuses_as_its_page_says(folder: Path) -> None:
    (folder / "a").write_bytes(b"x" * 1000)
    (folder / "b").write_bytes(b"y" * 1000)
    (folder / "d").mkdir()
    reader = os.open(folder / "a", os.O_RDONLY)
    writer = os.open(folder / "b", os.O_WRONLY)
    appender = os.open(folder / "b", os.O_WRONLY | os.O_APPEND)
    directory = os.open(folder / "d", os.O_RDONLY)
    try:
        assert refused(lambda: os.copy_file_range(reader, reader, 10, 0, 500)) == errno.EBADF
        assert refused(lambda: os.copy_file_range(writer, writer, 10, 0, 500)) == errno.EBADF
        assert refused(lambda: os.copy_file_range(reader, appender, 10, 0, 0)) == errno.EBADF
        assert refused(lambda: os.copy_file_range(directory, writer, 10, 0, 0)) == errno.EISDIR
        assert refused(lambda: os.copy_file_range(reader, writer, 10, 0, (1 << 63) - 5)) in (
            errno.EFBIG,
            errno.EOVERFLOW,
        )
        assert os.copy_file_range(reader, writer, 10, 1000, 0) == 0
        assert os.copy_file_range(reader, writer, 10, 5000, 0) == 0
        assert os.copy_file_range(reader, writer, 0, 0, 0) == 0
    finally:
        for fd in (reader, writer, appender, directory):
            os.close(fd)
    assert (folder / "b").read_bytes() == b"y" * 1000


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_writes_cuts_and_copies_reads_as_it_must(folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    span = dice.choice([20 * KIB, 3 * MIB])
    models = [bytearray(), bytearray()]
    fds = [os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in "ab"]
    try:
        for _ in range(40):
            which = dice.randrange(2)
            fd, model = fds[which], models[which]
            start, length = dice.randrange(span), dice.choice([1, 5000, dice.randrange(1, span)])
            what = dice.choice(["write", "cut", "sync", "copy", "copy", "copy"])
            if what == "write":
                data = dice.randbytes(length)
                os.pwrite(fd, data, start)
                model.extend(bytes(max(0, start + length - len(model))))
                model[start : start + length] = data
            elif what == "cut":
                os.ftruncate(fd, start)
                models[which] = model[:start] + bytes(max(0, start - len(model)))
            elif what == "sync":
                os.fsync(fd)
            else:
                to = dice.randrange(span)
                part = bytes(model[start : start + length])
                assert copy(fd, fds[1 - which], length, start, to) == len(part)
                other = models[1 - which]
                if part:
                    other.extend(bytes(max(0, to + len(part) - len(other))))
                    other[to : to + len(part)] = part
            for fd, model in zip(fds, models, strict=True):
                assert os.pread(fd, 8 * MIB, 0) == model
    finally:
        for fd in fds:
            os.close(fd)
    assert [(folder / name).read_bytes() for name in "ab"] == models


def test_chunkservers_copy_and_the_bytes_pass_no_client(cluster: Cluster) -> None:
    data = random.Random(5).randbytes(20 * MIB)
    here, there = cluster.mount(1) / "copied-from", cluster.mount(1) / "copied-to"
    here.write_bytes(data)
    # Another client's bytes, as of its last sync.
    with (cluster.mount(2) / "copied-from").open("r+b", buffering=0) as other:
        os.pwrite(other.fileno(), b"other" * 1000, 7 * MIB)
        os.fsync(other.fileno())
        page = page_of(cluster, "client-1")
        sent = counted(page, SENT)
        with here.open("rb") as source, there.open("wb") as target:
            assert copy(source.fileno(), target.fileno(), 20 * MIB, 0, 0) == 20 * MIB
        assert counted(page, SENT) - sent < MIB
    expected = data[: 7 * MIB] + b"other" * 1000 + data[7 * MIB + 5000 :]
    assert there.read_bytes() == expected
    assert (cluster.mount(3) / "copied-to").read_bytes() == expected


def test_cp_and_shutil_copy_what_they_are_given(folder: Path) -> None:
    data = random.Random(6).randbytes(3 * MIB)
    (folder / "a").write_bytes(data)
    subprocess.run(["cp", "--reflink=auto", "a", "b"], cwd=folder, check=True)
    shutil.copyfile(folder / "b", folder / "c")
    assert (folder / "c").read_bytes() == data
