"""The chunk store of one chunkserver, for benchmarks and tests; and the plain loop it is measured against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mooseng_py.native._boundary import check, lib, readable, writable
from mooseng_py.native._objects import NativeObject

if TYPE_CHECKING:
    from mooseng_py.native._boundary import Readable, Writable


class ChunkStore(NativeObject):
    """Chunks on local disks. Blocks its thread like any file I/O."""

    def __init__(
        self,
        disks: Sequence[str | os.PathLike[str]],
        *,
        server_id: int = 1,
        cluster_id: str = "local",
        direct_io: Literal["auto", "on", "off"] = "auto",
        reserve_bytes: int = 0,
    ) -> None:
        """Open `disks`, one directory each; empty ones are formatted.

        Raises: MooseError, for disks of another cluster or server, or that cannot be used.
        """
        super().__init__(
            lib.MNG_ROLE_STORE,
            {
                "disks": [os.fspath(disk) for disk in disks],
                "server_id": server_id,
                "cluster_id": cluster_id,
                "direct_io": direct_io,
                "reserve_bytes": reserve_bytes,
            },
        )

    def write(self, chunk: int, version: int, offset: int, data: Readable) -> int:
        """Write `data` at byte `offset`, creating the chunk when it is missing; return the bytes the chunk then holds.

        Raises: StaleError, for a version below the stored one; NamespaceError (ENOSPC, EINVAL).
        """
        span = readable(data)
        return check(lib.mng_store_write(self.handle, chunk, version, offset, span, len(span)))

    def read(self, chunk: int, version: int, offset: int, target: Writable) -> int:
        """Fill `target` from byte `offset`; bytes never written are zeros. Returns its length.

        Raises: NamespaceError (ENOENT), StaleError, IntegrityError.
        """
        span = writable(target)
        return check(lib.mng_store_read(self.handle, chunk, version, offset, span, len(span)))

    def sync(self, chunk: int, version: int) -> int:
        """Make what was written to the chunk stable; return the bytes it holds."""
        return check(lib.mng_store_sync(self.handle, chunk, version))


def plain_loop(directory: str | os.PathLike[str], data: Readable, *, direct: bool) -> float:
    """Seconds to write and sync `data` (steps of 1 MiB) in `directory`, past the page cache when `direct`.

    Raises: MooseError (EINVAL), for `direct` with data that is not aligned; use `AlignedBuffer`.
    """
    name, span = readable(os.fspath(directory).encode()), readable(data)
    return check(lib.mng_plain_loop(name, len(name), span, len(span), int(direct))) / 1e9
