"""Start, watch and stop a cluster of daemons on this machine. Decides nothing about data: the daemons do.

Every change holds the directory's lock. What was started and did not become ready is stopped again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mooseng_py.config import MODELS, ConfigError, check_text, parse_text
from mooseng_py.mount import mountpoint
from mooseng_py.observe.probe import Question, probe
from mooseng_py.topology import NodeSpec, render_config

from . import process
from .errors import LocalError
from .layout import Identity, Layout, last_log_line
from .ports import require_free
from .status import ClusterStatus, frames_address, http_address, look

READY_TIMEOUT_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True)
class UpReport:
    """What `up` did: the nodes it started, the seconds until all were ready, and what the user should know.

    `ready`: False when a node was restarted that cannot be ready before others are: it runs and waits for them.
    """

    started: list[str]
    seconds: float
    notes: list[str]
    ready: bool = True


class LocalCluster:
    """The cluster kept under one directory; the directory may not exist yet."""

    def __init__(self, directory: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> None:
        """`environ`: environment of the daemons; default: ours."""
        self.layout = Layout(directory)
        self._environ = os.environ if environ is None else environ

    # ---- asking ----------------------------------------------------------------------------------------------------
    def status(self) -> ClusterStatus:
        """Raises: LocalError when there is no cluster here."""
        return look(self.layout, self.layout.read())

    def masters(self) -> list[str]:
        """Frames addresses of the masters. Raises: LocalError."""
        return [frames_address(master) for master in self.layout.read().spec().masters]

    # ---- changing --------------------------------------------------------------------------------------------------
    def up(
        self,
        profile: str | None = None,
        *,
        port_offset: int | None = None,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        dashboard: bool | None = None,
        timeout_s: float = READY_TIMEOUT_S,
    ) -> UpReport:
        """Start what does not run and wait until every node is ready; data that lies here is used again.

        `settings`: node name or daemon command -> key -> text; `dashboard`: run the web dashboard beside the nodes, or not.
        Both are kept for later starts. Raises: LocalError.
        """
        with self.layout.locked():
            identity = self._identity(profile, port_offset, settings, dashboard)
            wanted = identity.everything()
            missing = [node for node in wanted if not self._runs(node)]
            unwanted = self._unwanted(identity)
            if not missing and not unwanted:
                raise LocalError(
                    f"the cluster in {self.layout.directory} is running already; see `mooseng local status --dir {self.layout.directory}`"
                )
            require_free(missing)
            self._check_settings(identity)
            self.layout.write(identity)
            self._stop(unwanted, max((node.stop_grace_s for node in unwanted), default=0))
            return self._start(identity, missing, wanted, timeout_s)

    def restart(self, name: str, *, timeout_s: float = READY_TIMEOUT_S) -> UpReport:
        """Stop one node in good order, unless it is dead already, and start it again.

        Waits until it is ready; without a majority of masters nothing can be, and it is left running. Raises: LocalError.
        """
        identity = self.layout.read()
        node = self._node(identity, name)
        with self.layout.locked():
            self._require_nothing_on([node])
            self._stop([node], node.stop_grace_s)
            require_free([node])
            masters = identity.spec().masters
            running, needed = sum(master == node or self._runs(master) for master in masters), len(masters) // 2 + 1
            if running >= needed:
                return self._start(identity, [node], [node], timeout_s)
            report = self._start(identity, [node], [node], timeout_s, "live")
        note = (
            f"{name} runs and waits: {running} of {len(masters)} masters run, {needed} are needed; "
            f"start the others too (`mooseng local up --dir {self.layout.directory}` starts all that is missing)"
        )
        return replace(report, notes=[*report.notes, note], ready=False)

    def kill(self, name: str) -> int:
        """SIGKILL one node, as a crash would; the pid it had. A killed client leaves its dead mount. Raises: LocalError."""
        node = self._node(self.layout.read(), name)
        with self.layout.locked():
            running = process.read(self.layout.pid_file(node))
            if running is None or not running.alive():
                raise LocalError(f"{name} does not run; nothing was killed")
            process.kill([running])
            return running.pid

    def down(self, *, purge: bool = False) -> list[str]:
        """Stop clients, then chunkservers, then masters, and detach dead mounts; names of what had to be killed.

        Data, logs and configuration stay for the next `up`, unless `purge` removes them. Raises: LocalError.
        """
        identity = self.layout.read()
        stubborn: list[str] = []
        with self.layout.locked():
            spec = identity.spec()
            self._require_nothing_on(spec.clients)
            for nodes in filter(None, (identity.services(), spec.clients, spec.chunkservers, spec.masters)):
                stubborn += self._stop(nodes, nodes[0].stop_grace_s)
            if purge:
                self.layout.purge()
        return stubborn

    # ---- parts -----------------------------------------------------------------------------------------------------
    def _identity(
        self,
        profile: str | None,
        port_offset: int | None,
        settings: Mapping[str, Mapping[str, str]] | None,
        dashboard: bool | None,
    ) -> Identity:
        given = {name: dict(values) for name, values in (settings or {}).items()}
        if not self.layout.identity_file.exists():
            return self.layout.new(profile or "demo", port_offset or 0, given, bool(dashboard))
        found = self.layout.read()
        for what, wanted, has in (("profile", profile, found.profile), ("port offset", port_offset, found.port_offset)):
            if wanted is not None and wanted != has:
                raise LocalError(
                    f"{self.layout.directory} holds a cluster with {what} {has!r}, not {wanted!r}; "
                    "choose another --dir, or remove it with `mooseng local down --purge`"
                )
        if given:
            merged = {name: found.settings.get(name, {}) | given.get(name, {}) for name in found.settings | given}
            found = replace(found, settings=merged)
        return found if dashboard is None else replace(found, dashboard=dashboard)

    def _unwanted(self, identity: Identity) -> list[NodeSpec]:
        """What ran beside the nodes so far and shall not any more. Raises: LocalError."""
        before = self.layout.read().services() if self.layout.identity_file.exists() else ()
        return [service for service in before if service not in identity.services()]

    def _check_settings(self, identity: Identity) -> None:
        """Raises: LocalError for a setting of nobody, or one that its daemon would refuse."""
        everything = identity.everything()
        known = {node.name for node in everything} | {node.command for node in everything}
        for name in identity.settings:
            if name not in known:
                raise LocalError(f"--set {name}: there is no such node or daemon; allowed: {', '.join(sorted(known))}")
        for node in everything:
            self._rendered(identity, node, "")

    def _start(
        self,
        identity: Identity,
        nodes: Iterable[NodeSpec],
        wait_for: Iterable[NodeSpec],
        timeout_s: float,
        until: Question = "ready",
    ) -> UpReport:
        nodes = list(nodes)
        began = time.monotonic()
        no_fuse = mountpoint.fuse_missing() if any(node.role == "client" for node in nodes) else None
        notes = [f"clients run without a mount: {no_fuse}"] if no_fuse else []
        for node in nodes:
            self._prepare(identity, node, with_mount=no_fuse is None)
        offsets = {node.name: self._log_size(node) for node in nodes}
        started: dict[str, process.Process] = {}
        try:
            for node in nodes:
                started[node.name] = process.start(
                    node.arguments(str(self.layout.config(node))),
                    log=self.layout.log(node),
                    pid_file=self.layout.pid_file(node),
                    environ=self._environ,
                )
            self._await(until, list(wait_for), offsets, began + timeout_s)
        except BaseException:
            # Also on Ctrl-C: nothing half-started stays behind.
            self._stop([node for node in nodes if node.name in started], 5.0)
            raise
        return UpReport(list(started), time.monotonic() - began, notes)

    def _prepare(self, identity: Identity, node: NodeSpec, *, with_mount: bool) -> None:
        """Directories, configuration file, and for a client an empty, protected mount point."""
        mount = self.layout.mount(node) if node.role == "client" and with_mount else None
        try:
            self.layout.node(node).mkdir(parents=True, exist_ok=True)
            for name in node.data_directories:
                (self.layout.node(node) / name).mkdir(exist_ok=True)
            if mount is not None:
                mountpoint.detach(mount)
                mount.mkdir(parents=True, exist_ok=True)
                mountpoint.protect(mount)
            self.layout.config(node).write_text(self._rendered(identity, node, str(mount or "")))
        except OSError as error:
            raise LocalError(f"{node.name} cannot be prepared: {error.strerror} ({error.filename})") from None

    def _rendered(self, identity: Identity, node: NodeSpec, mount_point: str) -> str:
        """The node's configuration file, checked. Raises: LocalError."""
        model = MODELS[node.command]
        given = identity.settings.get(node.command, {}) | identity.settings.get(node.name, {})
        try:
            text = render_config(
                identity.spec(),
                node,
                resolve=frames_address,
                directory=str(self.layout.node(node)),
                cluster_id=identity.cluster_id,
                mount_point=mount_point,
                resolve_http=http_address,
                settings={key: parse_text(model, key, value, f"--set {node.name}") for key, value in given.items()},
            )
            check_text(model, text, f"--set {node.name}")
        except ConfigError as error:
            raise LocalError(str(error)) from None
        return text

    def _await(self, until: Question, nodes: list[NodeSpec], log_offsets: Mapping[str, int], deadline: float) -> None:
        """Raises: LocalError with the reason of the first node that ended, or of one that is not `until` in time."""
        waiting = list(nodes)
        reasons: dict[str, str] = {}
        while waiting:
            for node in list(waiting):
                if not self._runs(node):
                    line = last_log_line(self.layout.log(node), since=log_offsets.get(node.name, 0))
                    raise LocalError(
                        f"{node.name} ended while starting: {line or 'it logged nothing'} (log: {self.layout.log(node)})"
                    )
                answer = probe(http_address(node), until)
                reasons[node.name] = answer.reason
                if answer.good:
                    waiting.remove(node)
            if waiting and time.monotonic() > deadline:
                node = waiting[0]
                line = last_log_line(self.layout.log(node), since=log_offsets.get(node.name, 0))
                raise LocalError(
                    f"{node.name} is not {until} in time: {reasons[node.name]}; "
                    f"its last log line: {line or 'none'} (log: {self.layout.log(node)})"
                )
            if waiting:
                time.sleep(_POLL_S)

    def _require_nothing_on(self, nodes: Iterable[NodeSpec]) -> None:
        """Raises: LocalError when something is built on the mount of one that runs: it would lose data."""
        for node in nodes:
            if (
                node.role == "client"
                and self._runs(node)
                and (reason := mountpoint.in_the_way(self.layout.mount(node)))
            ):
                raise LocalError(f"{node.name} is in use, nothing was stopped: {reason}")

    def _stop(self, nodes: Iterable[NodeSpec], timeout_s: float) -> list[str]:
        """Stop these nodes, detach what they left mounted; names of those that had to be killed."""
        nodes = list(nodes)
        known = {node.name: process.read(self.layout.pid_file(node)) for node in nodes}
        stubborn = process.stop([running for running in known.values() if running is not None], timeout_s)
        for node in nodes:
            self.layout.pid_file(node).unlink(missing_ok=True)
            if node.role == "client":
                mount = self.layout.mount(node)
                try:
                    mountpoint.detach(mount)
                except OSError as error:
                    raise LocalError(f"the mount of {node.name} stays: {error}") from None
                mountpoint.unprotect(mount)
        return [name for name, running in known.items() if running in stubborn]

    def _runs(self, node: NodeSpec) -> bool:
        running = process.read(self.layout.pid_file(node))
        return running is not None and running.alive()

    def _node(self, identity: Identity, name: str) -> NodeSpec:
        found = next((service for service in identity.services() if service.name == name), None)
        try:
            return found or identity.spec().node(name)
        except KeyError as error:
            raise LocalError(str(error.args[0])) from None

    def _log_size(self, node: NodeSpec) -> int:
        with contextlib.suppress(OSError):
            return self.layout.log(node).stat().st_size
        return 0
