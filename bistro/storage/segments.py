"""Segment files: where a relay keeps fragments, each with the claim that explains it.

A segment holds one record after another. Head and claim of a fragment that comes in pieces are
synced before its first byte, so what a crash leaves says what it was meant to be. A record is
complete when its end is there; the end is written only when the data has been verified.

A file of one record and one of many are read by the same code. All records
of a file repeat its generation, a random number that never leaves the relay: neither what the
file held before nor bytes that a filer chose can pose as one of its records.

Source: docs/spec/segments.md, record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bistro.errors import FormatError

MAGIC: Final = b"Bseg"
END_MAGIC: Final = b"Send"
VERSION: Final = 1

MAX_CLAIM_SIZE: Final = 65_536
MAX_DATA_SIZE: Final = 1 << 48
GENERATION_BITS: Final = 64

_HEAD = struct.Struct(">4sHHQIIQ")
_CRC = struct.Struct(">I")
_END = struct.Struct(">IQ4s")
_CHUNK = 1 << 20

_KIND = (MAGIC, VERSION, 0)

HEAD_SIZE: Final = _HEAD.size + _CRC.size
END_SIZE: Final = _END.size

ReadAt = Callable[[int, int], bytes]
"""Reads up to ``size`` bytes at ``offset``: fewer only at the end of the file."""

State = Literal["complete", "incomplete", "damaged"]


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A fragment's place in a segment.

    Attributes:
        offset: Where its head begins.
        claim: What the data is; opaque here.
        data_size: Bytes of data when complete.
        generation: Of its file.
    """

    offset: int
    claim: bytes
    data_size: int
    generation: int

    @property
    def data_offset(self) -> int:
        """Where the data begins."""
        return self.offset + HEAD_SIZE + len(self.claim)

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.data_offset + self.data_size + END_SIZE


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan found.

    Attributes:
        record: Where, and what it claims to be.
        stored_size: Bytes of data that are there, from the first on, durable or not.
        state: ``complete``; ``incomplete``: data or end is missing, the upload may go on;
            ``damaged``: the data is not what was written.
    """

    record: SegmentRecord
    stored_size: int
    state: State


def encode_head(claim: bytes, data_size: int, *, generation: int) -> bytes:
    """Head and claim, to be written before any data.

    Args:
        claim: What the data is.
        data_size: Bytes of data that will follow.
        generation: Of the file: 64 random bits, drawn when the file was begun.

    Raises:
        FormatError: The claim is empty or too long, or the size beyond all limits.
    """
    if not 0 < len(claim) <= MAX_CLAIM_SIZE or not 0 <= data_size <= MAX_DATA_SIZE:
        raise FormatError(f"segment record: claim of {len(claim)} bytes, data of {data_size}")
    head = _HEAD.pack(MAGIC, VERSION, 0, generation, len(claim), zlib.crc32(claim), data_size)
    return head + _CRC.pack(zlib.crc32(head)) + claim


def encode_end(data_crc: int, *, generation: int) -> bytes:
    """The end of a record: CRC-32 of the data (``zlib.crc32``), generation, a magic number."""
    return _END.pack(data_crc, generation, END_MAGIC)


def decode_head(read: ReadAt, offset: int, *, generation: int | None = None) -> SegmentRecord:
    """The record whose head begins at ``offset``.

    Args:
        read: Reads the segment.
        offset: Where the head begins.
        generation: Of the file; None for the record at offset 0, which says it.

    Raises:
        FormatError: No head, another version or generation, or damage in head or claim.
    """
    data = read(offset, HEAD_SIZE)
    if len(data) < HEAD_SIZE or data[_HEAD.size :] != _CRC.pack(zlib.crc32(data[: _HEAD.size])):
        raise FormatError(f"segment record at byte {offset}: head is missing or damaged")
    magic, version, flags, found, claim_size, claim_crc, data_size = _HEAD.unpack_from(data)
    if magic != MAGIC or (version, flags) != (VERSION, 0) or claim_size > MAX_CLAIM_SIZE:
        raise FormatError(f"segment record at byte {offset}: magic {magic!r}, version {version}")
    if generation not in {None, found}:
        raise FormatError(f"segment record at byte {offset}: it is of another generation")
    claim = read(offset + HEAD_SIZE, claim_size)
    if len(claim) != claim_size or zlib.crc32(claim) != claim_crc:
        raise FormatError(f"segment record at byte {offset}: claim is missing or damaged")
    return SegmentRecord(offset, claim, data_size, found)


def known_data(view: memoryview, at: int, *, claim: bytes, data_size: int) -> memoryview:
    """The data of a whole record whose claim and size are known, as a part of ``view``.

    Everything that says something is compared with what is known, so the CRCs of head and
    claim, which tell a scan where records end, are not computed.

    Args:
        view: Bytes of a segment.
        at: Where in them the record begins.
        claim: Its claim.
        data_size: Bytes of its data.

    Raises:
        FormatError: Another record stands there, or none, or its data is not what was written.
    """
    data_at = at + HEAD_SIZE + len(claim)
    end_at = data_at + data_size
    if len(view) < end_at + END_SIZE:
        raise FormatError("it is cut off")
    magic, version, flags, generation, claim_size, _, size = _HEAD.unpack_from(view, at)
    if (magic, version, flags) != _KIND:
        raise FormatError(f"magic {magic!r}, version {version}")
    # Copied, because views are compared byte by byte.
    found = bytes(view[at + HEAD_SIZE : data_at])
    if (claim_size, size) != (len(claim), data_size) or found != claim:
        raise FormatError("another record stands there")
    data = view[data_at:end_at]
    if _END.unpack_from(view, end_at) != (zlib.crc32(data), generation, END_MAGIC):
        raise FormatError("its data is not what was written")
    return data


def inspect(read: ReadAt, record: SegmentRecord, *, file_size: int, check_data: bool) -> Found:
    """How much of a record is there.

    Args:
        read: Reads the segment.
        record: From ``decode_head``.
        file_size: Bytes of the segment.
        check_data: Whether to read all data and compare its CRC; else only the end is read.
    """
    stored = max(0, min(record.data_size, file_size - record.data_offset))
    end = read(record.data_offset + record.data_size, END_SIZE) if file_size >= record.end else b""
    if end[_CRC.size :] != encode_end(0, generation=record.generation)[_CRC.size :]:
        return Found(record, stored, "incomplete")
    if check_data and end[: _CRC.size] != _CRC.pack(_crc_of(read, record)):
        return Found(record, stored, "damaged")
    return Found(record, stored, "complete")


def scan(read: ReadAt, *, file_size: int, check_data: bool) -> Iterator[Found]:
    """All records of a segment, in order; only the last one can be incomplete.

    Bytes behind an incomplete record, or ones that are no head, end the scan: they were being
    written when the machine stopped, and nothing was promised about them. A caller that was
    promised more (its database names a record that is not found) has met damage.
    """
    offset = 0
    generation: int | None = None
    while offset < file_size:
        try:
            record = decode_head(read, offset, generation=generation)
        except FormatError:
            return
        generation = record.generation
        found = inspect(read, record, file_size=file_size, check_data=check_data)
        yield found
        if found.state == "incomplete":
            return
        offset = record.end


def _crc_of(read: ReadAt, record: SegmentRecord) -> int:
    crc, at, end = 0, record.data_offset, record.data_offset + record.data_size
    while at < end:
        chunk = read(at, min(_CHUNK, end - at))
        crc = zlib.crc32(chunk, crc)
        at += len(chunk) or end
    return crc
