"""Files that survive a power cut: whole-file replacement, and appending.

An ``OSError`` becomes a ``StorageError`` in this module and nowhere above it. All functions
block; a coroutine calls them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from bistro.errors import FormatError, StorageError, UnavailableError, UnknownObjectError
from bistro.storage.disk import SYSTEM_DISK, Disk

__all__ = [
    "SYSTEM_DISK",
    "TEMPORARY_SUFFIX",
    "AppendFile",
    "Disk",
    "Folders",
    "ReadFile",
    "delete_file",
    "make_directories",
    "read_file",
    "storage_errors",
    "sync_directory",
    "temporary_for",
    "waiting_for_room",
    "well_formed",
    "write_atomically",
]

TEMPORARY_SUFFIX = ".tmp"
"""Files with this ending were never finished; nobody reads them, anybody may delete them."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_HINTS = {
    **dict.fromkeys(_FULL, "free some space and start again"),
    errno.EROFS: "look into the kernel's log (dmesg): it stops writing to a disk that fails; "
    "check the file system, mount it for writing, and start again",
}


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Translate every ``OSError`` inside into a ``StorageError`` that names ``path``."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise StorageError(
            f"{action} {path}: {reason}", hint=_HINTS.get(exc.errno or 0, "check the disk")
        ) from exc


@contextmanager
def well_formed(path: Path, *, hint: str) -> Iterator[None]:
    """Decode inside what stands in ``path``; if it is none of ours, the file is named.

    Raises:
        StorageError: It is malformed; ``hint`` says what to do.
    """
    try:
        yield
    except FormatError as exc:
        raise StorageError(f"{path}: {exc.message}", hint=hint) from exc


@contextmanager
def waiting_for_room(what: str) -> Iterator[None]:
    """Make a full disk inside no fault: what is done there is whole or absent, and repeated.

    Raises:
        UnavailableError: The disk is full.
    """
    try:
        yield
    except StorageError as exc:
        if isinstance(exc.__cause__, OSError) and exc.__cause__.errno in _FULL:
            raise UnavailableError(f"{what}: {exc.message}", hint=exc.hint) from exc
        raise


def make_directories(path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
    """Make ``path`` and its missing parents, each name durable; existing ones are left alone.

    Raises:
        StorageError: The system refused.
    """
    if path.is_dir():
        return
    make_directories(path.parent, disk=disk)
    with storage_errors("make directory", path):
        with suppress(FileExistsError):
            disk.make_directory(path)
        disk.sync_directory(path.parent)


class Folders:
    """Folders that this process relies on: their names are durable, whoever made them.

    A folder that is found may have been made by a process that was killed before it synced the
    name, or by a thread that has not synced it yet. So every name is synced once in a process.
    Any thread may call.

    Args:
        base: Made if it is missing; whether its own name lasts is its owner's business.
        disk: The system calls to use.
    """

    def __init__(self, base: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        make_directories(base, disk=disk)
        self._base = base
        self._disk = disk
        self._lock = threading.Lock()
        self._durable: set[Path] = set()

    def require(self, path: Path) -> None:
        """Make a folder below the base and what is missing above it, or find them there.

        Raises:
            StorageError: The system refused.
        """
        with self._lock:
            self._require(path)

    def _require(self, path: Path) -> None:
        if path == self._base or path in self._durable:
            return
        self._require(path.parent)
        with storage_errors("make directory", path):
            with suppress(FileExistsError):
                self._disk.make_directory(path)
            # A crash here leaves a name that may go: the next process syncs it.
            self._disk.sync_directory(path.parent)
        self._durable.add(path)


def sync_directory(path: Path, *, disk: Disk = SYSTEM_DISK) -> None:
    """Make the names in ``path`` durable: after creating, renaming or deleting a file.

    Raises:
        StorageError: The names may or may not last.
    """
    with storage_errors("sync directory", path):
        disk.sync_directory(path)


def read_file(path: Path, *, max_size: int, disk: Disk = SYSTEM_DISK) -> bytes | None:
    """The whole of a small file, or ``None`` if there is no such file.

    Raises:
        StorageError: It cannot be read, or is longer than ``max_size``.
    """
    try:
        file = ReadFile.open(path, disk=disk)
    except UnknownObjectError:
        return None
    with file:
        data = file.read(offset=0, size=max_size + 1)
    if len(data) > max_size:
        raise StorageError(f"read {path}: expected at most {max_size} bytes, found more")
    return data


def temporary_for(path: Path) -> Path:
    """A fresh name beside ``path`` for its next content."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")


def write_atomically(
    path: Path, data: bytes, *, disk: Disk = SYSTEM_DISK, sync_name: bool = True
) -> None:
    """Replace the content of ``path``; readers and crashes see the old or the new, never less.

    Args:
        path: Its directory exists.
        data: The whole new content.
        disk: The system calls to use.
        sync_name: Whether the new name is made durable too; a caller that writes many files
            into one directory passes false and calls ``sync_directory`` once.

    Raises:
        StorageError: The old or the new content will be found, whole.
    """
    temporary = temporary_for(path)
    try:
        with AppendFile.create(temporary, disk=disk) as file:
            file.append(data)
            file.sync()
        with storage_errors("replace", path):
            # A crash here leaves the old file and a temporary that nobody reads.
            disk.rename(temporary, path)
    except StorageError:
        # A rename that failed after its effect has taken the temporary away already.
        with suppress(OSError):
            disk.delete(temporary)
        raise
    if sync_name:
        # A crash here leaves either content, whole: the name is not yet promised.
        sync_directory(path.parent, disk=disk)


def delete_file(path: Path, *, disk: Disk = SYSTEM_DISK) -> bool:
    """Delete durably; whether there was such a file.

    Raises:
        StorageError: The file may or may not come back after a crash.
    """
    with storage_errors("delete", path):
        try:
            disk.delete(path)
        except FileNotFoundError:
            return False
        disk.sync_directory(path.parent)
    return True


class ReadFile:
    """A file open for reading; any thread may read, and ``close`` waits for readers."""

    def __init__(self, path: Path, fd: int, *, disk: Disk) -> None:
        self.path = path
        self._fd = fd
        self._disk = disk
        self._failure: str | None = None
        # A cancelled coroutine leaves its thread behind: closing must wait for that thread, or
        # it would go on with a number that already belongs to another file.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, disk: Disk = SYSTEM_DISK) -> Self:
        """An existing file.

        Raises:
            UnknownObjectError: There is no such file.
            StorageError: The system refused.
        """
        with storage_errors("open", path):
            try:
                return cls(path, disk.open(path, cls._flags), disk=disk)
            except FileNotFoundError as exc:
                raise UnknownObjectError(f"there is no file {path}") from exc

    _flags = os.O_RDONLY

    def __enter__(self) -> Self:
        """The file itself, closed at the end of the block."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close; nothing is synced that was not."""
        self.close()

    @contextmanager
    def _guarded(self, action: str) -> Iterator[None]:
        with self._lock:
            if self._failure is not None:
                raise StorageError(
                    f"{action} {self.path}: stopped, because {self._failure}",
                    hint="open the file again and check its tail",
                )
            with storage_errors(action, self.path):
                yield

    def read(self, *, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer only at the end of the file.

        Raises:
            StorageError: The medium cannot be read.
        """
        pieces: list[bytes] = []
        with self._guarded("read"):
            while size > 0 and (piece := self._disk.read(self._fd, offset=offset, size=size)):
                pieces.append(piece)
                offset += len(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        with self._lock:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                self._failure = self._failure or "it was closed"
                with storage_errors("close", self.path):
                    self._disk.close(fd)


class AppendFile(ReadFile):
    """A file that grows at its end and is durable up to the last ``sync`` that returned.

    After any failed write, cut or sync it refuses everything but ``close``: what the medium
    holds is unknown (a kernel forgets dirty pages after a failed sync), so the file must be
    opened again and its tail looked at. One owner.
    """

    _flags = os.O_RDWR

    def __init__(self, path: Path, fd: int, *, disk: Disk) -> None:
        super().__init__(path, fd, disk=disk)
        self.size = disk.size(fd)
        """Bytes written so far, durable or not."""

    @classmethod
    def create(cls, path: Path, *, disk: Disk = SYSTEM_DISK) -> Self:
        """A new, empty file; its name is durable only after ``sync_directory``.

        Raises:
            StorageError: The name is taken, or the system refused.
        """
        with storage_errors("create", path):
            return cls(path, disk.open(path, cls._flags | os.O_CREAT | os.O_EXCL), disk=disk)

    @contextmanager
    def _changing(self, action: str) -> Iterator[None]:
        with self._guarded(action):
            try:
                yield
            except BaseException as exc:
                self._failure = f"{action} failed: {exc}"
                raise

    def append(self, data: bytes | memoryview) -> None:
        """Write ``data`` at the end; durable only after ``sync``.

        Raises:
            StorageError: Any part of ``data`` may have been written.
        """
        with self._changing("write"), memoryview(data) as view:
            written = 0
            while written < len(view):
                with view[written:] as rest:
                    written += self._disk.write(self._fd, rest, offset=self.size + written)
            self.size += written

    def overwrite(self, data: bytes | memoryview, *, offset: int) -> None:
        """Write ``data`` within what the file has already; durable only after ``sync``.

        Where those bytes had reached the medium before, the sync has no new length to record.

        Raises:
            StorageError: Any part of ``data`` may have been written.
        """
        if offset + len(data) > self.size:
            raise ValueError(f"{self.path}: {offset} + {len(data)} of {self.size} bytes")
        with self._changing("write"), memoryview(data) as view:
            written = 0
            while written < len(view):
                with view[written:] as rest:
                    written += self._disk.write(self._fd, rest, offset=offset + written)

    def sync(self) -> None:
        """Return when all that was written is on the medium.

        Raises:
            StorageError: What was appended since the last sync may or may not last.
        """
        with self._changing("sync"):
            self._disk.sync(self._fd)

    def renew(self, offset: int, end: int) -> None:
        """Write again what stands from ``offset`` to ``end``, and sync.

        What is read from an opened file may never have reached the medium: after a failed sync
        a kernel keeps the pages and calls them clean. Writing the same bytes makes them dirty.

        Raises:
            StorageError: What stands there may or may not last.
        """
        self.overwrite(self.read(offset=offset, size=end - offset), offset=offset)
        self.sync()

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes; durable only after ``sync``.

        Raises:
            StorageError: The old or the new length will be found.
        """
        with self._changing("cut"):
            self._disk.truncate(self._fd, size)
            self.size = size
