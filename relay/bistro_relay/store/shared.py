"""Shared segments on disk: preallocated files that hold many small fragments each.

``segments/shared/<8 hex>.segment``; a number is given once and never comes from a peer. A file
is full of zeros and durable with its name before it takes a record, so that a batch of records
is one write and one ``fdatasync`` of data alone. All methods block.

Source: docs/spec/segments.md, shared segments.
"""

from __future__ import annotations

import re
import secrets
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bistro.errors import FormatError, StorageError, UnknownObjectError
from bistro.storage import segments
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    Folders,
    ReadFile,
    storage_errors,
    sync_directory,
)

SEGMENT_SIZE: Final = 16_777_216
SMALL_SIZE: Final = 1_048_576
"""The largest fragment that is kept in a shared segment, in bytes."""

_NAME: Final = re.compile(r"([0-9a-f]{8})\.segment")
_BLOCK: Final = 1_048_576
_STRETCH: Final = SMALL_SIZE + _BLOCK
"""Bytes that are read at once at most."""
_OPEN_FILES: Final = 64
_AROUND: Final = segments.HEAD_SIZE + segments.END_SIZE


class Place(NamedTuple):
    """Where a record stands.

    Attributes:
        segment: Number of the file.
        offset: Where its head begins.
    """

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """A whole fragment on its way into a segment; ``crc`` is the CRC-32 of the data."""

    claim: bytes
    data: bytes | memoryview
    crc: int

    @classmethod
    def of(cls, claim: bytes, data: bytes | memoryview) -> Record:
        """The record of data whose CRC is not known yet."""
        return cls(claim, data, zlib.crc32(data))

    @property
    def size(self) -> int:
        """Bytes that it takes in the file."""
        return record_size(self.claim, len(self.data))


class Wanted(NamedTuple):
    """A record that is looked for, and what must be found; a batch makes thousands.

    Attributes:
        place: From its row.
        claim: From its row.
        size: Bytes of the fragment.
    """

    place: Place
    claim: bytes
    size: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.place.offset + record_size(self.claim, self.size)


def record_size(claim: bytes, data_size: int) -> int:
    """Bytes of a record."""
    return _AROUND + len(claim) + data_size


class OpenSegment:
    """The one segment that takes records; after a failure it takes none.

    Args:
        number: Its number.
        file: Preallocated.
    """

    def __init__(self, number: int, file: AppendFile) -> None:
        self.number = number
        self._file = file
        self._generation = secrets.randbits(segments.GENERATION_BITS)
        # What stands in the file is zeros, or of another generation.
        file.size = 0

    @property
    def room(self) -> int:
        """Bytes that fit."""
        return SEGMENT_SIZE - self._file.size

    def write(self, records: Sequence[Record]) -> list[Place]:
        """Write records that fit, and return when all are durable.

        A crash before this returns leaves any part of them; none was promised.

        Raises:
            StorageError: They may or may not last; the segment must be closed.
        """
        pieces: list[bytes | memoryview] = []
        places: list[Place] = []
        at = self._file.size
        for one in records:
            generation = self._generation
            pieces += (
                segments.encode_head(one.claim, len(one.data), generation=generation),
                one.data,
                segments.encode_end(one.crc, generation=generation),
            )
            places.append(Place(self.number, at))
            at += one.size
        self._file.append(b"".join(pieces))
        self._file.sync()
        return places

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


class SharedFiles:
    """The folder of shared segments.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._root = directory / "segments" / "shared"
        self._disk = disk
        self._lock = threading.Lock()
        self._reading: OrderedDict[int, ReadFile] = OrderedDict()
        Folders(directory, disk=disk).require(self._root)
        # Who made a segment that is found may have died before its name was durable, and from
        # here on it is used again.
        sync_directory(self._root, disk=disk)

    def numbers(self) -> list[int]:
        """All segments that are there, in order."""
        with storage_errors("list", self._root):
            found = [_NAME.fullmatch(path.name) for path in self._root.iterdir()]
        return sorted(int(one[1], 16) for one in found if one)

    def make(self, number: int) -> None:
        """A new segment full of zeros, durable with its name.

        A crash in between leaves a file without records; the next start makes it spare.

        Raises:
            StorageError: The disk is full or failed; the file is gone, if that could be done.
        """
        path = self._path(number)
        try:
            with AppendFile.create(path, disk=self._disk) as file:
                for _ in range(SEGMENT_SIZE // _BLOCK):
                    file.append(bytes(_BLOCK))
                file.sync()
            sync_directory(self._root, disk=self._disk)
        except StorageError:
            with suppress(OSError):
                self._disk.delete(path)
            raise

    def open(self, number: int) -> OpenSegment:
        """A segment whose records are all dead, to be written from its beginning.

        Raises:
            StorageError: It is not of its full size, or the disk failed.
        """
        file = AppendFile.open(self._path(number), disk=self._disk)
        if file.size != SEGMENT_SIZE:
            file.close()
            raise StorageError(
                f"{file.path}: expected {SEGMENT_SIZE} bytes, found {file.size}",
                hint="check the disk; the file can be deleted while the relay is stopped",
            )
        return OpenSegment(number, file)

    def is_whole(self, number: int) -> bool:
        """Whether a file has its full size: one that has not was never used."""
        with ReadFile.open(self._path(number), disk=self._disk) as file:
            return bool(file.read(offset=SEGMENT_SIZE - 1, size=1))

    def blank(self, number: int) -> None:
        """Take away the first record of a segment in which nothing is alive.

        Not synced: should the old record come back, it is scanned once more, and dead still.

        Raises:
            StorageError: The disk failed.
        """
        with AppendFile.open(self._path(number), disk=self._disk) as file:
            file.size = 0
            file.append(bytes(segments.HEAD_SIZE))

    def delete(self, number: int) -> None:
        """Delete a segment in which nothing is alive; should it come back, nothing still is."""
        with self._lock:
            file = self._reading.pop(number, None)
        if file is not None:
            file.close()
        path = self._path(number)
        with storage_errors("delete", path), suppress(FileNotFoundError):
            self._disk.delete(path)

    def scan(self, number: int) -> Iterator[segments.Found]:
        """All records of a segment with their data checked, up to the first that is torn.

        Raises:
            StorageError: The disk failed.
        """
        with ReadFile.open(self._path(number), disk=self._disk) as file:
            yield from segments.scan(
                lambda at, size: file.read(offset=at, size=size),
                file_size=SEGMENT_SIZE,
                check_data=True,
            )

    def read(self, wanted: Sequence[Wanted]) -> list[memoryview | StorageError]:
        """The fragments that are looked for, in order; neighbours are read at once.

        Each is its whole data, checked, or why it cannot be had: an unreadable medium, damage,
        or a record that has moved since its row was read. Views keep all that was read at once.
        """
        found: list[memoryview | StorageError] = []
        at = 0
        while at < len(wanted):
            end, size = _stretch(wanted, at)
            found += self._read_stretch(wanted[at:end], size)
            at = end
        return found

    def _read_stretch(self, wanted: Sequence[Wanted], size: int) -> list[memoryview | StorageError]:
        segment, begin = wanted[0].place
        try:
            view = memoryview(self._file(segment).read(offset=begin, size=size))
        except (StorageError, UnknownObjectError) as exc:
            return [StorageError(f"segment {segment:08x}: {exc.message}")] * len(wanted)
        found: list[memoryview | StorageError] = []
        for (_, offset), claim, data_size in wanted:
            try:
                data = segments.known_data(view, offset - begin, claim=claim, data_size=data_size)
            except FormatError as exc:
                found.append(_damaged(Place(segment, offset), exc.message))
            else:
                found.append(data)
        return found

    def _file(self, number: int) -> ReadFile:
        with self._lock:
            file = self._reading.pop(number, None)
            if file is None:
                file = ReadFile.open(self._path(number), disk=self._disk)
            self._reading[number] = file
            while len(self._reading) > _OPEN_FILES:
                _, oldest = self._reading.popitem(last=False)
                oldest.close()
            return file

    def close(self) -> None:
        """Give all files back."""
        with self._lock:
            while self._reading:
                self._reading.popitem()[1].close()

    def _path(self, number: int) -> Path:
        return self._root / f"{number:08x}.segment"


def _stretch(wanted: Sequence[Wanted], at: int) -> tuple[int, int]:
    """The index behind the records that stand in a row from ``at`` on, and all their bytes."""
    (segment, begin), claim, size = wanted[at]
    end = begin + record_size(claim, size)
    while (at := at + 1) < len(wanted):
        (other, offset), claim, size = wanted[at]
        behind = end + record_size(claim, size)
        if other != segment or offset != end or behind - begin > _STRETCH:
            break
        end = behind
    return at, end - begin


def _damaged(place: Place, reason: str) -> StorageError:
    return StorageError(
        f"segment {place.segment:08x}, record at byte {place.offset}: {reason}",
        hint="check the disk",
    )
