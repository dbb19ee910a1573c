"""Faults are caused with mounts and traced processes: they are undone also when the tests are told to stop."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest


@pytest.fixture(scope="session", autouse=True)
def _a_polite_kill_still_undoes_everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SIGTERM unwinds the fixtures, as Ctrl-C does; whatever is mounted below the tests' directory afterwards goes."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for point in mounted_below(tmp_path_factory.getbasetemp()):
            subprocess.run(["umount", "-l", point], check=False)


def mounted_below(base: Path) -> list[str]:
    """Mount points below `base`, deepest first. Source: proc_pid_mountinfo(5)."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(os.path.join(base, ""))), key=len, reverse=True)
