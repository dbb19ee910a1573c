"""What the tests of shared files share: one face for mounts and connections, a client that speaks frames, every copy of a file.

The frames client does what a client may do, at the moment a test wants it: late, twice, to some servers only, or never.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

import pytest

from mooseng_py.demo.harness import Cluster, free_port_offset, wait_until
from mooseng_py.native import OPERATIONS, crc32c, method
from mooseng_py.proto import common_pb2, data_pb2, name_pb2
from mooseng_py.sdk import FileSystem, connect
from tests.faults.frames import FAILURE, Answer, Raw

T = TypeVar("T")

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 4096
SERVERS = ("chunkserver-1", "chunkserver-2", "chunkserver-3")

NAME, RENEW = method("Name"), method("Renew")
WRITE, TRIM, SYNC, READ, MAP = (method(f"Chunk{name}") for name in ("Write", "Trim", "Sync", "Read", "Map"))
_ONCE = {operation.name for operation in OPERATIONS if operation.once}


# ---- one face for mounts and connections --------------------------------------------------------------------------------
class Held(Protocol):
    """A file kept open by a place."""

    def put(self, offset: int, data: bytes) -> None: ...
    def add(self, data: bytes) -> None:
        """Write at the end (of a file opened to append)."""

    def get(self, offset: int, length: int) -> bytes: ...
    def fsync(self) -> None: ...
    def close(self) -> None: ...


class Place(Protocol):
    """One client of the file system, by whatever way it uses it."""

    def open(self, name: str, *, write: bool = True, append: bool = False, create: bool = False) -> Held: ...
    def cut(self, name: str, size: int) -> None: ...
    def write_anew(self, name: str, data: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...


class MountHeld:
    """A file descriptor below a mount."""

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = os.open(path, flags, 0o644)

    def put(self, offset: int, data: bytes) -> None:
        assert os.pwrite(self.fd, data, offset) == len(data)

    def add(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    def get(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def fsync(self) -> None:
        os.fsync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class Mounted:
    """A mount."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, name: str, *, write: bool = True, append: bool = False, create: bool = False) -> Held:
        flags = (os.O_RDWR if write else os.O_RDONLY) | (os.O_APPEND if append else 0) | (os.O_CREAT if create else 0)
        return MountHeld(self.root / name, flags)

    def cut(self, name: str, size: int) -> None:
        os.truncate(self.root / name, size)

    def write_anew(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size


class SdkHeld:
    """An unbuffered file of a connection."""

    def __init__(self, filesystem: FileSystem, name: str, mode: str) -> None:
        self.file: Any = filesystem.open("/" + name, mode, buffering=0)

    def put(self, offset: int, data: bytes) -> None:
        self.file.seek(offset)
        assert self.file.write(data) == len(data)

    def add(self, data: bytes) -> None:
        assert self.file.write(data) == len(data)

    def get(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return cast(bytes, self.file.read(length))

    def fsync(self) -> None:
        self.file.fsync()

    def close(self) -> None:
        self.file.close()


class Connected:
    """A connection of the SDK."""

    def __init__(self, filesystem: FileSystem) -> None:
        self.filesystem = filesystem

    def open(self, name: str, *, write: bool = True, append: bool = False, create: bool = False) -> Held:
        if create and not self.filesystem.exists("/" + name):
            self.filesystem.write_bytes("/" + name, b"")
        return SdkHeld(self.filesystem, name, "ab" if append else "r+b" if write else "rb")

    def cut(self, name: str, size: int) -> None:
        self.filesystem.truncate("/" + name, size)

    def write_anew(self, name: str, data: bytes) -> None:
        self.filesystem.write_bytes("/" + name, data)

    def read(self, name: str) -> bytes:
        return self.filesystem.read_bytes("/" + name)

    def size(self, name: str) -> int:
        return self.filesystem.stat("/" + name).st_size


@contextlib.contextmanager
def places(cluster: Cluster, kind: str, count: int = 3) -> Iterator[list[Place]]:
    """So many clients: "mounts", or connections of the "sdk" that give up after 20 s."""
    with contextlib.ExitStack() as stack:
        if kind == "mounts":
            yield [Mounted(cluster.mount(index)) for index in range(1, count + 1)]
        else:
            opened = [stack.enter_context(connect(cluster.url(), deadline_ms=20_000)) for _ in range(count)]
            yield [Connected(filesystem) for filesystem in opened]


def first_difference(seen: bytes, right: bytes) -> str:
    """Empty when they are equal; else where and how they differ, in words short enough for a failing test."""
    if seen == right:
        return ""
    if len(seen) != len(right):
        return f"{len(seen)} bytes, right are {len(right)}"
    wrong = [at for at in range(len(right)) if seen[at] != right[at]]
    zeros = sum(1 for at in wrong if not seen[at])
    at = wrong[0]
    return f"{len(wrong)} bytes are wrong, {zeros} of them zeros; at {at} is {seen[at : at + 8]!r}, right is {right[at : at + 8]!r}"


def same(seen: bytes, right: bytes, what: str) -> None:
    difference = first_difference(seen, right)
    assert not difference, f"{what}: {difference}"


# ---- a client that speaks frames ------------------------------------------------------------------------------------------
class Refused(Exception):
    """The answer was an error."""

    def __init__(self, error: common_pb2.Error) -> None:
        super().__init__(f"errno {error.errno}, reason {error.reason}: {error.message}")
        self.error = error


def checked(answer: Answer) -> Answer:
    """Raises: Refused."""
    if answer.kind == FAILURE:
        raise Refused(answer.error)
    return answer


class FramesClient:
    """One session at the leader, kept alive until `die`."""

    def __init__(self, cluster: Cluster, name: str = "frames") -> None:
        leader = int(cluster.leader().rpartition("-")[2])
        self.address = f"127.0.0.1:{cluster.master_ports()[leader - 1] + cluster.port_offset}"
        self.raw = Raw(self.address)
        self.numbers = itertools.count(1)
        self.session = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        registered = self.ask(register_session=name_pb2.RegisterSession(name=name, host="tests"))
        self.session = registered.session
        self.pace_s = max(0.2, registered.session_timeout_ms / 4000)
        self.renewer = threading.Thread(target=self._renew, daemon=True)
        self.renewer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """As a client process that was killed: the connection ends, nothing is said."""
        if not self.over.is_set():
            self.over.set()
            self.renewer.join(10)
            self.raw.socket.close()

    def ask(self, **operation: Any) -> name_pb2.NameReply:
        """One operation. Raises: Refused."""
        ((field, message),) = operation.items()
        with self.lock:
            number = next(self.numbers) if field in _ONCE else 0
            who = common_pb2.Credentials(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups())
            request = name_pb2.NameRequest(session=self.session, op_id=number, creds=who, **{field: message})
            reply = name_pb2.NameReply.FromString(checked(self.raw.ask(NAME, request)).message)
        if reply.HasField("error"):
            raise Refused(reply.error)
        return reply

    def open(self, name: str) -> int:
        """Open for writing; the inode."""
        inode = self.ask(resolve=name_pb2.Resolve(path=name.encode(), follow=True)).attr.inode
        self.ask(open=name_pb2.Open(inode=inode, read=True, write=True))
        return inode

    def grant(self, inode: int, index: int = 0) -> name_pb2.ChunkInfo:
        """The right to write to a chunk, as the masters have it now."""
        return self.ask(grant_write=name_pb2.GrantWrite(inode=inode, index=index)).chunks[0]

    def chunk(self, inode: int, index: int = 0) -> name_pb2.ChunkInfo:
        return self.ask(get_chunks=name_pb2.GetChunks(inode=inode, first=index, count=1)).chunks[0]

    def commit(
        self, inode: int, size: int, info: name_pb2.ChunkInfo, chunk: common_pb2.ChunkRef, stored_bytes: int
    ) -> None:
        stored = name_pb2.ChunkStored(
            index=info.index, chunk_id=chunk.id, version=chunk.version, stored_bytes=stored_bytes
        )
        self.ask(commit_write=name_pb2.CommitWrite(inode=inode, size=size, stored=[stored]))

    def _renew(self) -> None:
        while not self.over.wait(self.pace_s):
            with self.lock, contextlib.suppress(OSError, EOFError):
                self.raw.ask(RENEW, name_pb2.RenewSession(session=self.session))


def piece_checksums(offset: int, data: bytes) -> bytes:
    """CRC-32C of each piece of `data`, cut at the blocks of the chunk that it is written to."""
    ends = [*range((offset // BLOCK + 1) * BLOCK, offset + len(data), BLOCK), offset + len(data)]
    starts = [offset, *ends[:-1]]
    pieces = (data[start - offset : end - offset] for start, end in zip(starts, ends, strict=True))
    return b"".join(crc32c(piece).to_bytes(4, "little") for piece in pieces)


def send(
    replicas: Sequence[common_pb2.Replica],
    chunk: common_pb2.ChunkRef,
    offset: int,
    data: bytes,
    *,
    writer: int = 0,
    round_number: int = 0,
    create: bool = False,
) -> data_pb2.ChunkWriteReply:
    """ChunkWrite to the first of `replicas`, which hands it down the others. Raises: Refused."""
    message = data_pb2.ChunkWrite(
        chunk=chunk,
        offset=offset,
        length=len(data),
        crcs=piece_checksums(offset, data),
        create=create,
        chain=replicas[1:],
        writer=writer,
        round=round_number,
    )
    with Raw(replicas[0].address) as raw:
        return data_pb2.ChunkWriteReply.FromString(checked(raw.ask(WRITE, message, data)).message)


def trim(replicas: Sequence[common_pb2.Replica], chunk: common_pb2.ChunkRef, length: int) -> None:
    """ChunkTrim to the first of `replicas`, which hands it down the others. Raises: Refused."""
    with Raw(replicas[0].address) as raw:
        checked(raw.ask(TRIM, data_pb2.ChunkTrim(chunk=chunk, length=length, chain=replicas[1:])))


def sync(replicas: Sequence[common_pb2.Replica], chunk: common_pb2.ChunkRef, written: data_pb2.ChunkWriteReply) -> int:
    """ChunkSync on each of them; the stored bytes that they tell. Raises: Refused."""
    stored = 0
    boots = {stamp.server_id: stamp.boot_id for stamp in written.stamps}
    for replica in replicas:
        with Raw(replica.address) as raw:
            message = data_pb2.ChunkSync(chunk=chunk, boot_id=boots[replica.server_id])
            reply = data_pb2.ChunkSyncReply.FromString(checked(raw.ask(SYNC, message)).message)
        stored = max(stored, reply.stamp.stored_bytes)
    return stored


def read_copy(address: str, chunk: common_pb2.ChunkRef, length: int) -> bytes:
    """The first `length` bytes of one server's copy; what was never written is zeros. Raises: Refused."""
    content = b""
    with Raw(address) as raw:
        for offset in range(0, length, MIB):
            wanted = min(MIB, length - offset)
            answer = checked(raw.ask(READ, data_pb2.ChunkRead(chunk=chunk, offset=offset, length=wanted)))
            reply = data_pb2.ChunkReadReply.FromString(answer.message)
            piece = answer.payload[offset - reply.offset :][:wanted]
            content += piece + bytes(wanted - len(piece))
    return content


def copies(cluster: Cluster, name: str, length: int, index: int = 0) -> dict[str, bytes]:
    """What each server of the committed set has of one chunk of a file, by address. Raises: Refused.

    What lies behind a trim mark is zeros for every reader, whatever is on the disks until the next writer clears it.
    """
    with FramesClient(cluster, "comparing") as client:
        inode = client.ask(resolve=name_pb2.Resolve(path=name.encode(), follow=True)).attr.inode
        info = client.chunk(inode, index)
        client.ask(close_session=name_pb2.CloseSession())
    kept = min(length, info.trim) if info.HasField("trim") else length
    tail = bytes(length - kept)
    return {replica.address: read_copy(replica.address, info.chunk, length)[:kept] + tail for replica in info.replicas}


def unequal_copies(cluster: Cluster, name: str, length: int, index: int = 0, *, count: int = 3) -> str:
    """Empty when there are `count` copies and all are equal; else what is wrong."""
    found = copies(cluster, name, length, index)
    if len(found) != count:
        return f"{len(found)} copies in the set, right are {count}"
    first, *others = found.values()
    return next((difference for other in others if (difference := first_difference(other, first))), "")


def wait_until_copies_are_equal(cluster: Cluster, name: str, length: int, *, timeout_s: float) -> bytes:
    """The bytes that all three copies have. Fails when they differ still after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            wrong = unequal_copies(cluster, name, length)
        except (Refused, OSError, EOFError, IndexError) as error:
            wrong = str(error)
        if not wrong:
            return next(iter(copies(cluster, name, length).values()))
        assert time.monotonic() < deadline, f"after {timeout_s:g} s the copies of {name} are not equal: {wrong}"
        time.sleep(0.3)


# ---- servers that come and go -----------------------------------------------------------------------------------------------
def write_mount_config(cluster: Cluster, path: Path, point: Path, http_port: int, **more: object) -> None:
    """The configuration of one more mount beside the cluster's own, named as its file."""
    settings = {
        "role": "mount",
        "name": path.stem,
        "http_listen": f"127.0.0.1:{http_port + cluster.port_offset}",
        "masters": cluster.masters().split(","),
        "mount_point": str(point),
        **more,
    }
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))


def pid_of(cluster: Cluster, name: str) -> int:
    return int(cluster.node(name)["pid"])


@functools.cache
def apart() -> concurrent.futures.ProcessPoolExecutor:
    """A process that has no file of a mount open. A child closes what it inherited, closing flushes, and a flush waits for
    the very servers that the child is to start."""
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    pool.submit(os.getpid).result()
    return pool


def away(call: Callable[..., T], *args: object) -> T:
    """Call it there."""
    return apart().submit(call, *args).result()


def kill_all(cluster: Cluster, names: Sequence[str]) -> None:
    """kill -9, all at once."""
    pids = away(_pids, cluster)
    for name in names:
        os.kill(pids[name], signal.SIGKILL)


def _pids(cluster: Cluster) -> dict[str, int]:
    return {node["name"]: int(node["pid"]) for node in cluster.nodes()}


def restart_all(cluster: Cluster, names: Sequence[str]) -> None:
    """Start them (again), one after the other, each in good order; wait until every chunk has its copies."""
    away(_restart_all, cluster, names)


def _restart_all(cluster: Cluster, names: Sequence[str]) -> None:
    for name in names:
        cluster.restart(name)
    wait_until("all chunkservers up", lambda: cluster.servers_up() == len(SERVERS))
    cluster.wait_until_whole()


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """SIGSTOP meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def sees(what: str, check: Callable[[], object], right: object, timeout_s: float) -> None:
    """Wait until `check()` is `right`; fails with what it is instead."""
    deadline = time.monotonic() + timeout_s
    while (seen := check()) != right:
        assert time.monotonic() < deadline, f"{what}: {seen!r} after {timeout_s:g} s, right is {right!r}"
        time.sleep(0.05)


def running_cluster(base: Path, *settings: str) -> Iterator[Cluster]:
    """A cluster with settings of its own."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    apart()
    cluster = Cluster(base / "c", port_offset=free_port_offset(), extra=[f"--set={one}" for one in settings])
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()
        if not os.environ.get("MOOSENG_TEST_KEEP"):
            shutil.rmtree(base, ignore_errors=True)
