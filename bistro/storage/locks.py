"""One writer: an exclusive lock on a file, held by the system until the holder ends.

The system drops the lock when its holder dies, however it dies, so there is nothing stale to
clean up. It also excludes a second holder inside one process. Not for network file systems.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from bistro.errors import UnavailableError
from bistro.storage.durable import storage_errors

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        # One byte far behind the text, so that others can still read who holds the lock.
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """An exclusive lock; obtained by ``take``, given back by ``release`` or by dying."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    @classmethod
    def take(cls, path: Path, *, what: str) -> Self:
        """Lock ``path``, making the file if it is missing; never waits.

        Args:
            path: The lock file; it holds the number of the holder's process, for people.
            what: What is protected, for the message.

        Raises:
            UnavailableError: Another process, or this one, holds the lock.
            StorageError: The file cannot be opened or locked.
        """
        with storage_errors("open", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with storage_errors("lock", path):
                try:
                    _lock(fd)
                except (BlockingIOError, PermissionError) as exc:  # as POSIX and Windows say it
                    holder = os.read(fd, 20).decode("ascii", "replace").strip() or "unknown"
                    raise UnavailableError(
                        f"{what} is in use by another process (process id {holder})",
                        hint="stop the other process, or let it do the work",
                    ) from exc
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        # The number is for people only: a full disk must not keep a lock from its holder.
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return cls(fd, path)

    def release(self) -> None:
        """Give the lock back; a second call does nothing. The file stays.

        Raises:
            StorageError: The disk failed. The lock is given back all the same.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with storage_errors("close", self._path):
                os.close(fd)
