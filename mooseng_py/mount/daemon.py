"""`mooseng mount`: the FUSE client. Ready = mounted and a stat of the mount point answers.

Without a mount point the engine runs alone, ready once it has a session; it says so.
"""

from __future__ import annotations

import os
import stat
import subprocess
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
    """Stats the mount point in a process of its own, one at a time.

    Not on a thread: a thread of this process that waits for an answer of this process keeps it from dying when it is killed,
    as the kernel ends such a wait only when /dev/fuse is closed, and that is closed only when the last thread has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def ask(self, path: str) -> str | None:
        """Why the stat does not answer; None when it does."""
        with self._lock:
            if self._running is None:
                self._began = time.monotonic()
                try:
                    self._running = subprocess.Popen(
                        ["stat", "--format=", "--", path],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                    )
                except OSError as error:
                    return f"the program stat cannot be run: {error.strerror}"
            try:
                _, said = self._running.communicate(timeout=max(0.05, self._began + _STAT_TIMEOUT_S - time.monotonic()))
            except subprocess.TimeoutExpired:
                return f"a stat of {path} has not answered for {time.monotonic() - self._began:.1f} s"
            status, self._running = self._running.returncode, None
        if status != 0:
            return f"a stat of {path} fails: {said.decode(errors='replace').strip().rpartition(': ')[2]}"
        kind = mountpoint.mounted_type(path)
        return None if kind is not None and kind.startswith("fuse") else f"nothing of ours is mounted on {path}"


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


def in_the_way(config: MountConfig) -> str:
    """What is built on the mount and would lose data with it."""
    return mountpoint.in_the_way(config.mount_point) if config.mount_point else ""


ROLE = Role(
    model=MountConfig,
    start=start,
    readiness=readiness,
    stop_timeout_s=18.0,
    prepare=prepare,
    in_the_way=in_the_way,
)


def main(arguments: Sequence[str]) -> int:
    return run(ROLE, arguments)
