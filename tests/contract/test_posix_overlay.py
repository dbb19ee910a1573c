"""overlayfs with both layers on the file system: whiteouts, opaque directories, attributes that only root sees."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def merged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An overlay of `folder`/lower and `folder`/upper."""
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir()
    lower = folder / "lower"
    (lower / "f").write_text("one\n")
    os.setxattr(lower / "f", "user.a", b"kept")
    (lower / "dir" / "sub").mkdir(parents=True)
    (lower / "dir" / "g").write_text("two\n")
    (lower / "link").symlink_to("f")
    point = tmp_path_factory.mktemp("merged")
    layers = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", layers, str(point)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this kernel makes no overlay here: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def test_an_overlay_keeps_what_is_changed_deleted_and_replaced_in_its_upper_layer(folder: Path, merged: Path) -> None:
    upper, lower = folder / "upper", folder / "lower"
    with (merged / "f").open("a") as file:
        file.write("more\n")
    (merged / "dir" / "g").unlink()
    (merged / "link").unlink()
    os.mkfifo(merged / "pipe")
    assert (upper / "f").read_text() == (merged / "f").read_text() == "one\nmore\n"
    assert os.getxattr(merged / "f", "user.a") == os.getxattr(upper / "f", "user.a") == b"kept"
    for hidden in (upper / "dir" / "g", upper / "link"):
        assert stat.S_ISCHR(hidden.lstat().st_mode)
        assert hidden.lstat().st_rdev == 0
    assert sorted(os.listdir(merged)) == ["dir", "f", "pipe"]
    assert os.listdir(merged / "dir") == ["sub"]
    # A file moved away leaves a whiteout in one step; a directory made where one was hides it.
    (merged / "f").rename(merged / "moved")
    assert stat.S_ISCHR((upper / "f").lstat().st_mode)
    shutil.rmtree(merged / "dir")
    (merged / "dir").mkdir()
    assert os.listdir(merged / "dir") == []
    assert os.getxattr(upper / "dir", "trusted.overlay.opaque") == b"y"
    assert (lower / "f").read_text() == "one\n"
    assert sorted(os.listdir(lower / "dir")) == ["g", "sub"]
