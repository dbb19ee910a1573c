"""A dashboard as a browser meets it: over HTTP, bytes as they are."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mooseng_py.demo.harness import Cluster, wait_until


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of a local cluster."""

    cluster: Cluster
    address: str

    @property
    def origin(self) -> str:
        return f"http://{self.address}"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        host, _, port = self.address.partition(":")
        return http.client.HTTPConnection(host, int(port), timeout=20)

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def overview(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("/api/overview")
        return found

    def node(self, name: str) -> dict[str, Any]:
        found = self.overview()
        rows: list[dict[str, Any]] = [*found["masters"], *found["chunkservers"], *found["clients"]]
        return next(row for row in rows if row["name"] == name)

    def events(self) -> list[str]:
        """Newest first."""
        return [event["text"] for event in self.json("/api/events")["events"]]

    def until(self, what: str, check: Callable[[dict[str, Any]], Any], timeout_s: float = 30) -> dict[str, Any]:
        """The first overview for which `check` holds."""

        def found() -> dict[str, Any] | None:
            now = self.overview()
            return now if check(now) else None

        return wait_until(what, found, timeout_s, every_s=0.1) or {}

    def until_well(self) -> dict[str, Any]:
        return self.until("all is well", lambda now: now["verdict"]["state"] == "good", timeout_s=60)

    def pid(self) -> int:
        return int(self.cluster.node("dashboard")["pid"])


def url_path(path: bytes) -> str:
    return quote(path)


def resident_kib(pid: int, key: str = "VmHWM") -> int:
    """Peak memory of a process so far. Source: proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no {key}")
