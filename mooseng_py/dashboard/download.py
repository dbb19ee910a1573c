"""One file sent to a browser: in pieces, from where it asks on, never held whole in memory, closed whatever happens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from mooseng_py.errors import make_error

from .files import Files
from .paths import disposition

PIECE_BYTES = 256 << 10
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_EISDIR, _NAMESPACE = 21, 0
# Who takes no byte for this long has lost interest, and would keep others from the few places that there are.
_STALL_S = 60.0


class Unsatisfiable(Exception):
    """A range beyond the file: status 416. `size` is the file's."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes")
        self.size = size


class _Broken(Exception):
    """The rest of the file cannot be had; the head of the answer is gone already."""


@dataclass(frozen=True)
class Opened:
    """An open file and what its answer says."""

    file: Any
    size: int
    tag: str
    name: bytes

    def piece(self, offset: int, length: int) -> bytes:
        """Blocks. Raises: _Broken when it cannot be read, or was cut meanwhile."""
        try:
            self.file.seek(offset)
            content: bytes = self.file.read(length) or b""
        except (OSError, ValueError) as error:
            raise _Broken(str(error)) from None
        if not content:
            raise _Broken("the file was cut meanwhile")
        return content


def opened(files: Files, path: bytes) -> Opened:
    """Blocks. Raises: MooseError; EISDIR for a directory."""

    def work(fs: Any) -> Opened:
        found = fs.stat(path)
        if found.st_mode & 0o170000 == 0o040000:
            raise make_error(_EISDIR, _NAMESPACE, "this is a directory", path)
        file = fs.open(path, "rb", buffering=0)
        tag = f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'
        return Opened(file, found.st_size, tag, path.rstrip(b"/").rpartition(b"/")[2])

    return files.use(work)


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last that a Range header asks for; None: all of it. Source: RFC 9110, 14.

    Several ranges, and what is no range, are answered with the whole file, as a server may. Raises: Unsatisfiable.
    """
    match = _RANGE.match((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if not length or not size:
            raise Unsatisfiable(size)
        return max(0, size - length), size
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable(size)
    return first, min(last + 1, size)


class Download(StreamingResponse):
    """The bytes `start` to `end` of an open file, which it owns from now on."""

    def __init__(self, source: Opened, part: tuple[int, int] | None, done: Any) -> None:
        """`done` is called once, when nothing is read any more."""
        start, end = part or (0, source.size)
        headers = {
            "Content-Disposition": disposition(source.name),
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
            "ETag": source.tag,
        }
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{source.size}"
        super().__init__(
            self._pieces(source, start, end), 206 if part else 200, headers, media_type="application/octet-stream"
        )
        self._source, self._done = source, done

    async def _pieces(self, source: Opened, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            piece = await to_thread.run_sync(partial(source.piece, start, min(PIECE_BYTES, end - start)))
            start += len(piece)
            yield piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def unless_stalled(message: Message) -> None:
            with anyio.fail_after(_STALL_S):
                await send(message)

        try:
            await super().__call__(scope, receive, unless_stalled)
        except (_Broken, TimeoutError):
            # An answer that does not end: the server breaks the connection, and the browser knows that bytes are missing.
            pass
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await to_thread.run_sync(self._source.file.close)
                except (OSError, ValueError):
                    pass  # It was only read; the engine may be closed already.
                finally:
                    self._done()
