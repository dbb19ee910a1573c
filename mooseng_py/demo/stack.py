"""One stack of the Pulumi program with the real CLI, in an environment and a copy of the checkout of its own.

What it makes it also takes away: `close` leaves no container, network, volume, mount or process, whatever went wrong before.
Used by the demonstration in containers and by the tests of a stack's life.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mooseng_py.demo.watch import CommandFailed, wait_until

CHECKOUT = Path(__file__).parents[2]
PLUGIN = "pulumi-resource-docker"
_PROGRAM = ("infra/", "mooseng_py/", "Pulumi", "__main__.py", "requirements.txt")
# Above what a stack itself waits, container by container, on a slow machine.
_UP_TIMEOUT_S = 900
# What the CLI gets to stop in good order, so that nothing is made after `close` has looked.
_CANCEL_S = 90


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 120,
    given: str = "",
) -> str:
    """Standard output. When it takes too long, or on Ctrl-C, the command gets SIGINT and time to end. Raises: CommandFailed."""
    process = subprocess.Popen(
        [str(word) for word in words],
        env=env,
        cwd=cwd,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = _interrupt(process)
            raise CommandFailed(f"{_line(words)} did not end within {timeout_s:.0f} s\n{out}\n{err}") from None
        except BaseException:
            _interrupt(process)
            raise
    if process.returncode != 0:
        raise CommandFailed(f"{_line(words)} ended with {process.returncode}\n{out}\n{err}")
    return out.strip()


def _line(words: Iterable[object]) -> str:
    return " ".join(map(str, words))


def _interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=_CANCEL_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def docker(*words: str) -> str:
    return run("docker", *words)


def without_keys(settings: str) -> str:
    """A stack's settings without what `pulumi stack init` adds for its secrets: another stack cannot use it."""
    own = ("encryptionsalt:", "encryptedkey:", "secretsprovider:")
    return "".join(line for line in settings.splitlines(keepends=True) if not line.startswith(own))


class Stack:
    """A stack that copies the configuration of stack `ci` under a name of its own. Only `up` makes containers."""

    def __init__(
        self, name: str, directory: Path, *, image: str, port_offset: int, plugins: Sequence[Path] = ()
    ) -> None:
        """`image`: the node image's id. `plugins`: folders to search for the docker provider plugin before PATH. Raises: CommandFailed."""
        self.name = name
        self.port_offset = port_offset
        self.work = directory / "work"
        self.state = directory / "state"
        self.mounts = directory / "mnt"
        for made in (self.work, self.state, self.mounts):
            made.mkdir()
        self._copy_checkout()
        self.env = self._environment(directory, plugins)
        settings = (self.work / "Pulumi.ci.yaml").read_text()
        (self.work / f"Pulumi.{name}.yaml").write_text(without_keys(settings))
        self.pulumi("stack", "init", name)
        self.configure({"port_offset": port_offset, "mounts": str(self.mounts), "image.name": image})
        run("mount", "--bind", self.mounts, self.mounts)
        run("mount", "--make-shared", self.mounts)

    def _copy_checkout(self) -> None:
        """The program only: `pulumi` writes into the folder that it runs in."""
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT)
        for file in listed.split("\0"):
            if file.startswith(_PROGRAM) and (CHECKOUT / file).is_file():
                (self.work / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CHECKOUT / file, self.work / file)

    @staticmethod
    def _environment(directory: Path, plugins: Sequence[Path]) -> dict[str, str]:
        path = [*plugins, CHECKOUT / ".bin", Path(sys.executable).parent, os.environ["PATH"]]
        return {
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(map(str, path)),
            "VIRTUAL_ENV": sys.prefix,
            "PULUMI_HOME": str(directory / "home"),
            "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "life",
            "PULUMI_CREDENTIAL_STORE": "plaintext",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_CONFIRMATIONS": "true",
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
            **({"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}),
        }

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

    def destroy(self, *words: str) -> None:
        self.pulumi("destroy", "--yes", "--skip-preview", "--color", "never", *words)

    # ---- the containers --------------------------------------------------------------------------------------------
    def containers(self) -> dict[str, str]:
        """Node to container id."""
        listed = docker("ps", "--all", "--no-trunc", "--filter", self._label, "--format", "{{.Names}} {{.ID}}")
        return {name.removeprefix(f"{self.name}-"): identity for name, identity in map(str.split, listed.splitlines())}

    def container(self, node: str) -> str:
        return f"{self.name}-{node}"

    def inspect(self, node: str, form: str) -> str:
        return docker("inspect", "--format", form, self.container(node))

    def pid(self, node: str) -> int:
        """Of the container's first process, on the host; 0 when it does not run."""
        return int(self.inspect(node, "{{.State.Pid}}"))

    def healthy(self, node: str) -> bool:
        return self.inspect(node, "{{.State.Status}}/{{.State.Health.Status}}") == "running/healthy"

    def execute(self, node: str, script: str, *, given: str = "", timeout_s: float = 120) -> str:
        """What a shell in the container says."""
        words = ["docker", "exec", "--interactive", self.container(node), "sh", "-c", script]
        return run(*words, given=given, timeout_s=timeout_s)

    def crash(self, node: str) -> int:
        """Kill its process on the host, as Docker restarts nothing after `docker kill`; the pid it had. Raises: CommandFailed."""
        if not (pid := self.pid(node)):
            raise CommandFailed(f"{node} does not run, so it cannot crash")
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_until_back(self, dead: Mapping[str, int], timeout_s: float = 180) -> None:
        """Each of these nodes, which had that pid, runs again and is healthy."""
        for node, pid in dead.items():

            def back(node: str = node, pid: int = pid) -> bool:
                return self.pid(node) not in (0, pid) and self.healthy(node)

            wait_until(f"{node} is back and healthy", back, timeout_s)

    def left(self) -> list[str]:
        """Containers, networks and volumes that still bear the stack's name."""
        return [identity for listing in _LISTINGS for identity in docker(*listing, "--filter", self._label).split()]

    @property
    def _label(self) -> str:
        return f"label=mooseng.stack={self.name}"

    # ---- the end ---------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Take away what is there, by label, even when the engine's state knows nothing of it."""
        for listing, remove in _LISTINGS.items():
            for identity in docker(*listing, "--filter", self._label).split():
                docker(*remove, identity)
        for mount in sorted(self.mounts.iterdir()):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        run("umount", "-l", self.mounts)


_LISTINGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("ps", "--all", "--quiet"): ("rm", "--force", "--volumes"),
    ("network", "ls", "--quiet"): ("network", "rm"),
    ("volume", "ls", "--quiet"): ("volume", "rm", "--force"),
}
