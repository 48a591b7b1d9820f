"""The snapshot: from where a restart replays, and how much it must find.

It names the last record boundary at which everything before was published as tiles, with the
signed checkpoint of that size, so that the tiles' root is checked against a signature. It also
says how many entries were durable when it was written: a ledger that has fewer was damaged.

Source: docs/spec/storage.md, snapshot.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.errors import StorageError
from bistro.instant import UnixMillis
from bistro.ledger.record import MAX_NOTE_SIZE
from bistro.storage.durable import SYSTEM_DISK, Disk, read_file, write_atomically

MAGIC: Final = b"bistro-s"
VERSION: Final = 2

_HEAD = struct.Struct(">8sHHIQQQQ")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A place in the write-ahead file.

    Attributes:
        published: Entries in full tiles and bundles; a multiple of 256.
        durable: Entries that were durable when this was written.
        size: Entries before a record that begins there; at most ``published``.
        last_time: Time of entry ``size - 1``; 0 if there is none.
        note: The signed checkpoint of ``size``; empty at size 0.
    """

    published: int
    durable: int
    size: int
    last_time: UnixMillis
    note: bytes

    def encode(self) -> bytes:
        """48 bytes, the checkpoint, CRC-32."""
        data = (
            _HEAD.pack(
                MAGIC,
                VERSION,
                0,
                len(self.note),
                self.published,
                self.durable,
                self.size,
                self.last_time,
            )
            + self.note
        )
        return data + _CRC.pack(zlib.crc32(data))

    def save(self, path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        """Replace the snapshot durably.

        Raises:
            StorageError: The old or the new one will be found.
        """
        write_atomically(path, self.encode(), disk=disk)

    @classmethod
    def load(cls, path: Path, *, disk: Disk = SYSTEM_DISK) -> Snapshot | None:
        """The snapshot, or ``None`` if there is none yet.

        Raises:
            StorageError: It is damaged, or cannot be read.
        """
        data = read_file(path, max_size=_HEAD.size + MAX_NOTE_SIZE + _CRC.size, disk=disk)
        if data is None:
            return None
        body, crc = data[: -_CRC.size], data[-_CRC.size :]
        if len(body) >= _HEAD.size and crc == _CRC.pack(zlib.crc32(body)):
            magic, version, flags, note_size, published, durable, size, last_time = (
                _HEAD.unpack_from(body)
            )
            note = body[_HEAD.size :]
            if (magic, version, flags, note_size) == (MAGIC, VERSION, 0, len(note)):
                return cls(published, durable, size, UnixMillis(last_time), note)
        raise StorageError(
            f"{path}: damaged at byte 0: not a snapshot of version {VERSION}",
            hint="without this file the ledger is read anew from its write-ahead file",
        )
