"""The daemons' native sides: a master, a chunkserver, a mount. Configuration is that of the Rust crates, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mooseng_py.native._boundary import lib
from mooseng_py.native._objects import NativeObject

NodeRole = Literal["master", "chunkserver", "mount"]

_ROLES: dict[NodeRole, int] = {
    "master": lib.MNG_ROLE_MASTER,
    "chunkserver": lib.MNG_ROLE_CHUNKSERVER,
    "mount": lib.MNG_ROLE_MOUNT,
}


class Node(NativeObject):
    """One running node in this process. Several may share it, as tests do."""

    def __init__(self, role: NodeRole, config: Mapping[str, object]) -> None:
        """Start and return when it works: a mount is mounted, a server listens.

        Raises: MooseError; EINVAL names the setting that is wrong, EADDRINUSE the port that is taken.
        """
        super().__init__(_ROLES[role], config)
        self.role = role

    def call(self, method: int, message: bytes) -> bytes:
        """One request to a master, as it would come over frames: `method` as in crate wire, protobuf in and out.

        Raises: MooseError; UnavailableError with `leader` set, when another master has to be asked.
        """
        return self._call(method, message)
