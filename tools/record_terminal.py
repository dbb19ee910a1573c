"""Record what a command does to a terminal, as an asciinema cast (version 2). Nothing is added, left out or sped up.

Usage: python tools/record_terminal.py CAST TITLE COMMAND...
Source: https://docs.asciinema.org/manual/asciicast/v2/
"""

import fcntl
import json
import os
import pty
import struct
import sys
import termios
import time
from pathlib import Path

COLUMNS, ROWS = 124, 36


def record(cast: Path, title: str, command: list[str]) -> int:
    """The command's exit code. What it prints is also shown here."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    begin = time.monotonic()
    header = {
        "version": 2,
        "width": COLUMNS,
        "height": ROWS,
        "timestamp": int(time.time()),
        "title": title,
        "env": {"TERM": "xterm-256color"},
    }
    with cast.open("w") as file:
        file.write(json.dumps(header) + "\n")
        pending = b""
        while chunk := _read(terminal):
            seconds = time.monotonic() - begin
            os.write(sys.stdout.fileno(), chunk)
            text, pending = _decode(pending + chunk)
            file.write(json.dumps([round(seconds, 3), "o", text], ensure_ascii=False) + "\n")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: the last process with this terminal is gone
        return b""


def _decode(data: bytes) -> tuple[str, bytes]:
    """Text, and the bytes of a character that is not complete yet."""
    for kept in range(min(4, len(data) + 1)):
        try:
            return data[: len(data) - kept].decode(), data[len(data) - kept :]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


if __name__ == "__main__":
    sys.exit(record(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
