"""Makes an envelope of an archive, slab by slab, on all cores: read, seal, code, write, hash.

Each thread does all of it for one slab after the other, so that the bytes stay in its core's
cache. One at a time reads, since files are hashed from the first byte; the rest depends on
nobody, but for the end of a slab that is no whole row: the next thread waits for it.

The first chunks of an archive hold the hashes of its files and are known last. So what comes
first is what lies behind them; rows of the envelope that touch them are cut at the end.

Source: docs/spec/filing.md, sealing; docs/spec/fragments.md, striping and tree hash.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from bistro.crypto.sealing import CHUNK_SIZE, SEALED_CHUNK_SIZE, Sealer
from bistro.protocol.fragmenting import CutSums, RowCutter, row_leaves
from bistro.wire.clauses import Spread
from bistro.wire.fragment import Cut
from bistro_client.feeding import Feed
from bistro_client.leading import Lead
from bistro_client.spool import Spool

LEAST_SLAB: Final = 262_144
"""Bytes that a thread takes at once: a few of them fit into a core's second cache."""
_MOST_THREADS: Final = 4
"""Reading is two sevenths of the work: more threads would wait for it."""
_MOST_MEMORY: Final = 67_108_864
"""Bytes of all threads' buffers: rows of hundreds of units are for fewer threads."""

_Last = tuple[Sequence[memoryview], memoryview] | None
"""Units of the envelope's last row, if that is not full, and what it has of the envelope."""


@dataclass(frozen=True, slots=True)
class _Slab:
    """What one thread has to do next.

    Attributes:
        number: From 0.
        first: Number of its first chunk in the envelope.
        size: Bytes of the archive.
        is_end: Whether the envelope ends with it.
        before: Gives the end of the slab before, less than a row; ``None`` if that failed.
        after: Takes the end of this one.
    """

    number: int
    first: int
    size: int
    is_end: bool
    before: SimpleQueue[bytes | None]
    after: SimpleQueue[bytes | None]


class Mill:
    """One envelope in the making.

    Args:
        spread: How the envelope is cut.
        sealer: With the held chunks of ``lead``.
        lead: What is sealed last.
        spool: Empty.
        archive_size: Bytes of the archive.
    """

    def __init__(
        self, spread: Spread, sealer: Sealer, lead: Lead, spool: Spool, *, archive_size: int
    ) -> None:
        self._spread = spread
        self._sealer = sealer
        self._lead = lead
        self._spool = spool
        self._row_size = RowCutter(k=spread.k, n=spread.n).row_size
        # Every slab has the end of a row, so that what is left over is never more than one.
        self._slab_size = -(-max(LEAST_SLAB, self._row_size) // CHUNK_SIZE) * CHUNK_SIZE
        self._envelope_size = sealer.envelope_size(archive_size)
        self._first_row = lead.first_row(sealer, row_size=self._row_size)
        # --- changed under ``_reading``
        self._reading = threading.Lock()
        self._left = archive_size - lead.size
        self._count = 0
        self._tail: SimpleQueue[bytes | None] = SimpleQueue()
        self._tail.put(b"")
        self._is_broken = False
        # --- changed under ``_counting``
        self._counting = threading.Lock()
        self._sums = CutSums(k=spread.k, n=spread.n, first_row=self._first_row)
        self._waiting: dict[int, tuple[list[list[bytes]], _Last]] = {}
        self._counted = 0
        # --- what lies in the first rows behind the lead waits for that
        self._behind_lead = b""

    def run(self, feed: Feed) -> None:
        """Work on all that lies behind the lead.

        Raises:
            ConflictError: A file changed.
            SettingsError: A file cannot be read.
            StorageError: The disk is full or failed.
        """
        slab_count = -(-self._left // self._slab_size)
        if not slab_count:
            return
        memory_count = max(1, _MOST_MEMORY // (2 * self._slab_size + self._row_size))
        thread_count = min(_core_count(), _MOST_THREADS, slab_count, memory_count)
        with ThreadPoolExecutor(thread_count) as pool:
            futures = [pool.submit(self._work_on_all, feed) for _ in range(thread_count)]
        for future in futures:
            future.result()

    def finish(self, lead: memoryview) -> Cut:
        """Work on the lead, when all else is done; the spool has every row, not yet durable.

        Returns:
            What the commitment says of the envelope and its fragments.

        Raises:
            StorageError: The disk is full or failed.
        """
        if self._lead.held_count:
            sealed = self._sealer.seal_held(lead)
        else:
            sealed = self._sealer.update(lead) + self._sealer.finish()
        front = memoryview(self._sealer.header() + sealed + self._behind_lead)
        sums = CutSums(k=self._spread.k, n=self._spread.n)
        leaves, last = self._work_on_rows(front, 0, self._new_cutter())
        _add(sums, leaves, last)
        sums.join(self._sums)
        return sums.cut(self._envelope_size)

    def _work_on_all(self, feed: Feed) -> None:
        """Work on one slab after the other, until there are no more."""
        plain = memoryview(bytearray(self._slab_size))
        sealed_size = self._slab_size // CHUNK_SIZE * SEALED_CHUNK_SIZE
        sealed = memoryview(bytearray(self._row_size + sealed_size))
        cutter = self._new_cutter()
        try:
            while (slab := self._next(feed, plain)) is not None:
                self._work_on(slab, plain[: slab.size], sealed, cutter)
        except BaseException:
            # The others stop at their next slab; whoever waits for this one is told.
            self._is_broken = True
            raise

    def _next(self, feed: Feed, plain: memoryview) -> _Slab | None:
        """Read the next slab."""
        with self._reading:
            if self._is_broken or not self._left:
                return None
            size = min(self._left, self._slab_size)
            try:
                feed.fill(plain[:size])
            except BaseException:
                self._is_broken = True
                raise
            self._left -= size
            number, self._count = self._count, self._count + 1
            first = self._sealer.reserve(-(-size // CHUNK_SIZE))
            before, self._tail = self._tail, SimpleQueue()
            return _Slab(number, first, size, not self._left, before, self._tail)

    def _work_on(
        self, slab: _Slab, plain: memoryview, sealed: memoryview, cutter: RowCutter
    ) -> None:
        """Seal a slab, and work on the rows that end in it."""
        tail: bytes | None = None
        row_size = self._row_size
        try:
            size = self._sealer.seal_reserved(
                slab.first, plain, sealed[row_size:], is_end=slab.is_end
            )
            begin = self._lead.front_size(self._sealer)
            begin += slab.number * (self._slab_size // CHUNK_SIZE * SEALED_CHUNK_SIZE)
            tail_size = 0 if slab.is_end else (begin + size) % row_size
            end = row_size + size - tail_size
            tail = bytes(sealed[end : end + tail_size])
        finally:
            slab.after.put(tail)
        head = slab.before.get()
        if head is None:
            return  # what failed is told by the thread that it failed in
        if slab.number:
            start = row_size - len(head)
            sealed[start:row_size] = head
        else:
            skipped = min(self._first_row * row_size - begin, size)
            start = row_size + skipped
            self._behind_lead = bytes(sealed[row_size:start])
        first_row = (begin + start - row_size) // row_size
        leaves, last = self._work_on_rows(sealed[start:end], first_row, cutter)
        self._count_in(slab.number, leaves, last, size)

    def _work_on_rows(
        self, rows: memoryview, row: int, cutter: RowCutter
    ) -> tuple[list[list[bytes]], _Last]:
        """Code, write and hash rows; what the leaves of the full ones are, and the last's units."""
        leaves: list[list[bytes]] = []
        for at in range(0, len(rows), self._row_size):
            piece = rows[at : at + self._row_size]
            units = cutter.cut(piece)
            self._spool.write_row(row + len(leaves), units)
            if len(piece) < self._row_size:
                return leaves, (units, piece)
            leaves.append(row_leaves(units, self._spread.k))
        return leaves, None

    def _count_in(self, number: int, leaves: list[list[bytes]], last: _Last, size: int) -> None:
        """Put a slab's leaves behind those of the slabs before, once these are there."""
        with self._counting:
            self._waiting[number] = leaves, last
            while (found := self._waiting.pop(self._counted, None)) is not None:
                _add(self._sums, *found)
                self._counted += 1
            self._spool.note_written(size)

    def _new_cutter(self) -> RowCutter:
        return RowCutter(k=self._spread.k, n=self._spread.n)


def _add(sums: CutSums, leaves: list[list[bytes]], last: _Last) -> None:
    for row in leaves:
        sums.add(row)
    if last is not None:
        sums.add_last(*last)


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
