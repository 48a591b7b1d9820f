"""One segment of the write-ahead file: a head, records, and zeros reserved for more.

At any moment at most the last record of the last segment is not yet durable, because each is
synced before the next is written, and nothing of a record leaves the machine before its sync
has returned. So a record that was *never completed* may be cut off, and nothing else ever:

| what follows the last whole record | meaning | what happens |
|---|---|---|
| nothing, or only zeros | clean end | go on |
| part of a record, then nothing or zeros; or a record with a 512-byte sector all zero; no record after it; in the last segment, and not the first record of one that follows another | it was being written when the machine stopped: no signature over it can have left | cut |
| anything else | the medium changed what was durable, perhaps answered | ``StorageError`` |

No 512 bytes of a record are all zero by themselves: it is made of text, hashes, sizes above
zero and magic numbers.

Source: docs/spec/storage.md, write-ahead file, recovery.
"""  # noqa: E501 - the table's rows are lines

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from bistro.errors import FormatError, StorageError
from bistro.ledger.record import (
    HEAD_SIZE,
    MAX_FILE_HEAD_SIZE,
    RECORD_MAGIC,
    FileHead,
    Record,
    RecordHead,
)
from bistro.storage.durable import AppendFile, Disk, ReadFile, temporary_for

FIRST_SIZE: Final = 1 << 16
"""Bytes of a ledger's first segment; each has twice the size of the one before."""

MAX_SIZE: Final = 1 << 25
"""32 MiB: about 150,000 tickets, so that few segments hold much that is published already."""

HINT: Final = "do not continue this ledger; restore the file from a copy"

_SECTOR: Final = 512
_CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(_CHUNK)
_SLICE: Final = 1 << 18


class Place(NamedTuple):
    """Where a record stands.

    Attributes:
        segment: Index of the first entry of its segment.
        begin: Its offset in the segment.
        end: Where it ends.
    """

    segment: int
    begin: int
    end: int


def damage(path: Path, offset: int, reason: str) -> StorageError:
    """What to raise where a segment cannot be what was written."""
    return StorageError(f"{path}: damaged at byte {offset}: {reason}", hint=HINT)


def reserve(directory: Path, size: int, *, disk: Disk) -> AppendFile:
    """A temporary file of ``size`` zeros, durable but for its name.

    Raises:
        StorageError: The disk is full or failed; nothing is left.
    """
    file = AppendFile.create(temporary_for(directory / "segment"), disk=disk)
    try:
        # In slices, each synced: the syncs of the file in use must not wait behind all of it.
        while file.size < size:
            file.append(_ZEROS[: min(_SLICE, size - file.size)])
            file.sync()
    except BaseException:
        discard(file, disk=disk)
        raise
    return file


def discard(file: AppendFile, *, disk: Disk) -> None:
    """Give up a reserved file; one that stays is deleted when the ledger is opened."""
    with suppress(StorageError):
        file.close()
    with suppress(OSError):
        disk.delete(file.path)


def read_head(file: ReadFile, *, origin: str, start: int) -> int:
    """Check a segment's head; the offset of its first record.

    Raises:
        StorageError: It is no such segment, or one of another ledger or place.
    """
    try:
        head, first = FileHead.decode(file.read(offset=0, size=MAX_FILE_HEAD_SIZE))
    except FormatError as exc:
        raise damage(file.path, 0, exc.message) from exc
    if head != FileHead(origin, start):
        raise StorageError(
            f"{file.path}: expected ledger {origin} from entry {start}, "
            f"found {head.origin} from entry {head.size}",
            hint="restore the folder of this ledger; were two of them swapped?",
        )
    return first


def read_records(
    file: ReadFile, *, start: int, first: int, size: int, is_last: bool
) -> Iterator[tuple[Place, Record]]:
    """Whole records of a segment, but for those that end at entry ``size`` or before.

    Args:
        file: The segment.
        start: Index of its first entry.
        first: Offset of its first record.
        size: What was read or published before; those records are passed by their heads.
        is_last: Whether no segment follows, so that its end may be unfinished.

    Raises:
        StorageError: Damage; what was merely never completed ends the iteration.
    """
    offset, extent = first, HEAD_SIZE
    while True:
        extent = HEAD_SIZE
        try:
            head = RecordHead.decode(file.read(offset=offset, size=HEAD_SIZE))
            extent = head.record_size
            if head.start + head.count <= size:
                offset += extent
                continue
            rest = file.read(offset=offset + HEAD_SIZE, size=extent - HEAD_SIZE)
            record = Record.decode(head, rest)
        except FormatError as exc:
            # A segment that follows another gets its name only when its first record is durable.
            may_end = offset > first or start == 0
            if not (may_end and _is_zero(file, offset)):
                allowed = may_end and is_last
                _require_unfinished(file, offset, offset + extent, exc, allowed=allowed)
            return
        yield Place(start, offset, offset + extent), record
        offset += extent


def clear(file: AppendFile, offset: int) -> None:
    """Zero what follows ``offset``, so that the next record is written over nothing.

    From the front: what a crash leaves of an unfinished record is still unfinished.

    Raises:
        StorageError: Some of it may still be there.
    """
    while chunk := file.read(offset=offset, size=_CHUNK):
        if chunk != _ZEROS[: len(chunk)]:
            file.overwrite(_ZEROS[: len(chunk)], offset=offset)
        offset += len(chunk)


def _require_unfinished(
    file: ReadFile, begin: int, end: int, cause: FormatError, *, allowed: bool
) -> None:
    if not allowed or not _is_unfinished(file, begin, end):
        raise damage(file.path, begin, cause.message) from cause
    later = _find_record(file, begin + 1)
    if later is not None:
        reason = f"{cause.message}, yet a record follows at byte {later}"
        raise damage(file.path, begin, reason) from cause


def _is_unfinished(file: ReadFile, begin: int, end: int) -> bool:
    """Whether part of this range was never written.

    Either a sector of it is beyond the file's end or all zero, or from within it on the file
    holds nothing but zeros. (A record's last byte is not zero.)
    """
    position = begin
    while position < end:
        sector_end = min((position // _SECTOR + 1) * _SECTOR, end)
        data = file.read(offset=position, size=sector_end - position)
        if len(data) < sector_end - position or not any(data):
            return True
        position = sector_end
    return _is_zero(file, end - 1)


def _is_zero(file: ReadFile, offset: int) -> bool:
    while chunk := file.read(offset=offset, size=_CHUNK):
        if chunk != _ZEROS[: len(chunk)]:
            return False
        offset += len(chunk)
    return True


def _find_record(file: ReadFile, begin: int) -> int | None:
    """Offset of the first intact record head from ``begin`` on."""
    while chunk := file.read(offset=begin, size=_CHUNK):
        at = chunk.find(RECORD_MAGIC)
        while at >= 0:
            try:
                RecordHead.decode(file.read(offset=begin + at, size=HEAD_SIZE))
            except FormatError:
                at = chunk.find(RECORD_MAGIC, at + 1)
            else:
                return begin + at
        # The next chunk begins so that a magic number across the border is found too.
        begin += max(len(chunk) - len(RECORD_MAGIC) + 1, 1)
    return None
