"""A file without a name, in which bytes of requests wait that are not whole.

Nothing in it is promised to anybody: it is never synced, and ends with the process. It has slots
of one size; what is written to none takes no room on the disk. All methods block.

Source: docs/spec/segments.md, waiting bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bistro.errors import StorageError
from bistro.storage.durable import SYSTEM_DISK, TEMPORARY_SUFFIX, Disk, storage_errors
from bistro_relay.store.shared import SMALL_SIZE

SLOT_SIZE: Final = SMALL_SIZE
"""Bytes of a slot: the largest fragment that waits here."""

_NAME: Final = f"waiting{TEMPORARY_SUFFIX}"


class SpoolFile:
    """The slots, by number; one thread at a time may call.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._path = directory / _NAME
        self._disk = disk
        self._fd = -1

    def write(self, pieces: Sequence[tuple[int, int, bytes]]) -> None:
        """Write pieces, each a slot, where in it, and what.

        Raises:
            StorageError: The disk is full or failed; any of them may be missing.
        """
        with storage_errors("write", self._path):
            if self._fd < 0:
                self._open()
            for slot, at, data in pieces:
                offset, written = slot * SLOT_SIZE + at, 0
                while written < len(data):
                    rest = data[written:] if written else data
                    written += self._disk.write(self._fd, rest, offset=offset + written)

    def _open(self) -> None:
        fd = self._disk.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            # A crash here leaves a name, which the next process takes.
            self._disk.delete(self._path)
        except OSError:
            self._disk.close(fd)
            raise
        self._fd = fd

    def read(self, slot: int, *, size: int) -> bytearray:
        """The first bytes of a slot, all of which were written.

        Raises:
            StorageError: They cannot be read.
        """
        found = bytearray()
        with storage_errors("read", self._path):
            while len(found) < size:
                offset = slot * SLOT_SIZE + len(found)
                piece = self._disk.read(self._fd, offset=offset, size=size - len(found))
                if not piece:
                    raise StorageError(f"read {self._path}: expected {size} bytes, found fewer")
                found += piece
        return found

    def clear(self) -> None:
        """Give back the room of all slots.

        Raises:
            StorageError: The disk failed.
        """
        if self._fd >= 0:
            with storage_errors("cut", self._path):
                self._disk.truncate(self._fd, 0)

    def close(self) -> None:
        """Forget everything."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with storage_errors("close", self._path):
                self._disk.close(fd)
