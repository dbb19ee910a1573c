"""What lies where under a local cluster's directory, and the file that says which cluster it is. Starts nothing.

cluster.json                  profile, port offset, cluster id, settings, dashboard or not; written first
lock                          held while a command changes the cluster
nodes/<name>/config.toml      rendered at each start; change it with `--set`
nodes/<name>/{data...,log,pid}
mnt/<index>                   mount point of client-<index>
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mooseng_py.topology import DASHBOARD_PORT, ClusterSpec, NodeSpec, dashboard_node, profile

from .errors import LocalError


@dataclass(frozen=True)
class Identity:
    """What makes a local cluster the one it is; kept in cluster.json."""

    profile: str
    port_offset: int
    cluster_id: str
    # Node or command name -> key -> text, as given with --set.
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    dashboard: bool = False

    def spec(self) -> ClusterSpec:
        """The nodes. Raises: LocalError."""
        try:
            return profile(self.profile, port_offset=self.port_offset)
        except ValueError as error:
            raise LocalError(str(error)) from None

    def services(self) -> tuple[NodeSpec, ...]:
        """What runs beside the nodes."""
        return (dashboard_node(DASHBOARD_PORT + self.port_offset),) if self.dashboard else ()

    def everything(self) -> tuple[NodeSpec, ...]:
        """The nodes and what runs beside them. Raises: LocalError."""
        return (*self.spec().nodes, *self.services())


class Layout:
    """The paths of one local cluster."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(os.path.abspath(directory))
        self.identity_file = self.directory / "cluster.json"
        self.nodes = self.directory / "nodes"
        self.mounts = self.directory / "mnt"

    def node(self, node: NodeSpec) -> Path:
        return self.nodes / node.name

    def config(self, node: NodeSpec) -> Path:
        return self.node(node) / "config.toml"

    def log(self, node: NodeSpec) -> Path:
        return self.node(node) / "log"

    def pid_file(self, node: NodeSpec) -> Path:
        return self.node(node) / "pid"

    def mount(self, node: NodeSpec) -> Path:
        return self.mounts / str(node.index)

    def read(self) -> Identity:
        """Raises: LocalError when there is no cluster here, or its file cannot be understood."""
        try:
            values = json.loads(self.identity_file.read_text())
            return Identity(**values)
        except FileNotFoundError:
            raise LocalError(
                f"{self.directory} holds no local cluster; start one with `mooseng local up --dir {self.directory}`"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise LocalError(
                f"{self.identity_file} cannot be used ({error}); restore it, or remove {self.directory} and its data"
            ) from None

    def new(
        self, profile_name: str, port_offset: int, settings: dict[str, dict[str, str]], dashboard: bool = False
    ) -> Identity:
        """The identity of a cluster to be made here; not written yet. Raises: LocalError."""
        identity = Identity(profile_name, port_offset, uuid.uuid4().hex[:16], settings, dashboard)
        identity.spec()
        for path in (self.nodes, self.mounts):
            if path.exists():
                raise LocalError(
                    f"{path} exists but {self.identity_file} does not; choose another directory, or remove what is there"
                )
        return identity

    def write(self, identity: Identity) -> None:
        draft = self.identity_file.with_suffix(".new")
        with open(draft, "w", encoding="utf-8") as stream:
            json.dump(asdict(identity), stream, indent=2)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self.identity_file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Held while one command changes this cluster. Raises: LocalError when another one does."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LocalError(
                f"{self.directory} cannot be used ({error.strerror}); name a directory you may write to with --dir"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError(
                    f"another command is changing the cluster in {self.directory}; wait for it and try again"
                ) from None
            yield
        finally:
            if not self.identity_file.exists():
                # Nothing was made here after all: leave no trace.
                (self.directory / "lock").unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self.directory.rmdir()
            os.close(handle)

    def purge(self) -> None:
        """Remove everything that this cluster keeps here, its data included."""
        for path in (self.nodes, self.mounts):
            if path.exists():
                shutil.rmtree(path)
        for name in ("cluster.json", "cluster.new"):
            (self.directory / name).unlink(missing_ok=True)


def last_log_line(path: Path, *, since: int = 0) -> str:
    """The last line that is not empty, of what was written from byte `since` on; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(since, end - 16384))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
