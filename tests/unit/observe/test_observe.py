"""Logs, health pages, metrics: what a daemon shows of itself."""

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mooseng_py
from mooseng_py.observe import registry
from mooseng_py.observe.http import HealthServer, Pages
from mooseng_py.observe.logs import Log
from mooseng_py.observe.metrics import Page
from mooseng_py.observe.probe import Answer, probe

NATIVE = Path(mooseng_py.__file__).parents[1] / "native"


def free_address() -> str:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe_socket.getsockname()[1]}"


class Served:
    def __init__(self) -> None:
        self.address = free_address()
        self.answer = Answer(True, "fine", {"role": "test", "term": 3})
        self.page = b"# nothing\n"
        self.reader = ""

    def metrics(self, reader: str) -> bytes:
        self.reader = reader
        if not self.page:
            raise RuntimeError("no page")
        return self.page


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()
    pages = Pages(lambda: Answer(True, "alive"), lambda: state.answer, state.metrics)
    server = HealthServer(state.address, pages)
    yield state
    server.stop()


def get(address: str, path: str) -> tuple[int, bytes]:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_a_ready_daemon_answers_200_with_its_reason_and_details(served: Served) -> None:
    assert probe(served.address) == Answer(True, "fine", {"role": "test", "term": 3, "ok": True, "reason": "fine"})
    assert get(served.address, "/health/ready")[0] == 200


def test_a_daemon_that_is_not_ready_answers_503_with_the_reason(served: Served) -> None:
    served.answer = Answer(False, "waits for masters")
    assert get(served.address, "/health/ready")[0] == 503
    assert probe(served.address).reason == "waits for masters"
    assert probe(served.address, "live").good


def test_a_page_that_fails_says_why_and_the_server_goes_on(served: Served) -> None:
    served.page = b""
    status, body = get(served.address, "/metrics")
    assert status == 500
    assert b"no page" in body
    assert get(served.address, "/nothing")[0] == 404
    assert probe(served.address).good


def test_a_reader_of_metrics_may_say_who_it_is(served: Served) -> None:
    assert get(served.address, "/metrics?reader=dashboard")[0] == 200
    assert served.reader == "dashboard"
    assert get(served.address, "/metrics")[0] == 200
    assert served.reader == ""


def test_nobody_and_strangers_are_not_ready() -> None:
    assert "no answer" in probe(free_address()).reason
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            connection, _ = stranger.accept()
            connection.recv(100)
            connection.sendall(b"SSH-2.0\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert not probe(f"127.0.0.1:{stranger.getsockname()[1]}").good
        thread.join()


def test_log_lines_are_one_line_each_in_both_formats(capfd: pytest.CaptureFixture[str]) -> None:
    Log("part", "console").warn("two\nlines", node="master-1")
    Log("part", "json").error("failed", count=3)
    Log("part", "json", "error").info("not shown")
    console, formatted = capfd.readouterr().err.splitlines()
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z  WARN part: two \| lines node='master-1'$", console)
    assert json.loads(formatted)["message"] == "failed"
    assert json.loads(formatted)["level"] == "ERROR"
    assert json.loads(formatted)["count"] == 3


def test_samples_become_families_with_the_registrys_kind_and_help() -> None:
    page = Page(
        lambda: [
            ("mooseng_chunkserver_ops_total", [("op", "read")], 3.0),
            ("mooseng_chunkserver_op_seconds_sum", [("op", "read")], 0.5),
            ("mooseng_chunkserver_op_seconds_count", [("op", "read")], 3.0),
            ("mooseng_chunkserver_op_seconds_max", [("op", "read")], 0.4),
            ("mooseng_surprise", [], 1.0),
        ]
    )
    families = {family.name: family for family in text_string_to_metric_families(page.render().decode())}
    assert families["mooseng_chunkserver_ops"].type == "counter"
    seconds = families["mooseng_chunkserver_op_seconds"]
    assert (seconds.type, {sample.name[-4:]: sample.value for sample in seconds.samples}) == (
        "summary",
        {"ount": 3.0, "_sum": 0.5},
    )
    assert families["mooseng_chunkserver_op_seconds_max"].type == "gauge"
    assert "registry" in families["mooseng_surprise"].documentation
    assert "process_cpu_seconds" in families


def test_every_metric_named_in_native_code_is_in_the_registry() -> None:
    named = set()
    for source in NATIVE.glob("*/src/**/*.rs"):
        named |= set(re.findall(r'"(mooseng_[a-z0-9_]+)"', source.read_text()))
    named = {
        name for name in named if name.split("_")[1] in ("master", "raft", "chunkserver", "client", "fuse", "chunk")
    }
    assert named
    assert {name for name in named if registry.find(name) is None} == set()


def test_every_metric_of_the_registry_is_named_by_code() -> None:
    sources = [*NATIVE.glob("*/src/**/*.rs"), *Path(mooseng_py.__file__).parent.glob("**/*.py")]
    text = "\n".join(path.read_text() for path in sources if path.name != "registry.py")
    ours = {name for name in registry.METRICS if name.startswith("mooseng_")}
    assert {name for name in ours if f'"{name}' not in text} == set()


def test_the_process_metrics_of_the_registry_are_those_that_a_page_shows() -> None:
    shown = {family.name: family for family in text_string_to_metric_families(Page(list).render().decode())}
    listed = {name.removesuffix("_total") for name in registry.METRICS if name.startswith("process_")}
    assert listed == {name for name in shown if name.startswith("process_")}


def test_names_carry_their_unit_last() -> None:
    for metric in registry.METRICS.values():
        base = metric.name.removesuffix("_total").removesuffix("_max")
        assert not metric.unit or base.endswith("_" + metric.unit), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name


def test_importing_a_daemon_loads_nothing_that_is_slow() -> None:
    import subprocess
    import sys

    slow = (
        "typer",
        "rich",
        "grpc",
        "prometheus_client",
        "structlog",
        "asyncio",
        "starlette",
        "uvicorn",
        "google.protobuf",
        "hypothesis",
    )
    code = (
        "import sys, mooseng_py.cli.main, mooseng_py.mount.daemon, mooseng_py.chunkserver.daemon, mooseng_py.master.daemon, mooseng_py.dashboard.daemon;"
        f"print([name for name in {slow!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
