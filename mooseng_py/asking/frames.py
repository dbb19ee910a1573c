"""One question to one daemon over frames, without a session: for views, which any master answers, leader or not.

Source: FORMAT.md, "Frame". Everything that works on files goes through the client engine instead.
"""

from __future__ import annotations

import socket
import struct
import time

from mooseng_py.errors import MooseError, make_error
from mooseng_py.native import crc32c, crc32c_combine
from mooseng_py.proto import common_pb2

# Methods that any master answers; all of them stand in crate wire.
VIEW = 30
FILE_INFO = 31

_PROTOCOL = 1
_HEADER = struct.Struct("<IBBHQII")
_REQUEST, _REPLY, _FAILURE = 1, 2, 3
_HELLO = 1
_MESSAGE_LIMIT_BYTES = 4 << 20
_UNAVAILABLE = 2


def ask(address: str, method: int, message: bytes, *, timeout_s: float) -> bytes:
    """The reply's message. Raises: MooseError, UnavailableError when there is no answer within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    host, _, port = address.rpartition(":")
    hello = common_pb2.Hello(protocol=_PROTOCOL, role=common_pb2.ROLE_CLIENT, name="mooseng")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(_frame(_HELLO, 1, hello.SerializeToString()) + _frame(method, 2, message))
            _receive(connection, 1, deadline)
            return _receive(connection, 2, deadline)
    except MooseError:
        raise
    except (OSError, ValueError) as error:
        raise make_error(5, _UNAVAILABLE, f"{address} does not answer ({error}); is that daemon running?") from None


def _frame(method: int, number: int, message: bytes) -> bytes:
    start = _HEADER.pack(len(message), _REQUEST, 0, method, number, len(message), 0)[:20]
    return start + struct.pack("<I", _checksum(start, message)) + message


def _checksum(start: bytes, message: bytes) -> int:
    return crc32c_combine(crc32c(start), crc32c(message), len(message))


def _receive(connection: socket.socket, number: int, deadline: float) -> bytes:
    """The message that answers request `number`; pushes in between are passed over."""
    while True:
        header = _exactly(connection, _HEADER.size, deadline)
        length, kind, _, _, found, message_length, checksum = _HEADER.unpack(header)
        if message_length > _MESSAGE_LIMIT_BYTES or length != message_length:
            raise ValueError("it sent a frame with impossible lengths")
        message = _exactly(connection, message_length, deadline)
        if _checksum(header[:20], message) != checksum:
            raise ValueError("it sent a frame with a wrong checksum")
        if found != number:
            continue
        if kind == _FAILURE:
            error = common_pb2.Error.FromString(message)
            raise make_error(error.errno, error.kind, error.message, leader=error.leader or None)
        if kind == _REPLY:
            return message


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    content = bytearray()
    while len(content) < count:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(count - len(content))
        if not part:
            raise ValueError("it closed the connection")
        content += part
    return bytes(content)
