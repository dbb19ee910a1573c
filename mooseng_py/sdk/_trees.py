"""What is made of several operations: walking, removing trees, copying in and out."""

from __future__ import annotations

import io
import os
import secrets
import stat as stats
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ._paths import StrPath, join, process_umask, split

if TYPE_CHECKING:
    from ._filesystem import FileSystem

Progress = Callable[[int], object] | None
_STEP_BYTES = 4 << 20


def walk(
    fs: FileSystem, top: StrPath, topdown: bool, onerror: Callable[[OSError], object] | None, followlinks: bool
) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """As os.walk: errors of listings go to `onerror`, or are passed over."""
    folders: list[Any] = []
    files: list[Any] = []
    links: set[Any] = set()
    try:
        for entry in fs.scandir(top):
            (folders if entry.is_dir() else files).append(entry.name)
            if entry.is_symlink():
                links.add(entry.name)
    except OSError as error:
        if onerror is not None:
            onerror(error)
        return
    if topdown:
        yield os.fspath(top), folders, files
    for name in folders:
        if followlinks or name not in links:
            yield from walk(fs, join(top, os.fsencode(name)), topdown, onerror, followlinks)
    if not topdown:
        yield os.fspath(top), folders, files


def rmtree(fs: FileSystem, path: StrPath) -> None:
    if fs.islink(path):
        raise OSError(20, "a symlink is not removed as a tree; use remove()", os.fspath(path))
    for entry in list(fs.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            rmtree(fs, entry.path)
        else:
            fs.remove(entry.path)
    fs.rmdir(path)


def put(fs: FileSystem, source: str | os.PathLike[str], target: StrPath, progress: Progress) -> int:
    parent, name = split(target, at_root=21)
    draft = parent + b"/" + _draft_name(name)
    with open(source, "rb", buffering=0) as reader:
        local = os.fstat(reader.fileno()).st_mode
        mode = local & 0o777 if stats.S_ISREG(local) else 0o666 & ~process_umask()
        try:
            with fs.open(draft, "xb", buffering=0, permissions=mode) as writer:
                copied = _copy(reader, writer, progress)
            fs.replace(draft, target)
        except BaseException:
            _forget(lambda: fs.remove(draft))
            raise
    return copied


def get(fs: FileSystem, source: StrPath, target: str | os.PathLike[str], progress: Progress) -> int:
    folder, name = os.path.split(os.path.abspath(target))
    draft = os.path.join(folder, os.fsdecode(_draft_name(os.fsencode(name))))
    with fs.open(source, "rb", buffering=0) as reader:
        try:
            with open(draft, "xb", buffering=0) as writer:
                copied = _copy(reader, writer, progress)
            os.replace(draft, target)
        except BaseException:
            _forget(lambda: os.unlink(draft))
            raise
    return copied


def write_all(writer: IO[Any] | io.RawIOBase, data: memoryview) -> None:
    """A raw file may take less than it is given."""
    while data.nbytes:
        taken = writer.write(data)
        data = data[taken or 0 :]


def _copy(reader: IO[Any] | io.RawIOBase, writer: IO[Any] | io.RawIOBase, progress: Progress) -> int:
    buffer = memoryview(bytearray(_STEP_BYTES))
    total = 0
    while count := reader.readinto(buffer):  # type: ignore[union-attr]  # both sides are raw files
        write_all(writer, buffer[:count])
        total += count
        if progress is not None:
            progress(count)
    return total


def _draft_name(name: bytes) -> bytes:
    return b"." + name[:200] + b".part-" + secrets.token_hex(6).encode()


def _forget(remove: Callable[[], object]) -> None:
    try:
        remove()
    except OSError:
        pass  # the copy's own error is the one to tell
