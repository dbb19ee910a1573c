"""What all nodes share: one container, the volumes of its data, health, limits. What a role needs beyond that comes in as `Rights`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from mooseng_py.topology import NodeSpec

from .engine import Engine
from .options import CONTAINER_REPLACED_FOR, container_labels, duration, fixed_name, labels, published
from .plan import CONFIG_FILE, Plan, digest

# The user that owns the data directories of the node image.
MOOSENG = "9420:9420"
_TMPFS = "rw,noexec,nosuid,nodev,size=16m,mode=1777"
# Rootless and nested engines cannot raise the limit that they run under, often 20000.
_FILES = 16384


@dataclass(frozen=True)
class Rights:
    """What a role may and needs, beyond what every node gets. `ready`: healthy means that it does its work, not merely lives."""

    ready: bool
    user: str = MOOSENG
    capabilities: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    mounts: tuple[docker.ContainerMountArgs, ...] = ()
    tmpfs: tuple[str, ...] = ()


class Node(pulumi.ComponentResource):
    """One node of the spec in its container."""

    def __init__(
        self,
        plan: Plan,
        node: NodeSpec,
        engine: Engine,
        rights: Rights,
        *,
        after: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("mooseng:infra:Node", node.name, None, opts)
        self.name = node.name
        self.addresses = plan.published(node)
        identity: dict[str, str | int] = {"stack": plan.stack, "role": node.role, "index": node.index}
        volumes = [
            docker.ContainerVolumeArgs(
                volume_name=self._volume(plan, node, engine, name, identity).name, container_path=path
            )
            for name, path in plan.volumes(node).items()
        ]
        configuration = plan.configuration(node)
        limits = plan.limits(node)
        self.container = docker.Container(
            node.name,
            name=plan.container_name(node.name),
            image=engine.image.id,
            command=list(node.arguments(CONFIG_FILE)),
            # Not an upload: nothing can be uploaded below a read-only root.
            envs=[f"MOOSENG_CONFIG_TOML={configuration}"],
            hostname=node.hostname,
            network_mode="bridge",
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=engine.network.name, aliases=[node.hostname])],
            ports=published(plan.publish_address(plan.host(node)), [(port, port) for _, port in node.ports.items()]),
            volumes=volumes or None,
            mounts=list(rights.mounts) or None,
            tmpfs=dict.fromkeys(("/run/mooseng", "/tmp", *rights.tmpfs), _TMPFS),
            user=rights.user,
            read_only=True,
            capabilities=docker.ContainerCapabilitiesArgs(adds=list(rights.capabilities) or None, drops=["ALL"]),
            security_opts=sorted([*rights.security, "no-new-privileges"]),
            devices=[
                docker.ContainerDeviceArgs(host_path=path, container_path=path, permissions="rwm")
                for path in rights.devices
            ]
            or None,
            ulimits=[docker.ContainerUlimitArgs(name="nofile", soft=_FILES, hard=_FILES)],
            memory=limits.memory_mb or None,
            memory_swap=limits.memory_mb or None,
            cpu_shares=limits.cpu_shares or None,
            init=True,
            restart="unless-stopped",
            must_run=True,
            healthcheck=self._healthcheck(plan, node, rights),
            wait=True,
            wait_timeout=plan.config.health.wait_timeout_s,
            destroy_grace_seconds=node.stop_grace_s,
            stop_timeout=node.stop_grace_s,
            # Environment is not read back: the label shows what a container was made with.
            labels=container_labels({**identity, "config": digest(configuration)}),
            opts=fixed_name(self, engine.provider, replace_on_changes=CONTAINER_REPLACED_FOR, depends_on=after),
        )
        self.register_outputs({"addresses": self.addresses})

    def _volume(
        self, plan: Plan, node: NodeSpec, engine: Engine, name: str, identity: dict[str, str | int]
    ) -> docker.Volume:
        # Changed labels would replace a volume and lose its data: only what never changes may stand there.
        return docker.Volume(
            name.removeprefix(f"{plan.stack}-"),
            name=name,
            labels=[docker.VolumeLabelArgs(label=label, value=value) for label, value in labels(identity)],
            opts=fixed_name(self, engine.provider, protect=plan.config.protect),
        )

    def _healthcheck(self, plan: Plan, node: NodeSpec, rights: Rights) -> docker.ContainerHealthcheckArgs:
        health = plan.config.health
        return docker.ContainerHealthcheckArgs(
            tests=["CMD", *node.health_command(CONFIG_FILE, ready=rights.ready)],
            interval=duration(health.interval_s),
            timeout=duration(health.timeout_s),
            start_period=duration(health.start_period_s),
            retries=health.retries,
        )


def one_by_one(plan: Plan, made: Sequence[Node]) -> list[pulumi.Resource]:
    """What the next node of a role waits for: its predecessor's container, where the stack asks for rolling changes."""
    return [made[-1].container] if plan.config.rolling and made else []
