"""The FUSE clients: containers that mount the file system, within themselves or on their host as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_docker as docker

from .engine import Engine
from .node import Node, Rights
from .plan import MOUNTS_DIRECTORY, Plan


class Clients(pulumi.ComponentResource):
    """Their containers come after what stands in `after`, the chunkservers. `mounts`: where each mount appears on its host."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        engines: Mapping[str, Engine],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("mooseng:infra:Clients", name, None, opts)
        rights, options = _rights(plan), pulumi.ResourceOptions(parent=self)
        self.nodes = [
            Node(plan, node, engines[plan.host(node)], rights, after=after, opts=options) for node in plan.spec.clients
        ]
        self.mounts = {node.name: mount for node in plan.spec.clients if (mount := plan.mount(node)) is not None}
        self.register_outputs({"mounts": self.mounts})


def _rights(plan: Plan) -> Rights:
    """Mounting takes root, CAP_SYS_ADMIN and /dev/fuse, and nothing else. Healthy = mounted, and a stat answers."""
    mounts: tuple[docker.ContainerMountArgs, ...] = ()
    if plan.config.mounts:
        # The mount itself lies in a sub-directory: a dead mount on the bind would keep Docker from starting it again.
        bind = docker.ContainerMountBindOptionsArgs(propagation="rshared")
        mounts = (
            docker.ContainerMountArgs(
                type="bind", source=plan.config.mounts, target=MOUNTS_DIRECTORY, read_only=False, bind_options=bind
            ),
        )
    return Rights(
        ready=True,
        user="0:0",
        capabilities=("CAP_SYS_ADMIN",),
        security=("apparmor=unconfined",),
        devices=("/dev/fuse",),
        mounts=mounts,
        tmpfs=() if mounts else (MOUNTS_DIRECTORY,),
    )
