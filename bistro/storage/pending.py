"""Many new files at once: written first, then synced one after the other, then named.

Synced together they share the file system's own syncs, which takes half the time of a sync
after each; and none of them has its name before it is durable.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from bistro.storage.durable import TEMPORARY_SUFFIX, Disk, storage_errors, sync_directory

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


class PendingFiles:
    """Files that have no names yet. One owner.

    Args:
        disk: The system calls to use.
    """

    def __init__(self, *, disk: Disk) -> None:
        self._disk = disk
        self._token = secrets.token_hex(6)
        self._files: list[tuple[int, Path, Path]] = []

    def write(self, folder: Path, name: str, data: bytes) -> None:
        """Write a file; it has its name, and is durable, only after ``sync``.

        Args:
            folder: Exists.
            name: Not written since the last ``sync``.
            data: The whole content.

        Raises:
            StorageError: The disk failed; ``abandon`` comes next.
        """
        disk = self._disk
        temporary = folder / f".{name}.{self._token}{TEMPORARY_SUFFIX}"
        with storage_errors("write", temporary):
            fd = disk.open(temporary, _NEW)
            self._files.append((fd, temporary, folder / name))
            written = disk.write(fd, data, offset=0)
            while written < len(data):
                written += disk.write(fd, data[written:], offset=written)
            disk.start(fd)

    def sync(self) -> None:
        """Make all files written so far durable, then give them their names.

        Raises:
            StorageError: Some of them may be missing; none is there in part.
        """
        disk = self._disk
        try:
            for fd, temporary, _ in self._files:
                with storage_errors("sync", temporary):
                    disk.sync(fd)
            folders: set[Path] = set()
            while self._files:
                fd, temporary, target = self._files[-1]
                with storage_errors("rename", temporary):
                    # A crash here leaves temporaries that nobody reads; they are written again.
                    disk.rename(temporary, target)
                self._files.pop()
                disk.close(fd)
                folders.add(target.parent)
            for folder in sorted(folders):
                sync_directory(folder, disk=disk)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget what was written since the last ``sync``."""
        while self._files:
            fd, temporary, _ = self._files.pop()
            with suppress(OSError):
                self._disk.close(fd)
            with suppress(OSError):
                self._disk.delete(temporary)
