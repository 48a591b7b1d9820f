"""Makes an envelope of an archive, slab by slab, on all cores: read, seal, code, write, hash.

Each thread does all of it for one slab after the other, row by row, so that the bytes stay in
its core's cache. One at a time reads, since files are hashed from the first byte; the rest
depends on nobody, but for the row that a slab begins and the next one ends: whoever has that
one does all else before. Each step is one long call, in which the others may run.

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
from bistro.protocol.fragmenting import CutSums, LastLeaves, RowCutter, row_leaves
from bistro.wire.clauses import Spread
from bistro.wire.fragment import Cut
from bistro_client.feeding import Feed
from bistro_client.leading import Lead
from bistro_client.spool import Spool

LEAST_SLAB: Final = 2_097_152
"""Bytes that a thread takes at once, so that it seldom waits for another, or for the disk."""
_STEP: Final = 4 * CHUNK_SIZE
"""Bytes that are sealed before rows of them are coded and hashed: while a core has them near."""
_START_AFTER: Final = 16_777_216
"""Bytes after which the disk is told to begin, where it does not by itself."""
_MOST_THREADS: Final = 4
"""Reading is two sevenths of the work: more threads would wait for it."""
_MOST_MEMORY: Final = 67_108_864
"""Bytes of all threads' buffers: rows of hundreds of units are for fewer threads."""


@dataclass(frozen=True, slots=True)
class _Bench:
    """What one thread works with, again and again.

    Attributes:
        plain: Has room for a slab of the archive.
        sealed: For its chunks, behind room for the row that the slab before began.
    """

    plain: memoryview
    sealed: memoryview
    cutter: RowCutter


class _Rows:
    """Neighbouring rows of an envelope, coded and hashed."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.units: list[Sequence[memoryview]] = []
        """Of every row; parity is in buffers that the next row has taken."""
        self._leaves: list[Sequence[bytes]] = []
        self._last: LastLeaves | None = None

    def add(self, row: memoryview, cutter: RowCutter) -> None:
        """Code and hash the next row; the envelope's last may be shorter than the others."""
        units = cutter.cut(row)
        self.units.append(units)
        if len(row) == cutter.row_size:
            self._leaves.append(row_leaves(units, self._k))
        else:
            self._last = LastLeaves.of(units, row, self._k)

    def put_first(self, row: memoryview, cutter: RowCutter) -> None:
        """Code and hash the row before those that are there; an empty one is none."""
        if not row:
            return
        first = _Rows(self._k)
        first.add(row, cutter)
        self.units[:0] = first.units
        self._leaves[:0] = first._leaves
        self._last = first._last or self._last

    def add_to(self, sums: CutSums) -> None:
        """Put the leaves behind those that are there."""
        sums.add(self._leaves)
        if self._last is not None:
            sums.add_last(self._last)


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
        self._sealed_size = self._slab_size // CHUNK_SIZE * SEALED_CHUNK_SIZE
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
        self._waiting: dict[int, _Rows] = {}
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
        rows, cutter = _Rows(self._spread.k), self._new_cutter()
        for at in range(0, len(front), self._row_size):
            rows.add(front[at : at + self._row_size], cutter)
        self._spool.write_rows(0, rows.units)
        sums = CutSums(k=self._spread.k, n=self._spread.n)
        rows.add_to(sums)
        sums.join(self._sums)
        return sums.cut(self._envelope_size)

    def _work_on_all(self, feed: Feed) -> None:
        """Work on one slab after the other, until there are no more."""
        bench = _Bench(
            plain=memoryview(bytearray(self._slab_size)),
            sealed=memoryview(bytearray(self._row_size + self._sealed_size)),
            cutter=self._new_cutter(),
        )
        try:
            while (slab := self._next(feed, bench.plain)) is not None:
                self._work_on(slab, bench)
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

    def _work_on(self, slab: _Slab, bench: _Bench) -> None:
        """Seal a slab, and work on the rows that end in it."""
        sealed, row_size = bench.sealed, self._row_size
        begin = self._lead.front_size(self._sealer) + slab.number * self._sealed_size
        start = row_size + -begin % row_size
        rows = _Rows(self._spread.k)
        tail: bytes | None = None
        try:
            end, at = self._work_on_own_rows(slab, bench, start, rows)
            tail = bytes(sealed[at:end])
        finally:
            slab.after.put(tail)
        head = slab.before.get()
        if head is None:
            return  # what failed is told by the thread that it failed in
        first_row = self._first_row
        if slab.number:
            sealed[row_size - len(head) : row_size] = head
            rows.put_first(sealed[row_size - len(head) : min(start, end)], bench.cutter)
            first_row = (begin - len(head)) // row_size
        else:
            self._behind_lead = bytes(sealed[row_size : min(start, end)])
        self._spool.write_rows(first_row, rows.units)
        self._count_in(slab.number, rows)
        if slab.number % (-(-_START_AFTER // self._slab_size)) == 0:
            self._spool.start()

    def _work_on_own_rows(
        self, slab: _Slab, bench: _Bench, at: int, rows: _Rows
    ) -> tuple[int, int]:
        """Seal a slab, and work on each row that begins and ends in it as soon as it is there.

        Args:
            slab: What was read.
            bench: Where it is.
            at: Where the first such row begins among what is sealed.
            rows: Takes them.

        Returns:
            Where the slab ends, and where the row begins that the next one ends.
        """
        end = self._row_size
        for first in range(0, slab.size, _STEP):
            piece = bench.plain[first : min(first + _STEP, slab.size)]
            is_end = slab.is_end and first + len(piece) == slab.size
            number = slab.first + first // CHUNK_SIZE
            end += self._sealer.seal_reserved(number, piece, bench.sealed[end:], is_end=is_end)
            while end - at >= self._row_size:
                rows.add(bench.sealed[at : at + self._row_size], bench.cutter)
                at += self._row_size
        if slab.is_end and at < end:
            rows.add(bench.sealed[at:end], bench.cutter)
        return end, at

    def _count_in(self, number: int, rows: _Rows) -> None:
        """Put a slab's leaves behind those of the slabs before, once these are there."""
        with self._counting:
            self._waiting[number] = rows
            while (found := self._waiting.pop(self._counted, None)) is not None:
                found.add_to(self._sums)
                self._counted += 1

    def _new_cutter(self) -> RowCutter:
        return RowCutter(k=self._spread.k, n=self._spread.n)


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
