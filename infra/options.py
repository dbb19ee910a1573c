"""Resource options and property values that the docker provider treats well; why is said with each. See docs/deploy.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_docker as docker

# The provider takes a change of these for an update and does nothing, and a create whose wait failed for a success.
# A replacement is what both need.
CONTAINER_REPLACED_FOR = ("healthcheck", "init", "tmpfs", "#initerror")


def fixed_name(
    parent: pulumi.Resource,
    provider: docker.Provider | None,
    *,
    replace_on_changes: Sequence[str] = (),
    depends_on: Sequence[pulumi.Resource] = (),
    protect: bool = False,
) -> pulumi.ResourceOptions:
    """Options of a resource with a name of its own: the old one goes before the new one comes, or their names clash."""
    return pulumi.ResourceOptions(
        parent=parent,
        provider=provider,
        delete_before_replace=True,
        replace_on_changes=list(replace_on_changes),
        depends_on=list(depends_on),
        protect=protect,
    )


def labels(values: Mapping[str, str | int]) -> list[tuple[str, str]]:
    """`mooseng.` labels, sorted."""
    return [(f"mooseng.{key}", str(value)) for key, value in sorted(values.items())]


def container_labels(values: Mapping[str, str | int]) -> list[docker.ContainerLabelArgs]:
    return [docker.ContainerLabelArgs(label=label, value=value) for label, value in labels(values)]


def duration(seconds: int) -> str:
    """Go's own form of a duration, in which it is read back: 5s, 1m30s, 1h0m0s."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def published(ip: str, ports: Sequence[tuple[int, int]]) -> list[docker.ContainerPortArgs]:
    """Port mappings (inner, outer) in the form and order in which they are read back."""
    return [
        docker.ContainerPortArgs(internal=inner, external=outer, ip=ip, protocol="tcp")
        for inner, outer in sorted(ports)
    ]
