"""Daemon processes: start one detached, know it again by its pid, stop it. Never signals a process that is not ours.

A pid alone may have been given to somebody else; a pid file therefore also holds the start time in clock ticks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.02
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
# Settings of the caller that would otherwise win over every node's file.
_CALLERS_OWN = ("MOOSENG_MASTERS", "MOOSENG_DIR")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, also after its pid was given to another one."""

    pid: int
    start_ticks: int

    def alive(self) -> bool:
        """True while it runs; a zombie does not. Reaps it when it is our child."""
        if _start_ticks(self.pid) == self.start_ticks:
            return True
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pass
        return False

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def start(arguments: Iterable[str], *, log: Path, pid_file: Path, environ: Mapping[str, str]) -> Process:
    """Start `mooseng ARGUMENTS` in a session of its own, appending its output to `log`."""
    child_environ = {key: value for key, value in environ.items() if key not in _CALLERS_OWN}
    child_environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGE_PARENT, child_environ.get("PYTHONPATH", ""))))
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "mooseng_py.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=child_environ,
            start_new_session=True,
        )
    ticks = _start_ticks(child.pid)
    # It is ours to reap in `alive`, or init's when we end first: not an abandoned child.
    child.returncode = 0
    process = Process(child.pid, ticks if ticks is not None else -1)
    draft = pid_file.with_suffix(".new")
    draft.write_text(f"{process.pid}\n{process.start_ticks}\n")
    draft.replace(pid_file)
    return process


def read(pid_file: Path) -> Process | None:
    """The process that `start` wrote down; None when there is no such file or it is cut."""
    try:
        words = pid_file.read_text().split()
        return Process(int(words[0]), int(words[1]))
    except (FileNotFoundError, ValueError, IndexError):
        return None


def wait_gone(processes: Iterable[Process], timeout_s: float) -> list[Process]:
    """Wait until they have ended; those that did not in time."""
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if process.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [process for process in left if process.alive()]
    return left


def stop(processes: Iterable[Process], timeout_s: float) -> list[Process]:
    """Ask all of them to end (SIGTERM); end with SIGKILL those that did not in time, and return these."""
    asked = list(processes)
    for process in asked:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a paused one would not hear it
    stubborn = wait_gone(asked, timeout_s)
    kill(stubborn)
    return stubborn


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL, and wait until they are gone."""
    asked = list(processes)
    for process in asked:
        process.send(signal.SIGKILL)
    wait_gone(asked, 10)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None when there is no such process or it is a zombie. Source: proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
