"""The bytes of the write-ahead file: its head, and one record for every batch.

A record holds a batch's entries with their unique keys, and the signed checkpoint that covers
them. All numbers are big-endian. CRC-32 finds accidents; what finds malice is the signature.

Source: docs/spec/storage.md, write-ahead file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bistro.errors import FormatError
from bistro.instant import UnixMillis
from bistro.wire.entry import MAX_ENTRY_SIZE

FILE_MAGIC: Final = b"bistro-w"
RECORD_MAGIC: Final = b"Brec"
END_MAGIC: Final = b"Bend"
VERSION: Final = 1

MAX_KEY_SIZE: Final = 255
MAX_NOTE_SIZE: Final = 65_536
MAX_BODY_SIZE: Final = 1 << 26
"""64 MiB: far above any batch, far below what a damaged length could ask for."""

_FILE = struct.Struct(">8sHHIQ32s")
_CRC = struct.Struct(">I")
_HEAD = struct.Struct(">4sHHIIIQQ")
_TAIL = struct.Struct(">I4s")
_ENTRY_SIZE = struct.Struct(">H")

HEAD_SIZE: Final = _HEAD.size + _CRC.size
TAIL_SIZE: Final = _TAIL.size
MAX_FILE_HEAD_SIZE: Final = _FILE.size + 1_024 + _CRC.size


class Item(NamedTuple):
    """An entry and the key under which it is unique, or ``None``."""

    key: bytes | None
    entry: bytes

    def require_sizes(self) -> None:
        """Refuse what no record can hold.

        Raises:
            FormatError: Key or entry is empty or above its limit.
        """
        if not 0 < len(self.entry) <= MAX_ENTRY_SIZE:
            raise FormatError(f"entry: 1 to {MAX_ENTRY_SIZE} bytes, found {len(self.entry)}")
        if self.key is not None and not 0 < len(self.key) <= MAX_KEY_SIZE:
            raise FormatError(f"key: expected 1 to {MAX_KEY_SIZE} bytes, found {len(self.key)}")


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a write-ahead file begins with.

    Attributes:
        origin: The ledger it belongs to.
        size: Entries of the ledger before this file; 0 in every file of version 1.
        root: The root hash at that size.
    """

    origin: str
    size: int
    root: bytes

    def encode(self) -> bytes:
        """56 bytes, the origin, CRC-32."""
        origin = self.origin.encode()
        fixed = _FILE.pack(FILE_MAGIC, VERSION, 0, len(origin), self.size, self.root)
        return _with_crc(fixed + origin)

    @classmethod
    def decode(cls, data: bytes) -> tuple[FileHead, int]:
        """The head at the beginning of ``data``, and how long it is.

        Raises:
            FormatError: Another kind of file, another version, or damage.
        """
        if len(data) < _FILE.size:
            raise FormatError(f"file head of {len(data)} bytes")
        magic, version, flags, origin_size, size, root = _FILE.unpack_from(data)
        if magic != FILE_MAGIC or (version, flags) != (VERSION, 0):
            raise FormatError(f"file head: magic {magic!r}, version {version}, flags {flags}")
        end = _FILE.size + origin_size
        if len(data) < end + _CRC.size or not _has_crc(data[: end + _CRC.size]):
            raise FormatError("file head: CRC does not match")
        return cls(data[_FILE.size : end].decode(), size, root), end + _CRC.size


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The fixed part of a record.

    Attributes:
        note_size: Bytes of the signed checkpoint.
        body_size: Bytes of checkpoint and items.
        count: Number of items, at least 1.
        start: Index of the first entry.
        last_time: Time of the last entry.
    """

    note_size: int
    body_size: int
    count: int
    start: int
    last_time: UnixMillis

    @property
    def record_size(self) -> int:
        """Bytes of the whole record, head and tail included."""
        return HEAD_SIZE + self.body_size + TAIL_SIZE

    def encode(self) -> bytes:
        """40 bytes, the last four a CRC-32 over the others."""
        return _with_crc(
            _HEAD.pack(
                RECORD_MAGIC,
                VERSION,
                0,
                self.note_size,
                self.body_size,
                self.count,
                self.start,
                self.last_time,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> RecordHead:
        """The head in exactly ``HEAD_SIZE`` bytes.

        Raises:
            FormatError: No head, another version, or damage.
        """
        if len(data) != HEAD_SIZE or not _has_crc(data):
            raise FormatError("record head: CRC does not match")
        magic, version, flags, note_size, body_size, count, start, time = _HEAD.unpack_from(data)
        if magic != RECORD_MAGIC or (version, flags) != (VERSION, 0):
            raise FormatError(f"record head: magic {magic!r}, version {version}, flags {flags}")
        if not note_size <= body_size <= MAX_BODY_SIZE or count == 0:
            raise FormatError(f"record head: {count} entries in {body_size} bytes")
        return cls(note_size, body_size, count, start, UnixMillis(time))


@dataclass(frozen=True, slots=True)
class Record:
    """A batch: its entries and the signed checkpoint that covers them.

    Attributes:
        start: Index of the first entry.
        last_time: Time of the last entry.
        note: The signed checkpoint of size ``end``.
        items: Entries with their keys, at least one.
    """

    start: int
    last_time: UnixMillis
    note: bytes
    items: Sequence[Item]

    @property
    def end(self) -> int:
        """Size of the ledger with this batch."""
        return self.start + len(self.items)

    def encode(self) -> bytes:
        """The record's bytes.

        Raises:
            FormatError: No items, or the note or the whole is above its limit.
        """
        if not self.items or len(self.note) > MAX_NOTE_SIZE:
            raise FormatError(f"record: {len(self.items)} entries, note of {len(self.note)} bytes")
        parts = [self.note]
        pack = _ENTRY_SIZE.pack
        for key, entry in self.items:
            known = key or b""
            parts.append(b"%c%b%b%b" % (len(known), known, pack(len(entry)), entry))
        body = b"".join(parts)
        head = RecordHead(len(self.note), len(body), len(self.items), self.start, self.last_time)
        if len(body) > MAX_BODY_SIZE:
            raise FormatError(f"record: expected at most {MAX_BODY_SIZE} bytes, found {len(body)}")
        return head.encode() + body + _TAIL.pack(zlib.crc32(body), END_MAGIC)

    @classmethod
    def decode(cls, head: RecordHead, rest: bytes) -> Record:
        """The record with this head; ``rest`` is what follows it, body and tail.

        Raises:
            FormatError: Damage.
        """
        body = rest[: head.body_size]
        if rest[head.body_size :] != _TAIL.pack(zlib.crc32(body), END_MAGIC):
            raise FormatError("record: CRC does not match")
        items: list[Item] = []
        at = head.note_size
        for _ in range(head.count):
            key_end = at + 1 + body[at] if at < len(body) else len(body)
            if key_end + _ENTRY_SIZE.size > len(body):
                raise FormatError("record: shorter than its entries")
            end = key_end + _ENTRY_SIZE.size + _ENTRY_SIZE.unpack_from(body, key_end)[0]
            entry = body[key_end + _ENTRY_SIZE.size : end]
            items.append(Item(body[at + 1 : key_end] or None, entry))
            at = end
        if at != len(body):
            raise FormatError("record: its entries do not fill it exactly")
        return cls(head.start, head.last_time, body[: head.note_size], items)


def time_of(entry: bytes) -> UnixMillis:
    """The time that stands in an entry's third line, whatever its kind.

    Raises:
        FormatError: There is no such line.
    """
    lines = entry.split(b"\n", 3)
    if len(lines) <= 3 or not lines[2].isdigit():  # noqa: PLR2004 - the third of FORMATS
        raise FormatError("entry: expected a time in the third line")
    return UnixMillis(int(lines[2]))


def _with_crc(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _has_crc(data: bytes) -> bool:
    return data[-_CRC.size :] == _CRC.pack(zlib.crc32(data[: -_CRC.size]))
