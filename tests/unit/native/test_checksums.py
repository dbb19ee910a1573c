"""CRC-32C of the library against a slow reference, on every kind of buffer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooseng_py import native


def crc32c_reference(data: bytes) -> int:
    """Bit by bit, reflected polynomial. Source: RFC 3720, appendix B.4."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


@given(st.binary(max_size=600))
def test_crc32c_is_that_of_the_reference(data: bytes) -> None:
    assert native.crc32c(data) == crc32c_reference(data)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combining_gives_the_crc_of_both(a: bytes, b: bytes) -> None:
    assert native.crc32c_combine(native.crc32c(a), native.crc32c(b), len(b)) == native.crc32c(a + b)


def test_any_contiguous_buffer_is_taken_as_it_lies() -> None:
    array = np.arange(5000, dtype=np.uint32)
    assert native.crc32c(array) == native.crc32c(array.tobytes())
    assert native.crc32c(array.data) == native.crc32c(bytearray(array.tobytes()))


def test_a_strided_view_is_refused() -> None:
    with pytest.raises((BufferError, ValueError)):
        native.crc32c(np.arange(100, dtype=np.uint8)[::2])


def test_nothing_has_the_crc_zero() -> None:
    assert native.crc32c(b"") == 0
