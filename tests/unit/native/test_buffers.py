"""Aligned buffers: where they lie, who keeps them alive, what is not copied."""

import gc

import numpy as np
import pytest

from mooseng_py import native
from mooseng_py.native._boundary import check, ffi, lib


@pytest.mark.parametrize("length", [1, 4096, 65_537, 1 << 20, (1 << 20) + 8192, 5 << 20])
def test_a_buffer_is_zeroed_aligned_and_as_long_as_asked(length: int) -> None:
    with native.AlignedBuffer(length) as buffer:
        assert buffer.address % native.ALIGN_BYTES == 0
        assert len(buffer) == length
        assert not any(buffer.view[:: max(1, length // 100)])


def test_an_array_shares_the_memory() -> None:
    buffer = native.AlignedBuffer(8192)
    array = np.frombuffer(buffer.view, dtype=np.uint64)
    assert array.ctypes.data == buffer.address
    array[7] = 42
    assert buffer.view[56] == 42


def test_an_array_outlives_the_buffer_it_was_made_from() -> None:
    buffer = native.AlignedBuffer(1 << 20)
    array = np.frombuffer(buffer.view, dtype=np.uint8)
    array[:] = 7
    buffer.close()
    del buffer
    gc.collect()
    others = [native.AlignedBuffer(1 << 20) for _ in range(4)]
    assert all(other.address != array.ctypes.data for other in others)
    assert array.min() == array.max() == 7


def test_memory_goes_back_to_the_pool_with_its_last_user() -> None:
    buffer = native.AlignedBuffer(1 << 20)
    address = buffer.address
    buffer.close()
    assert native.AlignedBuffer(1 << 20).address == address


def test_a_closed_buffer_has_no_view() -> None:
    buffer = native.AlignedBuffer(10)
    buffer.close()
    buffer.close()
    with pytest.raises(ValueError, match="closed"):
        _ = buffer.view


@pytest.mark.parametrize("length", [0, -1])
def test_a_buffer_of_no_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        native.AlignedBuffer(length)


def test_a_length_beyond_the_limit_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(OSError, match="beyond the limit"):
        native.AlignedBuffer(1 << 45)


def test_an_address_that_was_not_taken_cannot_be_released() -> None:
    with pytest.raises(OSError, match="not taken"):
        check(lib.mng_buffer_release(ffi.cast("uint8_t *", 4096)))
