"""The write-ahead file: what may be cut off, and what stops the ledger."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.ledger.segments import FIRST_SIZE
from bistro.ledger.wal import WriteAheadFile
from bistro.ledger.writer import WalWriter
from tests.support.disks import FaultyDisk, How
from tests.unit.ledger.walfiles import (
    FIRST,
    ORIGIN,
    ends,
    record,
    settled,
    starts,
    write,
)


def test_records_come_back_with_their_places(tmp_path: Path) -> None:
    """Also from a later entry on, after reopening."""
    write(tmp_path / "w", record(0), record(1, 20), record(21)).close()
    wal = WriteAheadFile.open(tmp_path / "w", ORIGIN)
    places = [place for place, _ in wal.records(0)]
    assert [place.begin for place in places[1:]] == [place.end for place in places[:-1]]
    wal.close()
    assert starts(tmp_path / "w") == [0, 1, 21]
    for size, expected in [(1, [1, 21]), (5, [1, 21]), (20, [1, 21]), (21, [21]), (22, [])]:
        assert starts(tmp_path / "w", size) == expected


@given(cut=st.integers(0, 4_000), reserved=st.booleans())
def test_a_prefix_of_the_last_record_is_never_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int, *, reserved: bool
) -> None:
    """It was being written; with or without zeros reserved behind it."""
    path = tmp_path_factory.mktemp("wal") / "w"
    write(path, record(0)).close()
    (end,) = ends(path)
    last = record(1, 30)
    part = last[: min(cut, len(last) - 1)]
    whole = (path / FIRST).read_bytes()[:end] + part
    (path / FIRST).write_bytes(whole.ljust(FIRST_SIZE if reserved else 0, b"\0"))
    assert starts(path) == [0]
    wal = settled(path)
    wal.append(record(1), 1)
    wal.close()
    assert starts(path) == [0, 1]
    # Nothing of the unfinished one is left where the next one will be written.
    last_segment = max(path.iterdir()).read_bytes()
    assert not any(last_segment[ends(path)[-1] :])


def test_a_last_record_with_a_sector_of_zeros_was_never_completed(tmp_path: Path) -> None:
    """Sectors reach the medium in any order; the last record was not answered."""
    path = tmp_path / "w"
    write(path, record(0), record(1, 60)).close()
    whole = (path / FIRST).read_bytes()
    first_end, second_end = ends(path)
    for begin in range(first_end // 512 * 512 + 512, second_end // 512 * 512, 512):
        data = bytearray(whole)
        data[begin : begin + 512] = bytes(512)
        (path / FIRST).write_bytes(data)
        assert starts(path) == [0]


def test_any_other_damage_of_the_last_record_stops(tmp_path: Path) -> None:
    """It was whole, so it may have been answered."""
    path = tmp_path / "w"
    write(path, record(0), record(1, 60)).close()
    whole = (path / FIRST).read_bytes()
    first_end, second_end = ends(path)
    for at in range(first_end, second_end, 97):
        data = bytearray(whole)
        data[at] ^= 1
        (path / FIRST).write_bytes(data)
        with pytest.raises(StorageError, match=f"damaged at byte {first_end}"):
            starts(path)


def test_damage_before_the_last_record_stops(tmp_path: Path) -> None:
    """What is followed by a record was durable before that record was written."""
    path = tmp_path / "w"
    write(path, record(0), record(1, 60), record(61)).close()
    _, second_end, _ = ends(path)
    whole = (path / FIRST).read_bytes()
    for begin in range(512, second_end // 512 * 512, 512):
        data = bytearray(whole)
        data[begin : begin + 512] = bytes(512)
        (path / FIRST).write_bytes(data)
        with pytest.raises(StorageError, match=f"yet a record follows at byte {second_end}"):
            starts(path)


def test_a_later_record_is_found_across_chunks_and_behind_decoys(tmp_path: Path) -> None:
    """Magic numbers in the data prove nothing; a head with its CRC does."""
    path = tmp_path / "w"
    write(path, record(0)).close()
    (end,) = ends(path)
    gap = (b"Brec" + b"x" * 60).ljust((1 << 20) + 2_000, b"y")
    whole = (path / FIRST).read_bytes()[:end] + bytes(2_000) + gap
    (path / FIRST).write_bytes(whole + record(1))
    with pytest.raises(StorageError, match="yet a record follows"):
        starts(path)
    (path / FIRST).write_bytes(whole)
    assert starts(path) == [0]


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_failed_append_is_whole_or_absent_and_ends_the_file(
    tmp_path: Path, step: int, how: How
) -> None:
    """Opened again, it holds all or nothing of the record, and can go on."""
    disk = FaultyDisk()
    wal = WriteAheadFile.create(tmp_path / "w", ORIGIN, disk=disk)
    wal.settle(None)
    disk.fail_at(step, how)
    with pytest.raises(StorageError):
        wal.append(record(0), 0)
    with pytest.raises(StorageError, match="stopped"):
        wal.append(record(0), 0)
    wal.close()
    assert starts(tmp_path / "w") in ([], [0])
    wal = settled(tmp_path / "w")
    wal.append(record(len(starts(tmp_path / "w"))), len(starts(tmp_path / "w")))
    wal.close()


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", range(6))
def test_a_failed_creation_is_repeated(tmp_path: Path, step: int, how: How) -> None:
    """The file is whole or absent."""
    with pytest.raises(StorageError):
        WriteAheadFile.create(tmp_path / "w", ORIGIN, disk=FaultyDisk(at=step, how=how))
    WriteAheadFile.create(tmp_path / "w", ORIGIN).close()
    assert starts(tmp_path / "w") == []


def test_another_file_is_not_taken_for_one(tmp_path: Path) -> None:
    """Missing, foreign and damaged heads are told apart."""
    with pytest.raises(UnknownObjectError):
        WriteAheadFile.open(tmp_path / "w", ORIGIN)
    write(tmp_path / "w").close()
    with pytest.raises(StorageError, match=r"expected ledger c\.example/d from entry 0, found a"):
        WriteAheadFile.open(tmp_path / "w", "c.example/d")
    (tmp_path / "w" / FIRST).rename(tmp_path / "w" / f"{7:016d}")
    with pytest.raises(StorageError, match="from entry 7, found"):
        WriteAheadFile.open(tmp_path / "w", ORIGIN)
    (tmp_path / "w" / f"{7:016d}").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(StorageError, match="damaged at byte 0"):
        WriteAheadFile.open(tmp_path / "w", ORIGIN)


def test_a_full_disk_is_answered_and_the_file_goes_on(tmp_path: Path) -> None:
    """There is nothing to lose before a segment is used; later there may be room again."""
    disk = FaultyDisk()
    path = tmp_path / "w"
    wal = WriteAheadFile.create(path, ORIGIN, disk=disk)
    wal.settle(None)
    wal.append(record(0, 300), 0)
    disk.fail_at(0, "full")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="no room for more entries"):
            wal.append(record(300, 300), 300)
    disk.heal()
    wal.append(record(300, 300), 300)
    wal.close()
    assert starts(path) == [0, 300]


async def test_a_thread_writes_in_order_and_tells_in_the_loop(tmp_path: Path) -> None:
    """After a failure everything that was submitted behind it fails, too."""
    disk = FaultyDisk()
    wal = WriteAheadFile.create(tmp_path / "w", ORIGIN, disk=disk)
    wal.settle(None)
    writer = WalWriter(wal)
    told: asyncio.Queue[BaseException | None] = asyncio.Queue()
    for number in range(3):
        writer.submit(record(number), number, told.put_nowait)
    assert [await told.get() for _ in range(3)] == [None, None, None]
    disk.fail_at(1, "not-stored")
    for number in range(3, 6):
        writer.submit(record(number), number, told.put_nowait)
    failures = [await told.get() for _ in range(3)]
    assert all(isinstance(failure, StorageError) for failure in failures)
    writer.close()
    writer.close()
    wal.close()
    assert starts(tmp_path / "w") == [0, 1, 2]
