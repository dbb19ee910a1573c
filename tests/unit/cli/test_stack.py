"""`mooseng --stack NAME` finds a cluster from the outputs of its Pulumi stack."""

import json
from pathlib import Path

import pytest

from mooseng_py.cli import connection
from mooseng_py.cli.main import main

OUTPUTS = {
    "masters": {
        "master-2": {"frames": "127.0.0.1:9422", "http": "127.0.0.1:9442"},
        "master-1": {"frames": "127.0.0.1:9421", "http": "127.0.0.1:9441"},
    }
}


def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A command of that name on PATH, in place of the real one."""
    path = tmp_path / "pulumi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[connection.Where]:
    """The clusters that `status` asked; none answers."""
    found: list[connection.Where] = []

    def view(where: connection.Where, *_: object, **__: object) -> None:
        found.append(where)
        raise OSError(5, "nobody answers")

    monkeypatch.setattr("mooseng_py.cli.cluster.cluster_view", view)
    return found


def test_the_masters_are_those_of_the_stacks_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[connection.Where]
) -> None:
    pulumi(tmp_path, monkeypatch, f"""[ "$8" = demo ] || exit 9; echo '{json.dumps(OUTPUTS)}'""")
    assert main(["--stack", "demo", "status"]) == 1
    assert asked == [connection.Where(("127.0.0.1:9421", "127.0.0.1:9422"))]


def test_a_stack_named_once_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[connection.Where]
) -> None:
    pulumi(tmp_path, monkeypatch, f"echo '{json.dumps(OUTPUTS)}'")
    main(["--stack", "demo", "status"])
    main(["status", "--masters", "127.0.0.1:1"])
    assert asked[-1] == connection.Where(("127.0.0.1:1",))


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo '{}'", "stack 'demo' has no masters in its outputs"),
        ("echo '[]'", "stack 'demo' has no masters in its outputs"),
        ("echo nonsense", "is not JSON"),
        (
            "echo 'warning: x' >&2; echo 'error: no stack named demo' >&2; exit 255",
            "cannot be read: no stack named demo",
        ),
    ],
)
def test_a_stack_that_cannot_be_used_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, sentence: str
) -> None:
    pulumi(tmp_path, monkeypatch, script)
    assert main(["--stack", "demo", "status"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_without_pulumi_the_way_to_get_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--stack", "demo", "status"]) == 2
    assert "no pulumi is on PATH" in capsys.readouterr().err
