"""Starting nine nodes, and how long a program stands still when one of them is killed with -9."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support import content, sizes
from mooseng_py.demo.harness import Activity, Cluster, free_port_offset, wait_until


def bench_nine_nodes_ready(benchmark: Any, fuse: None, tmp_path: Path) -> None:
    """From the command, on empty directories, until a file written on one mount is read on another."""
    rounds = sizes(smoke=1, full=3)
    clusters = [Cluster(tmp_path / str(turn)) for turn in range(rounds)]
    numbers = iter(clusters)

    def start() -> None:
        cluster = next(numbers)
        cluster.up()
        (cluster.mount(1) / "file").write_bytes(b"ready")
        assert (cluster.mount(3) / "file").read_bytes() == b"ready"

    def stop_and_choose_ports() -> None:
        for cluster in clusters:
            if cluster.dir.exists():
                cluster.down()
                shutil.rmtree(cluster.dir)
            cluster.port_offset = free_port_offset()

    try:
        benchmark.pedantic(start, setup=stop_and_choose_ports, rounds=rounds, iterations=1)
    finally:
        stop_and_choose_ports()
    benchmark.extra_info["ready_s"] = round(benchmark.stats.stats.max, 2)


@pytest.mark.parametrize("victim", ["leader", "chunkserver"])
def bench_longest_stall(benchmark: Any, nodes: Cluster, folder: Path, victim: str) -> None:
    """One writer and one reader go on while a node is killed; the longest single operation of either counts.

    An operation is a 12 KiB file created, written and closed, or 4 MiB read through another mount. No errno may be seen.
    """
    other = nodes.mount(2) / folder.name
    big = b"".join(map(content, range(1024)))
    (folder / "big").write_bytes(big)
    gaps: dict[str, list[float]] = {"write": [], "read": []}

    def write(index: int) -> None:
        (folder / f"{len(gaps['write'])}-{index}").write_bytes(content(index) * 3)

    def read(_index: int) -> None:
        assert (other / "big").read_bytes() == big

    def go_on(work: Activity, steps: int) -> None:
        goal = work.done + steps
        wait_until(f"{work.what}: {steps} more", lambda: work.errors or work.done >= goal, every_s=0.01)

    def kill_and_restart() -> None:
        writing, reading = Activity("write", write), Activity("read", read)
        name = nodes.leader() if victim == "leader" else nodes.names("chunkserver")[0]
        with writing.going_on(), reading.going_on():
            go_on(writing, 20)
            nodes.kill(name)
            go_on(writing, 50)
            go_on(reading, 10)
        assert not writing.errors + reading.errors
        for index in range(writing.done):
            path = other / f"{len(gaps['write'])}-{index}"
            assert path.read_bytes() == content(index) * 3
        gaps["write"].append(writing.longest_gap_s)
        gaps["read"].append(reading.longest_gap_s)
        nodes.restart(name)
        wait_until(f"{name} back", lambda: nodes.node(name)["state"] == "ready")
        nodes.wait_until_whole()

    benchmark.pedantic(kill_and_restart, rounds=sizes(smoke=1, full=5), iterations=1)
    benchmark.extra_info["longest_stall_s"] = round(max(gaps["write"] + gaps["read"]), 2)
    benchmark.extra_info["write_stalls_s"] = [round(gap, 2) for gap in gaps["write"]]
    benchmark.extra_info["read_stalls_s"] = [round(gap, 2) for gap in gaps["read"]]
