"""A real cluster with its dashboard, one for each module of tests here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, _port_is_free, free_port_offset, wait_until
from mooseng_py.topology import DASHBOARD_PORT
from tests.conftest import _forget, _require_fuse
from tests.dashboard.support import Dashboard


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Nine nodes and a dashboard that looks twice a second; gone after the module."""
    _require_fuse()
    # Pictures for the docs show paths: better none of a test's.
    pictures = "MOOSENG_TEST_SCREENSHOTS" in os.environ
    base = Path(tempfile.mkdtemp(prefix="mooseng-")) if pictures else tmp_path_factory.mktemp("board")
    yield from running(base)
    _forget(base)


def running(base: Path) -> Iterator[Dashboard]:
    offset = wait_until("a free block of ports", _offset) or 0
    extra = ["--dashboard", "--set", "dashboard.poll_ms=500"]
    cluster = Cluster(base / "c", port_offset=offset, extra=extra)
    cluster.up()
    try:
        yield Dashboard(cluster, f"127.0.0.1:{DASHBOARD_PORT + offset}")
    finally:
        cluster.down()


def _offset() -> int | None:
    offset = free_port_offset()
    return offset if _port_is_free(DASHBOARD_PORT + offset) else None
