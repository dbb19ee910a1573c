"""The table of mutants does not rot: every patch applies, says what it breaks, and stands in the document."""

import subprocess
from pathlib import Path

import pytest

from tests.mutants import run

PATCHES = sorted(run.HERE.glob("*.patch"))
# Where the rules of the data path live.
ROOMS = (
    "chunk/src/slot/",
    "chunk/src/write.rs",
    "chunkserver/src/chain.rs",
    "chunkserver/src/copy.rs",
    "chunkserver/src/requests.rs",
    "client/src/file/",
    "master/src/copies.rs",
    "master/src/intents.rs",
    "meta/src/ops/",
    "raft/src/log/",
    "raft/src/receive.rs",
    "raft/src/vote.rs",
)


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_mutant_applies_and_says_what_it_breaks_and_what_notices(path: Path) -> None:
    mutant = run.read(path)
    assert mutant.what
    assert mutant.dies_by
    checked = subprocess.run([*run.APPLY, "--check", path], cwd=run.ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_three_rules_or_more_of_each_room_of_the_data_path_are_broken(room: str) -> None:
    assert sum(f"\n+++ b/native/{room}" in path.read_text() for path in PATCHES) >= 3


def test_the_document_lists_every_mutant() -> None:
    document = run.DOCUMENT.read_text()
    assert document == run.with_table(document), "write it anew: tests/mutants/run.py --table"


def test_a_cargo_command_needs_no_manifest() -> None:
    assert run.complete("cargo test -p a x::") == "cargo test --manifest-path native/Cargo.toml -p a x::"
    assert "package.mooseng-raft.opt-level=0" in run.complete("cargo test --release -p mooseng-raft --lib vote::")
    assert run.complete("cargo test --manifest-path b") == "cargo test --manifest-path b"


def test_what_is_built_first_is_what_the_command_runs() -> None:
    manifest = "--manifest-path native/Cargo.toml"
    assert run.builds("cargo test --release -p a --lib x -- --exact", True) == [
        f"cargo test {manifest} --release -p a --lib x --no-run"
    ]
    assert run.builds("SEEDS=9 cargo run --release -p sim -- 1 2", True) == [f"cargo build {manifest} --release -p sim"]
    assert run.builds(".venv/bin/python -m pytest tests/x.py", False) == []
    assert run.builds(".venv/bin/python -m pytest tests/x.py", True) == [
        f"cargo build {manifest} --release --locked -p mooseng-ffi"
    ]


def test_a_head_without_its_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.patch"
    path.write_text("what: a rule\n\ndiff --git a/x b/x\ndies by: nothing\n")
    with pytest.raises(ValueError, match="dies by"):
        run.read(path)
