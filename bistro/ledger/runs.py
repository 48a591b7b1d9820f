"""Runs of the duplicate index: immutable files of sorted rows ``digest ‖ index of the entry``.

A file holds the rows, a table with the first row of every prefix, and a fixed end that says
which entries it covers. It gets its name only when it is whole and durable.

Source: docs/spec/storage.md, duplicate index.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bistro.crypto.bulk import sorted_rows
from bistro.errors import StorageError
from bistro.ledger.fingerprints import Fingerprints, bucket_bounds
from bistro.ledger.rows import DIGEST_SIZE, ROW_SIZE, behind, prefixes, swapped
from bistro.storage.durable import (
    AppendFile,
    Disk,
    ReadFile,
    storage_errors,
    sync_directory,
    temporary_for,
)

MAGIC: Final = b"bistro-d"
VERSION: Final = 1
NAME: Final = re.compile(r"([0-9]{16})-([0-9]{16})")

_ROWS_PER_SLOT: Final = 16
_END = struct.Struct(">8sHHI8sQQQII")
CHECK_SIZE: Final = 8
_CRC = struct.Struct(">I")
_READ_ROWS: Final = 1 << 14
_MERGED_ROWS: Final = 1 << 11
"""Rows of each run that are merged at once: 700 KB for sixteen runs, and again when sorted."""


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Which run, and where it lies.

    Attributes:
        directory: Of the index.
        start: First entry that it covers.
        end: The first one behind.
        check: 8 bytes that go with the secret of its digests.
        disk: The system calls to use.
    """

    directory: Path
    start: int
    end: int
    check: bytes
    disk: Disk

    @property
    def path(self) -> Path:
        """The run's file."""
        return self.directory / f"{self.start:016d}-{self.end:016d}"


class Run:
    """A run, open for looking up; any thread may.

    Attributes:
        start: First entry that it covers.
        end: The first one behind.
        count: Number of rows; entries without a key have none.
    """

    def __init__(
        self,
        file: ReadFile,
        *,
        start: int,
        end: int,
        count: int,
        bits: int,
        table: array[int] | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.count = count
        self._file = file
        self._bits = bits
        self._table: array[int] = array("I") if table is None else table

    @classmethod
    def open(cls, place: RunPlace, *, prints: Fingerprints) -> Self:
        """Open and read through; its digests are added to ``prints``.

        Raises:
            StorageError: It is damaged or was made with another secret, or the disk failed.
        """
        file = ReadFile.open(place.path, disk=place.disk)
        try:
            size = place.path.stat().st_size
            run = cls._of(file, size, place)
            run._load(size, prints)  # noqa: SLF001 - our own
        except BaseException:
            file.close()
            raise
        return run

    @classmethod
    def _of(cls, file: ReadFile, size: int, place: RunPlace) -> Self:
        end_size = _END.size + _CRC.size
        data = file.read(offset=max(size - end_size, 0), size=end_size)
        if len(data) == end_size and data[_END.size :] == _CRC.pack(zlib.crc32(data[: _END.size])):
            *fixed, bits, check, start, end, count, _, _ = _END.unpack_from(data)
            slots = (1 << bits) + 1
            expected = count * ROW_SIZE + slots * 4 + end_size
            wanted = (place.check, place.start, place.end, expected)
            if fixed == [MAGIC, VERSION, 0] and (check, start, end, size) == wanted:
                return cls(file, start=start, end=end, count=count, bits=bits)
        raise StorageError(f"{file.path}: not this run, in version {VERSION}, of this index")

    def _load(self, size: int, prints: Fingerprints) -> None:
        end_size = _END.size + _CRC.size
        *_, rows_crc, table_crc = _END.unpack_from(
            self._file.read(offset=size - end_size, size=end_size)
        )
        begin = self.count * ROW_SIZE
        table = self._file.read(offset=begin, size=size - end_size - begin)
        self._table.frombytes(table)
        if sys.byteorder == "little":
            self._table.byteswap()
        bounds = bucket_bounds(self._table, self._bits)
        crc = 0
        for first, rows in self._chunks(_READ_ROWS * 16):
            crc = zlib.crc32(rows, crc)
            _add_prints(prints, rows, first, bounds)
        if (crc, zlib.crc32(table)) != (rows_crc, table_crc):
            raise StorageError(f"{self._file.path}: damaged: CRC does not match")

    def _chunks(self, row_count: int) -> Iterator[tuple[int, bytes]]:
        for first in range(0, self.count, row_count):
            count = min(row_count, self.count - first)
            yield first, self._file.read(offset=first * ROW_SIZE, size=count * ROW_SIZE)

    def find(self, digest: bytes) -> int | None:
        """The index of the entry with this digest, or ``None``.

        Raises:
            StorageError: The disk failed.
        """
        slot = int.from_bytes(digest[:4], "big") >> (32 - self._bits)
        first, last = self._table[slot : slot + 2]
        rows = self._file.read(offset=first * ROW_SIZE, size=(last - first) * ROW_SIZE)
        at = rows.find(digest)
        while at >= 0 and at % ROW_SIZE:
            at = rows.find(digest, at + 1)
        return None if at < 0 else int.from_bytes(rows[at + DIGEST_SIZE : at + ROW_SIZE], "big")

    def rows(self) -> Iterator[bytes]:
        """All rows, joined and sorted, some at a time."""
        for _, rows in self._chunks(_MERGED_ROWS):
            yield rows

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def delete(self, disk: Disk) -> None:
        """Close it and delete its file.

        Raises:
            StorageError: The disk failed; the file may stay, and is harmless.
        """
        self._file.close()
        # A crash here leaves a run that a larger one covers: it is deleted when both are seen.
        with storage_errors("delete", self._file.path):
            disk.delete(self._file.path)


def _add_prints(
    prints: Fingerprints, rows: bytes, first: int, bounds: Sequence[int] | None
) -> None:
    count = len(rows) // ROW_SIZE
    if bounds is None:
        prints.add(rows)
    else:
        prints.add_sorted(rows, [min(max(at - first, 0), count) for at in bounds])


def write_run(place: RunPlace, chunks: Iterable[bytes], *, count: int) -> Run:
    """Write a run; durable with its name when this returns.

    Args:
        place: Which one, and where to.
        chunks: Its rows, joined and sorted, some at a time; none is empty.
        count: How many those are.

    Raises:
        StorageError: The disk failed; the run is whole or absent.
    """
    path, disk = place.path, place.disk
    bits = max(count // _ROWS_PER_SLOT, 1).bit_length() - 1
    table = array("I", [0])
    file = AppendFile.create(temporary_for(path), disk=disk)
    try:
        with file:
            crc = _append_rows(file, chunks, table, bits)
            packed = table if sys.byteorder == "big" else swapped(table)
            file.append(packed.tobytes())
            fixed = _END.pack(
                MAGIC,
                VERSION,
                0,
                bits,
                place.check,
                place.start,
                place.end,
                count,
                crc,
                zlib.crc32(packed.tobytes()),
            )
            file.append(fixed + _CRC.pack(zlib.crc32(fixed)))
            file.sync()
        with storage_errors("rename", path):
            # A crash here leaves a temporary that nobody reads.
            disk.rename(file.path, path)
        sync_directory(place.directory, disk=disk)
    except BaseException:
        with suppress(OSError):
            disk.delete(file.path)
        raise
    reopened = ReadFile.open(path, disk=disk)
    return Run(reopened, start=place.start, end=place.end, count=count, bits=bits, table=table)


def _append_rows(file: AppendFile, chunks: Iterable[bytes], table: array[int], bits: int) -> int:
    """Write rows and note the first row of every prefix; the CRC of all."""
    crc = written = 0
    slots = 1 << bits
    for rows in chunks:
        words = prefixes(rows)
        last = words[-1] >> (32 - bits)
        at = 0
        while len(table) <= last:
            at = bisect_left(words, len(table) << (32 - bits), at)
            table.append(written + at)
        crc = zlib.crc32(rows, crc)
        file.append(rows)
        written += len(words)
    table.extend([written] * (slots + 1 - len(table)))
    return crc


def merge_rows(runs: Sequence[Run], between: Callable[[], None]) -> Iterator[bytes]:
    """The rows of several runs, joined and sorted, in constant memory.

    Args:
        runs: At least one.
        between: Called between two steps: it waits, so that others get their turn, or raises.
    """
    readers = [run.rows() for run in runs]
    buffers = [next(reader, b"") for reader in readers]
    while any(buffers):
        # No run has anything up to here that is not in a buffer.
        limit = min(buffer[-ROW_SIZE:] for buffer in buffers if buffer)
        merged: list[bytes] = []
        for number, buffer in enumerate(buffers):
            end = behind(buffer, limit)
            merged.append(buffer[:end])
            buffers[number] = buffer[end:] or next(readers[number], b"")
        yield sorted_rows(b"".join(merged), ROW_SIZE)
        between()
