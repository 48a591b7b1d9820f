"""Bytes on their way to the disk: constant memory, right digests, durable when said."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from pathlib import Path

import pytest

from bistro.crypto.treehash import tree_hash
from bistro.errors import StorageError
from bistro_relay.services.busy import BusyUploads, UploadBusyError
from bistro_relay.services.writing import (
    BLOCKS_SIZE,
    CHECKPOINT_SIZE,
    Blocks,
    Digest,
    Digests,
    Writing,
)
from bistro_relay.store.segments import CHUNK_SIZE, SegmentFiles
from tests.support.disks import FaultyDisk

ID = "0123456789abcdef" * 2


@pytest.fixture
def files(tmp_path: Path) -> SegmentFiles:
    return SegmentFiles(tmp_path)


async def test_memory_stays_small_whatever_comes(files: SegmentFiles) -> None:
    """A fragment of 64 MB passes through a few blocks."""
    piece, count = b"x" * 65_536, 1_024
    files.create(ID, b"claim", len(piece) * count)
    segment = files.open(ID, durable_size=0)
    writing = Writing(segment, Digest.empty(), Blocks())
    tracemalloc.start()
    for _ in range(count):
        await writing.add(piece)
    await writing.sync()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    segment.close()
    assert peak < 16 * CHUNK_SIZE
    assert writing.digest.size == len(piece) * count


async def test_a_whole_segment_reads_back(files: SegmentFiles) -> None:
    """Head, claim, data and end are those of the segment format, CRC included."""
    data = bytes(range(256)) * 3_000
    files.create(ID, b"claim", len(data))
    segment = files.open(ID, durable_size=0)
    writing = Writing(segment, Digest.empty(), Blocks())
    for at in range(0, len(data), 1_000):
        await writing.add(data[at : at + 1_000])
    await writing.finish()
    segment.close()
    assert writing.digest.tree.digest() == tree_hash(data)
    assert writing.digest.crc == zlib.crc32(data)
    file, record = files.read(ID)
    with file:
        assert record.claim == b"claim"
        assert files.is_complete(file, record)
        assert file.read(offset=record.data_offset, size=record.data_size) == data


async def test_digests_are_remembered_or_computed_again(files: SegmentFiles) -> None:
    """Both ways lead to the same; a digest of another size is not believed."""
    data = b"fragment" * 50_000
    files.create(ID, b"claim", len(data))
    segment = files.open(ID, durable_size=0)
    writing = Writing(segment, Digest.empty(), Blocks())
    await writing.add(data)
    await writing.sync()
    digests = Digests()
    computed = await digests.take(ID, segment, size=len(data))
    assert computed.tree.digest() == tree_hash(data)
    digests.keep(ID, computed)
    assert await digests.take(ID, segment, size=len(data)) is computed
    digests.keep(ID, computed)
    shorter = await digests.take(ID, segment, size=9)
    assert shorter.tree.digest() == tree_hash(data[:9])
    for number in range(2_000):
        digests.keep(str(number), computed)
    assert len(digests._known) == 1_024
    segment.close()


async def test_a_checkpoint_is_due_after_so_many_bytes(files: SegmentFiles) -> None:
    """Not while a checksum has to hold for all of a request: its bytes may have to go."""
    files.create(ID, b"claim", 2 * CHECKPOINT_SIZE)
    segment = files.open(ID, durable_size=0)
    plain = Writing(segment, Digest.empty(), Blocks())
    await plain.add(bytes(CHECKPOINT_SIZE))
    due = [plain.is_checkpoint_due]
    await plain.sync()
    due.append(plain.is_checkpoint_due)
    assert due == [True, False]
    checked = Writing(segment, Digest.empty(), Blocks(), check=hashlib.sha256())
    await checked.add(bytes(CHECKPOINT_SIZE))
    assert not checked.is_checkpoint_due
    assert checked.checksum() == hashlib.sha256(bytes(CHECKPOINT_SIZE)).digest()
    segment.close()


async def test_a_segment_whose_write_failed_says_so(tmp_path: Path) -> None:
    """Its owner must look again at what the medium has."""
    disk = FaultyDisk()
    files = SegmentFiles(tmp_path, disk=disk)
    files.create(ID, b"claim", 100)
    segment = files.open(ID, durable_size=0)
    disk.fail_at(0, "full")
    with pytest.raises(StorageError):
        segment.append(bytes(100))
    assert segment.is_broken
    segment.close()


def test_a_segment_shorter_than_acknowledged_is_damage(files: SegmentFiles) -> None:
    """Bytes that were acknowledged are gone: said, never papered over."""
    files.create(ID, b"claim", 100)
    with pytest.raises(StorageError, match="expected 7 bytes of data"):
        files.open(ID, durable_size=7)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", ID.upper(), ID + "0", "x" * 32])
def test_only_our_own_ids_become_paths(files: SegmentFiles, name: str) -> None:
    """A path is never made from what a peer says."""
    with pytest.raises(ValueError, match="hexadecimal"):
        files.create(name, b"claim", 1)
    with pytest.raises(ValueError, match="hexadecimal"):
        files.delete(name)


def test_an_upload_has_one_owner_at_a_time() -> None:
    """And is free again after an error."""
    busy = BusyUploads()
    with busy.held("a"):
        assert "a" in busy
        with busy.held("b"), pytest.raises(UploadBusyError), busy.held("a"):
            pass
    with pytest.raises(KeyError), busy.held("a"):
        raise KeyError
    assert "a" not in busy


async def test_blocks_of_all_requests_have_a_common_limit(files: SegmentFiles) -> None:
    """Many that come slowly hold little each: beyond the limit what comes is written at once."""
    blocks, count = Blocks(), 2 * BLOCKS_SIZE // CHUNK_SIZE
    names = [f"{number:032x}" for number in range(count)]
    writings: list[Writing] = []
    for name in names:
        files.create(name, b"claim", CHUNK_SIZE)
        segment = files.open(name, durable_size=0)
        writings.append(Writing(segment, Digest.empty(), blocks))
        await writings[-1].add(bytes(CHUNK_SIZE - 1))
        assert blocks.size <= BLOCKS_SIZE
    for writing in writings:
        writing.give_up()
        writing._segment.close()
    assert blocks.size == 0
