"""What the life of a stack stands on: an engine, a CLI, an image, a plugin. Where one is missing the suite says which and is skipped;
with MOOSENG_TEST_REQUIRE_DOCKER set it fails instead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mooseng_py.demo.harness import free_port_offset

from .harness import PLUGIN, ROOT, Stack

_used: list[str] = []


def _absent(reason: str) -> NoReturn:
    if os.environ.get("MOOSENG_TEST_REQUIRE_DOCKER"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _used:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """A Docker engine answers; one that was started here is ended again."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    ):
        yield
        return
    started = subprocess.run([ROOT / "tools/start-docker"], capture_output=True, text=True, check=False)
    pid = re.search(r"\(pid (\d+),", started.stdout)
    if started.returncode != 0 or pid is None:
        said = (started.stderr.strip() or started.stdout.strip()).splitlines()
        _absent(f"no Docker engine answers and none can be started: {said[-1] if said else 'no reason given'}")
    try:
        yield
    finally:
        os.kill(int(pid[1]), signal.SIGTERM)
        until = time.monotonic() + 30
        while Path(f"/proc/{pid[1]}").exists() and time.monotonic() < until:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The id of the node image of these sources, or of MOOSENG_TEST_IMAGE."""
    tag = (
        os.environ.get("MOOSENG_TEST_IMAGE")
        or subprocess.check_output([ROOT / "tools/build-image", "--print-tag"], text=True).strip()
    )
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", tag], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        _absent(f"there is no image {tag} of these sources: run make image, or name another with MOOSENG_TEST_IMAGE")
    return found.stdout.strip()


@pytest.fixture(scope="module")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the configuration of `ci`, up."""
    if os.geteuid() != 0:
        _absent("only root can make the shared mount that clients reach the host by, and kill processes of containers")
    if not os.path.exists("/dev/fuse"):
        _absent("this machine has no /dev/fuse, so no client can mount: load the fuse module")
    if not (ROOT / ".bin/pulumi").exists() and not shutil.which("pulumi"):
        _absent("there is no pulumi on PATH or in .bin: run make pulumi")
    genuine = shutil.which(PLUGIN)
    _used.append(
        f"docker provider plugin: genuine, {genuine}"
        if genuine
        else "docker provider plugin: the TEST DOUBLE tests/infra/pulumi_resource_docker; no genuine one is on PATH"
    )
    stack = Stack(
        f"life{os.getpid()}",
        tmp_path_factory.mktemp("life"),
        image=image,
        port_offset=free_port_offset(),
        genuine_plugin=genuine is not None,
    )
    try:
        stack.up()
        yield stack
    finally:
        stack.close()
