"""The spool: the data fragments of one envelope on the filer's disk.

Units come row by row, in any order and from several threads, and are written where they belong.

Source: docs/spec/fragments.md; docs/spec/filing.md, sealing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bistro.storage.durable import SYSTEM_DISK, Disk, storage_errors
from bistro.wire.fragment import UNIT_SIZE

FLUSH_SIZE: Final = 67_108_864
"""Bytes after which the disk is told to begin: it works while the next rows are made."""


class SpoolFile:
    """One data fragment in the making: several threads write, another may sync meanwhile."""

    def __init__(self, path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self.path = path
        self._disk = disk
        with storage_errors("create", path):
            self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def write(self, unit: memoryview, *, offset: int) -> None:
        """Write a unit where it belongs; durable only after ``sync``.

        Raises:
            OSError: The disk is full or failed.
        """
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


class Spool:
    """All data fragments of one envelope: a context manager that closes them.

    Args:
        paths: Where they go, k of them; there is nothing yet.
    """

    def __init__(self, paths: Sequence[Path], *, disk: Disk = SYSTEM_DISK) -> None:
        self.files: list[SpoolFile] = []
        self._unflushed = 0
        self._flush: Future[None] | None = None
        with ExitStack() as stack:
            for path in paths:
                file = SpoolFile(path, disk=disk)
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
        """Write the data units of row ``row``, the first of ``units``; several threads may.

        Raises:
            StorageError: The disk is full or failed.
        """
        # Entered once a row, not once a unit: there are tens of thousands of units in a second.
        with storage_errors("write", self.files[0].path.parent):
            for file, unit in zip(self.files, units, strict=False):
                file.write(unit, offset=row * UNIT_SIZE)

    def note_written(self, size: int) -> None:
        """So many bytes of the envelope are written; let the disk begin with them now and then.

        Raises:
            StorageError: It failed, a moment ago.
        """
        self._unflushed += size
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
