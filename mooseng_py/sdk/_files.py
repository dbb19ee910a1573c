"""Open files: a raw, unbuffered one over a native handle, and the standard library's buffers and text on top of it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from ._paths import Naming

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from mooseng_py.native import Readable, Writable

    from ._engine import Handle

# One request to a chunkserver at most; larger reads and writes go around the buffer.
BUFFER_BYTES = 256 << 10


def octets(data: Readable) -> memoryview:
    """The bytes of any C-contiguous buffer, without a copy. Raises: TypeError, ValueError for what is none."""
    return memoryview(cast("ReadableBuffer", data)).cast("B")


@dataclass(frozen=True, slots=True)
class Mode:
    """What a mode string asks for."""

    read: bool
    write: bool
    append: bool
    create: bool
    exclusive: bool
    truncate: bool
    text: bool


def parse_mode(mode: str) -> Mode:
    """Raises: ValueError, with the words of the built-in `open`."""
    letters = set(mode)
    if letters - set("rwxabt+") or len(letters) != len(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    if len(letters & set("rwxa")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    reading, plus = "r" in letters, "+" in letters
    return Mode(
        read=reading or plus,
        write=not reading or plus,
        append="a" in letters,
        create=not reading,
        exclusive="x" in letters,
        truncate="w" in letters,
        text="b" not in letters,
    )


class RawFile(io.RawIOBase):
    """One open file, unbuffered, as `io.FileIO`. Reads fill the caller's buffer; nothing is copied on the way in Python."""

    def __init__(
        self, handle: Handle, name: str | bytes, *, mode: str, readable: bool, writable: bool, append: bool
    ) -> None:
        super().__init__()
        self._handle = handle
        self.name = name
        self.mode = mode
        self._readable = readable
        self._writable = writable
        self._append = append
        self._position = handle.size() if append else 0

    def readable(self) -> bool:
        self._check()
        return self._readable

    def writable(self) -> bool:
        self._check()
        return self._writable

    def seekable(self) -> bool:
        self._check()
        return True

    def readinto(self, buffer: Writable) -> int:
        """Fill `buffer` (a NumPy array too) from the position on; the bytes read, 0 at the end of the file."""
        self._require(self._readable, "read")
        view = octets(buffer)
        with Naming(self.name):
            count = self._handle.read_into(self._position, view) if view.nbytes else 0
        self._position += count
        return count

    def readall(self) -> bytes:
        self._require(self._readable, "read")
        with Naming(self.name):
            left = self._handle.size() - self._position
        # One byte more shows that the end was reached; the file may have grown meanwhile.
        content, filled = bytearray(max(left, 0) + 1), 0
        while count := self.readinto(memoryview(content)[filled:]):
            filled += count
            if filled == len(content):
                content.extend(bytes(max(BUFFER_BYTES, filled)))
        return bytes(memoryview(content)[:filled])

    def write(self, data: Readable) -> int:
        """Write `data` at the position, or at the end of a file opened for appending; the bytes taken."""
        self._require(self._writable, "write")
        view = octets(data)
        with Naming(self.name):
            if not view.nbytes:
                return 0
            if self._append:
                self._position = self._handle.append(view)
                return view.nbytes
            count = self._handle.write(self._position, view)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check()
        if whence == os.SEEK_SET:
            position = offset
        elif whence == os.SEEK_CUR:
            position = self._position + offset
        elif whence == os.SEEK_END:
            with Naming(self.name):
                position = self._handle.size() + offset
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if position < 0:
            raise OSError(22, "a position before the start of the file", self.name)
        self._position = position
        return position

    def tell(self) -> int:
        self._check()
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend to `size` bytes (default: the position), which stays where it is."""
        self._require(self._writable, "truncate")
        length = self._position if size is None else size
        if length < 0:
            raise OSError(22, "a file's length cannot be negative", self.name)
        with Naming(self.name):
            self._handle.truncate(length)
        return length

    def fsync(self) -> None:
        """Return when everything written is on stable storage of every copy, and the length is committed."""
        self._check()
        with Naming(self.name):
            self._handle.sync()

    def close(self) -> None:
        """As fsync, then let go. The handle is gone also when this raises."""
        if self.closed:
            return
        try:
            with Naming(self.name):
                self._handle.close()
        finally:
            super().close()

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a MooseNG file has no file descriptor; open it through the mount for one")

    def isatty(self) -> bool:
        self._check()
        return False

    def __repr__(self) -> str:
        return f"<mooseng_py.sdk.RawFile name={self.name!r} mode={self.mode!r}{' closed' if self.closed else ''}>"

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _require(self, able: bool, what: str) -> None:
        self._check()
        if not able:
            raise io.UnsupportedOperation(
                f"{self.name!r} was not opened for this: {what} needs another mode than {self.mode!r}"
            )


def wrap(
    raw: RawFile, mode: Mode, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """The layers that the built-in `open` would put on top. Raises: ValueError for arguments that do not go together."""
    if not mode.text and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
    if buffering == 0:
        if mode.text:
            raise ValueError("can't have unbuffered text I/O")
        return raw  # type: ignore[return-value]  # as the built-in open does
    size = buffering if buffering > 1 else BUFFER_BYTES
    buffered: io.BufferedRandom | io.BufferedReader | io.BufferedWriter
    if mode.read and mode.write:
        buffered = io.BufferedRandom(raw, size)
    elif mode.write:
        buffered = io.BufferedWriter(raw, size)
    else:
        buffered = io.BufferedReader(raw, size)
    if not mode.text:
        return buffered
    text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
    text.mode = raw.mode  # type: ignore[misc]  # as the built-in open does
    return text
