"""The shelf: small fragments in shared segments, written in batches, and what of them lives.

| state of a segment | event | next |
|---|---|---|
| spare | a record needs room | open |
| open | the next record does not fit, a write failed, the end | sealed |
| sealed | nothing in it lives or waits | empty, then spare |

A record *waits* from when it is written until its row is there or it is given up; it *lives*
until it is given up. Files of segments are never touched for a deletion.

Any thread may call. Rows are the truth: these books are made from them at every start.

Source: docs/spec/segments.md, shared segments.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bistro.errors import StorageError
from bistro_relay.store.shared import (
    SEGMENT_SIZE,
    OpenSegment,
    Place,
    Record,
    SharedFiles,
    Wanted,
)

MAX_SPARE: Final = 16
"""Emptied segments that are kept to be used again; others are deleted."""

_SPARSE: Final = 4


@dataclass(slots=True)
class _Books:
    live_size: int = 0
    live_count: int = 0
    waiting: int = 0
    is_settled: bool = False


class Shelf:
    """All shared segments.

    Args:
        files: Their folder.
        free_bytes: What may be taken of the disk now; a new segment is not begun without it, for
            a disk that is full for a moment only stops whoever writes a ledger in that moment.
    """

    def __init__(self, files: SharedFiles, free_bytes: Callable[[], int]) -> None:
        self._files = files
        self._free_bytes = free_bytes
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._books: dict[int, _Books] = {}
        self._spare: list[int] = []
        self._open: OpenSegment | None = None
        self._next = 0

    def begin(self) -> list[int]:
        """Note all segments that are there, sealed and unsettled; their numbers."""
        numbers = self._files.numbers()
        with self._lock:
            self._books = {number: _Books() for number in numbers}
            self._next = max(numbers, default=-1) + 1
        return numbers

    def note(self, number: int, *, count: int, size: int) -> None:
        """What the rows say of a segment: so many live records, with so many bytes of data.

        Raises:
            KeyError: There is no such segment.
        """
        with self._lock:
            books = self._books[number]
            books.live_count, books.live_size = count, size

    def settled(self, numbers: Iterable[int]) -> None:
        """Every record of these sealed segments has its row or is dead, durably so."""
        with self._lock:
            for number in numbers:
                if number in self._books:
                    self._books[number].is_settled = True

    def write(self, records: Sequence[Record]) -> list[Place]:
        """Write records, one batch at a time; they are durable and wait when this returns.

        Raises:
            StorageError: The disk is full or failed; none of them lives.
        """
        with self._writing:
            places: list[Place] = []
            try:
                while len(places) < len(records):
                    places += self._write_some(records[len(places) :])
            except StorageError:
                for place, record in zip(places, records, strict=False):
                    self._bury(place, len(record.data), is_waiting=True)
                raise
            return places

    def _write_some(self, records: Sequence[Record]) -> list[Place]:
        segment = self._require_open(records[0].size)
        room, count = segment.room, 0
        for record in records:
            room -= record.size
            if room < 0:
                break
            count += 1
        try:
            places = segment.write(records[:count])
        except StorageError:
            self._seal()
            raise
        with self._lock:
            books = self._books[segment.number]
            books.live_count += count
            books.waiting += count
            books.live_size += sum(len(record.data) for record in records[:count])
        return places

    def _require_open(self, size: int) -> OpenSegment:
        if self._open is not None and self._open.room >= size:
            return self._open
        self._seal()
        with self._lock:
            number = self._spare.pop() if self._spare else None
        if number is None:
            number = self._make()
        try:
            self._open = self._files.open(number)
        except StorageError:
            with self._lock:
                self._books[number] = _Books()
            raise
        with self._lock:
            self._books[number] = _Books()
        return self._open

    def _make(self) -> int:
        free = self._free_bytes()
        if free < SEGMENT_SIZE:
            raise StorageError(
                f"a new segment: expected {SEGMENT_SIZE} bytes free, found {free}",
                hint="free some space",
            ) from OSError(errno.ENOSPC, "kept free")
        with self._lock:
            number, self._next = self._next, self._next + 1
        self._files.make(number)
        return number

    def _seal(self) -> None:
        segment, self._open = self._open, None
        if segment is not None:
            with suppress(StorageError):
                segment.close()

    @property
    def needs_spare(self) -> bool:
        """Whether a segment should be made before the open one is full."""
        segment = self._open
        with self._lock:
            return segment is not None and segment.room < SEGMENT_SIZE // 2 and not self._spare

    def add_spare(self) -> None:
        """Make a segment ahead of need.

        Raises:
            StorageError: The disk is full or failed; nothing is lost.
        """
        number = self._make()
        with self._lock:
            self._spare.append(number)

    def keep(self, place: Place) -> None:
        """A record that waited has its row, durably."""
        with self._lock:
            self._books[place.segment].waiting -= 1

    def give_up(self, wanted: Wanted, *, is_waiting: bool = False) -> None:
        """A record is dead: nothing will read it, and no row names its place.

        Args:
            wanted: The record.
            is_waiting: Whether it never got a row.
        """
        self._bury(wanted.place, wanted.size, is_waiting=is_waiting)

    def _bury(self, place: Place, size: int, *, is_waiting: bool) -> None:
        with self._lock:
            books = self._books.get(place.segment)
            if books is not None:
                books.live_count -= 1
                books.live_size -= size
                books.waiting -= is_waiting

    def _sealed(self) -> list[tuple[int, _Books]]:
        """Segments on which nobody works and of which everything is known."""
        opened = self._open
        number = None if opened is None else opened.number
        return [
            (found, books)
            for found, books in self._books.items()
            if found != number and not books.waiting
        ]

    def list_settleable(self) -> list[int]:
        """Sealed segments with live records that could be settled."""
        with self._lock:
            sealed = self._sealed()
            return [one for one, books in sealed if books.live_count and not books.is_settled]

    def list_empty(self) -> list[int]:
        """Sealed segments in which nothing lives."""
        with self._lock:
            return [one for one, books in self._sealed() if not books.live_count]

    def recycle(self, numbers: Iterable[int]) -> None:
        """Use empty segments again, now that no row says that they are settled.

        Raises:
            StorageError: The disk failed.
        """
        for number in numbers:
            with self._lock:
                books = self._books.get(number)
                if books is None or books.live_count or books.waiting:
                    continue
                del self._books[number]
                is_kept = len(self._spare) < MAX_SPARE
            if is_kept and self._files.is_whole(number):
                # A start would scan what it held, to find all of it dead.
                self._files.blank(number)
                with self._lock:
                    self._spare.append(number)
            else:
                self._files.delete(number)

    def find_sparse(self) -> int | None:
        """The sealed segment that is worth emptying most, if moving would free a whole one."""
        with self._lock:
            sparse = [
                (books.live_size, number)
                for number, books in self._sealed()
                if books.live_count and books.live_size * _SPARSE < SEGMENT_SIZE
            ]
        if sum(SEGMENT_SIZE - size for size, _ in sparse) < SEGMENT_SIZE:
            return None
        return min(sparse)[1]

    def read(self, wanted: Sequence[Wanted]) -> list[memoryview | StorageError]:
        """See ``SharedFiles.read``."""
        return self._files.read(wanted)

    def close(self) -> None:
        """Seal what is open and give all files back."""
        with self._writing:
            self._seal()
            self._files.close()
