"""`mooseng dashboard`: pages about a cluster and its files. Ready = it has a session, and masters answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mooseng_py.config import DashboardConfig
from mooseng_py.config.native import client_settings
from mooseng_py.daemon.lifecycle import Part, Role, run
from mooseng_py.observe.http import Pages
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer

if TYPE_CHECKING:
    from mooseng_py.native import NativeObject

    from .observer import Observer

# Longer than an election takes: while masters choose a leader the dashboard goes on working.
_SILENCE_S = 15.0


class Dashboard:
    """The pages work from the start on; files come when the engine has found a leader."""

    def __init__(self) -> None:
        self._observer: Observer | None = None
        self._files: Any = None

    def role(self) -> Role[DashboardConfig]:
        return Role(
            model=DashboardConfig,
            start=_engine,
            readiness=self.readiness,
            stop_timeout_s=9.0,
            parts=self.parts,
            serve=self.serve,
        )

    def serve(self, config: DashboardConfig, pages: Pages, log: Log) -> Part:
        """Raises: OSError when http_listen cannot be bound."""
        from .files import Files
        from .observer import Observer
        from .web import Web, WebServer

        observer = Observer(config.masters, config.nodes, config.poll_ms / 1000, log)
        self._observer, self._files = observer, Files()
        web = Web(
            lambda: observer.snapshot, self._files, pages, browse=config.browse, allowed_hosts=config.allowed_hosts
        )
        try:
            server = WebServer(config.http_listen, web, log)
        except OSError:
            observer.stop()
            raise
        log.info("serving", url=f"http://{config.http_listen}/")
        return _Both(server, observer)

    def parts(self, config: DashboardConfig, node: NativeObject, log: Log) -> list[Part]:
        from mooseng_py.native import Client
        from mooseng_py.sdk import FileSystem

        if not isinstance(node, Client):
            raise TypeError("a dashboard runs a client engine")
        self._files.attach(FileSystem(node))
        return [self._files]

    def readiness(self, config: DashboardConfig, status: dict[str, Any]) -> Answer:
        """Judge the engine's status, and when a master was last heard."""
        details = {"leader": status.get("leader"), "session": status.get("session")}
        heard = self._observer.snapshot.heard_s if self._observer is not None else None
        if heard is None or time.monotonic() - heard > _SILENCE_S:
            return Answer(
                False, f"no master has answered for {_SILENCE_S:.0f} s; pages show what was known before", details
            )
        return Answer(True, f"shows the cluster of {', '.join(config.masters)}", details)


class _Both:
    """The server, then what feeds it."""

    def __init__(self, server: Part, observer: Part) -> None:
        self._parts = (server, observer)

    def stop(self) -> None:
        for part in self._parts:
            part.stop()


def _engine(config: DashboardConfig) -> NativeObject:
    """Raises: MooseError."""
    from mooseng_py import native

    return native.Client(client_settings(config, name=config.name or "dashboard", cluster_id=config.cluster_id))


def main(arguments: Sequence[str]) -> int:
    return run(Dashboard().role(), arguments)
