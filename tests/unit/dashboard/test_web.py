"""The web side over real sockets, without a cluster: who may ask, what is refused, headers, names, ranges."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooseng_py.dashboard.download import Unsatisfiable, span
from mooseng_py.dashboard.files import Files
from mooseng_py.dashboard.guard import HEADERS, Guard
from mooseng_py.dashboard.paths import BadRequest, checked, disposition, encoded, query, shown
from mooseng_py.dashboard.seen import Snapshot
from mooseng_py.dashboard.shared import Shared
from mooseng_py.dashboard.sources import parse_metrics
from mooseng_py.dashboard.web import Web, WebServer
from mooseng_py.observe.http import Pages
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer, probe

NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{found.getsockname()[1]}"
    pages = Pages(lambda: Answer(True, "alive"), lambda: Answer(False, "waits"), lambda reader: reader.encode())
    server = WebServer(
        where, Web(Snapshot, Files(), pages, browse=True, allowed_hosts=["moose.example.org"]), Log("test")
    )
    try:
        yield where
    finally:
        server.stop()


def ask(
    address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_every_answer_carries_the_headers_that_keep_a_browser_from_doing_more(address: str) -> None:
    for path in ("/", "/assets/app.js", "/api/overview", "/api/files", "/nothing", "/metrics"):
        _, headers, _ = ask(address, path)
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value, path
    assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]


def test_the_page_refers_to_nothing_but_its_own_files(address: str) -> None:
    import mooseng_py.dashboard

    folder = Path(mooseng_py.dashboard.__file__).with_name("page")
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert "innerHTML" not in text, path.name
        assert "insertAdjacent" not in text, path.name
        status, headers, body = ask(address, f"/assets/{path.name}")
        assert (status, body) == (200, path.read_bytes())
        assert ask(address, f"/assets/{path.name}", headers={"If-None-Match": headers["etag"]})[0] == 304
    assert ask(address, "/")[2] == (folder / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path",
    ["/assets/../daemon.py", "/assets/%2e%2e/daemon.py", "/assets/..%2fdaemon.py", "/assets//etc/passwd", "/daemon.py"],
)
def test_no_file_beside_the_pages_is_served(address: str, path: str) -> None:
    status, _, body = ask(address, path)
    assert status == 404
    assert b"daemon" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/../etc", "/a/../b", "/a/./b", "/%2e%2e/x", "/a/..", "relative", "", "/%00", "/a%00b", "/" + "x" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", ["/api/files", "/api/file", "/download"])
def test_a_path_that_is_not_plain_is_refused_before_anybody_is_asked(address: str, page: str, path: str) -> None:
    status, _, body = ask(address, f"{page}?path={path}")
    assert status == 400
    assert json.loads(body)["error"]


def test_files_without_a_session_are_unavailable_with_a_sentence(address: str) -> None:
    status, headers, body = ask(address, "/api/files?path=/")
    assert (status, headers["retry-after"]) == (503, "2")
    assert "no session" in json.loads(body)["error"]
    for _ in range(20):  # a refused download does not keep its place
        assert "no session" in json.loads(ask(address, "/download?path=/x")[2])["error"]


def test_wrong_numbers_are_refused(address: str) -> None:
    for words in ("limit=0", "limit=1001", "limit=-1", "limit=x", "after=1e3", "after=" + "9" * 30, "limit=%C2%B2"):
        assert ask(address, f"/api/files?path=/&{words}")[0] == 400, words


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(address: str, method: str) -> None:
    for path in ("/", "/api/files?path=/", "/api/file?path=/x", "/download?path=/x", "/api/overview", "/health/live"):
        assert ask(address, path, method)[0] == 405


def test_only_hosts_that_cannot_be_a_foreign_site_may_ask(address: str) -> None:
    for host in (
        "127.0.0.1:8080",
        "[::1]:8080",
        "localhost",
        "dashboard:8080",
        "10.0.0.1",
        "moose.example.org",
        "a.localhost",
    ):
        assert ask(address, "/api/overview", headers={"Host": host})[0] == 200, host
    for host in ("evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "", "."):
        assert ask(address, "/api/overview", headers={"Host": host})[0] in (400, 421), host
    assert not Guard(None).may_ask("moose.example.org")  # type: ignore[arg-type]  # the application is not asked


def test_health_and_metrics_are_those_of_every_daemon(address: str) -> None:
    assert probe(address, "live").good
    assert probe(address, "ready").reason == "waits"
    assert ask(address, "/health/ready")[0] == 503
    assert ask(address, "/metrics?reader=me")[2] == b"me"


def test_before_the_first_look_the_overview_says_so(address: str) -> None:
    found = json.loads(ask(address, "/api/overview")[2])
    assert found["verdict"]["state"] == "unknown"
    assert json.loads(ask(address, "/api/rates")[2])["at_ms"] == []
    assert json.loads(ask(address, "/api/events")[2])["events"] == []


def test_with_browse_off_no_file_is_shown() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{found.getsockname()[1]}"
    pages = Pages(lambda: Answer(True, ""), lambda: Answer(True, ""), lambda reader: b"")
    server = WebServer(where, Web(Snapshot, Files(), pages, browse=False, allowed_hosts=[]), Log("test"))
    try:
        for page in ("/api/files", "/api/file", "/download"):
            assert "browse" in json.loads(ask(where, f"{page}?path=/")[2])["error"]
        assert json.loads(ask(where, "/api/overview")[2])["browse"] is False
    finally:
        server.stop()


# ---- names -------------------------------------------------------------------------------------------------------------
@given(NAMES)
def test_any_name_goes_into_a_url_and_comes_back(name: bytes) -> None:
    path = b"/" + name
    text = encoded(path)
    assert text.isascii()
    found = query(f"path={text}&after=5".encode())
    if name in (b".", b".."):
        with pytest.raises(BadRequest):
            checked(found["path"])
    else:
        assert checked(found["path"]) == path


@given(NAMES)
def test_any_name_is_shown_as_printable_text_and_saved_under_a_safe_header(name: bytes) -> None:
    assert shown(name).isprintable()
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    plain = header.partition('filename="')[2].partition('"; ')[0]
    assert not set(plain) & set('"\\%')
    encoded_name = header.partition("filename*=UTF-8''")[2]
    assert unquote_to_bytes(encoded_name).decode() == name.decode("utf-8", "replace")


def test_text_that_turns_its_reading_direction_is_escaped() -> None:
    assert shown("a\u202egpj.exe\n".encode()) == "a\\u202egpj.exe\\x0a"


# ---- ranges --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None), ("bytes=0-", (0, 100)), ("bytes=10-19", (10, 20)), ("bytes=90-500", (90, 100)), ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)), ("bytes=5-4", None), ("bytes=0-1,5-6", None), ("items=0-5", None), ("bytes=-", None),
        ("bytes=x-y", None),
    ],
)  # fmt: skip
def test_a_range_is_understood_or_the_whole_file_is_sent(header: str | None, part: tuple[int, int] | None) -> None:
    assert span(header, 100) == part


def test_a_range_beyond_the_file_is_refused() -> None:
    for header, size in (("bytes=100-", 100), ("bytes=0-", 0), ("bytes=-0", 100), ("bytes=-5", 0)):
        with pytest.raises(Unsatisfiable):
            span(header, size)


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_range_header_is_within_the_file(text: str, size: int) -> None:
    try:
        part = span(f"bytes={text}", size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part[0] < part[1] <= size


# ---- load ----------------------------------------------------------------------------------------------------------------
def test_a_question_asked_by_many_at_once_is_asked_once_and_again_only_when_old() -> None:
    asked = 0
    lock = threading.Lock()

    def work() -> int:
        nonlocal asked
        time.sleep(0.05)
        with lock:
            asked += 1
            return asked

    async def scene() -> None:
        shared = Shared(width=4, fresh_s=0.3)
        assert set(await asyncio.gather(*(shared.ask("a", work) for _ in range(50)))) == {1}
        assert await shared.ask("a", work) == 1
        await asyncio.sleep(0.4)
        assert await shared.ask("a", work) == 2

    asyncio.run(scene())
    assert asked == 2


def test_one_who_leaves_takes_nobody_elses_answer_away_and_a_failure_is_not_kept() -> None:
    calls: list[int] = []

    def work() -> str:
        time.sleep(0.05)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not now")
        return "answer"

    async def scene() -> None:
        shared = Shared(width=1, fresh_s=10)
        first = asyncio.ensure_future(shared.ask("a", work))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(shared.ask("a", work))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(OSError, match="not now"):
            await second
        assert await shared.ask("a", work) == "answer"

    asyncio.run(scene())


def test_metrics_are_summed_over_their_labels_and_nonsense_is_passed_over() -> None:
    found = parse_metrics(
        "# HELP mooseng_master_ops_total x\n"
        'mooseng_master_ops_total{op="lookup"} 3.0\nmooseng_master_ops_total{op="create"} 4.0\n'
        'mooseng_node_info{role="mount",name="client-1",version="1"} 1.0\n'
        'mooseng_master_heals_total{result="ok"} 2.0\n'
        "mooseng_node_ready nonsense\nnothing\n\x00\nprocess_cpu_seconds_total 1.5e+01\n"
    )
    assert found.values == {
        "mooseng_master_ops_total": 7.0,
        "process_cpu_seconds_total": 15.0,
        "mooseng_node_ready": 0.0,
    }
    assert (found.role, found.version, found.heals) == ("client", "1", {"ok": 2.0})
