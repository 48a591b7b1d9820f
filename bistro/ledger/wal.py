"""The write-ahead file of a ledger, as a row of segments; the truth of what is not published.

A segment is filled with zeros, durably, before it is used, so the sync of a record never has a
new length to record. The next one is made ready by a thread while the one before fills up.
Segments whose entries are published and indexed are dropped.

Source: docs/spec/storage.md, write-ahead file, recovery.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.ledger.record import MAX_FILE_HEAD_SIZE, FileHead, Record
from bistro.ledger.segments import (
    FIRST_SIZE,
    MAX_SIZE,
    Place,
    clear,
    damage,
    discard,
    read_head,
    read_records,
    reserve,
)
from bistro.storage.background import background_thread
from bistro.storage.durable import (
    SYSTEM_DISK,
    TEMPORARY_SUFFIX,
    AppendFile,
    Disk,
    ReadFile,
    make_directories,
    storage_errors,
    sync_directory,
    write_atomically,
)

_NAME: Final = re.compile(r"[0-9]{16}")

_AHEAD_FROM: Final = 1 << 20
"""Segments from this size on are made ready ahead, by a thread; smaller ones take no time."""


class WriteAheadFile:
    """A ledger's write-ahead file; one thread at a time may append.

    Appending is possible once ``settle`` was called.

    Args:
        directory: The folder of its segments.
        origin: The ledger it belongs to.
        starts: First entries of the segments that are there, in order.
        disk: The system calls to use.
    """

    def __init__(
        self, directory: Path, origin: str, starts: list[int], *, disk: Disk = SYSTEM_DISK
    ) -> None:
        self.directory = directory
        self._origin = origin
        self._starts = starts
        self._disk = disk
        self._file: AppendFile | None = None
        self._offset = 0
        self._failure: str | None = None
        self._next: Future[AppendFile] | None = None
        self._next_size: int | None = None
        self._preparing = background_thread("wal-ahead")
        self._readers = 0
        self._lock = threading.Lock()

    @classmethod
    def create(cls, directory: Path, origin: str, *, disk: Disk = SYSTEM_DISK) -> Self:
        """A new one without records, durable with its name.

        Raises:
            StorageError: The disk failed; the file is whole or absent.
        """
        make_directories(directory, disk=disk)
        head = FileHead(origin, 0).encode()
        write_atomically(_path(directory, 0), head.ljust(FIRST_SIZE, b"\0"), disk=disk)
        return cls.open(directory, origin, disk=disk)

    @classmethod
    def open(cls, directory: Path, origin: str, *, disk: Disk = SYSTEM_DISK) -> Self:
        """An existing one; nothing behind the heads of its segments has been looked at.

        Raises:
            UnknownObjectError: There is none.
            StorageError: It belongs to another ledger, is damaged, or the disk failed.
        """
        starts = segment_starts(directory)
        if not starts:
            raise UnknownObjectError(f"there is no segment of a write-ahead file in {directory}")
        for start in starts:
            with ReadFile.open(_path(directory, start), disk=disk) as file:
                read_head(file, origin=origin, start=start)
        for left in directory.glob(f".*{TEMPORARY_SUFFIX}"):
            with storage_errors("delete", left):
                disk.delete(left)
        return cls(directory, origin, starts, disk=disk)

    @property
    def begins_at(self) -> int:
        """Index of the first entry that is there, or would be."""
        return self._starts[0]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Drop no segment while the block runs."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1

    def records(self, size: int) -> Iterator[tuple[Place, Record]]:
        """Whole records that end behind entry ``size``, with their places.

        Raises:
            StorageError: Damage; what was merely never completed ends the iteration.
        """
        at = max(bisect_right(self._starts, size) - 1, 0)
        expected: int | None = None
        for start in self._starts[at:]:
            is_last = start == self._starts[-1]
            with ReadFile.open(_path(self.directory, start), disk=self._disk) as file:
                first = read_head(file, origin=self._origin, start=start)
                if expected is not None and start != expected:
                    raise damage(file.path, 0, f"expected entry {expected}, found {start}")
                for place, record in read_records(
                    file, start=start, first=first, size=size, is_last=is_last
                ):
                    if expected is not None and record.start != expected:
                        reason = f"expected entry {expected}, found {record.start}"
                        raise damage(file.path, place.begin, reason)
                    expected = record.end
                    yield place, record
                if expected is None and not is_last:
                    expected = self._starts[self._starts.index(start) + 1]

    def settle(self, last: Place | None) -> None:
        """Make durable what a recovery found, and be ready for appending behind it.

        Args:
            last: Where the last whole record stands; all before it was synced before it was
                written. Without one everything is cut.

        Raises:
            StorageError: The tail may or may not still be there.
        """
        start = self._starts[-1]
        file = AppendFile.open(_path(self.directory, start), disk=self._disk)
        self._file = file
        first = read_head(file, origin=self._origin, start=start)
        begin, end = (last.begin, last.end) if last and last.segment == start else (0, first)
        clear(file, end)
        # With the record before the zeros: nothing is appended to what may not be durable.
        file.renew(begin, end)
        # Who gave the segment its name may have died before the folder was synced.
        sync_directory(self.directory, disk=self._disk)
        self._offset = end

    def append(self, record: bytes, start: int) -> None:
        """Write an encoded record and return when it is durable.

        Args:
            record: The record.
            start: Index of its first entry.

        Raises:
            UnavailableError: The disk is full; nothing was written, and asking again may help.
            StorageError: It may or may not last; this file refuses to go on, and must be
                opened and recovered again.
        """
        if self._failure is not None or self._file is None:
            raise StorageError(f"{self.directory}: stopped, because {self._failure}")
        if self._offset + len(record) > self._file.size:
            reserved = self._reserved(len(record))
            with self._stopping():
                self._begin_segment(reserved, record, start)
        else:
            with self._stopping():
                # A crash here leaves any part of the record: it is cut off, nobody was answered.
                self._file.overwrite(record, offset=self._offset)
                self._file.sync()
                # A crash here leaves the record: its entries stand, though nobody was answered.
        self._offset += len(record)
        self._reserve_ahead()

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            self._failure = str(exc) or type(exc).__name__
            raise

    def _begin_segment(self, file: AppendFile, record: bytes, start: int) -> None:
        head = FileHead(self._origin, start).encode()
        file.overwrite(head + record, offset=0)
        file.sync()
        path = _path(self.directory, start)
        # A crash here leaves a temporary that nobody reads: the record was not answered.
        with storage_errors("rename", file.path):
            self._disk.rename(file.path, path)
        sync_directory(self.directory, disk=self._disk)
        # A crash here leaves the segment, its first record whole.
        file.path = path
        if start != self._starts[-1]:
            # Else it has replaced the first segment, in which there was nothing yet.
            self._starts.append(start)
        used, self._file = self._file, file
        self._offset = len(head)
        if used is not None:
            used.close()

    def _reserve_ahead(self) -> None:
        assert self._file is not None  # noqa: S101 - a record was just written to it
        size = self._file.size
        if self._next is None and size >= _AHEAD_FROM and self._offset > size // 2:
            self._next = self._preparing.submit(self._reserve, min(2 * size, MAX_SIZE))

    def _reserve(self, size: int) -> AppendFile:
        return reserve(self.directory, size, disk=self._disk)

    def _reserved(self, record_size: int) -> AppendFile:
        """A file for the next segment, the one that was made ready if it is large enough."""
        assert self._file is not None  # noqa: S101 - the record does not fit into it
        needed = MAX_FILE_HEAD_SIZE + record_size
        try:
            if self._next is not None:
                ready, self._next = self._next, None
                file = ready.result()
                if file.size >= needed:
                    return file
                discard(file, disk=self._disk)
            size = self._next_size or min(2 * self._file.size, MAX_SIZE)
            file = self._reserve(max(size, needed))
        except StorageError as exc:
            # The next attempt asks for little: a ledger goes on as long as there is any room.
            self._next_size = FIRST_SIZE
            raise UnavailableError(
                f"no room for more entries: {exc.message}", retry_after_s=1.0, hint=exc.hint
            ) from exc
        self._next_size = None
        return file

    def drop(self, size: int) -> None:
        """Delete segments all of whose entries are below ``size``; never the last one.

        Raises:
            StorageError: The disk failed; a segment that stays is dropped later.
        """
        with self._lock:
            if self._readers:
                return
            while len(self._starts) > 1 and self._starts[1] <= size:
                path = _path(self.directory, self._starts[0])
                # A crash here leaves the segment: it is dropped again.
                with storage_errors("delete", path):
                    self._disk.delete(path)
                del self._starts[0]
                # Before the next one goes: what a power cut brings back must have no gaps.
                sync_directory(self.directory, disk=self._disk)

    def damaged(self, place: Place | None, reason: str) -> StorageError:
        """What to raise where this file cannot be what was written."""
        start, offset = (place.segment, place.begin) if place else (self._starts[-1], 0)
        return damage(_path(self.directory, start), offset, reason)

    def close(self) -> None:
        """Close; waits for an append that is under way."""
        self._preparing.shutdown()
        if self._next is not None and self._next.exception() is None:
            discard(self._next.result(), disk=self._disk)
        self._next = None
        if self._file is not None:
            self._file.close()


def segment_starts(directory: Path) -> list[int]:
    """First entries of the segments in a folder, in order; none where there is no folder.

    Raises:
        StorageError: It cannot be read.
    """
    if not directory.is_dir():
        return []
    with storage_errors("list", directory):
        names = [path.name for path in directory.iterdir()]
    return sorted(int(name) for name in names if _NAME.fullmatch(name))


def _path(directory: Path, start: int) -> Path:
    return directory / f"{start:016d}"
