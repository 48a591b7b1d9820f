"""The write-ahead file: the one truth of a ledger, appended to and never changed.

At any moment at most the last record is not yet durable, because each is synced before the
next is written, and nothing of a record leaves the machine before its sync has returned. So a
record that was *never completed* may be cut off, and nothing else may ever be:

| what follows the last whole record | meaning | what happens |
|---|---|---|
| nothing | clean end | go on |
| part of a record, then nothing or zeros; or a record with a 512-byte sector all zero; no record after it | it was being written when the machine stopped: no signature over it can have left | cut |
| anything else | the medium changed what was durable, perhaps answered | ``StorageError`` |

No 512 bytes of a record are all zero by themselves: it is made of text, hashes and magic
numbers. Zeros after the last record also serve as reserved space.

Source: docs/spec/storage.md, write-ahead file, recovery.
"""  # noqa: E501 - the table's rows are lines

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from bistro.errors import FormatError, StorageError
from bistro.ledger.record import (
    HEAD_SIZE,
    MAX_FILE_HEAD_SIZE,
    RECORD_MAGIC,
    FileHead,
    Record,
    RecordHead,
)
from bistro.storage.durable import SYSTEM_DISK, AppendFile, Disk, ReadFile, write_atomically

_SECTOR: Final = 512
_CHUNK: Final = 1 << 20


class WriteAheadFile:
    """A ledger's write-ahead file, open for appending.

    Attributes:
        head: What the file begins with.
        first: Offset of the first record.
    """

    def __init__(self, file: AppendFile, head: FileHead, *, first: int) -> None:
        self._file = file
        self.head = head
        self.first = first

    @classmethod
    def create(cls, path: Path, head: FileHead, *, disk: Disk = SYSTEM_DISK) -> Self:
        """A new file without records, durable with its name.

        Raises:
            StorageError: The disk failed; the file is whole or absent.
        """
        write_atomically(path, head.encode(), disk=disk)
        return cls.open(path, disk=disk)

    @classmethod
    def open(cls, path: Path, *, disk: Disk = SYSTEM_DISK) -> Self:
        """An existing file; nothing behind its head has been looked at.

        Raises:
            UnknownObjectError: There is no such file.
            StorageError: It is not such a file, or the disk failed.
        """
        file = AppendFile.open(path, disk=disk)
        try:
            head, first = FileHead.decode(file.read(offset=0, size=MAX_FILE_HEAD_SIZE))
        except FormatError as exc:
            file.close()
            raise StorageError(f"{path}: damaged at byte 0: {exc.message}", hint=_HINT) from exc
        except StorageError:
            file.close()
            raise
        return cls(file, head, first=first)

    @property
    def end(self) -> int:
        """Offset at which the next record begins."""
        return self._file.size

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._file.path

    def append(self, record: bytes) -> None:
        """Write an encoded record and return when it is durable.

        Raises:
            StorageError: It may or may not last; this file refuses to go on, and must be
                opened and recovered again.
        """
        # A crash here leaves any part of the record: it is cut off, nobody was answered.
        self._file.append(record)
        self._file.sync()
        # A crash here leaves the record: its entries stand, though nobody was answered yet.

    def records(self, offset: int) -> Iterator[tuple[int, Record]]:
        """Whole records from ``offset`` on, each with the offset at which it ends.

        Raises:
            StorageError: Damage; what was merely never completed ends the iteration.
        """
        return _records(self._file, offset, self._file.size)

    def settle(self, last: int, end: int) -> None:
        """Make durable what a recovery found: cut what follows ``end``, write the rest again.

        Args:
            last: Where the last whole record begins; all before it was synced before it was
                written.
            end: Where it ends.

        Raises:
            StorageError: The tail may or may not still be there.
        """
        if end < self._file.size:
            self._file.truncate(end)
        self._file.renew(last)

    def damaged(self, offset: int, reason: str) -> StorageError:
        """What to raise where this file cannot be what was written."""
        return _damage(self._file, offset, reason)

    def close(self) -> None:
        """Close; waits for an append that is under way."""
        self._file.close()


_HINT = "do not continue this ledger; restore the file from a copy"


def _damage(file: ReadFile, offset: int, reason: str) -> StorageError:
    return StorageError(f"{file.path}: damaged at byte {offset}: {reason}", hint=_HINT)


def _records(file: ReadFile, offset: int, end: int) -> Iterator[tuple[int, Record]]:
    while offset < end:
        extent = HEAD_SIZE
        try:
            head = RecordHead.decode(file.read(offset=offset, size=HEAD_SIZE))
            extent = head.record_size
            rest = file.read(offset=offset + HEAD_SIZE, size=extent - HEAD_SIZE)
            record = Record.decode(head, rest)
        except FormatError as exc:
            if not _is_unfinished(file, offset, offset + extent):
                raise _damage(file, offset, exc.message) from exc
            later = _find_record(file, offset + 1, end)
            if later is not None:
                reason = f"{exc.message}, yet a record follows at byte {later}"
                raise _damage(file, offset, reason) from exc
            return
        offset += extent
        yield offset, record


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
    position = end - 1
    while chunk := file.read(offset=position, size=_CHUNK):
        if any(chunk):
            return False
        position += len(chunk)
    return True


def _find_record(file: ReadFile, begin: int, end: int) -> int | None:
    """Offset of the first intact record head from ``begin`` on."""
    while begin < end:
        chunk = file.read(offset=begin, size=_CHUNK)
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
