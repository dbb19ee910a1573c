"""Checksums and aligned memory. Nothing here waits."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mooseng_py.native._boundary import check, ffi, last_error, lib, readable

if TYPE_CHECKING:
    from mooseng_py.native._boundary import Readable

ALIGN_BYTES = 4096


def crc32c(data: Readable) -> int:
    """CRC-32C (Castagnoli) of contiguous bytes. Source: RFC 3720, appendix B.4."""
    span = readable(data)
    return check(lib.mng_crc32c(span, len(span)))


def crc32c_combine(crc_a: int, crc_b: int, length_b: int) -> int:
    """CRC-32C of `a + b`, from the CRCs of both and the length of `b` in bytes."""
    return check(lib.mng_crc32c_combine(crc_a, crc_b, length_b))


class AlignedBuffer:
    """Zeroed memory at a multiple of 4096 from the library's pool, as O_DIRECT wants it. Owned by its maker.

    `view` is writable and shares the memory: `np.frombuffer(buffer.view, ...)` copies nothing. The memory goes back to
    the pool after `close`, but not before the last array or view of it is gone.
    """

    def __init__(self, length: int) -> None:
        """Raises: MooseError, for a length beyond the limit; ValueError, for one below 1."""
        if length < 1:
            raise ValueError(f"an aligned buffer needs at least 1 byte, not {length}")
        start = lib.mng_buffer_take(length)
        if start == ffi.NULL:
            raise last_error(22)
        # The chain view -> ffi.buffer -> gc pointer keeps the memory alive; the library gets it back at its end.
        owner: Any = ffi.gc(start, lib.mng_buffer_release, length)
        self._view: memoryview | None = memoryview(ffi.buffer(owner, length))
        self.address = int(ffi.cast("uintptr_t", start))

    @property
    def view(self) -> memoryview:
        """The bytes. Raises: ValueError, after `close`."""
        if self._view is None:
            raise ValueError("this aligned buffer is closed")
        return self._view

    def __len__(self) -> int:
        return len(self.view)

    def close(self) -> None:
        """Give the memory up. Arrays made from `view` stay valid and hold it until they go."""
        self._view = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
