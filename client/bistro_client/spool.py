"""The spool: the data fragments of one envelope on the filer's disk.

Units come row by row, in any order and from several threads, and are written where they belong.
Nobody reads them before the transfer, which takes longer than any disk: so the system is asked
to write them at once and to keep none in memory. What a filing of gigabytes would have taken of
it, page by page, cost more than encrypting it; and when all is sealed, little is left to sync.

Source: docs/spec/fragments.md; docs/spec/filing.md, sealing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bistro.storage.durable import SYSTEM_DISK, Disk, storage_errors
from bistro.wire.fragment import UNIT_SIZE

_MOST_PARTS: Final = 256
"""Units in one call: systems take 1,024, or 16 at the least, and then say how much they took."""


class SpoolFile:
    """One data fragment in the making: several threads may write."""

    def __init__(self, path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self.path = path
        self._disk = disk
        with storage_errors("create", path):
            self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def write(self, units: Sequence[memoryview], *, offset: int) -> None:
        """Write units that follow each other where they belong; durable only after ``sync``.

        Raises:
            OSError: The disk is full or failed.
        """
        left = list(units)
        while left:
            written = self._disk.write_parts(self._fd, left[:_MOST_PARTS], offset=offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]

    def start(self) -> None:
        """Let the disk begin with what was written, where it has not."""
        with storage_errors("write", self.path):
            self._disk.start(self._fd)

    def sync(self) -> None:
        """Return when all that was written is on the medium.

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
        with ExitStack() as stack:
            for path in paths:
                file = SpoolFile(path, disk=disk)
                stack.callback(file.close)
                self.files.append(file)
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
        """Close all files; what was not synced may not last."""
        self._stack.close()

    def write_rows(self, row: int, rows: Sequence[Sequence[memoryview]]) -> None:
        """Write rows that follow each other, the first of them ``row``; several threads may.

        Args:
            row: Its number in the envelope.
            rows: Units of each, data first; all but the envelope's last are full.

        Raises:
            StorageError: The disk is full or failed.
        """
        with storage_errors("write", self.files[0].path.parent):
            for file, units in zip(self.files, zip(*rows, strict=True), strict=False):
                file.write(units, offset=row * UNIT_SIZE)

    def start(self) -> None:
        """Let the disk begin with what was written; any thread, now and then.

        Systems that write at once have done so; others would leave all of it to ``sync``.

        Raises:
            StorageError: It could not.
        """
        for file in self.files:
            file.start()

    def sync(self) -> None:
        """Return when all that was written is on the medium.

        Raises:
            StorageError: It may or may not be; a fault of earlier is told here, too.
        """
        for file in self.files:
            file.sync()
