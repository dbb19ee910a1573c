"""The native core for Python: the only package that imports the library. Spans go in and out without copies.

Every call may wait (the GIL is released) and raises the errors of `mooseng_py.errors`. After a fork every call is
refused with ECHILD: start worker processes with the spawn method.
"""

from mooseng_py.native._buffers import ALIGN_BYTES, AlignedBuffer, crc32c, crc32c_combine
from mooseng_py.native._log import start_log

__all__ = ["ALIGN_BYTES", "AlignedBuffer", "crc32c", "crc32c_combine", "start_log"]
