"""The bridge network on which a stack's containers of one engine find each other by name."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from .options import fixed_name, labels


class Network(pulumi.ComponentResource):
    """Replacing it replaces every container on it: an outage. It has nothing that one would want to change."""

    def __init__(
        self, name: str, stack: str, provider: docker.Provider | None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mooseng:infra:Network", name, None, opts)
        network = docker.Network(
            name,
            name=stack,
            driver="bridge",
            labels=[docker.NetworkLabelArgs(label=label, value=value) for label, value in labels({"stack": stack})],
            opts=fixed_name(self, provider),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})
