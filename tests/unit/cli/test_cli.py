"""What the commands print, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mooseng_py.cli import connection, files
from mooseng_py.cli.main import main
from mooseng_py.cli.output import as_dict, size
from mooseng_py.cli.views import cluster_view, file_info
from mooseng_py.errors import NamespaceError, UnavailableError, make_error
from mooseng_py.local.layout import Layout
from mooseng_py.proto import cluster_pb2, common_pb2, name_pb2
from mooseng_py.sdk import FileSystem
from tests.unit.sdk.model import ModelClient

HERE = ["--masters", "127.0.0.1:1"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ModelClient:
    """Commands that connect find a file system in memory, the same one each time."""
    client = ModelClient()
    monkeypatch.setattr(client, "close", lambda: None)
    monkeypatch.setattr(connection.Where, "connect", lambda self, timeout_s=0: FileSystem(client, umask=0o022))
    return client


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_files_go_in_and_out(cluster: ModelClient, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"payload" * 1000)
    assert run(capsys, "mkdir", "/a/b", "-p", *HERE)[0] == 0
    assert run(capsys, "put", str(tmp_path / "in"), "/a", *HERE)[1].startswith("1 file, 6.8 KiB in ")
    assert run(capsys, "ls", "/a", *HERE)[1] == "b\nin\n"
    assert run(capsys, "get", "/a/in", str(tmp_path / "out"), *HERE)[0] == 0
    assert (tmp_path / "out").read_bytes() == b"payload" * 1000
    listing = json.loads(run(capsys, "ls", "/a", "--json", *HERE)[1])
    assert [(entry["name"], entry["type"], entry["st_size"]) for entry in listing] == [
        ("b", "directory", 4096),
        ("in", "file", 7000),
    ]
    assert "-rw" in run(capsys, "ls", "-l", "/a/in", *HERE)[1]
    assert (
        json.loads(run(capsys, "stat", "/a/in", "--json", *HERE)[1])["mode"]
        == f"{(tmp_path / 'in').stat().st_mode & 0o777:04o}"
    )
    assert json.loads(run(capsys, "rm", "-r", "/a", "--json", *HERE)[1]) == {"removed": ["/a"]}
    assert run(capsys, "ls", *HERE)[1] == ""


def test_trees_go_in_and_out(cluster: ModelClient, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "tree/sub/empty").mkdir(parents=True)
    (tmp_path / "tree/one").write_bytes(b"1")
    (tmp_path / "tree/sub/two").write_bytes(b"22")
    code, _, sentence = run(capsys, "put", str(tmp_path / "tree"), "/t", *HERE)
    assert (code, "--recursive" in sentence) == (1, True)
    report = json.loads(run(capsys, "put", "-r", str(tmp_path / "tree"), "/t", "--json", *HERE)[1])
    assert (report["files"], report["bytes"]) == (2, 3)
    assert run(capsys, "get", "/t", str(tmp_path / "back"), *HERE)[0] == 1
    assert run(capsys, "get", "-r", "/t", str(tmp_path / "back"), *HERE)[0] == 0
    done = subprocess.run(["diff", "-r", str(tmp_path / "tree"), str(tmp_path / "back")], check=False)
    assert done.returncode == 0


def test_a_dash_puts_standard_input(cluster: ModelClient, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        pipe.write(b"piped in")
    kept = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert run(capsys, "put", "-", "/piped", *HERE)[0] == 0
        code, _, sentence = run(capsys, "put", "-", "/", *HERE)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)
    assert (code, "needs the name of a file" in sentence) == (1, True)
    assert json.loads(run(capsys, "stat", "/piped", "--json", *HERE)[1])["st_size"] == len("piped in")


def test_cat_writes_bytes_as_they_are(cluster: ModelClient, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    content = os.urandom(3 << 20)
    with FileSystem(cluster) as fs:
        fs.write_bytes("/f", content)
    assert main(["cat", "/f", "/f", *HERE]) == 0
    assert capfdbinary.readouterr().out == content * 2


def test_failures_are_one_sentence_and_code_1(cluster: ModelClient, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["cat", "/none"], ["rm", "/none"], ["stat", "/none"], ["mkdir", "/a/b"], ["get", "/none"]):
        code, out, sentence = run(capsys, *words, *HERE)
        assert (code, out, sentence.count("\n")) == (1, "", 1), words
        assert sentence.startswith("mooseng: ")
    assert "local file" in run(capsys, "put", "/no/such/file", "/x", *HERE)[2]


def test_names_stay_on_their_line(cluster: ModelClient, capsys: pytest.CaptureFixture[str]) -> None:
    with FileSystem(cluster) as fs:
        fs.write_bytes("/two\nlines", b"")
        fs.write_bytes(b"/\xff", b"")
    assert run(capsys, "ls", *HERE)[1].splitlines() == ["two\\nlines", "\\udcff"]


def test_wrong_usage_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nonsense"], ["ls", "--nope"], ["cat"], ["stat", "/x", "--masters", "here"], []):
        assert run(capsys, *words)[0] == 2, words
    assert run(capsys, "--help")[0] == 0


def test_no_cluster_named_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOOSENG_MASTERS", raising=False)
    monkeypatch.delenv("MOOSENG_DIR", raising=False)
    code, _, sentence = run(capsys, "ls")
    assert (code, "--masters" in sentence, "--dir" in sentence) == (2, True, True)
    assert run(capsys, "ls", "--dir", str(tmp_path))[0] == 1
    layout = Layout(tmp_path / ".mooseng")
    layout.directory.mkdir()
    layout.write(layout.new("minimal", 700, {}))
    assert connection.where(None, None).masters == ("127.0.0.1:10121",)
    assert connection.where("a:1, b:2,", tmp_path).masters == ("a:1", "b:2")


def test_local_status_prints_every_node(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.write(layout.new("demo", 700, {}))
    found = json.loads(run(capsys, "local", "status", "--dir", str(tmp_path), "--json")[1])
    assert [node["name"] for node in found["nodes"]][::3] == ["master-1", "chunkserver-1", "client-1"]
    assert set(found["nodes"][0]) >= {"name", "role", "pid", "state", "addresses", "mount", "data_directories"}
    assert "master-1" in run(capsys, "local", "status", "--dir", str(tmp_path))[1]
    assert run(capsys, "local", "kill", "master-1", "--dir", str(tmp_path))[0] == 1
    assert "NODE.KEY=VALUE" in run(capsys, "local", "up", "--dir", str(tmp_path), "--set", "x")[2]
    assert json.loads(run(capsys, "local", "down", "--purge", "--dir", str(tmp_path), "--json")[1]) == {
        "killed": [],
        "purged": True,
    }


def test_views_come_from_the_newest_term(monkeypatch: pytest.MonkeyPatch) -> None:
    views = {
        "a": cluster_pb2.ClusterView(term=3, is_leader=True, leader_id=1),
        "b": cluster_pb2.ClusterView(term=4, leader_id=2),
        "c": cluster_pb2.ClusterView(term=4, is_leader=True, leader_id=2),
    }

    def ask(address: str, method: int, request: bytes, *, timeout_s: float) -> bytes:
        if address not in views:
            raise make_error(5, 2, f"{address} is silent")
        return views[address].SerializeToString()

    monkeypatch.setattr("mooseng_py.cli.views.ask", ask)
    view = cluster_view(connection.Where(("a", "b", "c", "d")), 1, with_sessions=False)
    assert (view.term, view.is_leader) == (4, True)
    with pytest.raises(UnavailableError, match="x is silent"):
        cluster_view(connection.Where(("x", "y")), 0.2, with_sessions=False)


def test_file_info_takes_the_leaders_answer_or_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = {
        "follower": common_pb2.Error(errno=11, kind=common_pb2.ERROR_UNAVAILABLE, message="not the leader"),
        "leader": common_pb2.Error(errno=2, kind=common_pb2.ERROR_NAMESPACE, message="no such file"),
    }

    def ask(address: str, method: int, request: bytes, *, timeout_s: float) -> bytes:
        if address == "good":
            return cluster_pb2.FileInfo(is_inline=True).SerializeToString()
        return cluster_pb2.FileInfo(error=refusals[address]).SerializeToString()

    monkeypatch.setattr("mooseng_py.cli.views.ask", ask)
    assert file_info(connection.Where(("follower", "good")), "/f", 1).is_inline
    with pytest.raises(NamespaceError) as caught:
        file_info(connection.Where(("follower", "leader")), "/f", 1)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == "/f"
    with pytest.raises(UnavailableError):
        file_info(connection.Where(("follower",)), "/f", 0.2)


def test_messages_become_plain_values_with_every_field() -> None:
    view = cluster_pb2.ClusterView(term=1 << 60, servers=[cluster_pb2.ServerView(server_id=1)])
    found = as_dict(view)
    assert (found["term"], found["missing"], found["leader"]) == (1 << 60, 0, "")
    assert found["servers"][0]["up"] is False
    assert as_dict(name_pb2.Attr(kind=name_pb2.FILE_DIRECTORY))["kind"] == "FILE_DIRECTORY"
    assert "error" not in as_dict(cluster_pb2.FileInfo())
    assert as_dict(cluster_pb2.Heartbeat(counters={"x": 1.5}))["counters"] == {"x": 1.5}
    json.dumps(as_dict(cluster_pb2.FileInfo(attr=name_pb2.Attr(inode=2))))


def test_sizes_are_for_people() -> None:
    assert [size(number) for number in (0, 1023, 1024, 5 << 20, 3 << 40, 5 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB", "5120.0 TiB",
    ]  # fmt: skip


def test_a_bar_is_shown_only_to_people_and_for_long_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with files._progress("short", 10) as step:
        assert step is None
    with files._progress("long", 1 << 30) as step:
        assert step is not None
        step(5)


def test_health_says_why_and_ends_with_0_or_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOOSENG_HTTP_LISTEN", raising=False)
    code, out, _ = run(capsys, "health", "--ready", "--url", "http://127.0.0.1:1")
    assert (code, "not ready" in out) == (1, True)
    file = tmp_path / "c.toml"
    file.write_text('http_listen = "127.0.0.1:1"\n')
    assert json.loads(run(capsys, "health", "--live", "--config", str(file), "--json")[1])["ok"] is False
    for words in (["--ready"], ["--ready", "--config", str(tmp_path / "none")], ["--ready", "--url", "nowhere"]):
        code, _, sentence = run(capsys, "health", *words)
        assert (code, sentence.count("\n")) == (2, 1)


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m mooseng_py.cli.main --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_a_library_that_is_not_built_is_one_sentence() -> None:
    script = (
        "import sys; sys.modules['mooseng_py.native._lib'] = None\n"
        "from mooseng_py.cli.main import main; sys.exit(main(['ls', '/', '--masters', '127.0.0.1:1']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("mooseng: the native library of mooseng_py is not built; run `make build`")
    assert done.stderr.count("\n") == 1
