"""The Python side's log lines, in the formats of the native log, on standard error. One line per event; never per operation.

Plain writes rather than a logging library: nine daemons start at once on two cores, and importing one costs each of
them 100 ms and more.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warn", "info", "debug", "trace"]
_ORDER: list[Level] = ["error", "warn", "info", "debug", "trace"]


@dataclass(frozen=True, slots=True)
class Log:
    """Events of one part of the program, called `target` as native modules are."""

    target: str
    format: Literal["console", "json"] = "console"
    level: Level = "info"

    def error(self, message: str, **fields: object) -> None:
        self._write("error", message, fields)

    def warn(self, message: str, **fields: object) -> None:
        self._write("warn", message, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write("info", message, fields)

    def _write(self, level: Level, message: str, fields: dict[str, object]) -> None:
        if _ORDER.index(level) > _ORDER.index(self.level):
            return
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06}Z"
        if self.format == "json":
            line = json.dumps(
                {
                    "timestamp": when,
                    "level": level.upper(),
                    "message": message,
                    **fields,
                    "target": self.target,
                    "thread": threading.current_thread().name,
                },
                default=str,
            )
        else:
            pairs = "".join(f" {key}={value!r}" for key, value in fields.items())
            line = f"{when} {level.upper():>5} {self.target}: {message}{pairs}"
        try:
            # One write call, so that lines of other threads and of the native log do not mix.
            os.write(sys.stderr.fileno(), (line.replace("\n", " | ") + "\n").encode(errors="backslashreplace"))
        except (OSError, ValueError):
            pass  # nobody reads the log any more; the daemon goes on
