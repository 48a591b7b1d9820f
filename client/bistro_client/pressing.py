"""Turns an archive that arrives in slabs into fragments in a spool: seal, cut, write.

The first chunks of an archive hold the hashes of its files and are known last. So what comes
first is what lies behind them; rows of the envelope that touch them are cut at the end.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bistro.crypto.age.payload import SEALED_CHUNK_SIZE
from bistro.crypto.sealing import CHUNK_SIZE, Sealer
from bistro.protocol.fragmenting import RowCutter
from bistro_client.spool import Spool


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
    """Plaintext in, fragments out.

    Args:
        sealer: With the held chunks of ``lead``.
        spool: Empty, made for the same first row.
    """

    def __init__(self, sealer: Sealer, lead: Lead, cutter: RowCutter, spool: Spool) -> None:
        self._sealer = sealer
        self._cutter = cutter
        self._spool = spool
        first_row = lead.first_row(sealer, row_size=cutter.row_size)
        self._row = first_row
        self._has_held = lead.held_count > 0
        # What lies in the first rows behind the held chunks waits for these.
        self._waiting = bytearray()
        self._waiting_size = first_row * cutter.row_size - lead.front_size(sealer)
        self._buffer = memoryview(bytearray())
        self._filled = 0
        if not self._has_held:
            self._append(sealer.header())

    def add(self, slab: memoryview) -> None:
        """Seal the next bytes behind the lead; whole rows go to the spool.

        Raises:
            StorageError: The disk is full or failed.
        """
        self._make_room(self._sealer.room_for(len(slab)))
        self._filled += self._sealer.update_into(slab, self._buffer[self._filled :])
        self._cut_whole_rows()

    def finish(self, lead: memoryview) -> None:
        """Seal the end and the lead; the spool then has every row, not yet durable.

        Raises:
            StorageError: The disk is full or failed.
        """
        if not self._has_held:
            self.add(lead)
        self._append(self._sealer.finish())
        self._cut_whole_rows()
        self._cut(self._buffer[: self._filled], row=self._row)
        if self._has_held:
            front = self._sealer.header() + self._sealer.seal_held(lead) + self._waiting
            self._cut(memoryview(front), row=0)

    def _append(self, data: bytes) -> None:
        self._make_room(len(data))
        self._buffer[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def _make_room(self, size: int) -> None:
        # One buffer is used again and again: fresh memory costs as much as the cipher.
        if len(self._buffer) < self._filled + size:
            larger = memoryview(bytearray(size + self._cutter.row_size))
            larger[: self._filled] = self._buffer[: self._filled]
            self._buffer = larger

    def _cut_whole_rows(self) -> None:
        """Cut what is complete of the buffer; less than a row stays, at its beginning."""
        ready = self._buffer[: self._filled]
        waiting = ready[: self._waiting_size - len(self._waiting)]
        self._waiting += waiting
        ready = ready[len(waiting) :]
        whole_size = len(ready) // self._cutter.row_size * self._cutter.row_size
        self._cut(ready[:whole_size], row=self._row)
        self._row += whole_size // self._cutter.row_size
        rest = bytes(ready[whole_size:])
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)

    def _cut(self, envelope: memoryview, *, row: int) -> None:
        """Write rows from ``row`` on; one that is not whole is the envelope's last."""
        for at in range(0, len(envelope), self._cutter.row_size):
            units = self._cutter.cut(envelope[at : at + self._cutter.row_size])
            self._spool.write_row(row, units)
            row += 1
