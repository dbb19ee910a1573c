from mooseng_py.proto import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_REGULAR: _ClassVar[FileKind]
    FILE_DIRECTORY: _ClassVar[FileKind]
    FILE_SYMLINK: _ClassVar[FileKind]
    FILE_FIFO: _ClassVar[FileKind]
    FILE_SOCKET: _ClassVar[FileKind]
    FILE_CHARACTER_DEVICE: _ClassVar[FileKind]
    FILE_BLOCK_DEVICE: _ClassVar[FileKind]
FILE_REGULAR: FileKind
FILE_DIRECTORY: FileKind
FILE_SYMLINK: FileKind
FILE_FIFO: FileKind
FILE_SOCKET: FileKind
FILE_CHARACTER_DEVICE: FileKind
FILE_BLOCK_DEVICE: FileKind

class Attr(_message.Message):
    __slots__ = ("inode", "generation", "kind", "mode", "uid", "gid", "nlink", "size", "blocks", "atime_ns", "mtime_ns", "ctime_ns", "data_version", "parent", "rdev", "has_xattr", "btime_ns", "has_acl")
    INODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    NLINK_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    DATA_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    HAS_XATTR_FIELD_NUMBER: _ClassVar[int]
    BTIME_NS_FIELD_NUMBER: _ClassVar[int]
    HAS_ACL_FIELD_NUMBER: _ClassVar[int]
    inode: int
    generation: int
    kind: FileKind
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    data_version: int
    parent: int
    rdev: int
    has_xattr: bool
    btime_ns: int
    has_acl: bool
    def __init__(self, inode: _Optional[int] = ..., generation: _Optional[int] = ..., kind: _Optional[_Union[FileKind, str]] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., nlink: _Optional[int] = ..., size: _Optional[int] = ..., blocks: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ..., data_version: _Optional[int] = ..., parent: _Optional[int] = ..., rdev: _Optional[int] = ..., has_xattr: _Optional[bool] = ..., btime_ns: _Optional[int] = ..., has_acl: _Optional[bool] = ...) -> None: ...

class Lookup(_message.Message):
    __slots__ = ("parent", "name")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class GetAttr(_message.Message):
    __slots__ = ("inode",)
    INODE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    def __init__(self, inode: _Optional[int] = ...) -> None: ...

class ReadLink(_message.Message):
    __slots__ = ("inode",)
    INODE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    def __init__(self, inode: _Optional[int] = ...) -> None: ...

class Access(_message.Message):
    __slots__ = ("inode", "mask")
    INODE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    inode: int
    mask: int
    def __init__(self, inode: _Optional[int] = ..., mask: _Optional[int] = ...) -> None: ...

class ReadDir(_message.Message):
    __slots__ = ("inode", "cookie", "max_entries", "plus", "by_handle")
    INODE_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    MAX_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    PLUS_FIELD_NUMBER: _ClassVar[int]
    BY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    cookie: int
    max_entries: int
    plus: bool
    by_handle: bool
    def __init__(self, inode: _Optional[int] = ..., cookie: _Optional[int] = ..., max_entries: _Optional[int] = ..., plus: _Optional[bool] = ..., by_handle: _Optional[bool] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("inode", "read", "write")
    INODE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    read: bool
    write: bool
    def __init__(self, inode: _Optional[int] = ..., read: _Optional[bool] = ..., write: _Optional[bool] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("inodes",)
    INODES_FIELD_NUMBER: _ClassVar[int]
    inodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inodes: _Optional[_Iterable[int]] = ...) -> None: ...

class GetChunks(_message.Message):
    __slots__ = ("inode", "first", "count")
    INODE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    inode: int
    first: int
    count: int
    def __init__(self, inode: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Resolve(_message.Message):
    __slots__ = ("start", "path", "follow")
    START_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    start: int
    path: bytes
    follow: bool
    def __init__(self, start: _Optional[int] = ..., path: _Optional[bytes] = ..., follow: _Optional[bool] = ...) -> None: ...

class StatFs(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetXattr(_message.Message):
    __slots__ = ("inode", "name")
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    inode: int
    name: bytes
    def __init__(self, inode: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class ListXattr(_message.Message):
    __slots__ = ("inode",)
    INODE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    def __init__(self, inode: _Optional[int] = ...) -> None: ...

class MkDir(_message.Message):
    __slots__ = ("parent", "name", "mode", "full_mode")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FULL_MODE_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    mode: int
    full_mode: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., full_mode: _Optional[int] = ...) -> None: ...

class Create(_message.Message):
    __slots__ = ("parent", "name", "mode", "exclusive", "read", "write", "truncate", "full_mode", "unnamed")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    FULL_MODE_FIELD_NUMBER: _ClassVar[int]
    UNNAMED_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    mode: int
    exclusive: bool
    read: bool
    write: bool
    truncate: bool
    full_mode: int
    unnamed: bool
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., exclusive: _Optional[bool] = ..., read: _Optional[bool] = ..., write: _Optional[bool] = ..., truncate: _Optional[bool] = ..., full_mode: _Optional[int] = ..., unnamed: _Optional[bool] = ...) -> None: ...

class Unlink(_message.Message):
    __slots__ = ("parent", "name")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class RmDir(_message.Message):
    __slots__ = ("parent", "name")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class Symlink(_message.Message):
    __slots__ = ("parent", "name", "target")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    target: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., target: _Optional[bytes] = ...) -> None: ...

class MakeNode(_message.Message):
    __slots__ = ("parent", "name", "mode", "kind", "rdev", "full_mode")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    FULL_MODE_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    mode: int
    kind: FileKind
    rdev: int
    full_mode: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., kind: _Optional[_Union[FileKind, str]] = ..., rdev: _Optional[int] = ..., full_mode: _Optional[int] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("inode", "parent", "name")
    INODE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    inode: int
    parent: int
    name: bytes
    def __init__(self, inode: _Optional[int] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class Rename(_message.Message):
    __slots__ = ("source_parent", "source_name", "target_parent", "target_name", "flags")
    SOURCE_PARENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_PARENT_FIELD_NUMBER: _ClassVar[int]
    TARGET_NAME_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    source_parent: int
    source_name: bytes
    target_parent: int
    target_name: bytes
    flags: int
    def __init__(self, source_parent: _Optional[int] = ..., source_name: _Optional[bytes] = ..., target_parent: _Optional[int] = ..., target_name: _Optional[bytes] = ..., flags: _Optional[int] = ...) -> None: ...

class SetXattr(_message.Message):
    __slots__ = ("inode", "name", "value", "flags")
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    inode: int
    name: bytes
    value: bytes
    flags: int
    def __init__(self, inode: _Optional[int] = ..., name: _Optional[bytes] = ..., value: _Optional[bytes] = ..., flags: _Optional[int] = ...) -> None: ...

class RemoveXattr(_message.Message):
    __slots__ = ("inode", "name")
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    inode: int
    name: bytes
    def __init__(self, inode: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class Accessed(_message.Message):
    __slots__ = ("inodes", "atimes_ns")
    INODES_FIELD_NUMBER: _ClassVar[int]
    ATIMES_NS_FIELD_NUMBER: _ClassVar[int]
    inodes: _containers.RepeatedScalarFieldContainer[int]
    atimes_ns: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inodes: _Optional[_Iterable[int]] = ..., atimes_ns: _Optional[_Iterable[int]] = ...) -> None: ...

class SetAttr(_message.Message):
    __slots__ = ("inode", "mode", "uid", "gid", "size", "atime_ns", "mtime_ns", "atime_now", "mtime_now", "by_handle")
    INODE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    ATIME_NOW_FIELD_NUMBER: _ClassVar[int]
    MTIME_NOW_FIELD_NUMBER: _ClassVar[int]
    BY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    atime_now: bool
    mtime_now: bool
    by_handle: bool
    def __init__(self, inode: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., atime_now: _Optional[bool] = ..., mtime_now: _Optional[bool] = ..., by_handle: _Optional[bool] = ...) -> None: ...

class WriteInline(_message.Message):
    __slots__ = ("inode", "offset", "data", "append", "times")
    INODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    inode: int
    offset: int
    data: bytes
    append: bool
    times: Times
    def __init__(self, inode: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., append: _Optional[bool] = ..., times: _Optional[_Union[Times, _Mapping]] = ...) -> None: ...

class Times(_message.Message):
    __slots__ = ("mtime_ns", "ctime_ns")
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    mtime_ns: int
    ctime_ns: int
    def __init__(self, mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ...) -> None: ...

class GrantWrite(_message.Message):
    __slots__ = ("inode", "index", "failed", "chunk", "take_over", "append")
    INODE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    inode: int
    index: int
    failed: _containers.RepeatedScalarFieldContainer[int]
    chunk: _common_pb2.ChunkRef
    take_over: bool
    append: bool
    def __init__(self, inode: _Optional[int] = ..., index: _Optional[int] = ..., failed: _Optional[_Iterable[int]] = ..., chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., take_over: _Optional[bool] = ..., append: _Optional[bool] = ...) -> None: ...

class CommitWrite(_message.Message):
    __slots__ = ("inode", "size", "mtime_ns", "stored", "expect_inline_version", "convert_inline", "append", "times")
    INODE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    EXPECT_INLINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONVERT_INLINE_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    inode: int
    size: int
    mtime_ns: int
    stored: _containers.RepeatedCompositeFieldContainer[ChunkStored]
    expect_inline_version: int
    convert_inline: bool
    append: bool
    times: Times
    def __init__(self, inode: _Optional[int] = ..., size: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., stored: _Optional[_Iterable[_Union[ChunkStored, _Mapping]]] = ..., expect_inline_version: _Optional[int] = ..., convert_inline: _Optional[bool] = ..., append: _Optional[bool] = ..., times: _Optional[_Union[Times, _Mapping]] = ...) -> None: ...

class ChunkStored(_message.Message):
    __slots__ = ("index", "chunk_id", "stored_bytes", "version", "settled")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    index: int
    chunk_id: int
    stored_bytes: int
    version: int
    settled: bool
    def __init__(self, index: _Optional[int] = ..., chunk_id: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., version: _Optional[int] = ..., settled: _Optional[bool] = ...) -> None: ...

class AppendBegin(_message.Message):
    __slots__ = ("inode",)
    INODE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    def __init__(self, inode: _Optional[int] = ...) -> None: ...

class ReleaseGrants(_message.Message):
    __slots__ = ("inode", "chunks", "abandoned")
    INODE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    inode: int
    chunks: _containers.RepeatedCompositeFieldContainer[_common_pb2.ChunkRef]
    abandoned: bool
    def __init__(self, inode: _Optional[int] = ..., chunks: _Optional[_Iterable[_Union[_common_pb2.ChunkRef, _Mapping]]] = ..., abandoned: _Optional[bool] = ...) -> None: ...

class TrimDone(_message.Message):
    __slots__ = ("inode", "index", "chunk", "trim")
    INODE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRIM_FIELD_NUMBER: _ClassVar[int]
    inode: int
    index: int
    chunk: _common_pb2.ChunkRef
    trim: int
    def __init__(self, inode: _Optional[int] = ..., index: _Optional[int] = ..., chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., trim: _Optional[int] = ...) -> None: ...

class RegisterSession(_message.Message):
    __slots__ = ("name", "host", "mount_point")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MOUNT_POINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    host: str
    mount_point: str
    def __init__(self, name: _Optional[str] = ..., host: _Optional[str] = ..., mount_point: _Optional[str] = ...) -> None: ...

class CloseSession(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NameRequest(_message.Message):
    __slots__ = ("session", "op_id", "acked_below", "creds", "lookup", "getattr", "readlink", "access", "readdir", "open", "release", "get_chunks", "resolve", "statfs", "get_xattr", "list_xattr", "mkdir", "create", "unlink", "rmdir", "symlink", "link", "rename", "setattr", "write_inline", "grant_write", "commit_write", "trim_done", "register_session", "close_session", "append_begin", "release_grants", "make_node", "set_xattr", "remove_xattr", "accessed")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    ACKED_BELOW_FIELD_NUMBER: _ClassVar[int]
    CREDS_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    GETATTR_FIELD_NUMBER: _ClassVar[int]
    READLINK_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    READDIR_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    GET_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_FIELD_NUMBER: _ClassVar[int]
    STATFS_FIELD_NUMBER: _ClassVar[int]
    GET_XATTR_FIELD_NUMBER: _ClassVar[int]
    LIST_XATTR_FIELD_NUMBER: _ClassVar[int]
    MKDIR_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    UNLINK_FIELD_NUMBER: _ClassVar[int]
    RMDIR_FIELD_NUMBER: _ClassVar[int]
    SYMLINK_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    SETATTR_FIELD_NUMBER: _ClassVar[int]
    WRITE_INLINE_FIELD_NUMBER: _ClassVar[int]
    GRANT_WRITE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_WRITE_FIELD_NUMBER: _ClassVar[int]
    TRIM_DONE_FIELD_NUMBER: _ClassVar[int]
    REGISTER_SESSION_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    APPEND_BEGIN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_GRANTS_FIELD_NUMBER: _ClassVar[int]
    MAKE_NODE_FIELD_NUMBER: _ClassVar[int]
    SET_XATTR_FIELD_NUMBER: _ClassVar[int]
    REMOVE_XATTR_FIELD_NUMBER: _ClassVar[int]
    ACCESSED_FIELD_NUMBER: _ClassVar[int]
    session: int
    op_id: int
    acked_below: int
    creds: _common_pb2.Credentials
    lookup: Lookup
    getattr: GetAttr
    readlink: ReadLink
    access: Access
    readdir: ReadDir
    open: Open
    release: Release
    get_chunks: GetChunks
    resolve: Resolve
    statfs: StatFs
    get_xattr: GetXattr
    list_xattr: ListXattr
    mkdir: MkDir
    create: Create
    unlink: Unlink
    rmdir: RmDir
    symlink: Symlink
    link: Link
    rename: Rename
    setattr: SetAttr
    write_inline: WriteInline
    grant_write: GrantWrite
    commit_write: CommitWrite
    trim_done: TrimDone
    register_session: RegisterSession
    close_session: CloseSession
    append_begin: AppendBegin
    release_grants: ReleaseGrants
    make_node: MakeNode
    set_xattr: SetXattr
    remove_xattr: RemoveXattr
    accessed: Accessed
    def __init__(self, session: _Optional[int] = ..., op_id: _Optional[int] = ..., acked_below: _Optional[int] = ..., creds: _Optional[_Union[_common_pb2.Credentials, _Mapping]] = ..., lookup: _Optional[_Union[Lookup, _Mapping]] = ..., getattr: _Optional[_Union[GetAttr, _Mapping]] = ..., readlink: _Optional[_Union[ReadLink, _Mapping]] = ..., access: _Optional[_Union[Access, _Mapping]] = ..., readdir: _Optional[_Union[ReadDir, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., get_chunks: _Optional[_Union[GetChunks, _Mapping]] = ..., resolve: _Optional[_Union[Resolve, _Mapping]] = ..., statfs: _Optional[_Union[StatFs, _Mapping]] = ..., get_xattr: _Optional[_Union[GetXattr, _Mapping]] = ..., list_xattr: _Optional[_Union[ListXattr, _Mapping]] = ..., mkdir: _Optional[_Union[MkDir, _Mapping]] = ..., create: _Optional[_Union[Create, _Mapping]] = ..., unlink: _Optional[_Union[Unlink, _Mapping]] = ..., rmdir: _Optional[_Union[RmDir, _Mapping]] = ..., symlink: _Optional[_Union[Symlink, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., rename: _Optional[_Union[Rename, _Mapping]] = ..., setattr: _Optional[_Union[SetAttr, _Mapping]] = ..., write_inline: _Optional[_Union[WriteInline, _Mapping]] = ..., grant_write: _Optional[_Union[GrantWrite, _Mapping]] = ..., commit_write: _Optional[_Union[CommitWrite, _Mapping]] = ..., trim_done: _Optional[_Union[TrimDone, _Mapping]] = ..., register_session: _Optional[_Union[RegisterSession, _Mapping]] = ..., close_session: _Optional[_Union[CloseSession, _Mapping]] = ..., append_begin: _Optional[_Union[AppendBegin, _Mapping]] = ..., release_grants: _Optional[_Union[ReleaseGrants, _Mapping]] = ..., make_node: _Optional[_Union[MakeNode, _Mapping]] = ..., set_xattr: _Optional[_Union[SetXattr, _Mapping]] = ..., remove_xattr: _Optional[_Union[RemoveXattr, _Mapping]] = ..., accessed: _Optional[_Union[Accessed, _Mapping]] = ...) -> None: ...

class DirEntry(_message.Message):
    __slots__ = ("name", "inode", "kind", "cookie", "attr")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    ATTR_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    inode: int
    kind: FileKind
    cookie: int
    attr: Attr
    def __init__(self, name: _Optional[bytes] = ..., inode: _Optional[int] = ..., kind: _Optional[_Union[FileKind, str]] = ..., cookie: _Optional[int] = ..., attr: _Optional[_Union[Attr, _Mapping]] = ...) -> None: ...

class ChunkInfo(_message.Message):
    __slots__ = ("index", "chunk", "replicas", "written", "trim", "healing", "stored_bytes", "granted")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    TRIM_FIELD_NUMBER: _ClassVar[int]
    HEALING_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    index: int
    chunk: _common_pb2.ChunkRef
    replicas: _containers.RepeatedCompositeFieldContainer[_common_pb2.Replica]
    written: bool
    trim: int
    healing: bool
    stored_bytes: int
    granted: bool
    def __init__(self, index: _Optional[int] = ..., chunk: _Optional[_Union[_common_pb2.ChunkRef, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[_common_pb2.Replica, _Mapping]]] = ..., written: _Optional[bool] = ..., trim: _Optional[int] = ..., healing: _Optional[bool] = ..., stored_bytes: _Optional[int] = ..., granted: _Optional[bool] = ...) -> None: ...

class FsStats(_message.Message):
    __slots__ = ("total_bytes", "free_bytes", "inodes", "free_inodes")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    FREE_INODES_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    free_bytes: int
    inodes: int
    free_inodes: int
    def __init__(self, total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., inodes: _Optional[int] = ..., free_inodes: _Optional[int] = ...) -> None: ...

class NameReply(_message.Message):
    __slots__ = ("error", "attr", "value", "entries", "end", "is_inline", "inline_data", "chunks", "statfs", "session", "session_timeout_ms", "created", "offset", "inline_limit", "now_ns")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ATTR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    IS_INLINE_FIELD_NUMBER: _ClassVar[int]
    INLINE_DATA_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    STATFS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    INLINE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    attr: Attr
    value: bytes
    entries: _containers.RepeatedCompositeFieldContainer[DirEntry]
    end: bool
    is_inline: bool
    inline_data: bytes
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkInfo]
    statfs: FsStats
    session: int
    session_timeout_ms: int
    created: bool
    offset: int
    inline_limit: int
    now_ns: int
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., attr: _Optional[_Union[Attr, _Mapping]] = ..., value: _Optional[bytes] = ..., entries: _Optional[_Iterable[_Union[DirEntry, _Mapping]]] = ..., end: _Optional[bool] = ..., is_inline: _Optional[bool] = ..., inline_data: _Optional[bytes] = ..., chunks: _Optional[_Iterable[_Union[ChunkInfo, _Mapping]]] = ..., statfs: _Optional[_Union[FsStats, _Mapping]] = ..., session: _Optional[int] = ..., session_timeout_ms: _Optional[int] = ..., created: _Optional[bool] = ..., offset: _Optional[int] = ..., inline_limit: _Optional[int] = ..., now_ns: _Optional[int] = ...) -> None: ...

class RenewSession(_message.Message):
    __slots__ = ("session", "open_inodes", "alive")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    OPEN_INODES_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    session: int
    open_inodes: _containers.RepeatedScalarFieldContainer[int]
    alive: bool
    def __init__(self, session: _Optional[int] = ..., open_inodes: _Optional[_Iterable[int]] = ..., alive: _Optional[bool] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("error", "session_timeout_ms", "term", "now_ns")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SESSION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    session_timeout_ms: int
    term: int
    now_ns: int
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., session_timeout_ms: _Optional[int] = ..., term: _Optional[int] = ..., now_ns: _Optional[int] = ...) -> None: ...
