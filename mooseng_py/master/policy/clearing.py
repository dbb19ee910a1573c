"""How much at a time the leader clears away of what nobody holds: silent sessions, unlinked files.

How long a session may be silent is `session_timeout_s`: clients are told it when they register.
"""

from __future__ import annotations

from dataclasses import dataclass

from mooseng_py.proto.cluster_pb2 import LeaderPolicy


@dataclass(frozen=True, slots=True)
class ClearingPace:
    """Each step is short, as name operations wait behind it.

    `expired_at_once`: sessions ended in one step, a command each; fewer keep the files and turns of dead clients for longer.
    `purged_at_once`: unlinked files in one command, which each master applies in one go.
    """

    expired_at_once: int = 100
    purged_at_once: int = 1000

    def policy(self) -> LeaderPolicy:
        """All of it is the leader's to carry out."""
        return LeaderPolicy(expired_at_once=self.expired_at_once, purged_at_once=self.purged_at_once)
