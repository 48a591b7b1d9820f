"""The bytes of the write-ahead file: a segment's head, and one record for every batch.

A record holds a batch's entries with their unique keys, and the signed checkpoint that covers
them, a column after the other: a batch is encoded by a few calls, however many entries it has.
All numbers are big-endian. CRC-32 finds accidents; what finds malice is the signature.

Source: docs/spec/storage.md, write-ahead file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from bistro.crypto.bulk import joined_columns
from bistro.errors import FormatError
from bistro.instant import UnixMillis

FILE_MAGIC: Final = b"bistro-w"
RECORD_MAGIC: Final = b"Brec"
END_MAGIC: Final = b"Bend"
VERSION: Final = 2

MAX_KEY_SIZE: Final = 254
MAX_NOTE_SIZE: Final = 65_536
MAX_BODY_SIZE: Final = 1 << 26
"""64 MiB: far above any batch, far below what a damaged length could ask for."""

_FILE = struct.Struct(">8sHHIQ")
_CRC = struct.Struct(">I")
_HEAD = struct.Struct(">4sHHIIIQQ")
_TAIL = struct.Struct(">I4s")

HEAD_SIZE: Final = _HEAD.size + _CRC.size
TAIL_SIZE: Final = _TAIL.size
MAX_FILE_HEAD_SIZE: Final = _FILE.size + 1_024 + _CRC.size


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a segment of the write-ahead file begins with.

    Attributes:
        origin: The ledger it belongs to.
        size: Entries of the ledger before this segment.
    """

    origin: str
    size: int

    def encode(self) -> bytes:
        """24 bytes, the origin, CRC-32."""
        origin = self.origin.encode()
        return _with_crc(_FILE.pack(FILE_MAGIC, VERSION, 0, len(origin), self.size) + origin)

    @classmethod
    def decode(cls, data: bytes) -> tuple[FileHead, int]:
        """The head at the beginning of ``data``, and how long it is.

        Raises:
            FormatError: Another kind of file, another version, or damage.
        """
        if len(data) < _FILE.size:
            raise FormatError(f"file head of {len(data)} bytes")
        magic, version, flags, origin_size, size = _FILE.unpack_from(data)
        if magic != FILE_MAGIC or (version, flags) != (VERSION, 0):
            raise FormatError(f"file head: magic {magic!r}, version {version}, flags {flags}")
        end = _FILE.size + origin_size
        if len(data) < end + _CRC.size or not _has_crc(data[: end + _CRC.size]):
            raise FormatError("file head: CRC does not match")
        return cls(data[_FILE.size : end].decode(), size), end + _CRC.size


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


def encode_record(
    start: int,
    last_time: UnixMillis,
    note: bytes,
    keys: list[bytes],
    entries: list[bytes],
) -> bytes:
    """The bytes of a record.

    Args:
        start: Index of the first entry.
        last_time: Time of the last entry.
        note: The signed checkpoint that covers them.
        keys: For every entry its key, at most 254 bytes; empty where it has none.
        entries: At least one, 1 to 1,024 bytes each.

    Raises:
        FormatError: No entries, or something is above its limit.
    """
    count = len(entries)
    if not count or len(keys) != count or len(note) > MAX_NOTE_SIZE:
        found = f"{count} entries, {len(keys)} keys, note of {len(note)} bytes"
        raise FormatError(f"record: {found}")
    try:
        body = note + joined_columns(keys, entries)
    except ValueError as exc:
        raise FormatError(f"record: a key or an entry has no possible size: {exc}") from exc
    if len(body) > MAX_BODY_SIZE:
        raise FormatError(f"record: expected at most {MAX_BODY_SIZE} bytes, found {len(body)}")
    head = RecordHead(len(note), len(body), count, start, last_time)
    return b"%b%b%b" % (head.encode(), body, _TAIL.pack(zlib.crc32(body), END_MAGIC))


@dataclass(frozen=True, slots=True)
class Record:
    """A batch: its entries and the signed checkpoint that covers them.

    Attributes:
        start: Index of the first entry.
        last_time: Time of the last entry.
        note: The signed checkpoint of size ``end``.
        keys: The key of each entry; empty: none.
        entries: The entries, at least one.
    """

    start: int
    last_time: UnixMillis
    note: bytes
    keys: Sequence[bytes]
    entries: Sequence[bytes]

    @property
    def end(self) -> int:
        """Size of the ledger with this batch."""
        return self.start + len(self.entries)

    @classmethod
    def decode(cls, head: RecordHead, rest: bytes) -> Record:
        """The record with this head; ``rest`` is what follows it, body and tail.

        Raises:
            FormatError: Damage.
        """
        body = rest[: head.body_size]
        if rest[head.body_size :] != _TAIL.pack(zlib.crc32(body), END_MAGIC):
            raise FormatError("record: CRC does not match")
        keys_at = head.note_size + head.count
        begin = keys_at + 2 * head.count
        if begin > len(body):
            raise FormatError("record: shorter than its columns")
        sizes = [size - 1 for size in body[head.note_size : keys_at]]
        entry_sizes = struct.unpack_from(f">{head.count}H", body, keys_at)
        if min(sizes) < 0 or min(entry_sizes) < 1:
            raise FormatError("record: a key or an entry has no possible size")
        pieces = list(_cut(body, begin, [*sizes, *entry_sizes]))
        if begin + sum(sizes) + sum(entry_sizes) != len(body):
            raise FormatError("record: its entries do not fill it exactly")
        keys, entries = pieces[: head.count], pieces[head.count :]
        return cls(head.start, head.last_time, body[: head.note_size], keys, entries)


def _cut(data: bytes, begin: int, sizes: Sequence[int]) -> Iterator[bytes]:
    ends = list(accumulate(sizes, initial=begin))
    return map(data.__getitem__, map(slice, ends, ends[1:]))


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
