"""CRC-32C on one core: from the cache, and from memory."""

import random
from typing import Any

import pytest

from benchmarks.support import GIB, MIB, measured, payload, sizes
from mooseng_py.native import AlignedBuffer, crc32c, crc32c_combine


@pytest.mark.parametrize("length", [MIB, 64 * MIB], ids=["1-mib-cached", "64-mib-memory"])
def bench_crc32c(benchmark: Any, length: int) -> None:
    total = sizes(smoke=GIB // 2, full=8 * GIB)
    with AlignedBuffer(length) as buffer:
        buffer.view[:] = payload(length, seed=8)
        expected = crc32c(buffer.view)

        def work(_turn: int) -> None:
            for _ in range(total // length):
                assert crc32c(buffer.view) == expected

        measured(benchmark, None, work, rounds=3, octets=total)
        assert expected == in_pieces(buffer.view)


def in_pieces(data: memoryview) -> int:
    """The same checksum from pieces of odd lengths."""
    draw, at, crc = random.Random(9), 0, 0
    while at < len(data):
        step = min(len(data) - at, draw.randrange(1, MIB))
        crc = crc32c_combine(crc, crc32c(data[at : at + step]), step)
        at += step
    return crc
