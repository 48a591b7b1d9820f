"""Named blobs of any size on the local disk: written once, streamed, durable when named.

A blob appears under its name only when all of it is on the medium, so a reader never sees
half of one and a crash leaves at most a temporary that ``sweep`` removes. Blobs lie in 256
folders by the first two characters of their names. Memory is one chunk, whatever the size.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bistro.storage.durable import (
    SYSTEM_DISK,
    TEMPORARY_SUFFIX,
    AppendFile,
    Disk,
    Folders,
    ReadFile,
    delete_file,
    storage_errors,
    sync_directory,
    temporary_for,
)

CHUNK_SIZE = 256 * 1024
"""How much ``read`` hands out at once."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,199}")


class BlobWriter:
    """A blob in the making; obtained from ``BlobStore.writing``."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._file.size

    async def write(self, chunk: bytes | memoryview) -> None:
        """Add ``chunk``; not durable before the ``writing`` block ends.

        Raises:
            StorageError: The disk failed; the blob will not appear.
        """
        await asyncio.to_thread(self._file.append, chunk)


class BlobStore:
    """Blobs below one folder.

    Names are 2-200 characters out of ``a-z0-9._-``, chosen by us (never taken from a peer
    without validation).

    Args:
        root: The folder; made if missing.
        disk: The system calls to use.
    """

    def __init__(self, root: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        self._folders = Folders(root.parent, disk=disk)
        self._folders.require(root)
        self._root = root
        self._disk = disk

    def path_of(self, name: str) -> Path:
        """Where the blob ``name`` lies, or would lie."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"blob name {name!r}: expected 2-200 characters of a-z0-9._-")
        return self._root / name[:2] / name

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncIterator[BlobWriter]:
        """Write a blob piece by piece; durable under its name when the block has ended.

        If the block raises, nothing appears and an older blob of that name stays.

        Raises:
            StorageError: The disk failed; the blob is whole or absent.
        """
        path = self.path_of(name)
        temporary = temporary_for(path)
        file = await asyncio.to_thread(self._create, temporary)
        try:
            yield BlobWriter(file)
            await asyncio.to_thread(self._finish, file, path)
        except BaseException:
            # Blocking on purpose: a cancelled task must not leave before its file is gone.
            file.close()
            with suppress(OSError):
                self._disk.delete(temporary)
            raise

    def _create(self, temporary: Path) -> AppendFile:
        self._folders.require(temporary.parent)
        return AppendFile.create(temporary, disk=self._disk)

    def _finish(self, file: AppendFile, path: Path) -> None:
        file.sync()
        file.close()
        with storage_errors("replace", path):
            # A crash here leaves a temporary that nobody reads; the sender repeats.
            self._disk.rename(file.path, path)
        # A crash here leaves the blob, whole, or nothing: it was not yet promised.
        sync_directory(path.parent, disk=self._disk)

    async def write(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """Write a whole blob from a stream; its size. See ``writing``."""
        async with self.writing(name) as blob:
            async for chunk in chunks:
                await blob.write(chunk)
            return blob.size

    async def size(self, name: str) -> int | None:
        """Bytes of the blob, or ``None`` if there is none.

        Raises:
            StorageError: The disk failed.
        """
        return await asyncio.to_thread(self._size, self.path_of(name))

    def _size(self, path: Path) -> int | None:
        with storage_errors("look at", path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    async def read(
        self, name: str, *, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of the blob from ``offset``: ``size`` bytes, or up to the end.

        Fewer bytes come only if the blob is shorter. Close the iterator if it is left early
        (``contextlib.aclosing``).

        Raises:
            UnknownObjectError: There is no such blob.
            StorageError: The disk failed.
        """
        path = self.path_of(name)
        with await asyncio.to_thread(ReadFile.open, path, disk=self._disk) as file:
            left = size
            while left is None or left > 0:
                wanted = CHUNK_SIZE if left is None else min(left, CHUNK_SIZE)
                chunk = await asyncio.to_thread(file.read, offset=offset, size=wanted)
                if not chunk:
                    return
                offset += len(chunk)
                left = None if left is None else left - len(chunk)
                yield chunk

    async def delete(self, name: str) -> bool:
        """Delete durably; whether there was such a blob.

        Raises:
            StorageError: The blob may or may not come back after a crash.
        """
        return await asyncio.to_thread(delete_file, self.path_of(name), disk=self._disk)

    def names(self) -> Iterator[str]:
        """All blobs, in no order; blocks while it looks at a folder."""
        for folder in self._root.iterdir():
            for path in folder.iterdir():
                if not path.name.endswith(TEMPORARY_SUFFIX):
                    yield path.name

    async def sweep(self) -> int:
        """Remove what a crash left unfinished; how many. Call before the first ``writing``."""
        return await asyncio.to_thread(self._sweep)

    def _sweep(self) -> int:
        left = [path for path in self._root.glob(f"*/.*{TEMPORARY_SUFFIX}") if path.is_file()]
        for path in left:
            with storage_errors("delete", path):
                self._disk.delete(path)
        return len(left)
