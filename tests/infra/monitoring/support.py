"""A real Prometheus for tests: found or fetched by tools/get-prometheus, run by hand, gone afterwards."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mooseng_py.demo.harness import wait_until

ROOT = Path(__file__).parents[3]
RULES = ROOT / "infra" / "monitoring" / "prometheus" / "rules.yml"


@cache
def folder() -> Path:
    """Where `prometheus` and `promtool` are. Raises: CalledProcessError when there are none to be had."""
    found = subprocess.run([ROOT / "tools" / "get-prometheus"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(found.stdout.strip())


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder() / "promtool", *arguments], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Prometheus:
    """Asked over HTTP."""

    address: str

    def get(self, page: str, **parameters: str) -> Any:
        """The data of an answer. Raises: OSError; AssertionError with Prometheus' own words for a query it refuses."""
        url = f"http://{self.address}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{page} {parameters}: {error.read().decode()}") from None

    def result(self, expression: str) -> list[dict[str, Any]]:
        """An expression's value now: one entry for each series."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def without_data(self, expressions: Iterable[str]) -> list[str]:
        """Which of these give nothing now."""
        return [expression for expression in expressions if not self.result(expression)]

    def never_seen(self, series: Iterable[str]) -> list[str]:
        """Which of these nobody has emitted since this Prometheus started."""
        names = set(self.get("label/__name__/values"))
        return sorted(name for name in series if name not in names)

    def alerts(self, state: str) -> set[tuple[str, str]]:
        """Name and instance of the alerts in this state."""
        return {
            (found["labels"]["alertname"], found["labels"].get("instance", ""))
            for found in self.get("alerts")["alerts"]
            if found["state"] == state
        }


@contextlib.contextmanager
def running(config: str, directory: Path) -> Iterator[Prometheus]:
    """A Prometheus with this configuration, ready; ended and waited for afterwards."""
    directory.mkdir()
    (directory / "prometheus.yml").write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                folder() / "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, (directory / "log").read_text()[-2000:]
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)

        wait_until("Prometheus is ready", ready, timeout_s=20)
        yield Prometheus(address)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
