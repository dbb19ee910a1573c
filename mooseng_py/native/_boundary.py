"""The one door to the native library: loads it, checks that it fits, turns results into values and exceptions."""

from __future__ import annotations

import errno
import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mooseng_py.errors import MooseError, make_error

if TYPE_CHECKING:
    from typing import Protocol, TypeAlias

    from _typeshed import ReadableBuffer, WriteableBuffer

    class Array(Protocol):
        """A NumPy array: a buffer, which its types say only from Python 3.12 on."""

        @property
        def __array_interface__(self) -> dict[str, Any]: ...

    Readable: TypeAlias = ReadableBuffer | Array
    Writable: TypeAlias = WriteableBuffer | Array

LIBRARY = "mooseng_py.native._lib"

try:
    _library: Any = importlib.import_module(LIBRARY)
except ModuleNotFoundError as error:
    raise ImportError(
        "the native library of mooseng_py is not built; run `make build` in the checkout", name=LIBRARY
    ) from error

ffi: Any = _library.ffi
lib: Any = _library.lib

ABI_VERSION = 4
_ABI_FACTS = (ABI_VERSION, ffi.sizeof("MngReply"), ffi.sizeof("void *"))
_STILL_RUNNING = -errno.EINPROGRESS


def _require_abi() -> None:
    """Compare version and sizes with what this package was written for.

    Raises: ImportError, when the built library is another one.
    """
    facts = ffi.new("uint32_t[]", len(_ABI_FACTS))
    count = check(lib.mng_abi(facts, len(facts)))
    if count != len(_ABI_FACTS) or tuple(facts) != _ABI_FACTS:
        raise ImportError(
            f"the native library has ABI {tuple(facts)}, mooseng_py needs {_ABI_FACTS}; build it again with `make build`"
        )


def check(result: int) -> int:
    """The count that a call returned, once its operation is over. Blocks in slices, so that Ctrl-C works.

    Raises: MooseError, with the text of the library.
    """
    while result == _STILL_RUNNING:
        result = lib.mng_wait()
    if result < 0:
        raise last_error(-result)
    return result


def last_error(number: int) -> MooseError:
    """The exception for what failed last in this thread; `number` serves when the library kept no text."""
    size = lib.mng_last_error(ffi.NULL, 0)
    target = ffi.new("uint8_t[]", max(size, 1))
    lib.mng_last_error(target, size)
    text: dict[str, Any] = json.loads(bytes(ffi.buffer(target, size))) if size else {}
    if text.get("errno") != number:
        return make_error(number, 0, "")
    return make_error(
        number, text["kind"], text["message"], leader=text["leader"], failed_servers=text["failed_servers"]
    )


def readable(data: Readable) -> Any:
    """The bytes of `data` as a C array, without a copy; it holds `data` as long as it lives."""
    return ffi.from_buffer("uint8_t[]", data)


def writable(target: Writable) -> Any:
    """As `readable`, for filling. Raises: BufferError or TypeError, for what is read-only or not contiguous."""
    return ffi.from_buffer("uint8_t[]", target, require_writable=True)


def take_reply(reply: Any) -> bytes:
    """The bytes of an MngReply, which is freed."""
    try:
        return bytes(ffi.buffer(reply.data, reply.len)) if reply.len else b""
    finally:
        lib.mng_reply_free(reply)


def reply_of(call: Callable[[Any], int]) -> bytes:
    """The bytes that `call` puts into the reply it is given."""
    reply = ffi.new("MngReply *")
    check(call(reply))
    return take_reply(reply)


def json_span(config: object) -> Any:
    """`config` as JSON bytes in a C array."""
    return readable(json.dumps(config).encode())


_require_abi()
