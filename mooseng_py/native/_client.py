"""A client of a cluster: operations on names as protobuf bytes, open files as spans. Paths are the SDK's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mooseng_py.native._boundary import check, ffi, lib, readable, take_reply, writable
from mooseng_py.native._facts import method
from mooseng_py.native._objects import NativeObject

if TYPE_CHECKING:
    from mooseng_py.native._boundary import Readable, Writable

_METHOD_NAME = method("Name")
_APPEND_BYTES = 1 << 20


class Client(NativeObject):
    """One session with the masters. Finds the leader, retries until its deadline, applies each change once."""

    def __init__(self, config: Mapping[str, object]) -> None:
        """Connect and register; `config` is that of the Rust client, as JSON: `{"masters": ["host:port", ...], ...}`.

        Raises: MooseError; UnavailableError, when no leader answers before the deadline.
        """
        super().__init__(lib.MNG_ROLE_CLIENT, config)

    def name(self, request: bytes) -> bytes:
        """Carry out one encoded NameRequest (`creds` and `op`); return the encoded NameReply.

        Raises: MooseError, as the masters refused it.
        """
        return self._call(_METHOD_NAME, request)

    def open(self, request: bytes, flags: int) -> tuple[int, bytes]:
        """Open (NameRequest with Open) or create (with Create) a file; `flags` as for os.open: O_APPEND, O_TRUNC, O_SYNC.

        Return the file's number and its encoded Attr. Raises: MooseError.
        """
        span = readable(request)
        reply = ffi.new("MngReply *")
        file = check(lib.mng_file_open(self.handle, span, len(span), flags, reply))
        return file, take_reply(reply)

    def read_into(self, file: int, offset: int, target: Writable) -> int:
        """Fill `target` from byte `offset`; return the bytes read, fewer than its length only at the end of the file."""
        span = writable(target)
        done = 0
        while done < len(span):
            count = check(lib.mng_file_read(self.handle, file, offset + done, span + done, len(span) - done))
            if count == 0:
                break
            done += count
        return done

    def write(self, file: int, offset: int, data: Readable) -> int:
        """Write all of `data` at byte `offset`; return its length. Safe only after `sync` or `close_file`."""
        span = readable(data)
        done = 0
        while done < len(span):
            done += check(lib.mng_file_write(self.handle, file, offset + done, span + done, len(span) - done))
        return done

    def append(self, file: int, data: Readable) -> int:
        """Write all of `data` at the end of the file; return the offset after it. Pieces of 1 MiB are not split."""
        span = readable(data)
        done, end = 0, 0
        while done < len(span):
            step = min(len(span) - done, _APPEND_BYTES)
            end = check(lib.mng_file_append(self.handle, file, span + done, step)) + step
            done += step
        return end

    def sync(self, file: int) -> None:
        """Return when everything written is on stable storage on all copies and the length is committed."""
        check(lib.mng_file_sync(self.handle, file))

    def close_file(self, file: int) -> None:
        """As `sync`, and give the file up, even when making it safe fails (which raises)."""
        check(lib.mng_file_close(self.handle, file))
