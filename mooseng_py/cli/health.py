"""`mooseng health`: is a daemon alive, is it ready. For container checks: one sentence, exit code 0 or 1 (2: wrong usage)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from mooseng_py.observe.probe import Question, probe


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mooseng health", description="Ask a daemon whether it is alive, or ready to serve.", allow_abbrev=False
    )
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--live", action="store_true", help="is the process alive?")
    question.add_argument("--ready", action="store_true", help="does it do its work?")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", metavar="FILE", help="the daemon's configuration file (or MOOSENG_HTTP_LISTEN)")
    where.add_argument("--url", metavar="URL", help="its HTTP address, http://host:port")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=2.0)
    parser.add_argument("--json", action="store_true", help="print what it answered")
    given = parser.parse_args(arguments)
    try:
        address = _address(given.config, given.url)
    except ValueError as error:
        sys.stderr.write(f"mooseng health: {error}\n")
        return 2
    asked: Question = "live" if given.live else "ready"
    answer = probe(address, asked, timeout_s=given.timeout)
    if given.json:
        print(json.dumps({**answer.details, "ok": answer.good, "reason": answer.reason}))
    else:
        name = answer.details.get("name", address)
        print(f"{name} is {'' if answer.good else 'not '}{asked}: {answer.reason}")
    return 0 if answer.good else 1


def _address(config: str | None, url: str | None) -> str:
    """Raises: ValueError with a sentence."""
    if url is not None:
        address = url.removeprefix("http://").rstrip("/")
        if not address.rpartition(":")[2].isdigit():
            raise ValueError(f"--url {url!r} has no port; write http://host:port")
        return address
    if variable := os.environ.get("MOOSENG_HTTP_LISTEN"):
        return variable
    if config is None:
        raise ValueError("say which daemon: --config FILE, --url URL or MOOSENG_HTTP_LISTEN")
    return _http_listen(config)


def _http_listen(config: str) -> str:
    # Read by hand: a check that runs every few seconds should not load the models of every role.
    import tomllib

    try:
        with open(config, "rb") as stream:
            values = tomllib.load(stream)
    except (OSError, ValueError) as error:
        raise ValueError(f"{config} cannot be read: {error}") from None
    address = values.get("http_listen", "127.0.0.1:8080" if values.get("role") == "dashboard" else "127.0.0.1:9440")
    if not isinstance(address, str) or not address.rpartition(":")[2].isdigit():
        raise ValueError(f"{config}: key 'http_listen' is {address!r}; allowed is host:port")
    return address
