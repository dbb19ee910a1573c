from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppendOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPEND_OK: _ClassVar[AppendOutcome]
    APPEND_CONFLICT: _ClassVar[AppendOutcome]
    APPEND_HIGHER_VOTE: _ClassVar[AppendOutcome]
APPEND_OK: AppendOutcome
APPEND_CONFLICT: AppendOutcome
APPEND_HIGHER_VOTE: AppendOutcome

class Vote(_message.Message):
    __slots__ = ("term", "node_id", "committed")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    node_id: int
    committed: bool
    def __init__(self, term: _Optional[int] = ..., node_id: _Optional[int] = ..., committed: _Optional[bool] = ...) -> None: ...

class LogId(_message.Message):
    __slots__ = ("term", "index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    index: int
    def __init__(self, term: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class Members(_message.Message):
    __slots__ = ("sets", "nodes")
    SETS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    sets: _containers.RepeatedCompositeFieldContainer[MemberSet]
    nodes: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, sets: _Optional[_Iterable[_Union[MemberSet, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class MemberSet(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("id", "address", "incarnation")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    id: int
    address: str
    incarnation: int
    def __init__(self, id: _Optional[int] = ..., address: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("id", "batch", "members", "blank")
    ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    id: LogId
    batch: bytes
    members: Members
    blank: bool
    def __init__(self, id: _Optional[_Union[LogId, _Mapping]] = ..., batch: _Optional[bytes] = ..., members: _Optional[_Union[Members, _Mapping]] = ..., blank: _Optional[bool] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("vote", "previous", "commit", "entries", "to", "stream", "sequence")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    previous: LogId
    commit: LogId
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    to: int
    stream: int
    sequence: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., previous: _Optional[_Union[LogId, _Mapping]] = ..., commit: _Optional[_Union[LogId, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., to: _Optional[int] = ..., stream: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("outcome", "vote")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    outcome: AppendOutcome
    vote: Vote
    def __init__(self, outcome: _Optional[_Union[AppendOutcome, str]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ...) -> None: ...

class VoteRequest(_message.Message):
    __slots__ = ("vote", "last_log", "pre_vote", "leadership_transfer", "to")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    LEADERSHIP_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    last_log: LogId
    pre_vote: bool
    leadership_transfer: bool
    to: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., last_log: _Optional[_Union[LogId, _Mapping]] = ..., pre_vote: _Optional[bool] = ..., leadership_transfer: _Optional[bool] = ..., to: _Optional[int] = ...) -> None: ...

class VoteReply(_message.Message):
    __slots__ = ("vote", "granted", "last_log")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    granted: bool
    last_log: LogId
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., granted: _Optional[bool] = ..., last_log: _Optional[_Union[LogId, _Mapping]] = ...) -> None: ...

class SnapshotPiece(_message.Message):
    __slots__ = ("vote", "id", "offset", "total", "crc", "to")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CRC_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    id: int
    offset: int
    total: int
    crc: int
    to: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., id: _Optional[int] = ..., offset: _Optional[int] = ..., total: _Optional[int] = ..., crc: _Optional[int] = ..., to: _Optional[int] = ...) -> None: ...

class SnapshotReply(_message.Message):
    __slots__ = ("vote", "next_offset")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    next_offset: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., next_offset: _Optional[int] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("vote", "to_node", "last_log", "to")
    VOTE_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    vote: Vote
    to_node: int
    last_log: LogId
    to: int
    def __init__(self, vote: _Optional[_Union[Vote, _Mapping]] = ..., to_node: _Optional[int] = ..., last_log: _Optional[_Union[LogId, _Mapping]] = ..., to: _Optional[int] = ...) -> None: ...

class RaftStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RaftStatusReply(_message.Message):
    __slots__ = ("node_id", "incarnation", "initialised", "lost", "term", "leader", "members", "members_at")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INITIALISED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_AT_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    incarnation: int
    initialised: bool
    lost: bool
    term: int
    leader: int
    members: Members
    members_at: LogId
    def __init__(self, node_id: _Optional[int] = ..., incarnation: _Optional[int] = ..., initialised: _Optional[bool] = ..., lost: _Optional[bool] = ..., term: _Optional[int] = ..., leader: _Optional[int] = ..., members: _Optional[_Union[Members, _Mapping]] = ..., members_at: _Optional[_Union[LogId, _Mapping]] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("node_id", "address", "incarnation")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    address: str
    incarnation: int
    def __init__(self, node_id: _Optional[int] = ..., address: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("voter", "state")
    VOTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    voter: bool
    state: str
    def __init__(self, voter: _Optional[bool] = ..., state: _Optional[str] = ...) -> None: ...

class SnapshotHead(_message.Message):
    __slots__ = ("cluster_id", "last", "members_at", "members")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_AT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    last: LogId
    members_at: LogId
    members: Members
    def __init__(self, cluster_id: _Optional[str] = ..., last: _Optional[_Union[LogId, _Mapping]] = ..., members_at: _Optional[_Union[LogId, _Mapping]] = ..., members: _Optional[_Union[Members, _Mapping]] = ...) -> None: ...
