"""Entry point of `mooseng`. Daemons and health checks take a short way that loads neither typer nor rich: they start often."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed (one sentence on standard error), 2 wrong usage or configuration."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except ImportError as error:
        if error.name != "mooseng_py.native._lib":
            raise
        print(f"mooseng: {error}", file=sys.stderr)
        return 1


def _run(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "master":
        from mooseng_py.master.daemon import main as master

        return master(rest)
    if command == "chunkserver":
        from mooseng_py.chunkserver.daemon import main as chunkserver

        return chunkserver(rest)
    if command == "mount":
        from mooseng_py.mount.daemon import main as mount

        return mount(rest)
    if command == "dashboard":
        from mooseng_py.dashboard.daemon import main as dashboard

        return dashboard(rest)
    if command == "health":
        from .health import main as health

        return health(rest)
    from .app import run

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
