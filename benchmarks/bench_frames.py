"""Frames over loopback: the smallest one from a plain socket, and a question to the leader through the native client."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

import mooseng_py
from benchmarks.support import measured, sizes
from mooseng_py.demo.harness import Cluster
from mooseng_py.native import crc32c
from mooseng_py.proto import common_pb2
from mooseng_py.sdk import FileSystem

HELLO, PING = 1, 2
REQUEST, REPLY = 1, 2
HEAD = struct.Struct("<IBBHQI")
PROTOCOL_VERSION = 2


def frame(method: int, number: int, message: bytes) -> bytes:
    """A request as FORMAT.md draws it ("Frame"): head, checksum of head and message, message."""
    head = HEAD.pack(len(message), REQUEST, 0, method, number, len(message))
    return head + struct.pack("<I", crc32c(head + message)) + message


def answer(connection: socket.socket, number: int) -> bytes:
    """The message of the next frame, which must be the reply to `number`."""
    received = connection.recv(65536)
    while len(received) < HEAD.size + 4 or len(received) < HEAD.size + 4 + HEAD.unpack_from(received)[0]:
        more = connection.recv(65536)
        assert more, "the server ended the connection"
        received += more
    length, kind, _, _, replied, _ = HEAD.unpack_from(received)
    (crc,) = struct.unpack_from("<I", received, HEAD.size)
    message = received[HEAD.size + 4 :]
    assert (kind, replied, len(message)) == (REPLY, number, length)
    assert crc == crc32c(received[: HEAD.size] + message)
    return message


@pytest.fixture
def greeted(nodes: Cluster) -> Iterator[socket.socket]:
    """A connection to a master after the Hello of both sides."""
    port = nodes.master_ports()[0] + nodes.port_offset
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = common_pb2.Hello(protocol=PROTOCOL_VERSION, role=common_pb2.ROLE_CLIENT, name="benchmark")
        connection.sendall(frame(HELLO, 1, hello.SerializeToString()))
        assert common_pb2.Hello.FromString(answer(connection, 1)).role == common_pb2.ROLE_MASTER
        yield connection


def bench_frame_round_trip(benchmark: Any, nodes: Cluster, greeted: socket.socket) -> None:
    """Ping to a master and back, one at a time; the Python side of it is a send and a receive."""
    count = sizes(smoke=500, full=20_000)

    def work(_turn: int) -> None:
        for number in range(2, 2 + count):
            greeted.sendall(frame(PING, number, b""))
            assert answer(greeted, number) == b""

    measured(benchmark, nodes, work, rounds=1, operations=count)


def bench_question_to_the_leader(benchmark: Any, nodes: Cluster) -> None:
    """stat of the root through the native client: a frame there, a read under the leader's lease, a frame back."""
    count = sizes(smoke=500, full=20_000)
    with mooseng_py.connect(nodes.url()) as fs:
        measured(benchmark, nodes, lambda _turn: ask(fs, count), rounds=1, operations=count)


def ask(fs: FileSystem, count: int) -> None:
    for _ in range(count):
        assert fs.stat("/").st_ino == 1
