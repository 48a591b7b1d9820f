"""Standing orders of the operator, one small file: commands write it, ``serve`` reads it.

A file rather than a row, because a command is another process and the database has one only;
it outlives both, so that a restart does not end what was ordered.

Source: docs/spec/relay-life.md, standing orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.instant import UnixMillis
from bistro.storage.durable import (
    SYSTEM_DISK,
    Disk,
    read_file,
    storage_errors,
    well_formed,
    write_atomically,
)
from bistro.storage.locks import FileLock
from bistro.wire.document import Fields, encode_json

FILE_NAME: Final = "orders.json"

_LOCK: Final = "orders.lock"

_MAX_SIZE: Final = 1_024
_VERSION: Final = 1

Stamp = tuple[int, int, int] | None
"""Inode, time and size of the file: it changes when the file is replaced."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What was ordered; nothing by default.

    Attributes:
        draining_since: Since when no new upload is taken; None: they are.
        paused_until: Until when nothing is handed over; None: it is.
    """

    draining_since: UnixMillis | None = None
    paused_until: UnixMillis | None = None

    def encode(self) -> bytes:
        """The file's content, canonical JSON."""
        return encode_json(
            {
                "version": _VERSION,
                "draining_since": self.draining_since,
                "paused_until": self.paused_until,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Orders:
        """The orders that a file describes, or ``FormatError``."""
        fields = Fields("orders", data, max_size=_MAX_SIZE)
        fields.constant("version", _VERSION)
        found = cls(
            draining_since=fields.optional_instant("draining_since"),
            paused_until=fields.optional_instant("paused_until"),
        )
        fields.end()
        return found


class OrdersFile:
    """The file of standing orders.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._path = directory / FILE_NAME
        self._disk = disk

    def lock(self) -> FileLock:
        """Keep other commands from changing orders between ``load`` and ``save``.

        Raises:
            UnavailableError: One does so just now.
            StorageError: The lock's file cannot be opened.
        """
        return FileLock.take(self._path.with_name(_LOCK), what="the file of standing orders")

    def save(self, orders: Orders) -> None:
        """Write them, durably; a crash before this returns leaves the old ones or the new."""
        write_atomically(self._path, orders.encode(), disk=self._disk)

    def load(self) -> Orders:
        """What stands now; none where there is no file.

        Raises:
            StorageError: The file is not one of orders.
        """
        data = read_file(self._path, max_size=_MAX_SIZE, disk=self._disk)
        if data is None:
            return Orders()
        with well_formed(self._path, hint="remove the file and order it again"):
            return Orders.decode(data)

    def stamp(self) -> Stamp:
        """What tells whether anything has changed, without reading the file."""
        with storage_errors("look at", self._path):
            try:
                status = self._path.stat()
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_mtime_ns, status.st_size
