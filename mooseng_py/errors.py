"""What can go wrong, sorted by what the caller can do about it; `errno` says what happened. Raises nothing itself.

An error is also the OSError subclass of its errno: a NamespaceError with ENOENT is a FileNotFoundError.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["IntegrityError", "MooseError", "NamespaceError", "StaleError", "UnavailableError", "make_error"]


class MooseError(OSError):
    """Base of every error of MooseNG."""

    leader: str | None = None
    """The leader's address, when the refusing master knew it and was not it."""
    failed_servers: tuple[int, ...] = ()
    """Chunkservers that did not take part."""


class NamespaceError(MooseError):
    """The answer is no; asking again will not help."""


class StaleError(MooseError):
    """Your view is old: refresh, then retry."""


class UnavailableError(MooseError):
    """Nobody could answer: retry until the deadline."""


class IntegrityError(MooseError):
    """Stored bytes are wrong: try another copy, report."""


_KINDS: tuple[type[MooseError], ...] = (NamespaceError, StaleError, UnavailableError, IntegrityError)


def make_error(
    errno: int,
    kind: int,
    message: str,
    filename: str | bytes | None = None,
    *,
    leader: str | None = None,
    failed_servers: Sequence[int] = (),
) -> MooseError:
    """The error for a positive `errno` and an ErrorKind number of common.proto (unknown numbers: NamespaceError)."""
    branch = _KINDS[kind] if 0 <= kind < len(_KINDS) else NamespaceError
    error = _class_for(branch, type(OSError(errno, "")))(errno, message or os.strerror(errno))
    if filename is not None:
        error.filename = filename
    error.leader = leader
    error.failed_servers = tuple(failed_servers)
    return error


def _remake(
    errno: int,
    kind: int,
    message: str,
    filename: str | bytes | None,
    leader: str | None,
    failed_servers: tuple[int, ...],
) -> MooseError:
    return make_error(errno, kind, message, filename, leader=leader, failed_servers=failed_servers)


_CLASSES: dict[tuple[str, str], type[MooseError]] = {}


def _class_for(branch: type[MooseError], builtin: type[OSError]) -> type[MooseError]:
    """The one class that is both, made when first needed."""
    if builtin is OSError:
        return branch
    key = (branch.__name__, builtin.__name__)
    return _CLASSES.get(key) or _CLASSES.setdefault(key, _make_class(branch, builtin))


def _make_class(branch: type[MooseError], builtin: type[OSError]) -> type[MooseError]:

    def reduce(self: MooseError) -> tuple[object, tuple[object, ...]]:
        state = (self.errno, _KINDS.index(branch), self.strerror, self.filename, self.leader, self.failed_servers)
        return _remake, state

    body = {"__doc__": branch.__doc__, "__module__": __name__, "__reduce__": reduce}
    return type(branch.__name__, (branch, builtin), body)
