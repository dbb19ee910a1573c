"""A client of the frame ports that may say anything: whole, wrong, cut or endless. Layout: FORMAT.md, "Frame"."""

import contextlib
import socket
import struct
from dataclasses import dataclass

from google.protobuf.message import Message

from mooseng_py.native import crc32c, method
from mooseng_py.proto import common_pb2

REQUEST, REPLY, FAILURE, PUSH = 1, 2, 3, 4
HELLO, PING = method("Hello"), method("Ping")
HEADER_BYTES = 24
PROTOCOL = 2


def frame(
    method: int,
    message: bytes = b"",
    payload: bytes = b"",
    *,
    kind: int = REQUEST,
    flags: int = 0,
    request_id: int = 7,
    length: int | None = None,
    message_length: int | None = None,
    crc: int | None = None,
) -> bytes:
    """One frame; what is given beside the bytes replaces what would be right."""
    head = struct.pack(
        "<IBBHQI",
        len(message) + len(payload) if length is None else length,
        kind,
        flags,
        method,
        request_id,
        len(message) if message_length is None else message_length,
    )
    return head + struct.pack("<I", crc32c(head + message) if crc is None else crc) + message + payload


def hello(protocol: int = PROTOCOL, cluster_id: str = "", role: int = 0, node_id: int = 0, name: str = "raw") -> bytes:
    """The first frame of a connection."""
    message = common_pb2.Hello(
        protocol=protocol,
        cluster_id=cluster_id,
        role=role,  # type: ignore[arg-type]
        node_id=node_id,
        name=name,
    )
    return frame(HELLO, message.SerializeToString())


@dataclass
class Answer:
    """What came back for one request."""

    kind: int
    method: int
    request_id: int
    message: bytes
    payload: bytes

    @property
    def error(self) -> common_pb2.Error:
        assert self.kind == FAILURE, f"an answer of kind {self.kind} where a refusal was due: {self.message[:80]!r}"
        return common_pb2.Error.FromString(self.message)


class Raw:
    """One connection. `greet`: say a proper hello first."""

    def __init__(self, address: str, *, greet: bool = True, role: int = 0, timeout_s: float = 15) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        if greet:
            self.send(hello(role=role))
            assert self.answer().kind == REPLY

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: int, message: Message | bytes, payload: bytes = b"") -> Answer:
        encoded = message if isinstance(message, bytes) else message.SerializeToString()
        self.send(frame(method, encoded, payload))
        return self.answer()

    def answer(self) -> Answer:
        """Raises: EOFError when the other side closed instead."""
        length, kind, _, method, request_id, message_length, _ = struct.unpack("<IBBHQII", self._exactly(HEADER_BYTES))
        body = self._exactly(length)
        return Answer(kind, method, request_id, body[:message_length], body[message_length:])

    def answer_or_end(self) -> Answer | None:
        """The answer; None when the connection was closed."""
        with contextlib.suppress(EOFError, ConnectionError):
            return self.answer()
        return None

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                raise EOFError(f"closed after {len(got)} of {count} bytes")
            got += piece
        return got
