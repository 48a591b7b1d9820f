"""Codes, writes and hashes rows of an envelope on all cores, in buffers that are used again.

Rows do not depend on each other, and the tree hashes take their leaves from anywhere. So one
thread hands rows over in order and collects their leaves in order; what lies between is done by
whichever core is free. When all buffers are on their way it waits for the oldest: memory does
not depend on which part is slow.

Source: docs/spec/fragments.md, tree hash and striping.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

from bistro.protocol.fragmenting import CutSums, RowCutter, row_leaves
from bistro.wire.clauses import Spread
from bistro.wire.fragment import UNIT_SIZE
from bistro_client.spool import Spool

_MOST_THREADS: Final = 4
"""Reading, hashing files and encrypting take the time of two or three threads like these."""

_Leaves = list[list[bytes]]


class Mill:
    """Takes whole rows of one envelope; a context manager that waits for its threads.

    Args:
        spread: How the envelope is cut.
        spool: Where units go.
        first_row: The row that comes first; those before it come last.
        buffer_size: Bytes of a buffer.

    Attributes:
        row_size: Bytes of every row but the last.
    """

    def __init__(self, spread: Spread, spool: Spool, *, first_row: int, buffer_size: int) -> None:
        self._spread = spread
        self._spool = spool
        self._sums = CutSums(k=spread.k, n=spread.n, first_row=first_row)
        self._front = CutSums(k=spread.k, n=spread.n)
        thread_count = min(_core_count(), _MOST_THREADS)
        self._pool = ThreadPoolExecutor(thread_count)
        self._cutters: SimpleQueue[RowCutter] = SimpleQueue()
        for _ in range(thread_count):
            self._cutters.put(RowCutter(k=spread.k, n=spread.n))
        self._last_cutter = RowCutter(k=spread.k, n=spread.n)
        self._free = [memoryview(bytearray(buffer_size)) for _ in range(thread_count + 2)]
        self._taken: deque[tuple[memoryview, int, Future[_Leaves]]] = deque()
        self.row_size = spread.k * UNIT_SIZE

    def __enter__(self) -> Self:
        """The mill itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; what was not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def buffer(self) -> memoryview:
        """A buffer to fill; waits for one.

        Raises:
            StorageError: The disk is full or failed, a moment ago.
        """
        if not self._free:
            self._reclaim()
        return self._free.pop()

    def take(self, buffer: memoryview, rows: memoryview, *, row: int) -> None:
        """Work on whole rows, from ``row`` on, that lie in a buffer, which is given back."""
        self._taken.append((buffer, len(rows), self._pool.submit(self._work, rows, row)))

    def finish(self, rest: memoryview, *, row: int) -> None:
        """Work on the last row, if there is one that is not whole, after all others are done.

        Raises:
            StorageError: The disk is full or failed.
        """
        while self._taken:
            self._reclaim()
        self._work_last(self._sums, rest, row)

    def put_in_front(self, rows: memoryview) -> None:
        """Work on the rows before the first; they may be the whole envelope.

        Raises:
            StorageError: The disk is full or failed.
        """
        whole_size = len(rows) // self.row_size * self.row_size
        for leaves in self._work(rows[:whole_size], 0):
            self._front.add(leaves)
        self._work_last(self._front, rows[whole_size:], whole_size // self.row_size)

    def sums(self) -> CutSums:
        """The hashes of the whole envelope, once all rows were worked on."""
        self._front.join(self._sums)
        return self._front

    def _work(self, rows: memoryview, row: int) -> _Leaves:
        """Code, write and hash whole rows; what their leaves are."""
        found: _Leaves = []
        cutter = self._cutters.get()
        try:
            for at in range(0, len(rows), self.row_size):
                units = cutter.cut(rows[at : at + self.row_size])
                self._spool.write_row(row + len(found), units)
                found.append(row_leaves(units, self._spread.k))
        finally:
            self._cutters.put(cutter)
        return found

    def _work_last(self, sums: CutSums, rest: memoryview, row: int) -> None:
        if rest:
            units = self._last_cutter.cut(rest)
            self._spool.write_row(row, units)
            sums.add_last(units, rest)

    def _reclaim(self) -> None:
        """Wait for the oldest buffer; what went wrong with it is raised here."""
        buffer, size, future = self._taken.popleft()
        for leaves in future.result():
            self._sums.add(leaves)
        self._free.append(buffer)
        self._spool.note_written(size)


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
