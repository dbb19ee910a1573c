"""Maxima for several readers: each learns the largest value since its own last look. Knows nothing of what is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterable

Metric = tuple[str, dict[str, str], float]
"""A metric's name, labels and value."""

_SUFFIX = "_max"
# A reader is a word in a request, so anybody can make one up; those beyond share what "" sees.
_MOST_READERS = 8

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Peaks:
    """Fed with every look at the metrics, asked by readers. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[_Key, float]] = {"": {}}

    def see(self, metrics: Iterable[Metric]) -> None:
        """Keep what these say of maxima for every reader that has asked before."""
        with self._lock:
            for name, labels, value in metrics:
                if name.endswith(_SUFFIX):
                    for waiting in self._waiting.values():
                        key = _key(name, labels)
                        waiting[key] = max(value, waiting.get(key, value))

    def taken(self, reader: str, metrics: Iterable[Metric]) -> list[Metric]:
        """These metrics, just seen, with the maxima that `reader` was not told yet."""
        with self._lock:
            if reader not in self._waiting and len(self._waiting) >= _MOST_READERS:
                reader = ""
            told = self._waiting.get(reader, {})
            self._waiting[reader] = {}
        return [(name, labels, told.get(_key(name, labels), value)) for name, labels, value in metrics]


def _key(name: str, labels: dict[str, str]) -> _Key:
    return name, tuple(sorted(labels.items()))
