"""The spool: the fragments of one envelope on the filer's disk.

Units come row by row, in any order, and are written where they belong. A checksum of what was
written is kept for the moment when it is read back: see ``bistro_client.reading_back``.

Source: docs/spec/fragments.md; docs/spec/filing.md, sealing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bistro.crypto.checksum import crc32
from bistro.storage.durable import SYSTEM_DISK, Disk, storage_errors
from bistro.wire.fragment import UNIT_SIZE
from bistro_client import messages

FLUSH_SIZE: Final = 67_108_864
"""Bytes after which the disk is told to begin: it works while the next rows are made."""


class SpoolFile:
    """One fragment in the making: one thread writes, another may sync meanwhile.

    Args:
        boundary: Bytes of the front, which is written last; units of the front come in order,
            and so do those behind it.
    """

    def __init__(self, path: Path, *, boundary: int, disk: Disk = SYSTEM_DISK) -> None:
        self.path = path
        self._boundary = boundary
        self._disk = disk
        self._sums = [0, 0]  # of the front, and of what is behind it
        with storage_errors("create", path):
            self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def write(self, unit: memoryview, *, offset: int) -> None:
        """Write a unit where it belongs; durable only after ``sync``.

        Raises:
            OSError: The disk is full or failed.
        """
        part = offset >= self._boundary
        self._sums[part] = crc32(unit, self._sums[part])
        written = self._disk.write(self._fd, unit, offset=offset)
        while written < len(unit):
            written += self._disk.write(self._fd, unit[written:], offset=offset + written)

    def sync(self) -> None:
        """Return when all that was written before is on the medium.

        Raises:
            StorageError: It may or may not be.
        """
        with storage_errors("sync", self.path):
            self._disk.sync(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        with storage_errors("close", self.path):
            self._disk.close(self._fd)

    def pieces(self, size: int, *, at_most: int) -> Iterator[memoryview]:
        """What the file holds, piece by piece, in a buffer that is used again.

        Args:
            size: Of the fragment.
            at_most: Bytes of a piece, a multiple of a unit; only the last of the front and the
                last one have fewer.

        Raises:
            StorageError: The bytes are not those that were written.
        """
        found, at = [0, 0], 0
        buffer = memoryview(bytearray(at_most))
        with storage_errors("read", self.path), self.path.open("rb", buffering=0) as file:
            while at < size:
                part = int(at >= self._boundary)
                end = size if part else min(size, self._boundary)
                piece = buffer[: file.readinto(buffer[: end - at])]
                if not piece:
                    break
                found[part] = crc32(piece, found[part])
                at += len(piece)
                yield piece
        if found != self._sums:
            raise messages.spool_changed(self.path)


class Spool:
    """All fragments of one envelope: a context manager that closes them.

    Args:
        paths: Where they go; there is nothing yet.
        first_row: Rows before this one come last.
    """

    def __init__(self, paths: Sequence[Path], *, first_row: int, disk: Disk = SYSTEM_DISK) -> None:
        self.files: list[SpoolFile] = []
        self._unflushed = 0
        self._flush: Future[None] | None = None
        with ExitStack() as stack:
            for path in paths:
                file = SpoolFile(path, boundary=first_row * UNIT_SIZE, disk=disk)
                stack.callback(file.close)
                self.files.append(file)
            self._flusher = stack.enter_context(ThreadPoolExecutor(1))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """The spool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all files once nobody syncs them; what was not synced may not last."""
        self._stack.close()

    def write_row(self, row: int, units: Sequence[memoryview]) -> None:
        """Write the n units of row ``row``.

        Raises:
            StorageError: The disk is full or failed, now or a moment ago.
        """
        # Entered once a row, not once a unit: there are tens of thousands of units in a second.
        with storage_errors("write", self.files[0].path.parent):
            for file, unit in zip(self.files, units, strict=True):
                file.write(unit, offset=row * UNIT_SIZE)
        self._unflushed += len(units) * len(units[0])
        if self._unflushed >= FLUSH_SIZE and (self._flush is None or self._flush.done()):
            self._unflushed = 0
            self.begin_sync()

    def begin_sync(self) -> None:
        """Let the disk begin with what was written so far; the one before must not have failed.

        Raises:
            StorageError: It failed.
        """
        if self._flush is not None:
            self._flush.result()
        self._flush = self._flusher.submit(self._sync_all)

    def end_sync(self) -> None:
        """Return when everything written before ``begin_sync`` is on the medium.

        Raises:
            StorageError: It may or may not be.
        """
        if self._flush is not None:
            self._flush.result()

    def _sync_all(self) -> None:
        for file in self.files:
            file.sync()
