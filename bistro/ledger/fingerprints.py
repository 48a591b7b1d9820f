"""Which keys may be in the duplicate index: three bytes for each, in memory.

A digest's first 18 bits choose a bucket, its bytes 4 to 6 are its fingerprint there. Of keys
that are not in the index, about one in 10^5 seems to be at 10^7 entries, and ten times as many
at 10^8; those are looked for on disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from bistro.crypto.bulk import add_prints, known_prints

BUCKET_BITS: Final = 18

_DIGEST_SIZE: Final = 16
_ROW_SIZE: Final = 21


class Fingerprints:
    """The fingerprints; one thread adds while others ask, each sees whole buckets."""

    def __init__(self) -> None:
        # None of the memory is taken before there is something to remember.
        self._buckets: list[bytes] = []

    def add(self, rows: bytes) -> None:
        """Remember the digests of some rows."""
        add_prints(self._made(), rows, _ROW_SIZE, BUCKET_BITS)

    def add_sorted(self, rows: bytes, bounds: Sequence[int]) -> None:
        """Remember the digests of many sorted rows, by columns.

        Args:
            rows: Digests, 16 bytes, each with 5 more.
            bounds: For every bucket and the end, the number of its first row in ``rows``.
        """
        buckets = self._made()
        prints = bytearray(len(rows) // _ROW_SIZE * 3)
        for column in range(3):
            prints[column::3] = rows[4 + column :: _ROW_SIZE]
        joined = bytes(prints)
        for bucket, (begin, end) in enumerate(pairwise(bounds)):
            if begin < end:
                buckets[bucket] += joined[3 * begin : 3 * end]

    def _made(self) -> list[bytes]:
        if not self._buckets:
            self._buckets = [b""] * (1 << BUCKET_BITS)
        return self._buckets

    def suspects(self, texts: Sequence[bytes], digests: bytes) -> list[bytes]:
        """The texts whose digests may have been added; none that was is missing.

        Args:
            texts: What the digests stand for.
            digests: One for each, joined.
        """
        buckets = self._buckets
        if not buckets:
            return []
        return [texts[at] for at in known_prints(buckets, digests, _DIGEST_SIZE, BUCKET_BITS)]


def bucket_bounds(table: array[int], bits: int) -> list[int] | None:
    """The first row of every bucket, from a table with that of every ``bits``-bit prefix."""
    if bits < BUCKET_BITS:
        return None
    return table[:: 1 << (bits - BUCKET_BITS)].tolist()
