"""What the library runs for us behind a handle: opened with JSON, ended with `close`. Ends all of them at exit."""

from __future__ import annotations

import atexit
import json
import os
import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mooseng_py.errors import MooseError
from mooseng_py.native._boundary import check, json_span, lib, readable, reply_of
from mooseng_py.native._peaks import Metric, Peaks

DEFAULT_CLOSE_TIMEOUT_S = 30.0


class NativeObject:
    """One handle. Calls may come from any thread; `close` once, later calls raise ValueError."""

    def __init__(self, role: int, config: Mapping[str, object]) -> None:
        """Raises: MooseError; EINVAL names the setting that is wrong."""
        self._handle = 0
        self._closing = threading.Lock()
        self._peaks = Peaks()
        span = json_span(dict(config))
        self._handle = check(lib.mng_start(role, span, len(span)))
        _LIVE.add(self)

    @property
    def handle(self) -> int:
        """The library's number for it. Raises: ValueError, once closed."""
        if self._handle == 0:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    @property
    def is_closed(self) -> bool:
        return self._handle == 0

    def close(self, timeout_s: float = DEFAULT_CLOSE_TIMEOUT_S) -> None:
        """End it; what can be made safe is safe afterwards. A second time does nothing.

        Raises: MooseError; it is closed nevertheless.
        """
        with self._closing:
            handle, self._handle = self._handle, 0
        _LIVE.discard(self)
        if handle:
            check(lib.mng_close(handle, max(0, int(timeout_s * 1000))))

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        return self._look()[0]

    def metrics(self, reader: str = "") -> list[Metric]:
        """Its counters and gauges. Maxima are since the last call with this `reader`, whoever else asked meanwhile."""
        return self._peaks.taken(reader, self._look()[1])

    def _look(self) -> tuple[dict[str, Any], list[Metric]]:
        """Status and metrics as of now. The library forgets its maxima with every look; `_peaks` does not."""
        raw = json.loads(reply_of(lambda reply: lib.mng_status(self.handle, reply)))
        metrics = [(name, dict(labels), float(number)) for name, labels, number in raw["metrics"]]
        self._peaks.see(metrics)
        return raw["status"], metrics

    def _call(self, method: int, message: bytes) -> bytes:
        span = readable(message)
        return reply_of(lambda reply: lib.mng_call(self.handle, method, span, len(span), reply))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_LIVE: weakref.WeakSet[NativeObject] = weakref.WeakSet()
_HOME_PROCESS = os.getpid()


def _close_all() -> None:
    """Mounts would be left dead, and written data unflushed, if the interpreter just went."""
    if os.getpid() != _HOME_PROCESS:
        return
    for live in list(_LIVE):
        try:
            live.close()
        except MooseError:
            continue  # Nobody is left to tell; the others still deserve their end.


atexit.register(_close_all)
