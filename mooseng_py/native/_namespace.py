"""The name space's state machine by itself: no cluster, no clock, no disk. For model tests and benchmarks."""

from __future__ import annotations

from mooseng_py.native._boundary import lib
from mooseng_py.native._objects import NativeObject


class NameSpaceState(NativeObject):
    """A fresh, empty state. The same commands give the same state, always."""

    def __init__(self) -> None:
        super().__init__(lib.MNG_ROLE_NAME_SPACE, {})

    def apply(self, command: bytes) -> bytes:
        """Carry out an encoded Command; return the encoded NameReply or AdminReply, which carries any refusal.

        Raises: MooseError, only for bytes that are no Command.
        """
        return self._call(lib.MNG_METHOD_APPLY, command)

    def query(self, request: bytes) -> bytes:
        """Answer an encoded NameRequest that only reads; return the encoded NameReply."""
        return self._call(lib.MNG_METHOD_QUERY, request)
