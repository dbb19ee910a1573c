from mooseng_py.proto import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fill(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILL_HOLE: _ClassVar[Fill]
    FILL_PROMISE: _ClassVar[Fill]
FILL_HOLE: Fill
FILL_PROMISE: Fill

class ChunkWrite(_message.Message):
    __slots__ = ("chunk", "offset", "length", "crcs", "create", "chain", "sync", "writer", "round")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRCS_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    offset: int
    length: int
    crcs: bytes
    create: bool
    chain: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    sync: bool
    writer: int
    round: int
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., crcs: _Optional[bytes] = ..., create: _Optional[bool] = ..., chain: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ..., sync: _Optional[bool] = ..., writer: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class ChunkFill(_message.Message):
    __slots__ = ("chunk", "offset", "length", "fill", "create", "chain", "writer", "round")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    offset: int
    length: int
    fill: Fill
    create: bool
    chain: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    writer: int
    round: int
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., fill: _Optional[_Union[Fill, str]] = ..., create: _Optional[bool] = ..., chain: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ..., writer: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class ChunkCopy(_message.Message):
    __slots__ = ("chunk", "offset", "length", "create", "chain", "writer", "round", "source", "source_offset", "replicas")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    offset: int
    length: int
    create: bool
    chain: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    writer: int
    round: int
    source: _common_pb2.ChunkRef
    source_offset: int
    replicas: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., create: _Optional[bool] = ..., chain: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ..., writer: _Optional[int] = ..., round: _Optional[int] = ..., source: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., source_offset: _Optional[int] = ..., replicas: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ...) -> None: ...

class ChunkTrim(_message.Message):
    __slots__ = ("chunk", "length", "chain")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    length: int
    chain: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., length: _Optional[int] = ..., chain: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ...) -> None: ...

class ChunkSync(_message.Message):
    __slots__ = ("chunk", "boot_id")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    boot_id: int
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., boot_id: _Optional[int] = ...) -> None: ...

class Stamp(_message.Message):
    __slots__ = ("server_id", "boot_id", "stored_bytes")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    boot_id: int
    stored_bytes: int
    def __init__(self, server_id: _Optional[int] = ..., boot_id: _Optional[int] = ..., stored_bytes: _Optional[int] = ...) -> None: ...

class ChunkWriteReply(_message.Message):
    __slots__ = ("stamps",)
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    stamps: _containers.RepeatedCompositeFieldContainer[Stamp]
    def __init__(self, stamps: _Optional[_Iterable[_Union[Stamp, _Mapping]]] = ...) -> None: ...

class ChunkSyncReply(_message.Message):
    __slots__ = ("stamp",)
    STAMP_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ...) -> None: ...

class ChunkRead(_message.Message):
    __slots__ = ("chunk", "offset", "length")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    offset: int
    length: int
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ChunkReadReply(_message.Message):
    __slots__ = ("offset", "length", "crcs", "version", "stored_bytes", "boot_id")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRCS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    offset: int
    length: int
    crcs: bytes
    version: int
    stored_bytes: int
    boot_id: int
    def __init__(self, offset: _Optional[int] = ..., length: _Optional[int] = ..., crcs: _Optional[bytes] = ..., version: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., boot_id: _Optional[int] = ...) -> None: ...

class ChunkMap(_message.Message):
    __slots__ = ("chunk", "fence")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    fence: bool
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., fence: _Optional[bool] = ...) -> None: ...

class ChunkMapReply(_message.Message):
    __slots__ = ("version", "present", "digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    present: bytes
    digest: int
    def __init__(self, version: _Optional[int] = ..., present: _Optional[bytes] = ..., digest: _Optional[int] = ...) -> None: ...
