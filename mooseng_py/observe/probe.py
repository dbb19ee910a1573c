"""Ask a daemon over HTTP whether it lives and is ready. One short request on a plain socket; never retries."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Literal

Question = Literal["live", "ready"]
_ANSWER_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon said: `good`, one sentence, and everything else it told."""

    good: bool
    reason: str
    details: dict[str, Any] = field(default_factory=dict)


def probe(address: str, question: Question = "ready", *, timeout_s: float = 2.0) -> Answer:
    """The daemon's answer at `address` (host:port). Nobody there, or nonsense, is an answer that is not good."""
    try:
        status, body = get(address, f"/health/{question}", timeout_s)
        details = json.loads(body)
    except (OSError, ValueError) as error:
        return Answer(False, f"no answer at http://{address}/health/{question} ({error}); is the daemon running?")
    if not isinstance(details, dict):
        return Answer(False, f"http://{address}/health/{question} answered something else than a MooseNG daemon does")
    return Answer(status == 200, str(details.get("reason", "")), details)


def get(address: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of a page, all within `timeout_s`. Raises: OSError, ValueError."""
    deadline = time.monotonic() + timeout_s
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        answer = bytearray()
        while part := connection.recv(65536):
            answer += part
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            if len(answer) > _ANSWER_LIMIT_BYTES:
                raise ValueError("the answer is too long")
    head, separator, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if not separator or len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return int(words[1]), body
