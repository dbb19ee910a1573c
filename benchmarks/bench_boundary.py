"""The C boundary: what a call costs, and memory for O_DIRECT from the pool against Python's own."""

from typing import Any

import pytest

from benchmarks.support import MIB, measured, sizes
from mooseng_py.native import ALIGN_BYTES, AlignedBuffer, crc32c, crc32c_combine


def bench_call_of_numbers(benchmark: Any) -> None:
    """The least that a call can do: three numbers in, one out, the result checked."""
    count = sizes(smoke=20_000, full=500_000)

    def work(_turn: int) -> None:
        for _ in range(count):
            crc32c_combine(1, 2, 0)

    measured(benchmark, None, work, rounds=3, operations=count)
    assert crc32c_combine(1, 2, 0) == 1 ^ 2


def bench_call_with_a_span(benchmark: Any) -> None:
    """A call that is given eight bytes, without a copy."""
    count, data = sizes(smoke=20_000, full=500_000), b"12345678"

    def work(_turn: int) -> None:
        for _ in range(count):
            crc32c(data)

    measured(benchmark, None, work, rounds=3, operations=count)
    assert crc32c(data) == 0x6087809A


@pytest.mark.parametrize("kind", ["aligned", "bytearray"])
def bench_buffer_of_1_mib(benchmark: Any, kind: str) -> None:
    """Take, write one byte per page, give back: a zeroed buffer that was only promised costs nothing yet."""
    count = sizes(smoke=200, full=5000)
    pages = range(0, MIB, ALIGN_BYTES)
    touched = bytes(len(pages))

    def aligned() -> None:
        with AlignedBuffer(MIB) as buffer:
            assert buffer.address % ALIGN_BYTES == 0
            buffer.view[::ALIGN_BYTES] = touched

    def plain() -> None:
        bytearray(MIB)[::ALIGN_BYTES] = touched

    take = aligned if kind == "aligned" else plain

    def work(_turn: int) -> None:
        for _ in range(count):
            take()

    measured(benchmark, None, work, rounds=3, operations=count)
