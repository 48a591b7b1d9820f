"""CRC-32, with and without the library."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto import checksum
from bistro.crypto.checksum import crc32


@given(st.binary(max_size=2_000), st.integers(0, 2_000), st.integers(0, 2**32 - 1))
def test_the_checksum_is_zlibs(data: bytes, at: int, value: int) -> None:
    """In one piece or in two, from any kind of buffer, behind anything else."""
    expected = zlib.crc32(data, value)
    assert crc32(data, value) == crc32(bytearray(data), value) == expected
    assert crc32(memoryview(data)[at:], crc32(memoryview(bytearray(data))[:at], value)) == expected


@pytest.mark.parametrize("library", [None, object()])
def test_without_the_library_zlib_computes_it(
    monkeypatch: pytest.MonkeyPatch, library: object
) -> None:
    """A machine without ISA-L finds the same damage."""
    monkeypatch.setattr(checksum, "find_library", lambda: library)
    checksum._find.cache_clear()
    try:
        assert crc32(b"123456789") == 0xCBF43926
    finally:
        checksum._find.cache_clear()
