"""What is known about one file: plain frozen values, with the names of `os.stat_result`."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass

from mooseng_py.proto import name_pb2

# The bits of a mode that say what kind of file it is, and the schema's number for it.
KINDS: dict[int, name_pb2.FileKind] = {
    stat.S_IFREG: name_pb2.FILE_REGULAR,
    stat.S_IFDIR: name_pb2.FILE_DIRECTORY,
    stat.S_IFLNK: name_pb2.FILE_SYMLINK,
    stat.S_IFIFO: name_pb2.FILE_FIFO,
    stat.S_IFSOCK: name_pb2.FILE_SOCKET,
    stat.S_IFCHR: name_pb2.FILE_CHARACTER_DEVICE,
    stat.S_IFBLK: name_pb2.FILE_BLOCK_DEVICE,
}
_MODES = {kind: mode for mode, kind in KINDS.items()}
BLOCK_BYTES = 4096
# Times travel as nanoseconds since 1970 modulo 2^64: from ext4's first second, in 1901, on.
_EARLIEST_NS, _CYCLE_NS = -(1 << 31) * 10**9, 1 << 64


def told_time(ns: int) -> int:
    """The nearest time that can be kept, as it travels."""
    kept = min(max(ns, _EARLIEST_NS), _EARLIEST_NS + _CYCLE_NS - 1)
    return kept if kept < _CYCLE_NS // 2 else kept - _CYCLE_NS


def _time_of(told: int) -> int:
    return told if told >= _EARLIEST_NS else told + _CYCLE_NS


@dataclass(frozen=True, slots=True)
class StatResult:
    """As `os.stat_result`. Times in `_ns` are exact; those in seconds are floats.

    `st_birthtime_ns`: when it was made; None for what is from before cluster level 3.
    """

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_blksize: int = BLOCK_BYTES
    st_dev: int = 0
    st_rdev: int = 0
    st_birthtime_ns: int | None = None

    @property
    def st_atime(self) -> float:
        return self.st_atime_ns / 1e9

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9

    @property
    def st_ctime(self) -> float:
        return self.st_ctime_ns / 1e9

    @classmethod
    def of(cls, attr: name_pb2.Attr) -> StatResult:
        """From the attributes of the name space."""
        return cls(
            st_mode=_MODES[attr.kind] | attr.mode,
            st_ino=attr.inode,
            st_nlink=attr.nlink,
            st_uid=attr.uid,
            st_gid=attr.gid,
            st_size=attr.size,
            st_blocks=attr.blocks,
            st_atime_ns=_time_of(attr.atime_ns),
            st_mtime_ns=_time_of(attr.mtime_ns),
            st_ctime_ns=_time_of(attr.ctime_ns),
            st_rdev=attr.rdev,
            st_birthtime_ns=attr.btime_ns or None,
        )


@dataclass(frozen=True, slots=True)
class StatVfs:
    """As `os.statvfs_result`, in blocks of `f_frsize` bytes."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_namemax: int = 255


@dataclass(frozen=True, slots=True)
class Chunk:
    """64 MiB of a file at the most. `servers`: server id to address of every copy, as committed."""

    index: int
    id: int
    version: int
    servers: dict[int, str]
    written: bool
    healing: bool
    stored_bytes: int

    @classmethod
    def of(cls, info: name_pb2.ChunkInfo) -> Chunk:
        return cls(
            index=info.index,
            id=info.chunk.id,
            version=info.chunk.version,
            servers={replica.server_id: replica.address for replica in info.replicas},
            written=info.written,
            healing=info.healing,
            stored_bytes=info.stored_bytes,
        )


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One entry of `scandir`; its own attributes came along with the listing."""

    name: str | bytes
    path: str | bytes
    attributes: StatResult
    _follow: Callable[[str | bytes], StatResult]

    def inode(self) -> int:
        return self.attributes.st_ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.attributes.st_mode)

    def stat(self, *, follow_symlinks: bool = True) -> StatResult:
        """Attributes as of the listing, or of a symlink's target as of now."""
        return self._follow(self.path) if follow_symlinks and self.is_symlink() else self.attributes

    def __fspath__(self) -> str | bytes:
        return self.path

    def _is(self, test: Callable[[int], bool], follow: bool) -> bool:
        try:
            return test(self.stat(follow_symlinks=follow).st_mode)
        except FileNotFoundError:
            return False  # a symlink to nowhere is neither
