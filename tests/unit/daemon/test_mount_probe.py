"""The stat by which a client knows that its mount answers."""

from pathlib import Path

import pytest

from mooseng_py.mount import daemon


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that come before the machine's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def _stat_is(programs: Path, script: str) -> None:
    (programs / "stat").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "stat").chmod(0o755)


def test_a_stat_that_hangs_is_said_and_no_second_one_is_started(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_STAT_TIMEOUT_S", 0.2)
    _stat_is(programs, f"echo started >>{programs}/count; exec sleep 1")
    probe = daemon._StatProbe()
    assert "has not answered" in str(probe.ask("/"))
    assert "has not answered" in str(probe.ask("/"))
    assert (programs / "count").read_text() == "started\n"
    monkeypatch.setattr(daemon, "_STAT_TIMEOUT_S", 10)
    assert probe.ask("/") == "nothing of ours is mounted on /"


def test_a_stat_that_fails_is_said_with_its_reason() -> None:
    assert daemon._StatProbe().ask("/nowhere/at/all") == "a stat of /nowhere/at/all fails: No such file or directory"
