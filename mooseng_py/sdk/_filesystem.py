"""The file system object: paths in, operations on inodes out. Each path costs one round trip; nothing is cached here.

Who asks is the process: its effective user, group and supplementary groups, checked by the masters.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self, overload

from mooseng_py.errors import MooseError
from mooseng_py.proto import name_pb2

from . import _trees
from ._engine import Engine, NativeClient
from ._files import RawFile, octets, parse_mode, wrap
from ._paths import Naming, StrPath, encode, error, join, process_umask, shown, split
from ._stat import BLOCK_BYTES, KINDS, Chunk, DirEntry, StatResult, StatVfs, told_time

if TYPE_CHECKING:
    from _typeshed import (
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )

    from mooseng_py.native import Readable

_PAGE_ENTRIES = 1000
_RENAME_NOREPLACE = 1
_PRIVATE_FILE = stat.S_IFREG | 0o600
_SYMLINK_HOPS = 40


class FileSystem:
    """One connection to a cluster, made by `connect`. Threads may share it. Relative paths start at the root.

    Every method raises errors of `mooseng_py.errors`: OSError with errno and filename, UnavailableError when nobody
    could answer until the deadline. Methods named as in `os` and `os.path` do what those do.
    """

    def __init__(self, client: NativeClient, *, umask: int | None = None) -> None:
        self._engine = Engine(client)
        self._umask = process_umask() if umask is None else umask

    # ---- life ------------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Flush what open files hold, and end the session. Files are of no use afterwards."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- files -----------------------------------------------------------------------------------------------------
    @overload
    def open(
        self,
        path: StrPath,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        permissions: int = 0o666,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: OpenBinaryMode,
        buffering: Literal[0],
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        permissions: int = 0o666,
    ) -> RawFile: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: OpenBinaryModeUpdating,
        buffering: Literal[-1, 1] = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        permissions: int = 0o666,
    ) -> io.BufferedRandom: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: OpenBinaryModeWriting,
        buffering: Literal[-1, 1] = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        permissions: int = 0o666,
    ) -> io.BufferedWriter: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: OpenBinaryModeReading,
        buffering: Literal[-1, 1] = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        permissions: int = 0o666,
    ) -> io.BufferedReader: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        permissions: int = 0o666,
    ) -> Any: ...
    def open(
        self,
        path: StrPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        permissions: int = 0o666,
    ) -> Any:
        """As the built-in `open`. `permissions`: of a file that is made, before the umask.

        `close()` returns when the data is on stable storage of every copy, and raises when it could not be.
        """
        wanted = parse_mode(mode)
        with Naming(path):
            handle = self._open(
                path, wanted.create, wanted.exclusive, wanted.truncate, wanted.read, wanted.write, permissions
            )
        raw = RawFile(handle, shown(path), mode=mode, readable=wanted.read, writable=wanted.write, append=wanted.append)
        try:
            return wrap(raw, wanted, buffering, encoding, errors, newline)
        except BaseException:
            raw.close()
            raise

    def _open(
        self, path: StrPath, create: bool, exclusive: bool, truncate: bool, read: bool, write: bool, permissions: int
    ) -> Any:
        if not create:
            found = self._resolve(path)
            if found.kind == name_pb2.FILE_DIRECTORY:
                raise error(errno.EISDIR, path)
            return self._engine.open(found.inode, read=read, write=write)
        for _ in range(_SYMLINK_HOPS):
            parent, name = split(path, at_root=errno.EISDIR)
            directory = self._resolve(parent or b"/").inode
            try:
                return self._engine.create(
                    name_pb2.Create(
                        parent=directory,
                        name=name,
                        mode=permissions & ~self._umask,
                        full_mode=permissions,
                        exclusive=exclusive,
                        read=read,
                        write=write,
                        truncate=truncate,
                    )
                )
            except MooseError as refused:
                if refused.errno != errno.ELOOP or exclusive:
                    raise
            # The name is a symlink: the file that it leads to is opened or made.
            target = os.fsencode(self.readlink(path))
            path = target if target.startswith(b"/") else parent + b"/" + target
        raise error(errno.ELOOP, path)

    def read_bytes(self, path: StrPath) -> bytes:
        """The whole content."""
        with self.open(path, "rb", buffering=0) as file:
            return file.read()

    def write_bytes(self, path: StrPath, data: Readable) -> int:
        """Replace the content by `data`, durably; the number of bytes."""
        view = octets(data)
        with self.open(path, "wb", buffering=0) as file:
            _trees.write_all(file, view)
        return view.nbytes

    def read_text(self, path: StrPath, encoding: str = "utf-8") -> str:
        return self.read_bytes(path).decode(encoding)

    def write_text(self, path: StrPath, text: str, encoding: str = "utf-8") -> int:
        return self.write_bytes(path, text.encode(encoding))

    def fsync(self, file: IO[Any] | io.IOBase) -> None:
        """Everything written to `file` is on stable storage of every copy when this returns."""
        file.flush()
        raw = getattr(getattr(file, "buffer", file), "raw", file)
        if not isinstance(raw, RawFile):
            raise TypeError(f"{file!r} was not opened by this file system")
        raw.fsync()

    def truncate(self, path: StrPath, length: int) -> None:
        """Cut the file to `length` bytes, or extend it with zeros."""
        if length < 0:
            raise error(errno.EINVAL, path, "a file's length cannot be negative")
        self._set(path, True, size=length)

    # ---- asking ----------------------------------------------------------------------------------------------------
    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> StatResult:
        with Naming(path):
            return StatResult.of(self._resolve(path, follow=follow_symlinks))

    def lstat(self, path: StrPath) -> StatResult:
        return self.stat(path, follow_symlinks=False)

    def exists(self, path: StrPath) -> bool:
        return self._mode(path) is not None

    def isfile(self, path: StrPath) -> bool:
        return stat.S_ISREG(self._mode(path) or 0)

    def isdir(self, path: StrPath) -> bool:
        return stat.S_ISDIR(self._mode(path) or 0)

    def islink(self, path: StrPath) -> bool:
        return stat.S_ISLNK(self._mode(path, follow=False) or 0)

    def getsize(self, path: StrPath) -> int:
        return self.stat(path).st_size

    def access(self, path: StrPath, mode: int) -> bool:
        """As `os.access`, for the effective user. F_OK, R_OK, W_OK, X_OK."""
        try:
            inode = self._resolve(path).inode
            self._engine.ask(name_pb2.Access(inode=inode, mask=mode))
        except MooseError as refused:
            if refused.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.EPERM):
                return False
            raise
        return True

    def statvfs(self, path: StrPath = "/") -> StatVfs:
        """Room of the whole file system; capacity counts each byte with its copies once."""
        with Naming(path):
            found = self._engine.ask(name_pb2.StatFs()).statfs
        free = found.free_bytes // BLOCK_BYTES
        return StatVfs(
            f_bsize=1 << 20,
            f_frsize=BLOCK_BYTES,
            f_blocks=found.total_bytes // BLOCK_BYTES,
            f_bfree=free,
            f_bavail=free,
            f_files=found.inodes,
            f_ffree=found.free_inodes,
        )

    def readlink(self, path: StrPath) -> str | bytes:
        with Naming(path):
            target = self._engine.ask(name_pb2.ReadLink(inode=self._resolve(path, follow=False).inode)).value
        return target if isinstance(shown(path), bytes) else os.fsdecode(target)

    # ---- directories -----------------------------------------------------------------------------------------------
    def listdir(self, path: StrPath = "/") -> list[Any]:
        """Names without "." and "..", as str or, for a path of bytes, bytes."""
        as_bytes = isinstance(shown(path), bytes)
        with Naming(path):
            return [entry.name if as_bytes else os.fsdecode(entry.name) for entry in self._entries(path, plus=False)]

    def scandir(self, path: StrPath = "/") -> Iterator[DirEntry]:
        """Entries with their attributes, fetched page by page. Closing early is fine; nothing is held open."""
        as_bytes = isinstance(shown(path), bytes)
        with Naming(path):
            for entry in self._entries(path, plus=True):
                yield DirEntry(
                    name=entry.name if as_bytes else os.fsdecode(entry.name),
                    path=join(path, entry.name),
                    attributes=StatResult.of(entry.attr),
                    _follow=self.stat,
                )

    def scanpage(
        self, path: StrPath = "/", *, after: int = 0, limit: int = _PAGE_ENTRIES
    ) -> tuple[list[DirEntry], int]:
        """At most `limit` entries as by `scandir`, from behind the mark `after` on, and the mark to go on with; 0 at the end.

        For those who show a directory page by page: marks stay good while names come and go.
        """
        as_bytes = isinstance(shown(path), bytes)
        with Naming(path):
            inode = self._resolve(path).inode
            page = self._engine.ask(name_pb2.ReadDir(inode=inode, cookie=after, max_entries=limit, plus=True))
        entries = [
            DirEntry(
                name=entry.name if as_bytes else os.fsdecode(entry.name),
                path=join(path, entry.name),
                attributes=StatResult.of(entry.attr),
                _follow=self.stat,
            )
            for entry in page.entries
        ]
        return entries, 0 if page.end or not entries else page.entries[-1].cookie

    def chunks(self, path: StrPath, *, first: int = 0, limit: int = 1000) -> tuple[list[Chunk], bool]:
        """Where a file's bytes lie, at most `limit` chunks from index `first` on, and whether they lie with the inode instead."""
        with Naming(path):
            inode = self._resolve(path).inode
            found = self._engine.ask(name_pb2.GetChunks(inode=inode, first=first, count=limit))
        return [Chunk.of(chunk) for chunk in found.chunks], found.is_inline

    def walk(
        self,
        top: StrPath,
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[Any, list[Any], list[Any]]]:
        """As `os.walk`."""
        return _trees.walk(self, top, topdown, onerror, followlinks)

    def mkdir(self, path: StrPath, mode: int = 0o777) -> None:
        with Naming(path):
            parent, name = split(path, at_root=errno.EEXIST)
            self._engine.ask(
                name_pb2.MkDir(
                    parent=self._resolve(parent or b"/").inode, name=name, mode=mode & ~self._umask, full_mode=mode
                )
            )

    def makedirs(self, path: StrPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        try:
            self.mkdir(path, mode)
        except FileNotFoundError:
            parent, _ = split(path, at_root=errno.EEXIST)
            if not parent:
                raise
            # Somebody else may make it meanwhile; what counts is that it is there.
            self.makedirs(parent, exist_ok=True)
            self.makedirs(path, mode, exist_ok)
        except FileExistsError:
            if not (exist_ok and self.isdir(path)):
                raise

    def rmdir(self, path: StrPath) -> None:
        with Naming(path):
            parent, name = split(path, at_root=errno.EBUSY)
            self._engine.ask(name_pb2.RmDir(parent=self._resolve(parent or b"/").inode, name=name))

    def rmtree(self, path: StrPath) -> None:
        """Remove a directory and everything below it. Symlinks are removed, never followed."""
        _trees.rmtree(self, path)

    # ---- names -----------------------------------------------------------------------------------------------------
    def remove(self, path: StrPath) -> None:
        with Naming(path):
            parent, name = split(path, at_root=errno.EISDIR)
            self._engine.ask(name_pb2.Unlink(parent=self._resolve(parent or b"/").inode, name=name))

    unlink = remove

    def replace(self, source: StrPath, target: StrPath) -> None:
        """Move `source` to `target`, in one step, over what is there when POSIX allows it."""
        self._rename(source, target, 0)

    def rename(self, source: StrPath, target: StrPath, *, overwrite: bool = True) -> None:
        """As `replace`; with `overwrite` false an existing target is FileExistsError, checked in the same step."""
        self._rename(source, target, 0 if overwrite else _RENAME_NOREPLACE)

    def link(self, source: StrPath, target: StrPath, *, follow_symlinks: bool = False) -> None:
        """One more name for the file `source`."""
        with Naming(source, target):
            inode = self._resolve(source, follow=follow_symlinks).inode
            parent, name = split(target, at_root=errno.EEXIST)
            self._engine.ask(name_pb2.Link(inode=inode, parent=self._resolve(parent or b"/").inode, name=name))

    def symlink(self, target: StrPath, path: StrPath) -> None:
        """Make `path` a symlink whose text is `target`."""
        with Naming(target, path):
            parent, name = split(path, at_root=errno.EEXIST)
            self._engine.ask(
                name_pb2.Symlink(parent=self._resolve(parent or b"/").inode, name=name, target=encode(target))
            )

    def mknod(self, path: StrPath, mode: int = _PRIVATE_FILE, device: int = 0) -> None:
        """As os.mknod: a fifo, a socket, a device or an empty file, by the kind in `mode`. Mounts open what they stand for."""
        kind = KINDS.get(stat.S_IFMT(mode) or stat.S_IFREG, name_pb2.FILE_DIRECTORY)
        if kind in (name_pb2.FILE_DIRECTORY, name_pb2.FILE_SYMLINK):
            raise error(errno.EINVAL, path, "mknod makes no directories and symlinks")
        if kind == name_pb2.FILE_REGULAR:
            self.open(path, "xb", buffering=0, permissions=stat.S_IMODE(mode)).close()
            return
        with Naming(path):
            parent, name = split(path, at_root=errno.EEXIST)
            above, full = self._resolve(parent or b"/").inode, stat.S_IMODE(mode)
            mode = full & ~self._umask
            self._engine.ask(
                name_pb2.MakeNode(parent=above, name=name, mode=mode, full_mode=full, kind=kind, rdev=device)
            )

    def mkfifo(self, path: StrPath, mode: int = 0o666) -> None:
        self.mknod(path, stat.S_IFIFO | stat.S_IMODE(mode))

    # ---- attributes ------------------------------------------------------------------------------------------------
    def chmod(self, path: StrPath, mode: int, *, follow_symlinks: bool = True) -> None:
        self._set(path, follow_symlinks, mode=mode & 0o7777)

    def chown(self, path: StrPath, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """-1 leaves the user or the group as it is."""
        values = {key: value for key, value in (("uid", uid), ("gid", gid)) if value != -1}
        self._set(path, follow_symlinks, **values)

    def utime(
        self,
        path: StrPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Access and modification time, in seconds or `ns`; neither: now. Kept are the years 1901 to 2486, else the nearest."""
        if times is not None and ns is not None:
            raise ValueError("give times or ns, not both")
        if times is not None:
            ns = (round(times[0] * 1e9), round(times[1] * 1e9))
        if ns is None:
            self._set(path, follow_symlinks, atime_now=True, mtime_now=True)
        else:
            self._set(path, follow_symlinks, atime_ns=told_time(ns[0]), mtime_ns=told_time(ns[1]))

    def getxattr(self, path: StrPath, attribute: str | bytes, *, follow_symlinks: bool = True) -> bytes:
        """The value of an extended attribute, by its whole name, as os.getxattr. ENODATA: there is none for you."""
        with Naming(path):
            inode = self._resolve(path, follow=follow_symlinks).inode
            return self._engine.ask(name_pb2.GetXattr(inode=inode, name=os.fsencode(attribute))).value

    def setxattr(
        self,
        path: StrPath,
        attribute: str | bytes,
        value: Readable,
        flags: int = 0,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """`value`: bytes-like, at most 64 KiB. `flags`: os.XATTR_CREATE (EEXIST when there is one), os.XATTR_REPLACE (ENODATA when there is none)."""
        with Naming(path):
            inode = self._resolve(path, follow=follow_symlinks).inode
            name = os.fsencode(attribute)
            self._engine.ask(name_pb2.SetXattr(inode=inode, name=name, value=bytes(octets(value)), flags=flags))

    def listxattr(self, path: StrPath = "/", *, follow_symlinks: bool = True) -> list[str]:
        """The whole names of its extended attributes; those in `trusted` are shown to root only."""
        with Naming(path):
            inode = self._resolve(path, follow=follow_symlinks).inode
            names = self._engine.ask(name_pb2.ListXattr(inode=inode)).value
        return [os.fsdecode(name) for name in names.split(b"\0")[:-1]]

    def removexattr(self, path: StrPath, attribute: str | bytes, *, follow_symlinks: bool = True) -> None:
        with Naming(path):
            inode = self._resolve(path, follow=follow_symlinks).inode
            self._engine.ask(name_pb2.RemoveXattr(inode=inode, name=os.fsencode(attribute)))

    # ---- in and out ------------------------------------------------------------------------------------------------
    def put(
        self, source: str | os.PathLike[str], target: StrPath, *, progress: Callable[[int], object] | None = None
    ) -> int:
        """Copy a local file in, durably; it appears under its name when it is whole. `progress` gets bytes of each step."""
        return _trees.put(self, source, target, progress)

    def get(
        self, source: StrPath, target: str | os.PathLike[str], *, progress: Callable[[int], object] | None = None
    ) -> int:
        """Copy a file out; the local name appears when it is whole. `progress` gets bytes of each step."""
        return _trees.get(self, source, target, progress)

    # ---- parts -----------------------------------------------------------------------------------------------------
    def _resolve(self, path: StrPath, *, follow: bool = True) -> name_pb2.Attr:
        return self._engine.ask(name_pb2.Resolve(path=encode(path), follow=follow)).attr

    def _entries(self, path: StrPath, *, plus: bool) -> Iterator[name_pb2.DirEntry]:
        inode = self._resolve(path).inode
        cookie, end = 0, False
        while not end:
            page = self._engine.ask(name_pb2.ReadDir(inode=inode, cookie=cookie, max_entries=_PAGE_ENTRIES, plus=plus))
            yield from page.entries
            end = page.end or not page.entries
            cookie = page.entries[-1].cookie if page.entries else cookie

    def _rename(self, source: StrPath, target: StrPath, flags: int) -> None:
        with Naming(source, target):
            source_parent, source_name = split(source, at_root=errno.EBUSY)
            target_parent, target_name = split(target, at_root=errno.EBUSY)
            self._engine.ask(
                name_pb2.Rename(
                    source_parent=self._resolve(source_parent or b"/").inode,
                    source_name=source_name,
                    target_parent=self._resolve(target_parent or b"/").inode,
                    target_name=target_name,
                    flags=flags,
                )
            )

    def _set(self, path: StrPath, follow: bool, **values: Any) -> None:
        with Naming(path):
            self._engine.ask(name_pb2.SetAttr(inode=self._resolve(path, follow=follow).inode, **values))

    def _mode(self, path: StrPath, *, follow: bool = True) -> int | None:
        """The mode, or None when there is no such thing as far as we may look. Raises: UnavailableError."""
        try:
            return self.stat(path, follow_symlinks=follow).st_mode
        except MooseError as refused:
            if refused.errno in (
                errno.ENOENT,
                errno.ENOTDIR,
                errno.EACCES,
                errno.ELOOP,
                errno.ENAMETOOLONG,
                errno.EINVAL,
            ):
                return None
            raise
