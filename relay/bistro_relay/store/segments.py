"""Segments of single fragments on disk: one file each, appended to, durable up to what was synced.

``segments/<2 digits>/<id>.segment``; ids are ours and random, so no path comes from a peer.
The layout of a file is that of ``bistro.storage.segments``.

Source: docs/spec/segments.md, own segments; docs/decisions/0020-small-fragments-share-segments.md.
"""

from __future__ import annotations

import errno
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bistro.errors import StorageError
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

CHUNK_SIZE: Final = 262_144
PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))

_SUFFIX: Final = ".segment"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException | None) -> bool:
    """Whether an error says, at its root, that the disk has no room: nothing is broken then."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__
    return False


class Segment:
    """A segment open for appending data behind its head.

    Args:
        file: The file.
        record: Its record.

    Attributes:
        data_offset: Where the data begins.
        is_broken: Whether a write or sync has failed: what is on the medium is unknown.
    """

    def __init__(self, file: AppendFile, record: segments.SegmentRecord) -> None:
        self._file = file
        self._generation = record.generation
        self.data_offset = record.data_offset
        self.is_broken = False

    @property
    def data_size(self) -> int:
        """Bytes of data written so far, durable or not."""
        return self._file.size - self.data_offset

    def append(self, chunk: bytes | memoryview) -> None:
        """Write data at the end; durable only after ``sync``."""
        with self._changing():
            self._file.append(chunk)

    def finish(self, crc: int) -> None:
        """Write the record's end and sync all of it.

        A crash before this returns leaves bytes behind the recorded offset, which are cut when
        the upload goes on: nothing was promised about them.
        """
        with self._changing():
            self._file.append(segments.encode_end(crc, generation=self._generation))
            self._file.sync()

    def sync(self) -> None:
        """Return when all data is on the medium."""
        with self._changing():
            self._file.sync()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            self.is_broken = True
            raise

    def cut(self, data_size: int) -> None:
        """Drop data behind the first ``data_size`` bytes."""
        self._file.truncate(self.data_offset + data_size)

    def read(self, *, offset: int, size: int) -> bytes:
        """Data from ``offset`` on."""
        return self._file.read(offset=self.data_offset + offset, size=size)

    def close(self) -> None:
        """Give the file back; nothing is synced that was not."""
        self._file.close()


class SegmentFiles:
    """The folder of segments; all methods block.

    Args:
        directory: The relay's data folder.
        disk: The system calls to use.
    """

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._root = directory / "segments"
        self._disk = disk
        self._folders = Folders(directory, disk=disk)
        self._folders.require(self._root)

    def create(self, segment_id: str, claim: bytes, data_size: int) -> None:
        """A new segment with its head and claim, durable with its name.

        A crash in between leaves a file that no row names; ``serve`` sweeps it at its start.

        Raises:
            StorageError: The disk is full or failed; ``is_full`` tells which.
        """
        path = self._path(segment_id)
        self._folders.require(path.parent)
        generation = secrets.randbits(segments.GENERATION_BITS)
        with AppendFile.create(path, disk=self._disk) as file:
            file.append(segments.encode_head(claim, data_size, generation=generation))
            file.sync()
        sync_directory(path.parent, disk=self._disk)

    def open(self, segment_id: str, *, durable_size: int) -> Segment:
        """The segment, cut to the data that is known to be durable.

        What stands behind it was written but never acknowledged; after a failed sync it may
        not even be on the medium, although it can be read.

        Raises:
            StorageError: It is missing, damaged, or shorter than what was acknowledged.
        """
        path = self._path(segment_id)
        file = AppendFile.open(path, disk=self._disk)
        try:
            record = segments.decode_head(lambda at, size: file.read(offset=at, size=size), 0)
            segment = Segment(file, record)
            _require_size(segment_id, segment, durable_size)
            if segment.data_size > durable_size:
                segment.cut(durable_size)
        except BaseException:
            file.close()
            raise
        return segment

    def read(self, segment_id: str) -> tuple[ReadFile, segments.SegmentRecord]:
        """The segment open for reading, and where its data is.

        Raises:
            UnknownObjectError: There is no such file.
            FormatError: Its head is damaged.
            StorageError: The disk failed.
        """
        file = ReadFile.open(self._path(segment_id), disk=self._disk)
        try:
            return file, segments.decode_head(lambda at, size: file.read(offset=at, size=size), 0)
        except BaseException:
            file.close()
            raise

    def is_complete(self, file: ReadFile, record: segments.SegmentRecord) -> bool:
        """Whether the record has its end, and its data the CRC that stands there; reads it all."""

        def read(at: int, size: int) -> bytes:
            return file.read(offset=at, size=size)

        found = segments.inspect(read, record, file_size=record.end, check_data=True)
        return found.state == "complete"

    def delete(self, segment_id: str) -> None:
        """Delete, if it is there.

        The directory is not synced: should a power cut bring the file back, its row says that
        it has ended, and the next start deletes it again.
        """
        path = self._path(segment_id)
        with storage_errors("delete", path), suppress(FileNotFoundError):
            self._disk.delete(path)

    def names(self, prefix: str) -> frozenset[str]:
        """Ids of the segments in one of the ``PREFIXES`` folders."""
        folder = self._root / prefix
        if not folder.is_dir():
            return frozenset()
        with storage_errors("list", folder):
            found = [path.name.removesuffix(_SUFFIX) for path in folder.iterdir()]
        return frozenset(name for name in found if _ID.fullmatch(name))

    def _path(self, segment_id: str) -> Path:
        if not _ID.fullmatch(segment_id):
            raise ValueError(f"segment id {segment_id!r}: expected 32 hexadecimal digits")
        return self._root / segment_id[:2] / f"{segment_id}{_SUFFIX}"


def _require_size(segment_id: str, segment: Segment, durable_size: int) -> None:
    if segment.data_size < durable_size:
        raise StorageError(
            f"segment {segment_id}: expected {durable_size} bytes of data, "
            f"found {segment.data_size}",
            hint="check the disk; acknowledged bytes are gone",
        )
