"""One directory on the file system under test: the local one, which shows that a check is right, and MooseNG."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster
from tests.conftest import running_cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """No check of the contract breaks anything, so all share one cluster."""
    yield from running_cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(params=["local", "mooseng"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An empty directory on the file system under test."""
    if request.param == "local":
        tmp_path.chmod(0o755)
        return tmp_path
    cluster: Cluster = request.getfixturevalue("cluster")
    path = cluster.mount(1) / str(request.node.name).replace("/", "_")[:200]
    path.mkdir()
    return path


@pytest.fixture
def is_mooseng(request: pytest.FixtureRequest, folder: Path) -> bool:
    """For the few answers that may honestly differ."""
    return str(request.node.callspec.params["folder"]) == "mooseng"
