"""The native client as the SDK uses it: typed messages in and out, the process's credentials added. Nothing else here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from mooseng_py.proto import common_pb2, name_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message


class NativeFile(Protocol):
    """One open handle of the native client."""

    def read_into(self, offset: int, target: memoryview) -> int: ...
    def write(self, offset: int, data: memoryview) -> int: ...
    def truncate(self, size: int) -> None: ...
    def sync(self) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class NativeClient(Protocol):
    """The native client engine. `name` fills in session and operation id, finds the leader and retries."""

    def name(self, request: bytes) -> bytes: ...
    def open(self, request: bytes) -> NativeFile: ...
    def close(self) -> None: ...


Handle = NativeFile

# The field of NameRequest that holds each message.
_FIELDS = {
    getattr(field.message_type, "name", ""): field.name
    for field in name_pb2.NameRequest.DESCRIPTOR.oneofs_by_name["op"].fields
}


class Engine:
    """Asks in the name of this process: its effective user and groups, as they are at each call."""

    def __init__(self, client: NativeClient) -> None:
        self._client = client

    def ask(self, operation: Message) -> name_pb2.NameReply:
        """Carry out one operation. Raises: MooseError."""
        return name_pb2.NameReply.FromString(self._client.name(_request(operation)))

    def open(self, inode: int, *, read: bool, write: bool) -> Handle:
        """A handle on an existing file. Raises: MooseError."""
        return self._client.open(_request(name_pb2.Open(inode=inode, read=read, write=write)))

    def create(self, operation: name_pb2.Create) -> Handle:
        """A handle on a file that is made unless it exists. Raises: MooseError; ELOOP when the name is a symlink."""
        return self._client.open(_request(operation))

    def close(self) -> None:
        """Raises: MooseError when data of open files could not be made durable."""
        self._client.close()


def _request(operation: Message) -> bytes:
    credentials = common_pb2.Credentials(uid=os.geteuid(), gid=os.getegid(), groups=os.getgroups())
    fields: dict[str, Any] = {_FIELDS[operation.DESCRIPTOR.name]: operation}
    return name_pb2.NameRequest(creds=credentials, **fields).SerializeToString()
