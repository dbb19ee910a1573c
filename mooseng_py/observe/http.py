"""The HTTP side of every daemon: /health/live, /health/ready, /metrics. Reads only; changes nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from .probe import Answer

CONTENT_JSON = "application/json"
CONTENT_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Pages:
    """What every daemon shows. `metrics` takes the reader's name, see `reader_of`."""

    live: Callable[[], Answer]
    ready: Callable[[], Answer]
    metrics: Callable[[str], bytes]

    def serve(self, path: str, query: str) -> tuple[int, str, bytes] | None:
        """Status, content type and body of a page; None when there is no such page. Never raises."""
        try:
            if path == "/health/live":
                return _verdict(self.live())
            if path == "/health/ready":
                return _verdict(self.ready())
            if path == "/metrics":
                return 200, CONTENT_METRICS, self.metrics(reader_of(query))
        except Exception as error:  # noqa: BLE001  # the page's fault must reach the asker, not end the thread silently
            return 500, CONTENT_JSON, _reason(f"{type(error).__name__}: {error}")
        return None


def reader_of(query: str) -> str:
    """Who reads metrics, as `?reader=NAME` says: maxima are since that reader's last look."""
    return parse_qs(query).get("reader", [""])[-1][:32]


class HealthServer:
    """Serves until `stop`; its threads never keep the process alive."""

    def __init__(self, address: str, given: Pages) -> None:
        """Raises: OSError when the address cannot be bound."""
        host, _, port = address.rpartition(":")

        class Handler(_Handler):
            pages = given

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True
            # Scrapers and health checks only; a flood must not fill memory with connections.
            request_queue_size = 64

            def server_bind(self) -> None:
                # Without the reverse name lookup of HTTPServer, which can wait for a name server.
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = host, int(port)

        self._server = Server((host.strip("[]"), int(port)), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No request is accepted afterwards."""
        self._server.shutdown()
        self._server.server_close()


def _verdict(answer: Answer) -> tuple[int, str, bytes]:
    # "answers well" under its own key, whatever the details hold.
    body: dict[str, Any] = {**answer.details, "ok": answer.good, "reason": answer.reason}
    return (200 if answer.good else 503), CONTENT_JSON, json.dumps(body).encode() + b"\n"


def _reason(text: str) -> bytes:
    return json.dumps({"reason": text}).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    pages: Pages
    timeout = 10

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        nothing = 404, CONTENT_JSON, _reason("there is only /health/live, /health/ready, /metrics")
        status, kind, body = self.pages.serve(path, query) or nothing
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Health checks come every second: they are not logged."""
