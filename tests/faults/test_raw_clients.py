"""Whatever arrives on the ports of masters and chunkservers: a named error or a closed connection, and nobody else notices.

Frames (FAULTS section 7), gRPC and HTTP. One small cluster takes it all; at its end no log may speak of a panic, no
process may have grown, and an honest client must have been served throughout.
"""

import contextlib
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mooseng_py.demo.harness import Activity, Cluster, free_port_offset, wait_until
from mooseng_py.native import method
from mooseng_py.proto import cluster_pb2, common_pb2, data_pb2, name_pb2, raft_pb2
from mooseng_py.sdk import connect
from tests.faults.frames import FAILURE, HELLO, PING, REPLY, Raw, frame, hello

METHODS: dict[int, type[Message]] = {
    method("Name"): name_pb2.NameRequest,
    method("Renew"): name_pb2.RenewSession,
    method("ServerHello"): cluster_pb2.ServerHello,
    method("Inventory"): cluster_pb2.Inventory,
    method("Heartbeat"): cluster_pb2.Heartbeat,
    method("ServerCommand"): cluster_pb2.ServerCommand,
    method("CommandResult"): cluster_pb2.CommandResult,
    method("View"): cluster_pb2.ViewRequest,
    method("FileInfo"): cluster_pb2.FileInfoRequest,
    method("Intents"): cluster_pb2.Intents,
    method("ChunkWrite"): data_pb2.ChunkWrite,
    method("ChunkTrim"): data_pb2.ChunkTrim,
    method("ChunkSync"): data_pb2.ChunkSync,
    method("ChunkRead"): data_pb2.ChunkRead,
    method("ChunkMap"): data_pb2.ChunkMap,
    method("RaftAppend"): raft_pb2.AppendRequest,
    method("RaftVote"): raft_pb2.VoteRequest,
    method("RaftSnapshot"): raft_pb2.SnapshotPiece,
    method("RaftTransfer"): raft_pb2.TransferRequest,
    method("RaftStatus"): raft_pb2.RaftStatusRequest,
    method("RaftJoin"): raft_pb2.JoinRequest,
}
NUMBERS = [0, 1, 2, 4095, 4096, (1 << 26) - 1, 1 << 26, (1 << 31) - 1, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
NAMES = [b"", b".", b"..", b"/", b"a/b", b"\0", b"x" * 255, b"x" * 256, b"\xff\xfe", b"y" * 5000]
TEXTS = ["", ".", "x" * 300, "127.0.0.1:1", "[::1]:99999", "no address", "\0"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("raw") / "c", "minimal", free_port_offset())
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(autouse=True)
def _nobody_else_notices(cluster: Cluster) -> Iterator[None]:
    """An honest client goes on meanwhile; the daemons neither panic, nor grow, nor restart."""
    pids = {node["name"]: node["pid"] for node in cluster.nodes()}
    before = {name: resident_mib(pid) for name, pid in pids.items()}
    with connect(cluster.url()) as fs:
        fs.makedirs("/honest", exist_ok=True)

        def step(index: int) -> None:
            fs.write_bytes("/honest/file", bytes([index % 251]) * 20_000)
            assert fs.read_bytes("/honest/file")[:1] == bytes([index % 251])

        activity = Activity("an honest client", step)
        with activity.going_on():
            yield
            reached = activity.done
            wait_until("the honest client goes on", lambda: activity.errors or activity.done > reached + 3)
    assert not activity.errors
    assert {node["name"]: node["pid"] for node in cluster.nodes()} == pids
    for name, pid in pids.items():
        assert resident_mib(pid) < before[name] + 100, f"{name} grew"
        assert "panicked" not in (cluster.dir / "nodes" / name / "log").read_text(errors="replace"), name


def resident_mib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def addresses(cluster: Cluster) -> list[str]:
    return [f"127.0.0.1:{port + cluster.port_offset}" for port in (9421, 9420)]


def test_wrong_frames_end_their_connection_before_anything_is_allocated(cluster: Cluster) -> None:
    good = frame(PING)
    limit = (1 << 32) - 1
    wrong = {
        "length 2^32-1": frame(PING, length=limit),
        "message length 2^32-1": frame(PING, length=limit, message_length=limit),
        "message above the limit": frame(PING, length=(4 << 20) + 1, message_length=(4 << 20) + 1),
        "payload above the limit": frame(PING, length=(1 << 20) + 8193),
        "message longer than the frame": frame(PING, b"abc", length=2),
        "bad checksum": frame(PING, b"abc", crc=1),
        "unknown kind": frame(PING, kind=9),
        "kind 0": frame(PING, kind=0),
        "flags": frame(PING, flags=1),
        "a reply nobody asked for": frame(PING, kind=REPLY),
        "zeros": bytes(24),
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(24),
    }
    for address in addresses(cluster):
        for what, data in wrong.items():
            with Raw(address) as raw:
                raw.send(data)
                assert raw.answer_or_end() is None, what
            with Raw(address, greet=False) as raw:
                raw.send(data)
                answer = raw.answer_or_end()
                assert answer is None or answer.error.errno == 71, what
        with Raw(address) as raw:
            raw.send(good)
            assert raw.answer().kind == REPLY


def test_a_connection_begins_with_one_hello_of_this_protocol_and_cluster(cluster: Cluster) -> None:
    for address in addresses(cluster):
        for first, errno in {
            frame(PING): 71,  # EPROTO
            frame(HELLO, b"\xff\xff\xff"): 74,
            hello(protocol=0): 93,  # EPROTONOSUPPORT
            hello(protocol=1): 93,
            hello(protocol=3): 93,
            hello(cluster_id="others"): 78,  # EREMCHG
            frame(method("Name"), name_pb2.NameRequest(statfs=name_pb2.StatFs()).SerializeToString()): 71,
        }.items():
            with Raw(address, greet=False) as raw:
                raw.send(first)
                error = raw.answer().error
                assert error.errno == errno, error
                assert error.message
                assert raw.answer_or_end() is None
        with Raw(address) as raw:
            raw.send(hello())
            again = raw.answer_or_end()
            assert again is None or again.kind == FAILURE
        with Raw(address) as raw:
            for number in (0, 3, 99, 65535):
                raw.send(frame(number))
                assert raw.answer().error.errno == 95  # EOPNOTSUPP


def test_a_frame_cut_anywhere_and_then_silence_holds_nobody_up(cluster: Cluster) -> None:
    whole = hello() + frame(method("Name"), name_pb2.NameRequest(getattr=name_pb2.GetAttr(inode=1)).SerializeToString())
    with contextlib.ExitStack() as stack:
        for address in addresses(cluster):
            for cut in range(len(whole)):
                raw = stack.enter_context(Raw(address, greet=False))
                raw.send(whole[:cut])
        with connect(cluster.url()) as fs:
            assert fs.isdir("/honest")


def arbitrary(message: Message, dice: random.Random, depth: int = 0) -> Message:
    """Fill it with edges and nonsense."""
    for oneof in message.DESCRIPTOR.oneofs:
        if not oneof.name.startswith("_"):
            put(message, dice.choice([*oneof.fields]), dice, depth)
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is None and dice.random() < 0.7:
            put(message, field, dice, depth)
    return message


def put(message: Message, field: Any, dice: random.Random, depth: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        getattr(message, field.name)["x"] = float("nan")
    elif hasattr(getattr(message, field.name), "extend"):
        for _ in range(dice.choice([0, 1, 5])):
            if inner is None:
                getattr(message, field.name).append(value(field, dice))
            elif depth < 5:
                arbitrary(getattr(message, field.name).add(), dice, depth + 1)
    elif inner is not None:
        getattr(message, field.name).SetInParent()
        if depth < 5:
            arbitrary(getattr(message, field.name), dice, depth + 1)
    else:
        setattr(message, field.name, value(field, dice))


def value(field: Any, dice: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_UINT64:
            return dice.choice([*NUMBERS, dice.getrandbits(64)])
        case FieldDescriptor.CPPTYPE_UINT32:
            return dice.choice([n for n in NUMBERS if n < 1 << 32])
        case FieldDescriptor.CPPTYPE_INT32:
            return dice.choice([0, 1, -1, (1 << 31) - 1, -(1 << 31)])
        case FieldDescriptor.CPPTYPE_INT64:
            return dice.choice([0, 1, -1, (1 << 63) - 1, -(1 << 63)])
        case FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice([0, 1, 2, 3, 77])
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return dice.choice([0.0, float("nan"), float("inf")])
    return dice.choice(NAMES) if field.type == FieldDescriptor.TYPE_BYTES else dice.choice(TEXTS)


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_for_every_method_is_answered(cluster: Cluster, seed: int) -> None:
    dice = random.Random(seed)
    for address in addresses(cluster):
        for _ in range(12):
            for number, kind in METHODS.items():
                data = bytearray(arbitrary(kind(), dice).SerializeToString())
                if data and dice.random() < 0.3:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                payload = dice.choice([b"", b"", bytes(1), bytes(4096), bytes(5000)])
                # The role of a client: the others' words would be believed until they can be authenticated.
                with Raw(address) as raw:
                    answer = raw.ask(number, bytes(data), payload)
                assert (answer.method, answer.request_id) == (number, 7)
                if answer.kind == FAILURE:
                    assert answer.error.errno > 0
                    assert answer.error.message


def test_chunk_requests_beyond_the_edges_are_refused_by_name(cluster: Cluster) -> None:
    chunkserver = addresses(cluster)[1]
    top = (1 << 32) - 1
    requests: list[tuple[int, Message, bytes]] = []
    for chunk_id, version in [(0, 0), (0, 1), (1 << 63, top), ((1 << 64) - 1, top), ((1 << 64) - 1, 0)]:
        chunk = common_pb2.ChunkRef(id=chunk_id, version=version)
        requests += [
            (method("ChunkRead"), data_pb2.ChunkRead(chunk=chunk, offset=0, length=4096), b""),
            (method("ChunkMap"), data_pb2.ChunkMap(chunk=chunk, fence=True), b""),
            (method("ChunkTrim"), data_pb2.ChunkTrim(chunk=chunk, length=top), b""),
            (method("ChunkSync"), data_pb2.ChunkSync(chunk=chunk, boot_id=1), b""),
        ]
    one = common_pb2.ChunkRef(id=77, version=1)
    for offset, length in [(top, top), (1, top), (top, 1), (1 << 26, 1), ((1 << 26) - 1, 2), (0, (1 << 20) + 1)]:
        requests.append((method("ChunkRead"), data_pb2.ChunkRead(chunk=one, offset=offset, length=length), b""))
        requests.append(
            (
                method("ChunkWrite"),
                data_pb2.ChunkWrite(chunk=one, offset=offset, length=length, crcs=b"abcd", create=True),
                b"x",
            )
        )
    chain = [common_pb2.Replica(server_id=i, address="127.0.0.1:1") for i in range(10_000)]
    requests.append(
        (method("ChunkWrite"), data_pb2.ChunkWrite(chunk=one, length=1, crcs=bytes(4), chain=chain, create=True), b"x")
    )
    requests.append(
        (method("ChunkWrite"), data_pb2.ChunkWrite(chunk=one, length=1, crcs=bytes(4), create=True), b"x")
    )  # wrong CRC
    requests.append(
        (method("ChunkWrite"), data_pb2.ChunkWrite(chunk=one, length=4096, crcs=bytes(4), create=True), b"")
    )
    with Raw(chunkserver) as raw:
        for number, message, payload in requests:
            error = raw.ask(number, message, payload).error
            assert error.errno in (2, 22, 74, 116, 90, 5), (message, error)


def test_wrong_names_are_refused_as_posix_says(cluster: Cluster) -> None:
    with Raw(addresses(cluster)[0]) as raw:
        register = name_pb2.NameRequest(register_session=name_pb2.RegisterSession(name="raw"))
        session = name_pb2.NameReply.FromString(raw.ask(method("Name"), register).message).session
        expected = {
            b"": (2, 22),
            b".": (17, 22),
            b"..": (17, 22),
            b"/": (22,),
            b"a/b": (22,),
            b"\0": (22,),
            b"x" * 256: (36,),
        }
        for op_id, (name, errnos) in enumerate(expected.items(), start=1):
            request = name_pb2.NameRequest(
                session=session, op_id=op_id, mkdir=name_pb2.MkDir(parent=1, name=name, mode=0o755)
            )
            reply = name_pb2.NameReply.FromString(raw.ask(method("Name"), request).message)
            assert reply.error.errno in errnos, (name, reply.error)
        page = name_pb2.NameRequest(readdir=name_pb2.ReadDir(inode=1, cookie=0, max_entries=(1 << 32) - 1, plus=True))
        assert len(name_pb2.NameReply.FromString(raw.ask(method("Name"), page).message).entries) < 10


def test_thousands_of_silent_connections_leave_room_for_honest_ones(cluster: Cluster) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        for address in addresses(cluster):
            host, port = address.split(":")
            with contextlib.ExitStack() as stack:
                for _ in range(1500):
                    stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
                with Raw(address) as raw:
                    assert raw.ask(PING, b"").kind == REPLY
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_grpc_refuses_garbage_and_goes_on(cluster: Cluster) -> None:
    dice = random.Random(5)
    with grpc.insecure_channel(f"127.0.0.1:{9431 + cluster.port_offset}") as channel:
        for path in ("NameSpace/Execute", "NameSpace/Renew", "Cluster/View", "Cluster/File", "Cluster/Transfer"):
            call = channel.unary_unary(f"/mooseng.v1.{path}", None, None)
            for _ in range(30):
                with contextlib.suppress(grpc.RpcError):
                    call(dice.randbytes(dice.choice([0, 1, 10, 1000])), timeout=10)
            with pytest.raises(grpc.RpcError) as refused:
                call(b"\xff" * (5 << 20), timeout=10)
            assert refused.value.details()
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/mooseng.v1.Nothing/Here", None, None)(b"", timeout=10)
        assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
        view = channel.unary_unary("/mooseng.v1.Cluster/View", None, None)(b"", timeout=10)
        assert cluster_pb2.ClusterView.FromString(view).is_leader


def test_http_refuses_bad_requests_and_goes_on(cluster: Cluster) -> None:
    port = 9441 + cluster.port_offset
    for request in [
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"\0\xff\xfe" * 1000 + b"\r\n\r\n",
    ]:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, contextlib.suppress(ConnectionError):
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 200"), request[:40]
            assert not answer.startswith(b"HTTP/1.0 200"), request[:40]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in raw.recv(4096).split(b"\r\n")[0]
    assert time.monotonic() - began < 5
