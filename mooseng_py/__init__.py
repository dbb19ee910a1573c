"""MooseNG: a distributed file system that a Python team starts, mounts and imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mooseng_py.sdk import FileSystem, connect

__all__ = ["FileSystem", "__version__", "connect"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # The native library is loaded by the first use, so that importing this package costs nothing.
    if name in ("connect", "FileSystem"):
        from mooseng_py import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
