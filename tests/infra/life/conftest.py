"""What the life of a stack stands on: an engine, a CLI, images, a plugin. Where one is missing the suite says which and is skipped;
on CI, and wherever MOOSENG_TEST_REQUIRE_DOCKER is set, it fails instead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mooseng_py.demo.containers import missing, plugin
from mooseng_py.demo.harness import free_port_offset, wait_until
from mooseng_py.demo.stack import CHECKOUT, Stack

DOUBLE = CHECKOUT / "tests/infra/pulumi_resource_docker/bin"
_used: list[str] = []


def _absent(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("true", "1") or os.environ.get("MOOSENG_TEST_REQUIRE_DOCKER"):
        pytest.fail(f"{reason} (on CI this is a failure, elsewhere a skip)", pytrace=False)
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
    started = subprocess.run([CHECKOUT / "tools/start-docker"], capture_output=True, text=True, check=False)
    pid = re.search(r"\(pid (\d+),", started.stdout)
    if started.returncode != 0 or pid is None:
        said = (started.stderr.strip() or started.stdout.strip()).splitlines()
        _absent(f"no Docker engine answers and none can be started: {said[-1] if said else 'no reason given'}")
    try:
        yield
    finally:
        os.kill(int(pid[1]), signal.SIGTERM)
        wait_until("dockerd ends", lambda: not Path(f"/proc/{pid[1]}").exists())


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The id of the node image of these sources, or of MOOSENG_TEST_IMAGE."""
    given = os.environ.get("MOOSENG_TEST_IMAGE")
    tag = given or subprocess.check_output([CHECKOUT / "tools/build-image", "--print-tag"], text=True).strip()
    return _image(
        tag, f"there is no image {tag} of these sources: run make image, or name another with MOOSENG_TEST_IMAGE"
    )


@pytest.fixture(scope="session")
def prometheus_image(engine: None) -> str:
    """The id of Prometheus' image."""
    return _image("mooseng-prometheus:local", "there is no image of Prometheus: run make image-prometheus")


def _image(tag: str, otherwise: str) -> str:
    words = ["docker", "image", "inspect", "--format", "{{.Id}}", tag]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        _absent(otherwise)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def stack(image: str, prometheus_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the configuration of `ci`, up."""
    if not os.path.exists("/dev/fuse"):  # as for every other test that mounts
        pytest.skip("this machine has no /dev/fuse, so no client can mount: load the fuse module")
    if reason := missing():
        _absent(reason)
    plugins, words = plugin(DOUBLE)
    _used.append(f"the life of a stack was tested with {words}")
    made = Stack(
        f"life{os.getpid()}",
        tmp_path_factory.mktemp("life"),
        image=image,
        port_offset=free_port_offset(),
        plugins=plugins,
    )
    try:
        made.configure({"health.interval_s": 1, "prometheus.image": prometheus_image})
        made.up()
        yield made
    finally:
        made.close()
