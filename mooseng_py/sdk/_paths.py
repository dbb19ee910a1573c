"""Paths as the name space wants them: bytes, absolute, split into parent and last name; and errors that name them."""

from __future__ import annotations

import errno
import os
from typing import Any

from mooseng_py.errors import MooseError, make_error

StrPath = str | bytes | os.PathLike[Any]
_NAMESPACE = 0


def encode(path: StrPath) -> bytes:
    """The bytes of `path`; relative paths start at the root. Raises: MooseError with ENOENT (empty) or EINVAL (NUL)."""
    raw = os.fsencode(path)
    if not raw:
        raise error(errno.ENOENT, path)
    if b"\0" in raw:
        raise error(errno.EINVAL, path, "a path cannot hold a NUL byte")
    return raw


def split(path: StrPath, *, at_root: int) -> tuple[bytes, bytes]:
    """The parent's path and the last name. Raises: MooseError with `at_root` for the root, which has no name."""
    raw = encode(path).rstrip(b"/")
    parent, _, name = raw.rpartition(b"/")
    if not name:
        raise error(at_root, path)
    return parent, name


def join(parent: StrPath, name: bytes) -> str | bytes:
    """`parent/name`, of the type of `parent`."""
    base = os.fspath(parent)
    if isinstance(base, bytes):
        return base.rstrip(b"/") + b"/" + name
    return base.rstrip("/") + "/" + os.fsdecode(name)


def shown(path: StrPath) -> str | bytes:
    """What an error's `filename` is."""
    return os.fspath(path)


def error(number: int, path: StrPath, message: str | None = None) -> MooseError:
    """A refusal that needs no server."""
    return make_error(number, _NAMESPACE, message or os.strerror(number), shown(path))


class Naming:
    """Errors raised inside carry these paths, as those of `os` do."""

    def __init__(self, path: StrPath, second: StrPath | None = None) -> None:
        self._path = path
        self._second = second

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, MooseError) and error.filename is None:
            error.filename = shown(self._path)
            if self._second is not None:
                error.filename2 = shown(self._second)


def process_umask() -> int:
    """Read without changing it: os.umask would do so for a moment, in every thread. Source: proc_pid_status(5)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
