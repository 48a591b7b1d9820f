"""Turns an archive that arrives in slabs into rows of an envelope, for the mill to work on.

The first chunks of an archive hold the hashes of its files and are known last. So what comes
first is what lies behind them; rows of the envelope that touch them come at the end.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bistro.crypto.age.payload import SEALED_CHUNK_SIZE
from bistro.crypto.sealing import CHUNK_SIZE, Sealer
from bistro_client.milling import Mill
from bistro_client.slabs import SLAB_SIZE


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


class Press:
    """Plaintext in, rows of the envelope out.

    Args:
        sealer: With the held chunks of ``lead``.
        mill: Empty, made for the first row of ``lead``, with buffers of ``buffer_size``.
    """

    def __init__(self, sealer: Sealer, lead: Lead, mill: Mill) -> None:
        self._sealer = sealer
        self._mill = mill
        self._has_held = lead.held_count > 0
        self._row = lead.first_row(sealer, row_size=mill.row_size)
        # What lies in the first rows behind the held chunks waits for these.
        self._waiting = bytearray()
        self._waiting_size = self._row * mill.row_size - lead.front_size(sealer)
        self._buffer = mill.buffer()
        self._filled = 0
        if not self._has_held:
            self._append(sealer.header())

    @staticmethod
    def buffer_size(row_size: int) -> int:
        """What a sealed slab needs, behind a row that is not whole yet."""
        return row_size + (SLAB_SIZE // CHUNK_SIZE + 2) * SEALED_CHUNK_SIZE

    def add(self, slab: memoryview) -> None:
        """Seal the next bytes behind the lead, ``SLAB_SIZE`` at most; hand on whole rows.

        Raises:
            StorageError: The disk is full or failed.
        """
        self._filled += self._sealer.update_into(slab, self._buffer[self._filled :])
        self._hand_on()

    def finish(self, lead: memoryview) -> None:
        """Seal the end and the lead; the spool then has every row, not yet durable.

        Raises:
            StorageError: The disk is full or failed.
        """
        if not self._has_held:
            for at in range(0, len(lead), SLAB_SIZE):
                self.add(lead[at : at + SLAB_SIZE])
        self._append(self._sealer.finish())
        self._mill.finish(self._buffer[: self._filled], row=self._row)
        if self._has_held:
            front = self._sealer.header() + self._sealer.seal_held(lead) + self._waiting
            self._mill.put_in_front(memoryview(front))

    def _append(self, data: bytes) -> None:
        self._buffer[self._filled : self._filled + len(data)] = data
        self._filled += len(data)
        self._hand_on()

    def _hand_on(self) -> None:
        """Hand on what is complete; less than a row stays, in another buffer."""
        begin = min(self._filled, self._waiting_size - len(self._waiting))
        count = (self._filled - begin) // self._mill.row_size
        end = begin + count * self._mill.row_size
        if not end:
            return
        self._waiting += self._buffer[:begin]
        rest = bytes(self._buffer[end : self._filled])
        if count:
            self._mill.take(self._buffer, self._buffer[begin:end], row=self._row)
            self._row += count
            self._buffer = self._mill.buffer()
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)
