"""One question asked by many at once is asked once, and its answer is good for a moment. For one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import to_thread

_MOST_ANSWERS = 128


@dataclass
class _Answer:
    task: asyncio.Future[Any]
    asked_s: float


class Shared:
    """`width`: how many questions are under way at a time, the others wait; `fresh_s`: how long an answer is good."""

    def __init__(self, width: int, fresh_s: float) -> None:
        self._limiter = anyio.CapacityLimiter(width)
        self._fresh_s = fresh_s
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    async def ask(self, key: Hashable, work: Callable[[], Any]) -> Any:
        """What `work` returns, run in a thread unless a fresh answer is there. Raises what it raises, to all who wait."""
        now = time.monotonic()
        found = self._answers.get(key)
        if found is None or (found.task.done() and (now - found.asked_s > self._fresh_s or found.task.exception())):
            # A task of its own: who asked first may leave, and the others still get their answer.
            task = asyncio.ensure_future(to_thread.run_sync(work, limiter=self._limiter))
            found = self._answers[key] = _Answer(task, now)
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return await asyncio.shield(found.task)
