"""A disk that fails where a test wants it to."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bistro.storage.disk import SystemDisk

How = Literal["not-stored", "stored", "full", "kill"]


class KilledError(BaseException):
    """The process is taken to be dead from here on."""


class PartingDisk(SystemDisk):
    """The real disk, which writes one part at a time: all writing goes through ``write``."""

    def write_parts(self, fd: int, parts: Sequence[memoryview], *, offset: int) -> int:
        return self.write(fd, parts[0], offset=offset)


class FaultyDisk(PartingDisk):
    """The real disk, except for one changing call.

    | how | the call | afterwards |
    |---|---|---|
    | not-stored | fails without effect; a sync loses what it should have kept | all is well |
    | stored | fails after its effect | all is well |
    | full | a write takes half; other calls as not-stored | no write succeeds |
    | kill | ``KilledError`` before the effect | every call raises ``KilledError`` |

    Attributes:
        calls: Names of the changing calls so far, in order.
    """

    def __init__(self, *, at: int | None = None, how: How = "not-stored") -> None:
        self.calls: list[str] = []
        self._at = at
        self._how = how
        self._is_dead = False
        self._is_full = False
        self._synced: dict[int, int] = {}
        self._unsynced: dict[int, list[tuple[int, bytes]]] = {}

    def fail_at(self, at: int, how: How) -> None:
        """Fail the ``at``-th changing call from now on, counted from 0."""
        self._at = len(self.calls) + at
        self._how = how

    def heal(self) -> None:
        """From here on nothing fails: the process was started again."""
        self._at = None
        self._is_dead = self._is_full = False

    def open(self, path: Path, flags: int) -> int:
        self._require_alive()
        fd = super().open(path, flags)
        self._synced[fd] = super().size(fd)
        self._unsynced[fd] = []
        return fd

    def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
        if self._is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        hit = self._count("write")
        self._unsynced[fd].append((offset, super().read(fd, offset=offset, size=len(data))))
        if hit and self._how == "full":
            self._is_full = True
            return super().write(fd, bytes(data)[: max(len(data) // 2, 1)], offset=offset)
        with self._failing(hit=hit):
            return super().write(fd, data, offset=offset)
        raise AssertionError

    def truncate(self, fd: int, size: int) -> None:
        with self._failing(hit=self._count("truncate")):
            super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        hit = self._count("sync")
        if hit and self._how == "not-stored":
            # The pages that could not be written are dropped, as by a power cut after it.
            for offset, before in reversed(self._unsynced[fd]):
                super().write(fd, before, offset=offset)
            super().truncate(fd, min(self._synced[fd], super().size(fd)))
        with self._failing(hit=hit):
            super().sync(fd)
            self._synced[fd] = super().size(fd)
            self._unsynced[fd].clear()

    def rename(self, source: Path, target: Path) -> None:
        with self._failing(hit=self._count("rename")):
            super().rename(source, target)

    def delete(self, path: Path) -> None:
        with self._failing(hit=self._count("delete")):
            super().delete(path)

    def make_directory(self, path: Path) -> None:
        with self._failing(hit=self._count("make_directory")):
            super().make_directory(path)

    def sync_directory(self, path: Path) -> None:
        with self._failing(hit=self._count("sync_directory")):
            super().sync_directory(path)

    def _require_alive(self) -> None:
        if self._is_dead:
            raise KilledError

    def _count(self, name: str) -> bool:
        self._require_alive()
        self.calls.append(name)
        return self._at is not None and len(self.calls) - 1 == self._at

    @contextmanager
    def _failing(self, *, hit: bool) -> Iterator[None]:
        if not hit or self._how == "stored":
            yield
        if not hit:
            return
        if self._how == "kill":
            self._is_dead = True
            raise KilledError
        raise OSError(errno.EIO, f"injected, {self._how}")
