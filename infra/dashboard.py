"""The web dashboard: a container of the nodes' image beside them, which talks to the masters and keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from .engine import Engine
from .node import Node, Rights
from .plan import Plan

# Healthy = it has a session, and masters answer.
_RIGHTS = Rights(ready=True)


class Dashboard(pulumi.ComponentResource):
    """Only where the stack asks for it, after what stands in `after`, the masters. `endpoints`: name to URL."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        engines: Mapping[str, Engine],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("mooseng:infra:Dashboard", name, None, opts)
        self.endpoints: dict[str, str] = {}
        if (node := plan.dashboard) is not None:
            here = pulumi.ResourceOptions(parent=self)
            made = Node(plan, node, engines[plan.host(node)], _RIGHTS, after=after, opts=here)
            self.endpoints[node.name] = f"http://{made.addresses['http']}"
        self.register_outputs({"endpoints": self.endpoints})
