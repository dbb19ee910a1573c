"""An image on one engine: built from this checkout, pulled, or there already."""

from __future__ import annotations

from typing import Literal

import pulumi
import pulumi_docker as docker


class Image(pulumi.ComponentResource):
    """`id` changes whenever the image does, so that containers made of it are replaced. A name that exists is taken as it is."""

    def __init__(
        self,
        name: str,
        image: str,
        mode: Literal["build", "existing", "pull"],
        provider: docker.Provider | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("mooseng:infra:Image", name, None, opts)
        options = pulumi.ResourceOptions(parent=self, provider=provider)
        if mode == "build":
            # The context is the checkout; .dockerignore keeps it small, as it is hashed at every preview.
            build = docker.DockerBuildArgs(context=".", dockerfile="infra/docker/Dockerfile")
            built = docker.Image(name, image_name=image, build=build, skip_push=True, opts=options)
            self.id: pulumi.Output[str] = built.repo_digest
        elif mode == "pull":
            pulled = docker.RemoteImage(name, name=image, keep_locally=True, opts=options)
            self.id = pulled.image_id
        else:
            self.id = pulumi.Output.from_input(image)
        self.register_outputs({"id": self.id})
