"""What must hold for every resource of every stack, as plain functions: none needs pulumi, an engine or a command.

Inputs are in the docker provider's own words (camelCase), as previews, mocks and the engine's state show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mooseng_py.topology.spec import STOP_GRACE_S

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"


@dataclass(frozen=True)
class Resource:
    """A resource as a stack registered it."""

    type: str
    name: str
    inputs: Mapping[str, Any] = field(repr=False)
    protect: bool = False
    delete_before_replace: bool = False
    replace_on_changes: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """The label `mooseng.role`; empty without one."""
        labels = self.inputs.get("labels") or ()
        return next((str(item["value"]) for item in labels if item["label"] == "mooseng.role"), "")


# A sentence about what is wrong, or None. `production`: whether the stack is one.
Policy = Callable[[Resource, bool], str | None]


def violations(resource: Resource, *, production: bool) -> Iterator[str]:
    """What is wrong with a resource; nothing when it is as it should be."""
    for policy in (*ALWAYS, *(CONTAINERS if resource.type == CONTAINER else ())):
        if (sentence := policy(resource, production)) is not None:
            yield f"{resource.name}: {sentence}"


def no_privileges(resource: Resource, production: bool) -> str | None:
    if resource.inputs.get("privileged"):
        return "is privileged"
    capabilities = resource.inputs.get("capabilities") or {}
    if capabilities.get("drops") != ["ALL"]:
        return "does not drop all capabilities"
    allowed = ["CAP_SYS_ADMIN"] if resource.role == "client" else []
    if (added := capabilities.get("adds") or []) != allowed:
        return f"has the capabilities {added}, not {allowed}"
    return None


def devices_only_for_clients(resource: Resource, production: bool) -> str | None:
    devices = [device["hostPath"] for device in resource.inputs.get("devices") or ()]
    wanted = ["/dev/fuse"] if resource.role == "client" else []
    return None if devices == wanted else f"has the devices {devices}, not {wanted}"


def no_way_to_more_rights(resource: Resource, production: bool) -> str | None:
    options = set(resource.inputs.get("securityOpts") or ())
    allowed = {"no-new-privileges"} | ({"apparmor=unconfined"} if resource.role == "client" else set())
    return None if options == allowed else f"has the security options {sorted(options)}, not {sorted(allowed)}"


def closed_root_of_nodes(resource: Resource, production: bool) -> str | None:
    if resource.role not in STOP_GRACE_S:
        return None
    return None if resource.inputs.get("readOnly") is True else "can write to its root file system"


def root_only_for_clients(resource: Resource, production: bool) -> str | None:
    user = str(resource.inputs.get("user") or "0")
    is_root = user.split(":")[0] in ("0", "root")
    return "runs as root" if is_root and resource.role != "client" else None


def no_engine_within(resource: Resource, production: bool) -> str | None:
    sources = [str(mount.get("source", "")) for mount in resource.inputs.get("mounts") or ()]
    sources += [str(volume.get("hostPath") or "") for volume in resource.inputs.get("volumes") or ()]
    return "has Docker's socket" if any("docker.sock" in source for source in sources) else None


def ports_on_loopback(resource: Resource, production: bool) -> str | None:
    for port in resource.inputs.get("ports") or ():
        if not port.get("ip") or port["ip"] == "0.0.0.0":
            return f"publishes port {port['external']:.0f} to everybody"
        if port["ip"] != "127.0.0.1" and not production:
            return f"publishes port {port['external']:.0f} on {port['ip']}"
    return None


def watched(resource: Resource, production: bool) -> str | None:
    health = resource.inputs.get("healthcheck") or {}
    if not health.get("tests") or not health.get("retries"):
        return "has no health check"
    for key in ("interval", "timeout", "startPeriod"):
        if not _CANONICAL.fullmatch(str(health.get(key))):
            return f"its health check's {key} is {health.get(key)!r}, which reads back differently"
    if "startInterval" in health:
        return "its health check has a start interval, which older engines refuse"
    if resource.inputs.get("wait") is not True or not resource.inputs.get("waitTimeout"):
        return "is not waited for"
    return None


def stopped_with_grace(resource: Resource, production: bool) -> str | None:
    grace = resource.inputs.get("destroyGraceSeconds") or 0
    least = STOP_GRACE_S.get(resource.role, 10)  # type: ignore[call-overload]
    return None if grace >= least else f"gets {grace} s to stop, less than {least} s"


def started_again(resource: Resource, production: bool) -> str | None:
    if resource.inputs.get("restart") != "unless-stopped":
        return "is not started again after a crash"
    return None if resource.inputs.get("init") is True else "has no init process"


def in_production_limited(resource: Resource, production: bool) -> str | None:
    if not production or resource.role not in STOP_GRACE_S:
        return None
    return None if resource.inputs.get("memory") else "has no memory limit in production"


def mended_by_replacement(resource: Resource, production: bool) -> str | None:
    missing = {"healthcheck", "init", "tmpfs", "#initerror"} - set(resource.replace_on_changes)
    return f"is not replaced for {sorted(missing)}" if missing else None


def old_goes_before_new(resource: Resource, production: bool) -> str | None:
    if resource.type in (CONTAINER, NETWORK, VOLUME) and not resource.delete_before_replace:
        return "would be made before its predecessor is gone, under the same name"
    return None


def in_production_protected(resource: Resource, production: bool) -> str | None:
    if production and resource.type == VOLUME and not resource.protect:
        return "is a volume of production that could be deleted"
    return None


_SIXTY = "(0|[1-9]|[1-5][0-9])"
_CANONICAL = re.compile(rf"([1-9]\d*h{_SIXTY}m|([1-9]|[1-5][0-9])m)?{_SIXTY}s(?<!^0s)")

ALWAYS: tuple[Policy, ...] = (old_goes_before_new, in_production_protected)
CONTAINERS: tuple[Policy, ...] = (
    no_privileges,
    devices_only_for_clients,
    no_way_to_more_rights,
    closed_root_of_nodes,
    root_only_for_clients,
    no_engine_within,
    ports_on_loopback,
    watched,
    stopped_with_grace,
    started_again,
    in_production_limited,
    mended_by_replacement,
)
