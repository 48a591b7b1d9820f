"""Rows of the duplicate index, ``digest ‖ index of the entry``, many of them joined.

They are handled by columns: a step for each byte of a row, not for each row.

Source: docs/spec/storage.md, duplicate index.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from typing import Final

from bistro.crypto.bulk import sorted_rows

DIGEST_SIZE: Final = 16
ROW_SIZE: Final = DIGEST_SIZE + 5

_WORD_SIZE: Final = 8


def make_rows(digests: bytes, indexes: array[int]) -> bytes:
    """Rows of 21 bytes, joined and sorted.

    Args:
        digests: 16 bytes each, joined.
        indexes: The index of the entry for each, below 2**40; of type ``Q``.
    """
    rows = bytearray(len(indexes) * ROW_SIZE)
    for at in range(DIGEST_SIZE):
        rows[at::ROW_SIZE] = digests[at::DIGEST_SIZE]
    words = (indexes if sys.byteorder == "big" else swapped(indexes)).tobytes()
    for at in range(DIGEST_SIZE, ROW_SIZE):
        rows[at::ROW_SIZE] = words[at - ROW_SIZE + _WORD_SIZE :: _WORD_SIZE]
    return sorted_rows(bytes(rows), ROW_SIZE)


def swapped(words: array[int]) -> array[int]:
    """The same in the other byte order."""
    other = words[:]
    other.byteswap()
    return other


def prefixes(rows: bytes) -> array[int]:
    """The first four bytes of each row as a number."""
    packed = bytearray(len(rows) // ROW_SIZE * 4)
    for at in range(4):
        packed[at::4] = rows[at::ROW_SIZE]
    words = array("I", bytes(packed))
    return words if sys.byteorder == "big" else swapped(words)


def cut(data: bytes, size: int) -> tuple[bytes, ...]:
    """Pieces of ``size`` bytes."""
    return struct.unpack(f"{size}s" * (len(data) // size), data)


def behind(rows: bytes, limit: bytes) -> int:
    """Where the rows end that are not above ``limit``."""
    places = range(0, len(rows), ROW_SIZE)
    return bisect_right(places, limit, key=lambda at: rows[at : at + ROW_SIZE]) * ROW_SIZE
