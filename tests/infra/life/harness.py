"""One stack of the Pulumi program with the real CLI, in an environment and a copy of the repository of its own.

What it makes it also takes away: `close` leaves no container, network, volume, mount or process, whatever went wrong before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
DOUBLE = ROOT / "tests/infra/pulumi_resource_docker/bin"
PLUGIN = "pulumi-resource-docker"
_UP_TIMEOUT_S = 280


class CommandFailed(AssertionError):
    """A command that should have succeeded; its output is the message."""


def run(
    *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 60
) -> str:
    """Standard output. Raises: CommandFailed."""
    done = subprocess.run(
        [str(word) for word in words], env=env, cwd=cwd, timeout=timeout_s, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(map(str, words))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def docker(*words: str) -> str:
    return run("docker", *words)


def eventually(what: str, holds: Callable[[], bool], *, timeout_s: float = 120) -> None:
    """Wait until it holds. Raises: AssertionError naming `what`."""
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


class Stack:
    """A stack that copies the configuration of stack `ci` under a name of its own. Nothing runs before `up`."""

    def __init__(self, name: str, directory: Path, *, image: str, port_offset: int, genuine_plugin: bool) -> None:
        self.name = name
        self.work = directory / "work"
        self.state = directory / "state"
        self.mounts = directory / "mnt"
        for made in (self.work, self.state, self.mounts):
            made.mkdir()
        self._copy_repository()
        run("mount", "--bind", self.mounts, self.mounts)
        run("mount", "--make-shared", self.mounts)
        path = [ROOT / ".bin", Path(sys.executable).parent, os.environ["PATH"]]
        self.env = {
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(map(str, path if genuine_plugin else [DOUBLE, *path])),
            "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
            "PULUMI_HOME": str(directory / "home"),
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            "PULUMI_CONFIG_PASSPHRASE": "life",
            "PULUMI_CREDENTIAL_STORE": "plaintext",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
        }
        if "DOCKER_HOST" in os.environ:
            self.env["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
        shutil.copy(self.work / "Pulumi.ci.yaml", self.work / f"Pulumi.{name}.yaml")
        self.pulumi("stack", "init", name)
        self.configure({"port_offset": port_offset, "mounts": str(self.mounts)})
        self.configure({"image.name": image, "health.interval_s": 1})

    def _copy_repository(self) -> None:
        files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
        wanted = ("infra/", "mooseng_py/", "Pulumi", "__main__.py", "requirements.txt")
        for file in files:
            if file.startswith(wanted) and (ROOT / file).is_file():
                (self.work / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, self.work / file)

    # ---- the CLI ---------------------------------------------------------------------------------------------------
    def pulumi(self, *words: str, timeout_s: float = _UP_TIMEOUT_S) -> str:
        """Raises: CommandFailed."""
        return run("pulumi", *words, "--non-interactive", env=self.env, cwd=self.work, timeout_s=timeout_s)

    def configure(self, values: Mapping[str, str | int | bool]) -> None:
        """Set keys below mooseng:cluster."""
        for key, value in values.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self.pulumi("config", "set", "--path", f"mooseng:cluster.{key}", text)

    def forget(self, key: str) -> None:
        self.pulumi("config", "rm", "--path", f"mooseng:cluster.{key}")

    def up(self, *words: str) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", "--color", "never", *words)

    def expect_no_changes(self) -> None:
        self.pulumi("preview", "--expect-no-changes", "--color", "never")

    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json"))
        return found

    # ---- the containers --------------------------------------------------------------------------------------------
    def containers(self) -> dict[str, str]:
        """Node to container id."""
        listed = docker(
            "ps", "--all", "--no-trunc", "--filter", self._label, "--format", "{{.Names}} {{.ID}}"
        ).splitlines()
        return {name.removeprefix(f"{self.name}-"): identity for name, identity in (line.split() for line in listed)}

    def inspect(self, node: str, form: str) -> str:
        return docker("inspect", "--format", form, f"{self.name}-{node}")

    def healthy(self, node: str) -> bool:
        return self.inspect(node, "{{.State.Status}}/{{.State.Health.Status}}") == "running/healthy"

    def execute(self, node: str, script: str) -> str:
        """What a shell in the container says."""
        return docker("exec", f"{self.name}-{node}", "sh", "-c", script)

    def leader(self) -> str:
        """The master that leads. Raises: AssertionError when none does for long."""
        found: list[str] = []

        def known() -> bool:
            for node in ("master-1", "master-2", "master-3"):
                words = ["docker", "exec", f"{self.name}-{node}", "mooseng", "health", "--ready", "--json"]
                words += ["--config", "/run/mooseng/config.toml"]
                said = subprocess.run(words, capture_output=True, text=True, check=False)
                if said.returncode == 0 and json.loads(said.stdout)["is_leader"]:
                    found[:] = [node]
            return bool(found)

        eventually("a master leads", known)
        return found[0]

    def kill_and_see_it_return(self, node: str) -> None:
        """Kill its process on the host (Docker restarts nothing after `docker kill`), and wait until it is healthy again."""
        before = self.inspect(node, "{{.State.Pid}}")
        run("kill", "-9", before)

        def back() -> bool:
            return self.inspect(node, "{{.State.Pid}}") not in (before, "0") and self.healthy(node)

        eventually(f"{node} is back and healthy", back)

    def left(self) -> list[str]:
        """Containers, networks and volumes that still bear the stack's name."""
        return [
            *docker("ps", "--all", "--quiet", "--filter", self._label).split(),
            *docker("network", "ls", "--quiet", "--filter", self._label).split(),
            *docker("volume", "ls", "--quiet", "--filter", self._label).split(),
        ]

    @property
    def _label(self) -> str:
        return f"label=mooseng.stack={self.name}"

    # ---- the end ---------------------------------------------------------------------------------------------------
    def destroy(self) -> None:
        self.pulumi("destroy", "--yes", "--skip-preview", "--color", "never")

    def close(self) -> None:
        """Take away what is there, by label, even when the engine's state knows nothing of it."""
        for kind, remove in (("ps", "rm"), ("network", "network rm"), ("volume", "volume rm")):
            words = ["ps", "--all"] if kind == "ps" else [kind, "ls"]
            for identity in docker(*words, "--quiet", "--filter", self._label).split():
                force = [] if kind == "network" else ["--force"]
                docker(*remove.split(), *force, identity)
        for mount in sorted(self.mounts.iterdir()):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        run("umount", "-l", self.mounts)
