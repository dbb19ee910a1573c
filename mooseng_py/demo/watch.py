"""Run `mooseng` commands and wait for what must come true; both say what they saw when it does not."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

MOOSENG = [sys.executable, "-m", "mooseng_py.cli.main"]
T = TypeVar("T")


class CommandFailed(RuntimeError):
    """A command ended with an error; the text is what it printed."""


class NotYet(RuntimeError):
    """A condition did not come true in time; the text says what was seen last."""


def run_mooseng(*arguments: str, timeout_s: float = 120) -> str:
    """Run one `mooseng` command and return what it printed.

    Raises: CommandFailed with its last words.
    """
    done = subprocess.run([*MOOSENG, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"mooseng {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def wait_until(what: str, check: Callable[[], T], timeout_s: float = 30, every_s: float = 0.05) -> T:
    """Poll `check` until it returns something true; return that.

    Raises: NotYet naming `what` and the last thing seen (a value or an error).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: Any
        try:
            seen = check()
            if seen:
                return seen  # type: ignore[no-any-return]
        except (OSError, CommandFailed, ValueError, KeyError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise NotYet(f"{what}: not within {timeout_s:g} s; last seen: {seen!r}")
        time.sleep(every_s)
