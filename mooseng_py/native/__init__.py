"""The native core for Python: the only package that imports the library. Spans go in and out without copies.

Every call may wait (the GIL is released) and raises the errors of `mooseng_py.errors`. After a fork every call is
refused with ECHILD: start worker processes with the spawn method.
"""

from typing import TYPE_CHECKING

from mooseng_py.native._buffers import (
    ALIGN_BYTES,
    AlignedBuffer,
    crc32c,
    crc32c_combine,
)
from mooseng_py.native._client import Client
from mooseng_py.native._facts import LIMITS, OPERATIONS, check_settings, method
from mooseng_py.native._link import Link
from mooseng_py.native._log import start_log
from mooseng_py.native._namespace import NameSpaceState
from mooseng_py.native._nodes import Node, NodeRole
from mooseng_py.native._objects import NativeObject
from mooseng_py.native._peaks import Metric
from mooseng_py.native._store import ChunkStore, plain_loop

if TYPE_CHECKING:
    from mooseng_py.native._boundary import Readable as Readable
    from mooseng_py.native._boundary import Writable as Writable

__all__ = [
    "ALIGN_BYTES",
    "LIMITS",
    "OPERATIONS",
    "AlignedBuffer",
    "ChunkStore",
    "Client",
    "Link",
    "Metric",
    "NameSpaceState",
    "NativeObject",
    "Node",
    "NodeRole",
    "check_settings",
    "crc32c",
    "crc32c_combine",
    "method",
    "plain_loop",
    "start_log",
]
