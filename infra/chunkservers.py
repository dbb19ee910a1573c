"""The chunkservers: one container and a volume per disk for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from .engine import Engine
from .node import Node, Rights, one_by_one
from .plan import Plan

# Healthy = registered with the leader.
_RIGHTS = Rights(ready=True)


class Chunkservers(pulumi.ComponentResource):
    """Their containers come after what stands in `after`, the masters; in parallel unless the stack is rolling.

    Their volumes depend on nothing: else `destroy --exclude-protected` would keep the masters for the sake of the volumes.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        engines: Mapping[str, Engine],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("mooseng:infra:Chunkservers", name, None, opts)
        self.nodes: list[Node] = []
        for node in plan.spec.chunkservers:
            earlier = [*after, *one_by_one(plan, self.nodes)]
            options = pulumi.ResourceOptions(parent=self)
            self.nodes.append(Node(plan, node, engines[plan.host(node)], _RIGHTS, after=earlier, opts=options))
        self.register_outputs({"addresses": {node.name: node.addresses for node in self.nodes}})
