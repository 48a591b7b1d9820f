"""Blobs appear whole or not at all, and stream in constant memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnknownObjectError
from bistro.storage.blobs import CHUNK_SIZE, BlobStore
from bistro.storage.disk import SystemDisk
from tests.support.disks import FaultyDisk, How

NAME = "ab12"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(store: BlobStore, name: str = NAME, **where: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(name, **where)])


async def test_a_blob_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Whole, from an offset, or a part; more than one chunk."""
    store = BlobStore(tmp_path / "blobs")
    data = bytes(range(256)) * 3_000
    assert await store.write(NAME, pieces(data[:5], b"", data[5:])) == len(data)
    assert await content(store) == data
    assert await content(store, offset=700_000) == data[700_000:]
    assert await content(store, offset=3, size=CHUNK_SIZE + 1) == data[3 : CHUNK_SIZE + 4]
    assert await content(store, size=0) == b""
    assert await store.size(NAME) == len(data)
    assert list(store.names()) == [NAME]


async def test_a_reader_may_leave_early(tmp_path: Path) -> None:
    """The file is closed with the iterator."""
    store = BlobStore(tmp_path)
    await store.write(NAME, pieces(b"x" * CHUNK_SIZE * 2))
    async with aclosing(store.read(NAME)) as chunks:
        async for chunk in chunks:
            assert len(chunk) == CHUNK_SIZE
            break


async def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    """A missing blob has no size, cannot be read, and deleting it changes nothing."""
    store = BlobStore(tmp_path)
    assert await store.size(NAME) is None
    assert not await store.delete(NAME)
    with pytest.raises(UnknownObjectError):
        await content(store)
    await store.write(NAME, pieces(b"x"))
    assert await store.delete(NAME)
    assert await store.size(NAME) is None


@pytest.mark.parametrize("name", ["", "a", "../etc", "A1", "a/b", ".hidden", "x" * 201])
def test_a_name_never_becomes_another_path(tmp_path: Path, name: str) -> None:
    """Names are ours; anything else is a bug and says so."""
    with pytest.raises(ValueError, match="blob name"):
        BlobStore(tmp_path).path_of(name)


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", range(6))
async def test_a_failed_write_leaves_the_blob_whole_or_absent(
    tmp_path: Path, step: int, how: How
) -> None:
    """Every durable step fails twice; a temporary never stays behind."""
    disk = FaultyDisk()
    store = BlobStore(tmp_path, disk=disk)
    begun = len(disk.calls)
    disk.fail_at(step, how)
    with pytest.raises(StorageError):
        await store.write(NAME, pieces(b"some data"))
    assert disk.calls[begun:] == [
        "make_directory",
        "sync_directory",
        "write",
        "sync",
        "rename",
        "sync_directory",
        "delete",
    ][: step + 1] + (["delete"] if step >= 2 else [])
    fresh = BlobStore(tmp_path)
    assert await fresh.size(NAME) in {None, 9}
    assert await fresh.sweep() == 0


async def test_a_block_that_raises_leaves_nothing_and_keeps_the_old_blob(tmp_path: Path) -> None:
    """Half an upload is nobody's blob."""
    store = BlobStore(tmp_path)
    await store.write(NAME, pieces(b"old"))

    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.write(NAME, broken())
    assert await content(store) == b"old"
    assert await store.sweep() == 0


async def test_a_cancelled_writer_leaves_nothing(tmp_path: Path) -> None:
    """Also when it is cancelled between two chunks."""
    store = BlobStore(tmp_path)
    started = asyncio.Event()

    async def write() -> None:
        async with store.writing(NAME) as blob:
            await blob.write(b"half")
            started.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(write())
        await started.wait()
        task.cancel()
    assert await store.size(NAME) is None
    assert await store.sweep() == 0


async def test_sweeping_removes_what_a_crash_left(tmp_path: Path) -> None:
    """And nothing else; names of unfinished blobs are never listed."""
    store = BlobStore(tmp_path)
    await store.write(NAME, pieces(b"kept"))
    left = tmp_path / "ab" / ".ab99.0123.tmp"
    left.write_bytes(b"half")
    assert list(store.names()) == [NAME]
    assert await store.sweep() == 1
    assert not left.exists()


async def test_a_failing_medium_is_a_storage_error(tmp_path: Path) -> None:
    """While reading and looking, too."""

    class BadDisk(SystemDisk):
        def read(self, fd: int, *, offset: int, size: int) -> bytes:
            raise OSError(5, "input/output error")

    await BlobStore(tmp_path).write(NAME, pieces(b"x"))
    with pytest.raises(StorageError, match="input/output"):
        await content(BlobStore(tmp_path, disk=BadDisk()))
    store = BlobStore(tmp_path)
    (tmp_path / "cd").write_bytes(b"a file where a folder should be")
    with pytest.raises(StorageError, match="look at"):
        await store.size("cd34")
