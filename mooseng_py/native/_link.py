"""A connection to one daemon over frames, without a session: for questions that any node answers."""

from __future__ import annotations

from mooseng_py.native._boundary import lib
from mooseng_py.native._objects import NativeObject


class Link(NativeObject):
    """Connected and greeted when it is made; the library checks protocol and cluster, as between daemons."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        """Connect to `address` (host:port).

        Raises: MooseError; UnavailableError when nothing answers within `timeout_s`.
        """
        super().__init__(lib.MNG_ROLE_LINK, {"address": address, "timeout_ms": max(1, int(timeout_s * 1000))})

    def call(self, method: int, message: bytes) -> bytes:
        """One request, protobuf in and out; `method` as in FORMAT.md, "Frame".

        Raises: MooseError, as the other side refuses it; UnavailableError when there is no answer in time.
        """
        return self._call(method, message)
