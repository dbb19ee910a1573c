"""A client engine for tests: the real state machine of the name space in this process, file contents in a dictionary."""

from __future__ import annotations

import os

from mooseng_py.errors import MooseError, make_error
from mooseng_py.native import OPERATIONS, NameSpaceState
from mooseng_py.proto import cluster_pb2, name_pb2

_CHANGES = {operation.name for operation in OPERATIONS if operation.kind == "change"}


class ModelClient:
    """Answers as `mooseng_py.native.Client` does. Nothing is durable, nothing is remote."""

    def __init__(self) -> None:
        self.state = NameSpaceState()
        self.content: dict[int, bytearray] = {}
        self.files: dict[int, int] = {}
        self.synced: list[int] = []
        self.fail_close: MooseError | None = None
        self.closed = False
        self._now_ns = 1_700_000_000_000_000_000
        self._operation = 0
        self._next_file = 1
        bootstrap = cluster_pb2.Bootstrap(cluster_id="model", copies=1, min_copies=1, inline_limit=8192)
        self._apply(cluster_pb2.Command(admin=cluster_pb2.AdminCommand(bootstrap=bootstrap)))
        register = name_pb2.NameRequest(register_session=name_pb2.RegisterSession(name="model"))
        self.session = name_pb2.NameReply.FromString(self._apply(cluster_pb2.Command(name=register))).session

    def name(self, request: bytes) -> bytes:
        asked = name_pb2.NameRequest.FromString(request)
        reply = self._ask(asked)
        if asked.WhichOneof("op") == "setattr" and asked.setattr.HasField("size"):
            self._resize(asked.setattr.inode, asked.setattr.size)
        return reply.SerializeToString()

    def open(self, request: bytes, flags: int) -> tuple[int, bytes]:
        asked = name_pb2.NameRequest.FromString(request)
        attr = self._ask(asked).attr
        if flags & os.O_TRUNC:
            self._resize(attr.inode, 0)
        file, self._next_file = self._next_file, self._next_file + 1
        self.files[file] = attr.inode
        self.content.setdefault(attr.inode, bytearray())
        return file, attr.SerializeToString()

    def read_into(self, file: int, offset: int, target: memoryview) -> int:
        part = self.content[self.files[file]][offset : offset + len(target)]
        target[: len(part)] = part
        return len(part)

    def write(self, file: int, offset: int, data: memoryview) -> int:
        inode = self.files[file]
        content = self.content[inode]
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        creds = name_pb2.NameRequest(setattr=name_pb2.SetAttr(inode=inode, size=len(content), by_handle=True))
        self._ask(creds)
        return len(data)

    def append(self, file: int, data: memoryview) -> int:
        end = len(self.content[self.files[file]])
        self.write(file, end, data)
        return end + len(data)

    def sync(self, file: int) -> None:
        self.synced.append(self.files[file])

    def close_file(self, file: int) -> None:
        del self.files[file]
        if self.fail_close is not None:
            raise self.fail_close

    def close(self) -> None:
        self.closed = True
        self.state.close()

    def _resize(self, inode: int, size: int) -> None:
        content = self.content.setdefault(inode, bytearray())
        del content[size:]
        content.extend(bytes(size - len(content)))

    def _ask(self, asked: name_pb2.NameRequest) -> name_pb2.NameReply:
        if asked.WhichOneof("op") == "statfs":  # the leader's answer, from what chunkservers report
            return name_pb2.NameReply(statfs=name_pb2.FsStats(total_bytes=1 << 30, free_bytes=1 << 29, free_inodes=9))
        asked.session = self.session
        if asked.WhichOneof("op") not in _CHANGES:
            reply = name_pb2.NameReply.FromString(self.state.query(asked.SerializeToString()))
        else:
            self._operation += 1
            asked.op_id = self._operation
            reply = name_pb2.NameReply.FromString(self._apply(cluster_pb2.Command(name=asked)))
        if reply.HasField("error"):
            raise make_error(reply.error.errno, reply.error.kind, reply.error.message)
        return reply

    def _apply(self, command: cluster_pb2.Command) -> bytes:
        self._now_ns += 1_000_000
        command.now_ns = self._now_ns
        return self.state.apply(command.SerializeToString())
