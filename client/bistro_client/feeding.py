"""Gives an archive's bytes out in whatever portions are asked for, reading every file once.

Files are hashed while they are read. Who asks may be another thread each time, one at a time.

Source: docs/spec/filing.md, sealing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from typing import Final, Self

from bistro.protocol.archive import ArchiveWriter, changed
from bistro.storage.disk import read_once
from bistro_client import messages
from bistro_client.gathering import Source
from bistro_client.wording import say

_AT_ONCE: Final = 524_288
"""Bytes that are read before they are hashed: while a core has them near."""
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_LINK_ERRORS: Final = frozenset({errno.ELOOP, errno.EMLINK})
"""What systems say where no link is to be followed."""


class Feed:
    """All of an archive behind its head: a context manager that closes the file it is in.

    Args:
        sources: The files, in the archive's order.
        archive: Learns their hashes.
        done: Told of every few bytes of a file; may raise to stop.
    """

    def __init__(
        self, sources: Sequence[Source], archive: ArchiveWriter, done: Callable[[int], None]
    ) -> None:
        self._sources = sources
        self._archive = archive
        self._done = done
        self._room = memoryview(b"")
        self._steps = self._run()

    def __enter__(self) -> Self:
        """The feed itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file that was being read."""
        self._steps.close()

    def fill(self, room: memoryview) -> None:
        """Fill ``room``, which is no larger than what is left.

        Raises:
            ConflictError: A file was written to meanwhile, or since its size was taken.
            SettingsError: A file cannot be read.
        """
        self._room = room
        next(self._steps, None)
        if self._room:
            raise ValueError(say("feeding.archive-bytes-were", room=len(self._room)))

    def _run(self) -> Generator[None]:
        """Fill the room at hand again and again; a step ends where it is full."""
        for source in self._sources:
            yield from self._put(self._archive.begin_file())
            yield from self._read(source)
            yield from self._put(self._archive.end_file())
        for chunk in self._archive.finish():
            yield from self._put(chunk)

    def _put(self, data: bytes) -> Generator[None]:
        left = memoryview(data)
        while left:
            if not self._room:
                yield
            piece = left[: len(self._room)]
            self._room[: len(piece)] = piece
            self._room = self._room[len(piece) :]
            left = left[len(piece) :]

    def _read(self, source: Source) -> Generator[None]:
        """Read a file to its end, hashed.

        Raises:
            ConflictError: Somebody wrote to it meanwhile, or since its size was taken.
        """
        with _opened(source) as stream:
            before = os.fstat(stream.fileno())
            left = source.size
            while left:
                if not self._room:
                    yield
                room = self._room[: min(left, _AT_ONCE)]
                size = read_once(stream, room, offset=source.size - left)
                if not size:
                    break
                self._archive.write(self._room[:size])
                self._room = self._room[size:]
                left -= size
                self._done(size)
            # One byte more, so that growth shows instead of being cut off.
            more = bytearray(1)
            found = read_once(stream, memoryview(more), offset=source.size - left)
            self._archive.write(more[:found])
            after = os.fstat(stream.fileno())
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise changed(source.path, say("feeding.was-written-meanwhile"))


@contextmanager
def _opened(source: Source) -> Iterator[FileIO]:
    """A source open for reading; whatever its reading raises names the file.

    Somebody else may write to the folder, and what takes a file's place meanwhile is not filed:
    a link could lead to what only the filer may read, a pipe would never end.
    """
    extra = _NO_WAIT | (_NO_LINK if source.is_found else 0)
    try:
        with FileIO(source.disk, opener=lambda path, flags: os.open(path, flags | extra)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise changed(source.path, say("feeding.no-file-any"))
            yield file
    except FileNotFoundError as exc:
        raise messages.vanished(source.disk) from exc
    except OSError as exc:
        if exc.errno in _LINK_ERRORS and source.disk.is_symlink():
            raise changed(source.path, say("feeding.link-now")) from exc
        raise messages.unreadable(source.disk, exc) from exc
