"""The part of an archive that is sealed last.

Source: docs/spec/filing.md, sealing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bistro.crypto.sealing import CHUNK_SIZE, SEALED_CHUNK_SIZE, Sealer


@dataclass(frozen=True, slots=True)
class Lead:
    """The part of an archive that is sealed last, in whole chunks; it holds the head.

    Attributes:
        size: Bytes of the archive that wait in memory.
        held_count: Chunks of the envelope that are made last; 0 where all of it waits.
    """

    size: int
    held_count: int

    @classmethod
    def of(cls, *, head_size: int, archive_size: int) -> Self:
        """The least whole number of chunks that holds the head, or all of a small archive."""
        count = head_size // CHUNK_SIZE + 1
        if archive_size <= count * CHUNK_SIZE:
            return cls(archive_size, 0)
        return cls(count * CHUNK_SIZE, count)

    def front_size(self, sealer: Sealer) -> int:
        """Bytes at the front of the envelope that are known last."""
        if not self.held_count:
            return 0
        return len(sealer.header()) + self.held_count * SEALED_CHUNK_SIZE

    def first_row(self, sealer: Sealer, *, row_size: int) -> int:
        """The first row of the envelope that is known before the end."""
        return -(-self.front_size(sealer) // row_size)
