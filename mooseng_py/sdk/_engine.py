"""The native client as the SDK uses it: typed messages in and out, the process's credentials added. Nothing else here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from mooseng_py.proto import common_pb2, name_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message


class NativeClient(Protocol):
    """What is needed of `mooseng_py.native.Client`; it fills in session and operation id, finds the leader, retries."""

    def name(self, request: bytes) -> bytes: ...
    def open(self, request: bytes, flags: int) -> tuple[int, bytes]: ...
    def read_into(self, file: int, offset: int, target: memoryview) -> int: ...
    def write(self, file: int, offset: int, data: memoryview) -> int: ...
    def append(self, file: int, data: memoryview) -> int: ...
    def sync(self, file: int) -> None: ...
    def close_file(self, file: int) -> None: ...
    def close(self) -> None: ...


# The field of NameRequest that holds each message.
_FIELDS = {
    getattr(field.message_type, "name", ""): field.name
    for field in name_pb2.NameRequest.DESCRIPTOR.oneofs_by_name["op"].fields
}


class Engine:
    """Asks in the name of this process: its effective user and groups, as they are at each call."""

    def __init__(self, client: NativeClient) -> None:
        self.client = client

    def ask(self, operation: Message) -> name_pb2.NameReply:
        """Carry out one operation. Raises: MooseError."""
        return name_pb2.NameReply.FromString(self.client.name(_request(operation)))

    def open(self, inode: int, *, read: bool, write: bool) -> Handle:
        """A handle on an existing file. Raises: MooseError."""
        file, _ = self.client.open(_request(name_pb2.Open(inode=inode, read=read, write=write)), _access(read, write))
        return Handle(self, file, inode)

    def create(self, operation: name_pb2.Create) -> Handle:
        """A handle on a file that is made unless it exists. Raises: MooseError; ELOOP when the name is a symlink."""
        flags = _access(operation.read, operation.write) | (os.O_TRUNC if operation.truncate else 0)
        file, attr = self.client.open(_request(operation), flags)
        return Handle(self, file, name_pb2.Attr.FromString(attr).inode)

    def close(self) -> None:
        """Raises: MooseError, when data of open files could not be made durable."""
        self.client.close()


class Handle:
    """One open file of the native client. Closed once, by its owner."""

    def __init__(self, engine: Engine, file: int, inode: int) -> None:
        self._engine = engine
        self._client = engine.client
        self._file = file
        self._inode = inode

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target`; fewer bytes only at the end of the file."""
        return self._client.read_into(self._file, offset, target)

    def write(self, offset: int, data: memoryview) -> int:
        return self._client.write(self._file, offset, data)

    def append(self, data: memoryview) -> int:
        """Write at the end, wherever that is by now; the offset behind it."""
        return self._client.append(self._file, data)

    def truncate(self, size: int) -> None:
        self._engine.ask(name_pb2.SetAttr(inode=self._inode, size=size, by_handle=True))

    def size(self) -> int:
        """Length in bytes, what was written here and not yet committed included."""
        return self._engine.ask(name_pb2.GetAttr(inode=self._inode)).attr.size

    def sync(self) -> None:
        self._client.sync(self._file)

    def close(self) -> None:
        self._client.close_file(self._file)


def _access(read: bool, write: bool) -> int:
    return os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY


def _request(operation: Message) -> bytes:
    credentials = common_pb2.Credentials(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups())
    fields: dict[str, Any] = {_FIELDS[operation.DESCRIPTOR.name]: operation}
    return name_pb2.NameRequest(creds=credentials, **fields).SerializeToString()
