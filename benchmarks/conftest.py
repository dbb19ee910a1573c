"""Options and the one cluster that the benchmarks of a run share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import detail_lines, report
from benchmarks.support import choose_full
from mooseng_py.demo.harness import Cluster, free_port_offset


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="benchmarks at real sizes instead of smoke sizes")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    choose_full(bool(config.getoption("--full", default=False)))
    config.option.benchmark_quiet = True  # its table shows seconds of a whole run; ours shows rates


RESULTS: dict[str, dict[str, Any]] = {}


@pytest.fixture(autouse=True)
def _noted(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[None]:
    """Keep what a benchmark found for the table at the end."""
    yield
    if benchmark.extra_info:
        RESULTS[request.node.name] = benchmark.extra_info


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not RESULTS:
        return
    sizes_used = (
        "real sizes" if config.getoption("--full") else "smoke sizes: for regressions, not for comparison with targets"
    )
    terminalreporter.section(f"benchmarks at {sizes_used}")
    for line in report(RESULTS) if config.getoption("--full") else detail_lines(RESULTS):
        terminalreporter.line(line)


@pytest.fixture(scope="session")
def fuse() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip(
            "this machine has no /dev/fuse, so nothing can be mounted: load the fuse module to run FUSE benchmarks"
        )


@pytest.fixture(scope="session")
def nodes(fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Nine nodes as processes: demo profile, three copies, durable."""
    base = tmp_path_factory.mktemp("bench")
    cluster = Cluster(base / "c", port_offset=free_port_offset())
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def folder(nodes: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory on the first mount."""
    path = nodes.mount(1) / request.node.name.replace("/", "_")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.hookimpl(hookwrapper=True)
def pytest_benchmark_generate_machine_info(config: Any) -> Any:
    """Name the CPU's checksum instructions: they differ between machines."""
    outcome = yield
    info = outcome.get_result()
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    info["crc_flags"] = [flag for flag in ("sse4_2", "pclmulqdq", "vpclmulqdq", "avx512f") if flag in flags.split()]
