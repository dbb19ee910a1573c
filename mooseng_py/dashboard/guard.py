"""Around every answer: who may ask, the headers that keep a browser from doing more, and errors as one JSON sentence."""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooseng_py.errors import IntegrityError, MooseError, NamespaceError

# Nothing but our own files, no inline code or style, no frames, no forms: a name that slipped in as HTML could do nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses foreign host names, adds the headers."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if not self.may_ask(host):
            refused = error(421, "this host name is not among allowed_hosts; ask by address, or add it to the settings")
            await refused(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def may_ask(self, host: str) -> bool:
        """A browser names the site that it believes to be on. A foreign one may lead here by its own name (DNS rebinding)."""
        name = host.lower()
        name = name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]
        if name in self._allowed:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            # Nobody can own a name without dots, and localhost's are this machine.
            return bool(name) and ("." not in name or name.endswith(".localhost"))
        return True


def error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)


_STATUS = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
}


def refusal(refused: MooseError) -> Response:
    """What the file system said, as a status and a sentence."""
    number = refused.errno or errno.EIO
    sentence = refused.strerror or os.strerror(number)
    if isinstance(refused, NamespaceError):
        return error(_STATUS.get(number, 400), sentence)
    if isinstance(refused, IntegrityError):
        return error(502, sentence)
    return error(503, sentence, {"Retry-After": "2"})
