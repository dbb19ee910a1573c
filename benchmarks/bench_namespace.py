"""The name space's state machine alone: no network, no log, no disk. And what a file costs a master in memory."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from benchmarks.namespace import ROOT, Leader, growth_per_file, lookup_request
from benchmarks.support import KIB, measured, sizes
from mooseng_py.native import NameSpaceState
from mooseng_py.proto import name_pb2


def bench_apply_create(benchmark: Any) -> None:
    """Encoded commands in, encoded replies out, one call each through the boundary."""
    count = sizes(smoke=2000, full=100_000)
    with NameSpaceState() as state:
        leader = Leader(state)
        parent = leader.mkdir(ROOT, "d")
        commands = [leader.create_command(parent, f"file-{index:08}") for index in range(count)]
        replies: list[bytes] = []

        def work(_turn: int) -> None:
            for command in commands:
                replies.append(state.apply(command))

        measured(benchmark, None, work, rounds=1, operations=count)
        for index in range(0, count, 97):
            made = name_pb2.NameReply.FromString(replies[index]).attr
            seen = name_pb2.NameReply.FromString(state.query(lookup_request(parent, f"file-{index:08}"))).attr
            assert made == seen
            assert made.mode == 0o644


def bench_query_lookup(benchmark: Any) -> None:
    count = sizes(smoke=2000, full=100_000)
    with NameSpaceState() as state:
        leader = Leader(state)
        parent = leader.mkdir(ROOT, "d")
        made = [leader.run(leader.create_command(parent, f"file-{index:08}")).attr.inode for index in range(count)]
        requests = [lookup_request(parent, f"file-{index:08}") for index in range(count)]
        replies: list[bytes] = []

        def work(_turn: int) -> None:
            for request in requests:
                replies.append(state.query(request))

        measured(benchmark, None, work, rounds=1, operations=count)
        assert [name_pb2.NameReply.FromString(reply).attr.inode for reply in replies] == made


@pytest.mark.parametrize("data_bytes", [0, 4 * KIB], ids=["empty", "4-kib-inline"])
def bench_memory_of_a_file(benchmark: Any, data_bytes: int) -> None:
    """How much the process grows per created file, content included, in a process of its own."""
    count = sizes(smoke=4000, full=100_000 if data_bytes == 0 else 50_000)

    def grow() -> float:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(growth_per_file, count, data_bytes).result()

    grown = benchmark.pedantic(grow, rounds=1, iterations=1)
    benchmark.extra_info["bytes_per_file"] = round(grown)
    benchmark.extra_info["bytes_per_file_without_content"] = round(grown - data_bytes)
    assert grown >= data_bytes
