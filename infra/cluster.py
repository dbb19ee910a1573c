"""The whole of a stack: engines, masters, chunkservers, clients, in that order of starting; monitoring and dashboard beside them."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_docker as docker

from .chunkservers import Chunkservers
from .clients import Clients
from .dashboard import Dashboard
from .engine import Engine
from .image import Image
from .masters import Masters
from .monitoring import Content, Monitoring
from .network import Network
from .plan import HERE, Plan


class MooseCluster(pulumi.ComponentResource):
    """`results` are the stack's outputs; docs/deploy.md lists them."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        content: Content | None = None,
        password: pulumi.Output[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`content`: rules and dashboards, else the committed ones. `password`: Grafana's administrator's, where the stack has Grafana."""
        super().__init__("mooseng:infra:MooseCluster", name, None, opts)
        here = pulumi.ResourceOptions(parent=self)
        engines = {host: self._engine(plan, host) for host in plan.hosts}
        masters = Masters("masters", plan, engines, here)
        chunkservers = Chunkservers("chunkservers", plan, engines, [masters], here)
        clients = Clients("clients", plan, engines, [chunkservers], here)
        monitoring = Monitoring("monitoring", plan, engines, content or Content.committed(), password, here)
        dashboard = Dashboard("dashboard", plan, engines, [masters], here)
        self.results: dict[str, Any] = {
            "cluster_id": plan.cluster_id,
            "masters": {node.name: node.addresses for node in masters.nodes},
            "chunkservers": {node.name: node.addresses for node in chunkservers.nodes},
            "clients": {node.name: node.addresses for node in clients.nodes},
            "mounts": clients.mounts,
            "endpoints": {**monitoring.endpoints, **dashboard.endpoints},
            "image": engines[plan.host(plan.spec.masters[0])].image.id,
        }
        self.register_outputs(self.results)

    def _engine(self, plan: Plan, host: str) -> Engine:
        suffix = "" if host == HERE else f"-{host}"
        here = pulumi.ResourceOptions(parent=self)
        provider = None
        if host != HERE:
            provider = docker.Provider(f"engine{suffix}", host=plan.config.hosts[host].docker, opts=here)
        image = plan.config.image
        return Engine(
            provider=provider,
            network=Network(f"network{suffix}", plan.stack, provider, here),
            image=Image(f"image{suffix}", image.name, image.mode, provider, here),
        )
