"""The chunk store and the name space through the boundary; their own rules are tested in their crates."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mooseng_py import native
from mooseng_py.errors import NamespaceError, StaleError
from mooseng_py.proto import cluster_pb2, name_pb2


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty directory: a chunkserver makes none, lest a vanished disk looks like a new one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    return disk


@pytest.fixture
def store(disk: Path) -> Iterator[native.ChunkStore]:
    with native.ChunkStore([disk]) as store:
        yield store


def test_bytes_come_back_without_a_copy_in_python(store: native.ChunkStore) -> None:
    with native.AlignedBuffer(1 << 20) as source:
        data = np.frombuffer(source.view, dtype=np.uint8)
        data[:] = np.random.default_rng(42).integers(0, 256, data.size)
        assert store.write(7, 1, 0, source.view) == 1 << 20
        assert store.sync(7, 1) == 1 << 20
        target = np.empty(5000, dtype=np.uint8)
        assert store.read(7, 1, 4095, target) == 5000
        assert (target == data[4095 : 4095 + 5000]).all()


def test_a_version_below_the_stored_one_is_stale(store: native.ChunkStore) -> None:
    store.write(7, 3, 0, b"x")
    with pytest.raises(StaleError):
        store.write(7, 2, 0, b"y")


def test_a_missing_chunk_is_a_missing_file(store: native.ChunkStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.read(9, 1, 0, bytearray(10))


def test_a_read_only_target_is_refused(store: native.ChunkStore) -> None:
    store.write(7, 1, 0, b"x")
    with pytest.raises(BufferError):
        store.read(7, 1, 0, b"read-only")


def test_a_read_beyond_the_chunk_is_refused(store: native.ChunkStore) -> None:
    store.write(7, 1, 0, b"x")
    with pytest.raises(NamespaceError):
        store.read(7, 1, (64 << 20) - 1, bytearray(2))


def test_nothing_works_after_close(disk: Path) -> None:
    store = native.ChunkStore([disk])
    handle = store.handle
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.write(7, 1, 0, b"x")
    with pytest.raises(OSError, match="closed or was never given"):
        native._boundary.check(native._boundary.lib.mng_store_sync(handle, 7, 1))


def test_the_disks_of_another_cluster_are_refused(disk: Path) -> None:
    native.ChunkStore([disk], cluster_id="one").close()
    with pytest.raises(OSError, match="one"):
        native.ChunkStore([disk], cluster_id="two")


def test_the_plain_loop_takes_time_and_leaves_nothing(tmp_path: Path) -> None:
    assert native.plain_loop(tmp_path, bytes(2 << 20), direct=False) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_name_space_applies_commands_and_answers_questions() -> None:
    with native.NameSpaceState() as state:
        bootstrap = cluster_pb2.Bootstrap(cluster_id="x", copies=3, min_copies=2, inline_limit=8192)
        command = cluster_pb2.Command(now_ns=1, seed=1, admin=cluster_pb2.AdminCommand(bootstrap=bootstrap))
        reply = cluster_pb2.AdminReply.FromString(state.apply(command.SerializeToString()))
        assert not reply.HasField("error")
        question = name_pb2.NameRequest(getattr=name_pb2.GetAttr(inode=1))
        answer = name_pb2.NameReply.FromString(state.query(question.SerializeToString()))
        assert answer.attr.kind == name_pb2.FILE_DIRECTORY


def test_bytes_that_are_no_command_are_refused_with_a_sentence() -> None:
    with native.NameSpaceState() as state, pytest.raises(OSError, match="command"):
        state.apply(b"\xff\xff\xff")
