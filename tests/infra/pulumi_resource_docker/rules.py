"""What is allowed and what a change does: pure functions over plain values. Asks no engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # pulumi.runtime.rpc.UNKNOWN: a value that preview cannot know yet

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"

INPUTS: dict[str, frozenset[str]] = {
    CONTAINER: frozenset(
        [
            "attach",
            "capabilities",
            "command",
            "cpuSet",
            "cpuShares",
            "destroyGraceSeconds",
            "devices",
            "entrypoints",
            "envs",
            "healthcheck",
            "hostname",
            "image",
            "init",
            "labels",
            "logs",
            "maxRetryCount",
            "memory",
            "memorySwap",
            "mounts",
            "mustRun",
            "name",
            "networkMode",
            "networksAdvanced",
            "ports",
            "readOnly",
            "removeVolumes",
            "restart",
            "rm",
            "securityOpts",
            "start",
            "stopSignal",
            "stopTimeout",
            "tmpfs",
            "ulimits",
            "uploads",
            "user",
            "volumes",
            "wait",
            "waitTimeout",
            "workingDir",
        ]
    ),
    NETWORK: frozenset(["attachable", "driver", "internal", "ipamConfigs", "labels", "name", "options"]),
    VOLUME: frozenset(["driver", "driverOpts", "labels", "name"]),
}
# Outputs that no input has the name of; they are no part of a comparison.
COMPUTED = frozenset({"bridge", "containerLogs", "exitCode", "mountpoint", "networkDatas", "scope"})

IN_PLACE = frozenset({"cpuSet", "cpuShares", "maxRetryCount", "memory", "memorySwap", "mustRun", "restart"})
STATE_ONLY = frozenset({"attach", "destroyGraceSeconds", "logs", "removeVolumes", "rm", "start", "wait", "waitTimeout"})
# Upstream takes a change of these for an update, and then does nothing.
WITHOUT_EFFECT = frozenset({"healthcheck", "init", "tmpfs"})

_KINDS = {CONTAINER: "Container", NETWORK: "Network", VOLUME: "Volume"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

Change = Literal["add", "delete", "update"]


@dataclass(frozen=True)
class Difference:
    """Property name to how it changes, and which of them need a new resource."""

    changes: Mapping[str, Change]
    replaces: tuple[str, ...]
    delete_before_replace: bool


def check(kind: str, inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with the inputs: property and sentence."""
    if kind not in INPUTS:
        return [
            ("", f"the test double of the docker plugin does not know {kind}; it knows {', '.join(sorted(INPUTS))}")
        ]
    unknown = sorted(name for name in inputs if name not in INPUTS[kind] and not name.startswith("__"))
    wrong = [
        (name, f"the test double of the docker plugin has no property {name} of {_KINDS[kind]}") for name in unknown
    ]
    needed = ("name", "image") if kind == CONTAINER else ("name",)
    wrong += [(name, f"{name} is needed: the test double makes none up") for name in needed if not inputs.get(name)]
    if inputs.get("wait") and "healthcheck" not in inputs:
        wrong.append(("wait", "wait needs a healthcheck"))
    return wrong


def diff(kind: str, state: Mapping[str, Any], inputs: Mapping[str, Any]) -> Difference:
    """New inputs against the inputs that the state echoes. A value not known yet differs."""
    old = {name: value for name, value in state.items() if name in INPUTS[kind] and not _empty(value)}
    new = {name: value for name, value in inputs.items() if name in INPUTS[kind] and not _empty(value)}
    changes: dict[str, Change] = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            changes[name] = "add"
        elif name not in new:
            changes[name] = "delete"
        elif old[name] != new[name] or _unknown(new[name]):
            changes[name] = "update"
    kept = IN_PLACE | STATE_ONLY | WITHOUT_EFFECT if kind == CONTAINER else frozenset[str]()
    replaces = tuple(name for name in changes if name not in kept)
    return Difference(changes, replaces, kind == CONTAINER and bool(replaces))


def nanoseconds(duration: str) -> int:
    """Go's text of a duration. Raises: ValueError."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration; write for instance 5s or 1m0s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def _empty(value: Any) -> bool:
    return value is None or value == [] or value == {}


def _unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_unknown(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_unknown(item) for item in value)
    return bool(value == UNKNOWN)
