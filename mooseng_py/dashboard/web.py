"""The web side: the page, the JSON behind it, downloads, health and metrics. GET only; nothing here changes the cluster."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mooseng_py.errors import MooseError
from mooseng_py.observe.http import Pages
from mooseng_py.observe.logs import Log

from . import overview
from .download import Download, Unsatisfiable, opened, span
from .files import MOST_ENTRIES, Files
from .guard import Guard, error, refusal
from .paths import BadRequest, checked, query
from .seen import Snapshot
from .shared import Shared

_PAGE = Path(__file__).with_name("page")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_DOWNLOADS = 8
_MOST_NAME_QUESTIONS = 4
_NAMES_FRESH_S = 1.0


class Web:
    """The application. `snapshot` gives what is known now; `files` reads on request."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], files: Files, pages: Pages, *, browse: bool, allowed_hosts: list[str]
    ) -> None:
        self._snapshot, self._files, self._pages, self._browse = snapshot, files, pages, browse
        self._assets = {path.name: _asset(path) for path in sorted(_PAGE.iterdir()) if path.suffix in _KINDS}
        self._shared = Shared(_MOST_NAME_QUESTIONS, _NAMES_FRESH_S)
        self._downloads = 0
        routes = [
            Route("/", self._index),
            Route("/assets/{name}", self._asset),
            Route("/api/overview", self._overview),
            Route("/api/rates", self._rates),
            Route("/api/events", self._events),
            Route("/api/files", self._listing),
            Route("/api/file", self._about),
            Route("/download", self._download),
            *(Route(path, self._daemon) for path in ("/health/live", "/health/ready", "/metrics")),
        ]
        refusals: dict[Any, Any] = {
            BadRequest: lambda request, refused: error(400, str(refused)),
            MooseError: lambda request, refused: refusal(refused),
            404: lambda request, refused: error(404, "there is no such page; docs/dashboard.md lists what there is"),
            405: lambda request, refused: error(405, "only GET and HEAD: this dashboard changes nothing"),
            500: lambda request, refused: error(500, f"{type(refused).__name__}: {refused}"),
        }
        self.app = Guard(Starlette(routes=routes, exception_handlers=refusals), allowed_hosts)

    # ---- the page --------------------------------------------------------------------------------------------------
    async def _index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    async def _asset(self, request: Request) -> Response:
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        if (found := self._assets.get(name)) is None:
            return error(404, "there is no such file")
        content, kind, tag = found
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    # ---- the cluster -----------------------------------------------------------------------------------------------
    async def _overview(self, request: Request) -> Response:
        found = overview.overview(self._snapshot(), time.monotonic())
        return JSONResponse({**found, "browse": self._browse})

    async def _rates(self, request: Request) -> Response:
        return JSONResponse(overview.rates(self._snapshot()))

    async def _events(self, request: Request) -> Response:
        return JSONResponse(overview.events(self._snapshot()))

    # ---- files -----------------------------------------------------------------------------------------------------
    def _path(self, request: Request) -> tuple[bytes, dict[str, str]]:
        """Raises: BadRequest."""
        if not self._browse:
            raise BadRequest("files are not shown here: the setting browse is off")
        given = query(request.scope["query_string"])
        return checked(given.get("path", "/")), given

    async def _listing(self, request: Request) -> Response:
        path, given = self._path(request)
        after, limit = _number(given, "after", 0), _number(given, "limit", 500)
        if not 1 <= limit <= MOST_ENTRIES:
            raise BadRequest(f"limit must be within 1-{MOST_ENTRIES}")
        work = partial(self._files.listing, path, after, limit)
        return JSONResponse(await self._shared.ask(("listing", path, after, limit), work))

    async def _about(self, request: Request) -> Response:
        path, given = self._path(request)
        first = _number(given, "chunk", 0)
        work = partial(self._files.about, path, first, self._snapshot)
        return JSONResponse(await self._shared.ask(("about", path, first), work))

    async def _download(self, request: Request) -> Response:
        path, _ = self._path(request)
        if self._downloads >= _MOST_DOWNLOADS:
            busy = f"{_MOST_DOWNLOADS} downloads are under way; try again when one has ended"
            return error(503, busy, {"Retry-After": "5"})
        self._downloads += 1
        try:
            source = await to_thread.run_sync(partial(opened, self._files, path))
        except BaseException:
            self._downloads -= 1
            raise
        tag = request.headers.get("if-range")
        wanted = request.headers.get("range") if tag in (None, source.tag) else None
        try:
            part = span(wanted, source.size)
        except Unsatisfiable as refused:
            await to_thread.run_sync(source.file.close)
            self._ended()
            return error(416, str(refused), {"Content-Range": f"bytes */{refused.size}"})
        return Download(source, part, self._ended)

    def _ended(self) -> None:
        self._downloads -= 1

    # ---- as every daemon -------------------------------------------------------------------------------------------
    async def _daemon(self, request: Request) -> Response:
        found = await to_thread.run_sync(self._pages.serve, request.url.path, request.url.query)
        status, kind, body = found or (404, "application/json", b"{}")
        return Response(body, status, headers={"Content-Type": kind})


class _Lines(logging.Handler):
    """What the server has to say, a line each in the daemon's own log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        at = traceback.extract_tb(error.__traceback__)[-1] if error is not None and error.__traceback__ else None
        where = f" at {Path(at.filename).name}:{at.lineno}" if at else ""
        fields = {} if error is None else {"reason": f"{type(error).__name__}: {error}{where}"}
        self._log.warn(record.getMessage().strip().partition("\n")[0], **fields)


class WebServer:
    """Serves the application in a thread until `stop`."""

    def __init__(self, address: str, web: Web, log: Log) -> None:
        """Raises: OSError when the address cannot be bound."""
        for name in ("uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [_Lines(log)], False
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, int(port)), family=family, backlog=128)
        config = uvicorn.Config(
            web.app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Pages keep a connection or two each; a flood must not fill memory.
            limit_concurrency=256,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No request is accepted afterwards; downloads under way end after a moment."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def _asset(path: Path) -> tuple[bytes, str, str]:
    content = path.read_bytes()
    return content, _KINDS[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _number(given: dict[str, str], key: str, default: int) -> int:
    text = given.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest(f"{key} must be a number")
    return int(text)
