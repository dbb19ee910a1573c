"""`mooseng mount`: the FUSE client. Ready = mounted and a stat of the mount point answers.

Without a mount point the engine runs alone, ready once it has a session; it says so.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mooseng_py.config import ConfigError, MountConfig
from mooseng_py.config.native import client_settings, node_settings
from mooseng_py.daemon.lifecycle import Role, run
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer

from . import mountpoint

if TYPE_CHECKING:
    from mooseng_py.native import NativeObject

_STAT_TIMEOUT_S = 2.0


def prepare(config: MountConfig, log: Log) -> None:
    """See that the mount point can be used; what a killed predecessor left there is detached.

    Raises: ConfigError.
    """
    if not config.mount_point:
        log.info("no mount_point is set: the engine runs without a mount")
        return
    if (reason := mountpoint.fuse_missing()) is not None:
        raise ConfigError(f"mount_point = {config.mount_point!r} cannot be used: {reason}, or leave mount_point empty")
    if mountpoint.is_dead(config.mount_point):
        log.info("detaching the dead mount of a former process", mount_point=config.mount_point)
        mountpoint.detach(config.mount_point)
    try:
        kind = os.stat(config.mount_point).st_mode
    except OSError as error:
        raise ConfigError(
            f"mount_point = {config.mount_point!r} cannot be used: {error.strerror}; make the directory first"
        ) from None
    if not stat.S_ISDIR(kind):
        raise ConfigError(f"mount_point = {config.mount_point!r} is not a directory; name an empty directory")
    if (mounted := mountpoint.mounted_type(config.mount_point)) is not None:
        raise ConfigError(
            f"mount_point = {config.mount_point!r} has a {mounted} mounted on it already; unmount it or name another directory"
        )


class _StatProbe:
    """Stats the mount point on a thread of its own, one at a time: a hung mount must not hang the health server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None
        self._began = 0.0
        self._error: str | None = None

    def ask(self, path: str) -> str | None:
        """Why the stat does not answer; None when it does."""
        with self._lock:
            if self._running is None or not self._running.is_alive():
                self._began = time.monotonic()
                self._running = threading.Thread(target=self._stat, args=(path,), name="stat", daemon=True)
                self._running.start()
            thread = self._running
        thread.join(max(0.05, self._began + _STAT_TIMEOUT_S - time.monotonic()))
        if thread.is_alive():
            return f"a stat of {path} has not answered for {time.monotonic() - self._began:.1f} s"
        return self._error

    def _stat(self, path: str) -> None:
        try:
            os.stat(path)
            kind = mountpoint.mounted_type(path)
            self._error = (
                None if kind is not None and kind.startswith("fuse") else f"nothing of ours is mounted on {path}"
            )
        except OSError as error:
            self._error = f"a stat of {path} fails: {error.strerror}"


_PROBE = _StatProbe()


def readiness(config: MountConfig, status: dict[str, Any]) -> Answer:
    """Judge the native status, and the mount by using it."""
    engine = status["client"] if config.mount_point else status
    details = {"mount_point": config.mount_point, "leader": engine["leader"], "session": engine["session"]}
    if not config.mount_point:
        connected = bool(engine["session"])
        return Answer(
            connected, "connected, without a mount" if connected else "no session with the masters yet", details
        )
    if (trouble := _PROBE.ask(config.mount_point)) is not None:
        return Answer(False, trouble, details)
    return Answer(True, f"mounted on {config.mount_point}", details)


def start(config: MountConfig) -> NativeObject:
    """The mount, or the engine alone. Raises: MooseError."""
    from mooseng_py import native

    if config.mount_point:
        return native.Node("mount", node_settings(config))
    return native.Client(client_settings(config, name=config.name or "mount", cluster_id=config.cluster_id))


ROLE = Role(model=MountConfig, start=start, readiness=readiness, stop_timeout_s=18.0, prepare=prepare)


def main(arguments: Sequence[str]) -> int:
    return run(ROLE, arguments)
