"""The Raft group: one container and one volume per master of the spec."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from .engine import Engine
from .node import Node, Rights, one_by_one
from .plan import Plan

# Healthy = alive: if it meant "has a leader", masters that start one by one would wait for each other for ever.
_RIGHTS = Rights(ready=False)


class Masters(pulumi.ComponentResource):
    """Start in parallel unless the stack is rolling."""

    def __init__(
        self, name: str, plan: Plan, engines: Mapping[str, Engine], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mooseng:infra:Masters", name, None, opts)
        self.nodes: list[Node] = []
        for node in plan.spec.masters:
            after = one_by_one(plan, self.nodes)
            options = pulumi.ResourceOptions(parent=self)
            self.nodes.append(Node(plan, node, engines[plan.host(node)], _RIGHTS, after=after, opts=options))
        self.register_outputs({"addresses": {node.name: node.addresses for node in self.nodes}})
