"""What the library says of itself, so that Python states none of it again: methods, operations, bounds of settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mooseng_py.native._boundary import check, json_span, lib, reply_of


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on names. Source: native/wire/src/op.rs.

    `kind`: answered from the committed state (read), from the leader's memory, or by the log (change). `once`: a retry
    must count once, so it carries an operation id. `level`: the cluster level that brought it.
    """

    name: str
    number: int
    kind: Literal["read", "memory", "change"]
    once: bool
    level: int


@dataclass(frozen=True, slots=True)
class Limit:
    """What one number among the settings may be, both bounds included. `default` is None where it must be given."""

    least: int
    most: int
    default: int | None


_FACTS: dict[str, Any] = json.loads(reply_of(lib.mng_facts))

OPERATIONS = tuple(Operation(**row) for row in _FACTS["operations"])
METHODS: dict[str, int] = _FACTS["methods"]
LIMITS: dict[str, dict[str, Limit]] = {
    role: {name: Limit(**limit) for name, limit in limits.items()} for role, limits in _FACTS["limits"].items()
}

_ROLES = {
    "master": lib.MNG_ROLE_MASTER,
    "chunkserver": lib.MNG_ROLE_CHUNKSERVER,
    "mount": lib.MNG_ROLE_MOUNT,
    "client": lib.MNG_ROLE_CLIENT,
}


def method(name: str) -> int:
    """The number of a call between processes, by its name in FORMAT.md, "Frame". Raises: KeyError."""
    return METHODS[name]


def check_settings(role: Literal["master", "chunkserver", "mount", "client"], settings: Mapping[str, object]) -> None:
    """Have the library judge settings without starting anything. Raises: MooseError; EINVAL names what is wrong."""
    span = json_span(dict(settings))
    check(lib.mng_check(_ROLES[role], span, len(span)))
