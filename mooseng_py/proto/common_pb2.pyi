from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_NAMESPACE: _ClassVar[ErrorKind]
    ERROR_STALE: _ClassVar[ErrorKind]
    ERROR_UNAVAILABLE: _ClassVar[ErrorKind]
    ERROR_INTEGRITY: _ClassVar[ErrorKind]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_NONE: _ClassVar[Reason]
    REASON_NO_SESSION: _ClassVar[Reason]
    REASON_CHUNK_MOVED: _ClassVar[Reason]
    REASON_TURN_TAKEN: _ClassVar[Reason]
    REASON_TURN_LOST: _ClassVar[Reason]
    REASON_RESTARTED: _ClassVar[Reason]
    REASON_OVERTAKEN: _ClassVar[Reason]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_CLIENT: _ClassVar[Role]
    ROLE_MASTER: _ClassVar[Role]
    ROLE_CHUNKSERVER: _ClassVar[Role]
ERROR_NAMESPACE: ErrorKind
ERROR_STALE: ErrorKind
ERROR_UNAVAILABLE: ErrorKind
ERROR_INTEGRITY: ErrorKind
REASON_NONE: Reason
REASON_NO_SESSION: Reason
REASON_CHUNK_MOVED: Reason
REASON_TURN_TAKEN: Reason
REASON_TURN_LOST: Reason
REASON_RESTARTED: Reason
REASON_OVERTAKEN: Reason
ROLE_CLIENT: Role
ROLE_MASTER: Role
ROLE_CHUNKSERVER: Role

class Error(_message.Message):
    __slots__ = ("errno", "kind", "message", "leader", "term", "failed_servers", "reason")
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    FAILED_SERVERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    errno: int
    kind: ErrorKind
    message: str
    leader: str
    term: int
    failed_servers: _containers.RepeatedScalarFieldContainer[int]
    reason: Reason
    def __init__(self, errno: _Optional[int] = ..., kind: _Optional[_Union[ErrorKind, str]] = ..., message: _Optional[str] = ..., leader: _Optional[str] = ..., term: _Optional[int] = ..., failed_servers: _Optional[_Iterable[int]] = ..., reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("uid", "gid", "groups")
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    uid: int
    gid: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, uid: _Optional[int] = ..., gid: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class ChunkRef(_message.Message):
    __slots__ = ("id", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    version: int
    def __init__(self, id: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("server_id", "address")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    address: str
    def __init__(self, server_id: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "cluster_id", "role", "node_id", "name", "oldest_protocol")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OLDEST_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    cluster_id: str
    role: Role
    node_id: int
    name: str
    oldest_protocol: int
    def __init__(self, protocol: _Optional[int] = ..., cluster_id: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., node_id: _Optional[int] = ..., name: _Optional[str] = ..., oldest_protocol: _Optional[int] = ...) -> None: ...
