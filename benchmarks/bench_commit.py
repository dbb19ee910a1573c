"""Committing a change on three masters, durable on two of them before the answer: mkdir through the native client."""

from pathlib import Path
from typing import Any

import pytest

import mooseng_py
from benchmarks.support import in_parallel, sizes
from mooseng_py.demo.harness import Cluster


@pytest.mark.parametrize("workers", [1, 8, 64])
def bench_raft_commit(benchmark: Any, nodes: Cluster, folder: Path, workers: int) -> None:
    count = sizes(smoke=160, full=8000)
    with mooseng_py.connect(nodes.url()) as fs:
        in_parallel(benchmark, nodes, lambda index: fs.mkdir(f"/{folder.name}/{index}"), count, workers)
        assert sorted(map(int, fs.listdir(f"/{folder.name}"))) == list(range(count))
