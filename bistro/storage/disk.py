"""The system calls that durable code makes, as an interface.

Everything that must last goes through a ``Disk``, so that a test can make any call fail,
before or after its effect.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

_UNCACHED: Final = 0x80 if hasattr(os, "RWF_HIPRI") else 0
"""``RWF_DONTCACHE`` of Linux 6.14: done at once, and its memory is free again; 0 without flags."""


class Disk(Protocol):
    """The system calls that durable code makes; each may raise ``OSError``."""

    def open(self, path: Path, flags: int) -> int:
        """Open with ``os.O_*`` flags; a new file is readable by its owner only."""
        ...

    def size(self, fd: int) -> int:
        """Length of an open file."""
        ...

    def read(self, fd: int, *, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer at the end of the file."""
        ...

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        """Write some of ``data`` at ``offset``; how many bytes were taken."""
        ...

    def write_parts(self, fd: int, parts: Sequence[memoryview], *, offset: int) -> int:
        """Write some of ``parts``, one behind the other; how many bytes were taken.

        For much that nobody reads soon: where the system can, it goes to the medium at once and
        does not stay in memory.
        """
        ...

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        ...

    def start(self, fd: int) -> None:
        """Begin to write to the medium what was written; promises nothing."""
        ...

    def sync(self, fd: int) -> None:
        """Return when data and length are on the medium (``fdatasync``)."""
        ...

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename within a file system, replacing ``target`` in one step."""
        ...

    def delete(self, path: Path) -> None:
        """Remove the name of a file."""
        ...

    def make_directory(self, path: Path) -> None:
        """Make one directory; ``FileExistsError`` if the name is taken."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the names in ``path`` are on the medium."""
        ...


class SystemDisk:
    """The disk of this machine."""

    def open(self, path: Path, flags: int) -> int:
        """Open with mode 0600; binary where that must be said."""
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)

    def size(self, fd: int) -> int:
        """Length of an open file."""
        return os.fstat(fd).st_size

    if sys.platform == "win32":

        def read(self, fd: int, *, offset: int, size: int) -> bytes:
            """Seek and read: there is no positioned read here."""
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)

        def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
            """Seek and write: there is no positioned write here."""
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

        def sync(self, fd: int) -> None:
            """Flush data and metadata: there is no ``fdatasync`` here."""
            os.fsync(fd)

        def sync_directory(self, path: Path) -> None:
            """Nothing: NTFS journals names, and a directory cannot be flushed."""

    else:

        def read(self, fd: int, *, offset: int, size: int) -> bytes:
            """Positioned read."""
            return os.pread(fd, size, offset)

        def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
            """Positioned write."""
            return os.pwrite(fd, data, offset)

        def sync(self, fd: int) -> None:
            """``fdatasync``, where there is one."""
            getattr(os, "fdatasync", os.fsync)(fd)

        def sync_directory(self, path: Path) -> None:
            """``fsync`` of the directory."""
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    if sys.platform == "linux":

        def write_parts(self, fd: int, parts: Sequence[memoryview], *, offset: int) -> int:
            """One positioned write of all, around the page cache where kernel and disk can."""
            try:
                return os.pwritev(fd, parts, offset, _UNCACHED)
            except OSError as exc:
                if exc.errno != errno.EOPNOTSUPP:
                    raise
            return os.pwritev(fd, parts, offset)

    else:

        def write_parts(self, fd: int, parts: Sequence[memoryview], *, offset: int) -> int:
            """The first part: there is no positioned write of several everywhere."""
            return self.write(fd, parts[0], offset=offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(fd, size)

    def start(self, fd: int) -> None:
        """Where there is ``posix_fadvise``: pages that are not needed are written soon."""
        if sys.platform == "linux":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing ``target``."""
        source.replace(target)

    def delete(self, path: Path) -> None:
        """Remove the name of a file."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Make one directory, for its owner only."""
        path.mkdir(mode=0o700)


SYSTEM_DISK = SystemDisk()


def read_once(stream: FileIO, room: memoryview, *, offset: int) -> int:
    """Read what is wanted once: how many bytes of ``room`` were filled; 0 at the end.

    Where the system can, what was not in memory before does not stay there.
    """
    if _UNCACHED and hasattr(os, "preadv"):
        try:
            return os.preadv(stream.fileno(), [room], offset, _UNCACHED)
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                raise
    stream.seek(offset)
    return stream.readinto(room) or 0


class ReservingDisk(SystemDisk):
    """The disk of this machine, of which this process leaves some to others.

    What takes much room and can wait stops here, while there is still room for what cannot: a
    ledger that meets a full disk stops its daemon.

    Args:
        reserve_bytes: Free bytes that no write may take.
    """

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve_bytes = reserve_bytes

    if sys.platform != "win32":  # no free space of an open file there

        def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
            """Positioned write, refused where it would take from the reserve."""
            self._require_room(fd, len(data))
            return super().write(fd, data, offset=offset)

        def write_parts(self, fd: int, parts: Sequence[memoryview], *, offset: int) -> int:
            """Positioned write of all, refused where it would take from the reserve."""
            self._require_room(fd, sum(map(len, parts)))
            return super().write_parts(fd, parts, offset=offset)

        def _require_room(self, fd: int, size: int) -> None:
            found = os.fstatvfs(fd)
            free = found.f_bavail * found.f_frsize
            if free - size < self._reserve_bytes:
                kept = f"{free} bytes are free, {self._reserve_bytes} are kept for what cannot wait"
                raise OSError(errno.ENOSPC, kept)
