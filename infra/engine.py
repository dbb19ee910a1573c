"""One Docker engine of a stack, with what the containers on it stand on: provider, network, node image."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_docker as docker

from .image import Image
from .network import Network


@dataclass(frozen=True)
class Engine:
    """`provider` None: the default one, which finds the engine by itself."""

    provider: docker.Provider | None
    network: Network
    image: Image
