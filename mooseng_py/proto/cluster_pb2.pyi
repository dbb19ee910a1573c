from mooseng_py.proto import common_pb2 as _common_pb2
from mooseng_py.proto import name_pb2 as _name_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiskCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISK_UNKNOWN: _ClassVar[DiskCondition]
    DISK_OK: _ClassVar[DiskCondition]
    DISK_FULL: _ClassVar[DiskCondition]
    DISK_READ_ONLY: _ClassVar[DiskCondition]
    DISK_FAILED: _ClassVar[DiskCondition]
DISK_UNKNOWN: DiskCondition
DISK_OK: DiskCondition
DISK_FULL: DiskCondition
DISK_READ_ONLY: DiskCondition
DISK_FAILED: DiskCondition

class DiskStatus(_message.Message):
    __slots__ = ("path", "total_bytes", "free_bytes", "chunks", "state", "direct_io", "epoch", "outdated", "remembered", "condition")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIRECT_IO_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    path: str
    total_bytes: int
    free_bytes: int
    chunks: int
    state: str
    direct_io: bool
    epoch: int
    outdated: int
    remembered: int
    condition: DiskCondition
    def __init__(self, path: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., chunks: _Optional[int] = ..., state: _Optional[str] = ..., direct_io: _Optional[bool] = ..., epoch: _Optional[int] = ..., outdated: _Optional[int] = ..., remembered: _Optional[int] = ..., condition: _Optional[_Union[DiskCondition, str]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("index", "mark", "next_chunk", "next_inode", "next_session", "next_epoch")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    NEXT_INODE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SESSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    index: int
    mark: int
    next_chunk: int
    next_inode: int
    next_session: int
    next_epoch: int
    def __init__(self, index: _Optional[int] = ..., mark: _Optional[int] = ..., next_chunk: _Optional[int] = ..., next_inode: _Optional[int] = ..., next_session: _Optional[int] = ..., next_epoch: _Optional[int] = ...) -> None: ...

class ServerHello(_message.Message):
    __slots__ = ("server_id", "boot_id", "address", "disks", "version", "inventory_follows", "remembered", "highest_chunk")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    boot_id: int
    address: str
    disks: _containers.RepeatedCompositeFieldContainer[DiskStatus]
    version: str
    inventory_follows: bool
    remembered: Position
    highest_chunk: int
    def __init__(self, server_id: _Optional[int] = ..., boot_id: _Optional[int] = ..., address: _Optional[str] = ..., disks: _Optional[_Iterable[_Union[DiskStatus, _Mapping]]] = ..., version: _Optional[str] = ..., inventory_follows: _Optional[bool] = ..., remembered: _Optional[_Union[Position, _Mapping]] = ..., highest_chunk: _Optional[int] = ...) -> None: ...

class ServerWelcome(_message.Message):
    __slots__ = ("epoch", "cluster_id", "heartbeat_ms", "term", "position", "outdated_disks")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_DISKS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    cluster_id: str
    heartbeat_ms: int
    term: int
    position: Position
    outdated_disks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[int] = ..., cluster_id: _Optional[str] = ..., heartbeat_ms: _Optional[int] = ..., term: _Optional[int] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., outdated_disks: _Optional[_Iterable[str]] = ...) -> None: ...

class ChunkReport(_message.Message):
    __slots__ = ("id", "version", "bad", "stored_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BAD_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    version: int
    bad: bool
    stored_bytes: int
    def __init__(self, id: _Optional[int] = ..., version: _Optional[int] = ..., bad: _Optional[bool] = ..., stored_bytes: _Optional[int] = ...) -> None: ...

class Inventory(_message.Message):
    __slots__ = ("server_id", "epoch", "chunks", "first", "last")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    epoch: int
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkReport]
    first: bool
    last: bool
    def __init__(self, server_id: _Optional[int] = ..., epoch: _Optional[int] = ..., chunks: _Optional[_Iterable[_Union[ChunkReport, _Mapping]]] = ..., first: _Optional[bool] = ..., last: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("server_id", "epoch", "disks", "bad", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    BAD_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    epoch: int
    disks: _containers.RepeatedCompositeFieldContainer[DiskStatus]
    bad: _containers.RepeatedCompositeFieldContainer[ChunkReport]
    counters: _containers.ScalarMap[str, float]
    def __init__(self, server_id: _Optional[int] = ..., epoch: _Optional[int] = ..., disks: _Optional[_Iterable[_Union[DiskStatus, _Mapping]]] = ..., bad: _Optional[_Iterable[_Union[ChunkReport, _Mapping]]] = ..., counters: _Optional[_Mapping[str, float]] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("epoch", "term", "position")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    term: int
    position: Position
    def __init__(self, epoch: _Optional[int] = ..., term: _Optional[int] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class ServerCommand(_message.Message):
    __slots__ = ("epoch", "command_id", "delete", "copy", "inventory", "digest", "position")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    command_id: int
    delete: DeleteChunks
    copy: CopyChunk
    inventory: SendInventory
    digest: DigestChunk
    position: Position
    def __init__(self, epoch: _Optional[int] = ..., command_id: _Optional[int] = ..., delete: _Optional[_Union[DeleteChunks, _Mapping]] = ..., copy: _Optional[_Union[CopyChunk, _Mapping]] = ..., inventory: _Optional[_Union[SendInventory, _Mapping]] = ..., digest: _Optional[_Union[DigestChunk, _Mapping]] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class DeleteChunks(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[_common_pb2.ChunkRef]
    def __init__(self, chunks: _Optional[_Iterable[_Union[_common_pb2.ChunkRef, _Mapping]]] = ...) -> None: ...

class CopyChunk(_message.Message):
    __slots__ = ("chunk", "source", "heal_id")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HEAL_ID_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    source: _common_pb2.Replica
    heal_id: int
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., source: _Optional[_Union[_common_pb2.Replica, _Mapping]] = ..., heal_id: _Optional[int] = ...) -> None: ...

class SendInventory(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DigestChunk(_message.Message):
    __slots__ = ("chunk", "fence")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.ChunkRef
    fence: bool
    def __init__(self, chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., fence: _Optional[bool] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("server_id", "command_id", "error", "stored_bytes", "digest", "version")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    command_id: int
    error: _common_pb2.Error
    stored_bytes: int
    digest: int
    version: int
    def __init__(self, server_id: _Optional[int] = ..., command_id: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., stored_bytes: _Optional[int] = ..., digest: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("now_ns", "seed", "name", "admin")
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    now_ns: int
    seed: int
    name: _name_pb2.NameRequest
    admin: AdminCommand
    def __init__(self, now_ns: _Optional[int] = ..., seed: _Optional[int] = ..., name: _Optional[_Union[_name_pb2.NameRequest, _Mapping]] = ..., admin: _Optional[_Union[AdminCommand, _Mapping]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("commands",)
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class BatchReply(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, replies: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AdminCommand(_message.Message):
    __slots__ = ("expected_term", "bootstrap", "register_server", "set_server_up", "set_weights", "begin_heal", "end_heal", "drop_replica", "purge", "expire_session", "forget_server", "begin_history", "confirm_server", "raise_numbers", "accept_history", "drop_unknown", "adopt_copies", "raise_level")
    EXPECTED_TERM_FIELD_NUMBER: _ClassVar[int]
    BOOTSTRAP_FIELD_NUMBER: _ClassVar[int]
    REGISTER_SERVER_FIELD_NUMBER: _ClassVar[int]
    SET_SERVER_UP_FIELD_NUMBER: _ClassVar[int]
    SET_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_HEAL_FIELD_NUMBER: _ClassVar[int]
    END_HEAL_FIELD_NUMBER: _ClassVar[int]
    DROP_REPLICA_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_SESSION_FIELD_NUMBER: _ClassVar[int]
    FORGET_SERVER_FIELD_NUMBER: _ClassVar[int]
    BEGIN_HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_SERVER_FIELD_NUMBER: _ClassVar[int]
    RAISE_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_HISTORY_FIELD_NUMBER: _ClassVar[int]
    DROP_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    ADOPT_COPIES_FIELD_NUMBER: _ClassVar[int]
    RAISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    expected_term: int
    bootstrap: Bootstrap
    register_server: RegisterServer
    set_server_up: SetServerUp
    set_weights: SetWeights
    begin_heal: BeginHeal
    end_heal: EndHeal
    drop_replica: DropReplica
    purge: Purge
    expire_session: ExpireSession
    forget_server: ForgetServer
    begin_history: BeginHistory
    confirm_server: ConfirmServer
    raise_numbers: RaiseNumbers
    accept_history: AcceptHistory
    drop_unknown: DropUnknown
    adopt_copies: AdoptCopies
    raise_level: RaiseLevel
    def __init__(self, expected_term: _Optional[int] = ..., bootstrap: _Optional[_Union[Bootstrap, _Mapping]] = ..., register_server: _Optional[_Union[RegisterServer, _Mapping]] = ..., set_server_up: _Optional[_Union[SetServerUp, _Mapping]] = ..., set_weights: _Optional[_Union[SetWeights, _Mapping]] = ..., begin_heal: _Optional[_Union[BeginHeal, _Mapping]] = ..., end_heal: _Optional[_Union[EndHeal, _Mapping]] = ..., drop_replica: _Optional[_Union[DropReplica, _Mapping]] = ..., purge: _Optional[_Union[Purge, _Mapping]] = ..., expire_session: _Optional[_Union[ExpireSession, _Mapping]] = ..., forget_server: _Optional[_Union[ForgetServer, _Mapping]] = ..., begin_history: _Optional[_Union[BeginHistory, _Mapping]] = ..., confirm_server: _Optional[_Union[ConfirmServer, _Mapping]] = ..., raise_numbers: _Optional[_Union[RaiseNumbers, _Mapping]] = ..., accept_history: _Optional[_Union[AcceptHistory, _Mapping]] = ..., drop_unknown: _Optional[_Union[DropUnknown, _Mapping]] = ..., adopt_copies: _Optional[_Union[AdoptCopies, _Mapping]] = ..., raise_level: _Optional[_Union[RaiseLevel, _Mapping]] = ...) -> None: ...

class Bootstrap(_message.Message):
    __slots__ = ("cluster_id", "copies", "min_copies", "inline_limit")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    MIN_COPIES_FIELD_NUMBER: _ClassVar[int]
    INLINE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    copies: int
    min_copies: int
    inline_limit: int
    def __init__(self, cluster_id: _Optional[str] = ..., copies: _Optional[int] = ..., min_copies: _Optional[int] = ..., inline_limit: _Optional[int] = ...) -> None: ...

class RegisterServer(_message.Message):
    __slots__ = ("server_id", "address", "boot_id")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    address: str
    boot_id: int
    def __init__(self, server_id: _Optional[int] = ..., address: _Optional[str] = ..., boot_id: _Optional[int] = ...) -> None: ...

class SetServerUp(_message.Message):
    __slots__ = ("server_id", "epoch", "up")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    epoch: int
    up: bool
    def __init__(self, server_id: _Optional[int] = ..., epoch: _Optional[int] = ..., up: _Optional[bool] = ...) -> None: ...

class ServerWeight(_message.Message):
    __slots__ = ("server_id", "weight")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    weight: int
    def __init__(self, server_id: _Optional[int] = ..., weight: _Optional[int] = ...) -> None: ...

class SetWeights(_message.Message):
    __slots__ = ("weights",)
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.RepeatedCompositeFieldContainer[ServerWeight]
    def __init__(self, weights: _Optional[_Iterable[_Union[ServerWeight, _Mapping]]] = ...) -> None: ...

class BeginHeal(_message.Message):
    __slots__ = ("chunk_id", "version", "target")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    version: int
    target: int
    def __init__(self, chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., target: _Optional[int] = ...) -> None: ...

class EndHeal(_message.Message):
    __slots__ = ("chunk_id", "heal_id", "ok", "stored_bytes")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    HEAL_ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    heal_id: int
    ok: bool
    stored_bytes: int
    def __init__(self, chunk_id: _Optional[int] = ..., heal_id: _Optional[int] = ..., ok: _Optional[bool] = ..., stored_bytes: _Optional[int] = ...) -> None: ...

class AdoptCopies(_message.Message):
    __slots__ = ("chunk_id", "version", "held", "servers")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    version: int
    held: int
    servers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., held: _Optional[int] = ..., servers: _Optional[_Iterable[int]] = ...) -> None: ...

class DropReplica(_message.Message):
    __slots__ = ("chunk_id", "version", "server_id")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    version: int
    server_id: int
    def __init__(self, chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., server_id: _Optional[int] = ...) -> None: ...

class Purge(_message.Message):
    __slots__ = ("inodes",)
    INODES_FIELD_NUMBER: _ClassVar[int]
    inodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inodes: _Optional[_Iterable[int]] = ...) -> None: ...

class ExpireSession(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class ForgetServer(_message.Message):
    __slots__ = ("server_id",)
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    def __init__(self, server_id: _Optional[int] = ...) -> None: ...

class BeginHistory(_message.Message):
    __slots__ = ("mark",)
    MARK_FIELD_NUMBER: _ClassVar[int]
    mark: int
    def __init__(self, mark: _Optional[int] = ...) -> None: ...

class ConfirmServer(_message.Message):
    __slots__ = ("server_id", "epoch", "remembered")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    epoch: int
    remembered: int
    def __init__(self, server_id: _Optional[int] = ..., epoch: _Optional[int] = ..., remembered: _Optional[int] = ...) -> None: ...

class RaiseNumbers(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, known: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class AcceptHistory(_message.Message):
    __slots__ = ("server_id", "known")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    known: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, server_id: _Optional[int] = ..., known: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class DropUnknown(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RaiseLevel(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: int
    def __init__(self, level: _Optional[int] = ...) -> None: ...

class AdminReply(_message.Message):
    __slots__ = ("error", "epoch", "chunk")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    epoch: int
    chunk: ChunkState
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., epoch: _Optional[int] = ..., chunk: _Optional[_Union[ChunkState, _Mapping]] = ...) -> None: ...

class ChunkState(_message.Message):
    __slots__ = ("id", "version", "inode", "index", "servers", "written", "heal_id", "heal_target", "stored_bytes", "trim", "writers")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    HEAL_ID_FIELD_NUMBER: _ClassVar[int]
    HEAL_TARGET_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRIM_FIELD_NUMBER: _ClassVar[int]
    WRITERS_FIELD_NUMBER: _ClassVar[int]
    id: int
    version: int
    inode: int
    index: int
    servers: _containers.RepeatedScalarFieldContainer[int]
    written: bool
    heal_id: int
    heal_target: int
    stored_bytes: int
    trim: int
    writers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[int] = ..., version: _Optional[int] = ..., inode: _Optional[int] = ..., index: _Optional[int] = ..., servers: _Optional[_Iterable[int]] = ..., written: _Optional[bool] = ..., heal_id: _Optional[int] = ..., heal_target: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., trim: _Optional[int] = ..., writers: _Optional[_Iterable[int]] = ...) -> None: ...

class ServerView(_message.Message):
    __slots__ = ("server_id", "address", "epoch", "up", "last_seen_ms", "weight", "disks", "chunks", "inventory_known", "version")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_KNOWN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    address: str
    epoch: int
    up: bool
    last_seen_ms: int
    weight: int
    disks: _containers.RepeatedCompositeFieldContainer[DiskStatus]
    chunks: int
    inventory_known: bool
    version: str
    def __init__(self, server_id: _Optional[int] = ..., address: _Optional[str] = ..., epoch: _Optional[int] = ..., up: _Optional[bool] = ..., last_seen_ms: _Optional[int] = ..., weight: _Optional[int] = ..., disks: _Optional[_Iterable[_Union[DiskStatus, _Mapping]]] = ..., chunks: _Optional[int] = ..., inventory_known: _Optional[bool] = ..., version: _Optional[str] = ...) -> None: ...

class MasterView(_message.Message):
    __slots__ = ("node_id", "address", "role", "last_log", "applied", "snapshot", "level")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    address: str
    role: str
    last_log: int
    applied: int
    snapshot: int
    level: int
    def __init__(self, node_id: _Optional[int] = ..., address: _Optional[str] = ..., role: _Optional[str] = ..., last_log: _Optional[int] = ..., applied: _Optional[int] = ..., snapshot: _Optional[int] = ..., level: _Optional[int] = ...) -> None: ...

class SessionView(_message.Message):
    __slots__ = ("id", "name", "host", "mount_point", "idle_ms", "open_inodes")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MOUNT_POINT_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_INODES_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    host: str
    mount_point: str
    idle_ms: int
    open_inodes: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., host: _Optional[str] = ..., mount_point: _Optional[str] = ..., idle_ms: _Optional[int] = ..., open_inodes: _Optional[int] = ...) -> None: ...

class ChunkTrouble(_message.Message):
    __slots__ = ("chunk", "live", "bad", "idle_ms")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    BAD_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    chunk: ChunkState
    live: _containers.RepeatedScalarFieldContainer[int]
    bad: _containers.RepeatedScalarFieldContainer[int]
    idle_ms: int
    def __init__(self, chunk: _Optional[_Union[ChunkState, _Mapping]] = ..., live: _Optional[_Iterable[int]] = ..., bad: _Optional[_Iterable[int]] = ..., idle_ms: _Optional[int] = ...) -> None: ...

class OrphanChunk(_message.Message):
    __slots__ = ("server_id", "chunk_id", "version", "age_ms", "kept")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    chunk_id: int
    version: int
    age_ms: int
    kept: bool
    def __init__(self, server_id: _Optional[int] = ..., chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., age_ms: _Optional[int] = ..., kept: _Optional[bool] = ...) -> None: ...

class RefusedServer(_message.Message):
    __slots__ = ("server_id", "address", "reason", "since_ms")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    address: str
    reason: str
    since_ms: int
    def __init__(self, server_id: _Optional[int] = ..., address: _Optional[str] = ..., reason: _Optional[str] = ..., since_ms: _Optional[int] = ...) -> None: ...

class ClusterView(_message.Message):
    __slots__ = ("term", "leader", "is_leader", "leader_id", "cluster_id", "masters", "servers", "troubled", "orphans", "inodes", "chunks", "sessions", "copies", "min_copies", "under_replicated", "missing", "elections", "session_list", "heals_running", "memory_bytes", "healing", "no_leader", "refused", "kept_orphans", "level")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    IS_LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MASTERS_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    TROUBLED_FIELD_NUMBER: _ClassVar[int]
    ORPHANS_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    MIN_COPIES_FIELD_NUMBER: _ClassVar[int]
    UNDER_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    ELECTIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_LIST_FIELD_NUMBER: _ClassVar[int]
    HEALS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEALING_FIELD_NUMBER: _ClassVar[int]
    NO_LEADER_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    KEPT_ORPHANS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    term: int
    leader: str
    is_leader: bool
    leader_id: int
    cluster_id: str
    masters: _containers.RepeatedCompositeFieldContainer[MasterView]
    servers: _containers.RepeatedCompositeFieldContainer[ServerView]
    troubled: _containers.RepeatedCompositeFieldContainer[ChunkTrouble]
    orphans: _containers.RepeatedCompositeFieldContainer[OrphanChunk]
    inodes: int
    chunks: int
    sessions: int
    copies: int
    min_copies: int
    under_replicated: int
    missing: int
    elections: int
    session_list: _containers.RepeatedCompositeFieldContainer[SessionView]
    heals_running: int
    memory_bytes: int
    healing: _containers.RepeatedCompositeFieldContainer[ChunkState]
    no_leader: str
    refused: _containers.RepeatedCompositeFieldContainer[RefusedServer]
    kept_orphans: int
    level: int
    def __init__(self, term: _Optional[int] = ..., leader: _Optional[str] = ..., is_leader: _Optional[bool] = ..., leader_id: _Optional[int] = ..., cluster_id: _Optional[str] = ..., masters: _Optional[_Iterable[_Union[MasterView, _Mapping]]] = ..., servers: _Optional[_Iterable[_Union[ServerView, _Mapping]]] = ..., troubled: _Optional[_Iterable[_Union[ChunkTrouble, _Mapping]]] = ..., orphans: _Optional[_Iterable[_Union[OrphanChunk, _Mapping]]] = ..., inodes: _Optional[int] = ..., chunks: _Optional[int] = ..., sessions: _Optional[int] = ..., copies: _Optional[int] = ..., min_copies: _Optional[int] = ..., under_replicated: _Optional[int] = ..., missing: _Optional[int] = ..., elections: _Optional[int] = ..., session_list: _Optional[_Iterable[_Union[SessionView, _Mapping]]] = ..., heals_running: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., healing: _Optional[_Iterable[_Union[ChunkState, _Mapping]]] = ..., no_leader: _Optional[str] = ..., refused: _Optional[_Iterable[_Union[RefusedServer, _Mapping]]] = ..., kept_orphans: _Optional[int] = ..., level: _Optional[int] = ...) -> None: ...

class ViewRequest(_message.Message):
    __slots__ = ("with_chunks", "with_sessions")
    WITH_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    WITH_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    with_chunks: bool
    with_sessions: bool
    def __init__(self, with_chunks: _Optional[bool] = ..., with_sessions: _Optional[bool] = ...) -> None: ...

class FileInfoRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class ChunkPlace(_message.Message):
    __slots__ = ("info", "copies_live")
    INFO_FIELD_NUMBER: _ClassVar[int]
    COPIES_LIVE_FIELD_NUMBER: _ClassVar[int]
    info: _name_pb2.ChunkInfo
    copies_live: int
    def __init__(self, info: _Optional[_Union[_name_pb2.ChunkInfo, _Mapping]] = ..., copies_live: _Optional[int] = ...) -> None: ...

class FileInfo(_message.Message):
    __slots__ = ("error", "attr", "is_inline", "chunks")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ATTR_FIELD_NUMBER: _ClassVar[int]
    IS_INLINE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    attr: _name_pb2.Attr
    is_inline: bool
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkPlace]
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., attr: _Optional[_Union[_name_pb2.Attr, _Mapping]] = ..., is_inline: _Optional[bool] = ..., chunks: _Optional[_Iterable[_Union[ChunkPlace, _Mapping]]] = ...) -> None: ...

class Intents(_message.Message):
    __slots__ = ("expected_term", "weights", "heal", "drop", "delete", "policy")
    EXPECTED_TERM_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    expected_term: int
    weights: _containers.RepeatedCompositeFieldContainer[ServerWeight]
    heal: _containers.RepeatedCompositeFieldContainer[HealIntent]
    drop: _containers.RepeatedCompositeFieldContainer[DropIntent]
    delete: _containers.RepeatedCompositeFieldContainer[DeleteIntent]
    policy: LeaderPolicy
    def __init__(self, expected_term: _Optional[int] = ..., weights: _Optional[_Iterable[_Union[ServerWeight, _Mapping]]] = ..., heal: _Optional[_Iterable[_Union[HealIntent, _Mapping]]] = ..., drop: _Optional[_Iterable[_Union[DropIntent, _Mapping]]] = ..., delete: _Optional[_Iterable[_Union[DeleteIntent, _Mapping]]] = ..., policy: _Optional[_Union[LeaderPolicy, _Mapping]] = ...) -> None: ...

class LeaderPolicy(_message.Message):
    __slots__ = ("heal_delay_ms", "heals_per_server", "heals_running", "expired_at_once", "purged_at_once")
    HEAL_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    HEALS_PER_SERVER_FIELD_NUMBER: _ClassVar[int]
    HEALS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    PURGED_AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    heal_delay_ms: int
    heals_per_server: int
    heals_running: int
    expired_at_once: int
    purged_at_once: int
    def __init__(self, heal_delay_ms: _Optional[int] = ..., heals_per_server: _Optional[int] = ..., heals_running: _Optional[int] = ..., expired_at_once: _Optional[int] = ..., purged_at_once: _Optional[int] = ...) -> None: ...

class HealIntent(_message.Message):
    __slots__ = ("chunk_id", "version", "source", "target")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    version: int
    source: int
    target: int
    def __init__(self, chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., source: _Optional[int] = ..., target: _Optional[int] = ...) -> None: ...

class DropIntent(_message.Message):
    __slots__ = ("chunk_id", "version", "server_id")
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    chunk_id: int
    version: int
    server_id: int
    def __init__(self, chunk_id: _Optional[int] = ..., version: _Optional[int] = ..., server_id: _Optional[int] = ...) -> None: ...

class DeleteIntent(_message.Message):
    __slots__ = ("server_id", "chunk_id", "version")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    server_id: int
    chunk_id: int
    version: int
    def __init__(self, server_id: _Optional[int] = ..., chunk_id: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class IntentsReply(_message.Message):
    __slots__ = ("error", "accepted", "refused")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    accepted: int
    refused: int
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., accepted: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...

class TransferLeader(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: int
    def __init__(self, target: _Optional[int] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
