"""Bytes that a program wrote and neither synced nor closed: committed in the background, as a local file system writes them back.

After 5 s of rest, and after 30 s in all while it goes on writing (DESIGN section 3, "Durability").
"""

import os
import time
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster
from mooseng_py.sdk import connect
from tests.sharing.support import first_difference, sees

# What is promised, and what a busy machine adds.
AT_REST_S, IN_ALL_S = 5.0 + 3.0, 30.0 + 10.0
SIZES = (3_000, 40_000, 3_000_000)


def test_what_was_written_and_then_left_alone_is_there_for_others_within_seconds(cluster: Cluster) -> None:
    """Inline, in one chunk, in pieces; plainly and appended; new files and over old ones; by mounts and by connections."""
    with connect(cluster.url()) as fs:
        right: dict[str, bytes] = {}
        held = []
        for size in SIZES:
            for flags in (0, os.O_APPEND):
                name = f"left-{size}-{flags}"
                before = b"\xee" * (size // 2) if size == SIZES[1] else b""
                (cluster.mount(1) / name).write_bytes(before)
                data = os.urandom(size)
                held.append(os.open(cluster.mount(1) / name, os.O_WRONLY | flags))
                os.write(held[-1], data)
                right[name] = before + data if flags else data
            name = f"left-{size}-sdk"
            data = os.urandom(size)
            file = fs.open(f"/{name}", "wb", buffering=0)
            file.write(data)
            right[name] = data

        def wrong() -> list[str]:
            seen = {name: (cluster.mount(2) / name).read_bytes() for name in right}
            return [f"{name}: {said}" for name in right if (said := first_difference(seen[name], right[name]))]

        try:
            sees("what other mounts read", wrong, [], AT_REST_S)
        finally:
            for fd in held:
                os.close(fd)


def test_a_descriptor_that_was_committed_in_the_background_goes_on_and_its_fsync_says_ok(cluster: Cluster) -> None:
    data = os.urandom(100_000)
    with (cluster.mount(1) / "goes-on").open("wb", buffering=0) as file:
        file.write(data)
        sees("size elsewhere", lambda: (cluster.mount(2) / "goes-on").stat().st_size, len(data), AT_REST_S)
        file.write(data)
        os.fsync(file.fileno())
        assert (cluster.mount(2) / "goes-on").read_bytes() == data * 2


def test_bytes_left_alone_outlive_the_mount_that_wrote_them(cluster: Cluster) -> None:
    """Once they are committed, the death of the client loses nothing."""
    data = os.urandom(100_000)
    fd = os.open(cluster.mount(3) / "outlived", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(fd, data)
        sees("bytes elsewhere", lambda: _content(cluster.mount(2) / "outlived") == data, True, AT_REST_S)
        cluster.kill("client-3")
        assert (cluster.mount(2) / "outlived").read_bytes() == data
    finally:
        _close_quietly(fd)
        if cluster.node("client-3")["state"] != "ready":
            cluster.restart("client-3")
    assert (cluster.mount(3) / "outlived").read_bytes() == data


@pytest.mark.soak
@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["plain", "append"])
def test_what_was_written_shows_within_half_a_minute_though_its_writer_never_rests(
    cluster: Cluster, flags: int
) -> None:
    name = f"never-rests-{flags}"
    (cluster.mount(1) / name).touch()
    written: list[tuple[float, int]] = []
    fd = os.open(cluster.mount(1) / name, os.O_WRONLY | flags)
    try:
        total, began = 0, time.monotonic()
        while time.monotonic() < began + 2 * IN_ALL_S:
            total += os.write(fd, b"w" * 3000)
            now = time.monotonic()
            written.append((now, total))
            seen = (cluster.mount(2) / name).stat().st_size
            late = [size for when, size in written if when < now - IN_ALL_S and size > seen]
            assert not late, (
                f"after {now - began:.0f} s another mount sees {seen} bytes, {late[-1]} were written {IN_ALL_S:g} s ago"
            )
            time.sleep(0.3)  # shorter than any rest
        content = (cluster.mount(2) / name).read_bytes()
        assert content == b"w" * len(content)
    finally:
        os.close(fd)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # its mount is dead


def test_who_saw_unsynced_bytes_through_one_descriptor_gets_them_through_its_others_too(cluster: Cluster) -> None:
    """What an older descriptor fetched ahead is from before them."""
    with connect(cluster.url()) as reader, connect(cluster.url()) as writer:
        name = "/ahead"
        reader.write_bytes(name, b"o" * 1_000_000)
        with reader.open(name, "rb", buffering=0) as first, writer.open(name, "r+b", buffering=0) as file:
            for at in range(0, 32_768, 4096):
                assert first.read(4096) == b"o" * 4096, at
            file.seek(500_000)
            file.write(b"n" * 4096)
            time.sleep(1)  # it sends what nobody adds to, and commits it later
            with reader.open(name, "rb", buffering=0) as second:
                second.seek(500_000)
                assert second.read(4096) == b"n" * 4096
            first.seek(500_000)
            assert first.read(4096) == b"n" * 4096
