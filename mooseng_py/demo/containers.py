"""The cluster of the demonstration as containers of a Pulumi stack: made by `pulumi up`, broken by `kill` and `docker kill`.

Needs root, a Docker engine on this machine, the node image (`make image`), a pulumi and a docker provider plugin.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mooseng_py.demo.operated import Operated
from mooseng_py.demo.stack import CHECKOUT, PLUGIN, Stack, docker, run
from mooseng_py.demo.watch import CommandFailed, wait_until

_READY_S = 300
_ROLES = ("master", "chunkserver", "client")


class Containers(Operated):
    """One stack. `plugins`: folders searched for the docker provider plugin before PATH."""

    def __init__(self, directory: Path, *, port_offset: int, plugins: list[Path]) -> None:
        """Raises: CommandFailed."""
        self.stack = Stack(f"demo{os.getpid()}", directory, image=image(), port_offset=port_offset, plugins=plugins)
        try:
            # Health checks keep the interval of `ci`: nine of them each second would slow a small machine down.
            self.stack.configure({"prometheus.enabled": False, "dashboard.enabled": False})
        except BaseException:
            self.stack.close()
            raise
        self._directory = directory
        self._made = False
        self._masters = ""
        self._dead: dict[str, int] = {}

    # ---- the whole ------------------------------------------------------------------------------------------------
    def up(self) -> float:
        """First by `pulumi up`; after crashes Docker starts everything by itself, and Pulumi has nothing to change."""
        start = time.monotonic()
        if not self._made:
            self.stack.up()
            self._made = True
            outputs = self.stack.outputs()
            self._masters = ",".join(addresses["frames"] for _, addresses in sorted(outputs["masters"].items()))
        self.stack.wait_until_back(self._dead, _READY_S)
        self._dead = {}
        return time.monotonic() - start

    def down(self) -> None:
        """By `pulumi destroy`, and by hand what that left. Raises: CommandFailed."""
        with contextlib.suppress(CommandFailed):
            self._save_logs()
            self.stack.destroy()
        self.stack.close()

    def _save_logs(self) -> None:
        folder = self._directory / "logs"
        folder.mkdir()
        for name in self.stack.containers():
            with (folder / name).open("wb") as log:
                subprocess.run(["docker", "logs", self.stack.container(name)], stdout=log, stderr=log, check=False)

    @property
    def logs(self) -> str:
        return f"{self._directory}/logs/*"

    def nodes(self) -> list[dict[str, Any]]:
        """What else a stack has beside nodes is left out."""
        return [node for name in sorted(self.stack.containers()) if (node := self._node(name))["role"] in _ROLES]

    def _node(self, name: str) -> dict[str, Any]:
        found = json.loads(docker("inspect", self.stack.container(name)))[0]
        state = found["State"]
        ready = (state["Status"], state.get("Health", {}).get("Status")) == ("running", "healthy")
        return {
            "name": name,
            "role": found["Config"]["Labels"]["mooseng.role"],
            "pid": int(state["Pid"]),
            "state": "ready" if ready else state["Status"],
            "data_directories": sorted(mount["Source"] for mount in found["Mounts"] if mount["Type"] == "volume"),
        }

    # ---- breaking and mending -------------------------------------------------------------------------------------
    def crash(self, name: str) -> None:
        self._dead[name] = self.stack.crash(name)

    def kill_everything(self) -> None:
        self._dead = {node["name"]: node["pid"] for node in self.nodes()}
        super().kill_everything()

    def kill(self, name: str) -> None:
        docker("kill", self.stack.container(name))

    def restart(self, name: str) -> None:
        """After a crash Docker has started it; what `docker kill` stopped, Pulumi starts again."""
        if name in self._dead:
            self.stack.wait_until_back({name: self._dead.pop(name)}, _READY_S)
        else:
            self.stack.up("--refresh")
            wait_until(f"{name} is healthy", lambda: self.stack.healthy(name), _READY_S)

    # ---- the data -------------------------------------------------------------------------------------------------
    def mount(self, index: int) -> Path:
        return self.stack.mounts / f"client-{index}"

    def masters(self) -> str:
        return self._masters

    def sdk_digests(self, paths: Iterable[str]) -> dict[str, str]:
        """In a client's container: only there the names resolve at which the chunkservers are reached."""
        ports = (address.rpartition(":")[2] for address in self._masters.split(","))
        url = "mooseng://" + ",".join(f"master-{index}:{port}" for index, port in enumerate(ports, 1)) + "/"
        said = self.stack.execute(
            "client-2",
            f"exec /opt/mooseng/bin/python -m mooseng_py.demo.digests {url}",
            given=json.dumps(list(paths)),
            timeout_s=_READY_S,
        )
        found: dict[str, str] = json.loads(said)
        return found


def image() -> str:
    """The id of the node image of these sources, or of the one that MOOSENG_IMAGE names. Raises: CommandFailed."""
    tag = os.environ.get("MOOSENG_IMAGE") or run(CHECKOUT / "tools/build-image", "--print-tag")
    try:
        return docker("image", "inspect", "--format", "{{.Id}}", tag)
    except CommandFailed:
        raise CommandFailed(f"there is no image {tag} of these sources: run make image") from None


def missing() -> str:
    """What this machine lacks, as a sentence; empty when nothing."""
    if os.geteuid() != 0:
        return "only root can make the shared mount that clients reach the host by, and kill processes of containers"
    if not os.path.exists("/dev/fuse"):
        return "this machine has no /dev/fuse, so no client can mount: load the fuse module"
    if not (CHECKOUT / ".bin/pulumi").exists() and not shutil.which("pulumi"):
        return "there is no pulumi on PATH or in .bin: run make pulumi"
    try:
        docker("version")
    except (CommandFailed, OSError):
        return "no Docker engine answers: start yours, or run make docker"
    return ""


def plugin(double: Path) -> tuple[list[Path], str]:
    """Where the docker provider plugin is looked for first, and what it is, in words. `double`: used where PATH has no genuine one."""
    if shutil.which(PLUGIN):
        return [], "the genuine docker provider plugin, from PATH"
    return [double.resolve()], "a TEST DOUBLE of the docker provider plugin (no genuine one is on PATH)"
