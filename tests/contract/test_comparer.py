"""The comparer of random calls notices a file system that answers otherwise, and its actors are who they are said to be."""

from pathlib import Path

import pytest

from tests.contract.comparer import Call, Differ, Program, World, compare


def test_a_file_system_that_answers_otherwise_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "other", "third"):
        (tmp_path / name).mkdir()
    one, other, third = ((tmp_path / name, tmp_path / name) for name in ("one", "other", "third"))
    assert compare(1, one, other) > 10
    # What is there already on one of them makes the first call differ.
    with pytest.raises(Differ, match="seed 1"):
        compare(1, one, third)


def test_actors_are_who_they_are_said_to_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    world = World((tmp_path, tmp_path))
    try:
        assert world.do(Call(1, 0, "mkdir", (b"mine", 0o700))) == ("gave", None)
        assert world.do(Call(2, 1, "listdir", (b"mine",))) == ("refused", "EACCES")
        assert world.do(Call(0, 1, "lstat", (b"mine",)))[1][2:4] == (1201, 1201)
    finally:
        world.end()


def test_a_seed_decides_the_calls() -> None:
    def first(seed: int) -> list[Call]:
        return [call for call, _ in zip(Program(seed).calls(), range(50), strict=False)]

    assert first(3) == first(3) != first(4)
