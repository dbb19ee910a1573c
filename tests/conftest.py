"""Fixtures that every level of tests shares: clusters of real processes, one per module that asks for one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, free_port_offset


def _require_fuse() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted: load the fuse module to run FUSE tests")


def running_cluster(base: Path) -> Iterator[Cluster]:
    """A cluster below `base`, ready; gone afterwards."""
    _require_fuse()
    cluster = Cluster(base / "c", port_offset=free_port_offset())
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()
        _forget(base)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Nine real processes, ready; gone after the module."""
    yield from running_cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nine real processes for one test that breaks them beyond sharing."""
    yield from running_cluster(tmp_path)


def _forget(base: Path) -> None:
    """Give the disk back at once; a module's chunks are of no use afterwards."""
    if not os.environ.get("MOOSENG_TEST_KEEP"):
        shutil.rmtree(base, ignore_errors=True)
