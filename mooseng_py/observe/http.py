"""The HTTP side of every daemon: /health/live, /health/ready, /metrics. Reads only; changes nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .probe import Answer

CONTENT_JSON = "application/json"
CONTENT_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """Serves until `stop`; its threads never keep the process alive."""

    def __init__(
        self, address: str, *, live: Callable[[], Answer], ready: Callable[[], Answer], metrics: Callable[[], bytes]
    ) -> None:
        """Raises: OSError when the address cannot be bound."""
        host, _, port = address.rpartition(":")
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/health/live": lambda: _verdict(live()),
            "/health/ready": lambda: _verdict(ready()),
            "/metrics": lambda: (200, CONTENT_METRICS, metrics()),
        }

        class Handler(_Handler):
            routes = pages

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


class _Handler(BaseHTTPRequestHandler):
    routes: dict[str, Callable[[], tuple[int, str, bytes]]] = {}
    timeout = 10

    def do_GET(self) -> None:
        page = self.routes.get(self.path.partition("?")[0])
        if page is None:
            status, kind, body = (
                404,
                CONTENT_JSON,
                json.dumps({"reason": f"there is only {', '.join(self.routes)}"}).encode() + b"\n",
            )
        else:
            try:
                status, kind, body = page()
            except Exception as error:  # noqa: BLE001  # the page's fault must reach the asker, not end the thread silently
                status, kind, body = (
                    500,
                    CONTENT_JSON,
                    json.dumps({"reason": f"{type(error).__name__}: {error}"}).encode() + b"\n",
                )
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Health checks come every second: they are not logged."""
