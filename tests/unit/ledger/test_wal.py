"""The write-ahead file: what may be cut off, and what stops the ledger."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import EMPTY_ROOT
from bistro.errors import StorageError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.ledger.record import FileHead, Item, Record
from bistro.ledger.wal import WriteAheadFile
from tests.support.disks import FaultyDisk, How

HEAD = FileHead("a.example/b", 0, EMPTY_ROOT)


def record(start: int, count: int = 1) -> bytes:
    items = [Item(b"key", b"an entry %05d\n" % number * 9) for number in range(count)]
    return Record(start, UnixMillis(5), b"note", items).encode()


def write(path: Path, *records: bytes) -> WriteAheadFile:
    wal = WriteAheadFile.create(path, HEAD)
    for one in records:
        wal.append(one)
    return wal


def starts(path: Path) -> list[int]:
    wal = WriteAheadFile.open(path)
    try:
        return [one.start for _, one in wal.records(wal.first)]
    finally:
        wal.close()


def test_records_come_back_with_the_places_where_they_end(tmp_path: Path) -> None:
    """Also from a later place on, after reopening."""
    wal = write(tmp_path / "w", record(0), record(1, 20), record(21))
    ends = [end for end, _ in wal.records(wal.first)]
    assert ends[-1] == wal.end == (tmp_path / "w").stat().st_size
    assert [one.start for _, one in wal.records(ends[0])] == [1, 21]
    assert wal.path == tmp_path / "w"
    wal.close()
    assert starts(tmp_path / "w") == [0, 1, 21]


@given(cut=st.integers(0, 4_000), reserved=st.booleans())
def test_a_prefix_of_the_last_record_is_never_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int, *, reserved: bool
) -> None:
    """It was being written; with or without zeros reserved behind it."""
    path = tmp_path_factory.mktemp("wal") / "w"
    first, last = record(0), record(1, 30)
    write(path, first).close()
    end = path.stat().st_size
    part = last[: min(cut, len(last) - 1)]
    if reserved:
        part = part.ljust(len(last) + 2_000, b"\0")
    path.write_bytes(path.read_bytes() + part)
    wal = WriteAheadFile.open(path)
    assert [found for found, _ in wal.records(wal.first)] == [end] or reserved
    wal.settle(wal.first, end)
    wal.append(record(1))
    wal.close()
    assert starts(path) == [0, 1]


def test_a_missing_sector_in_the_last_record_may_be_cut(tmp_path: Path) -> None:
    """A power cut may lose any sector that was not synced, not only the last ones."""
    path = tmp_path / "w"
    write(path, record(0), record(1, 60)).close()
    data = bytearray(path.read_bytes())
    data[1_024:1_536] = bytes(512)
    path.write_bytes(data)
    assert starts(path) == [0]


def test_a_changed_bit_in_the_last_record_stops(tmp_path: Path) -> None:
    """Every sector is there, so the record was complete and may have been answered."""
    path = tmp_path / "w"
    write(path, record(0), record(1, 60)).close()
    whole = path.read_bytes()
    for at in range(len(record(0)) + 100, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 4
        path.write_bytes(data)
        with pytest.raises(StorageError, match=r"w: damaged at byte \d+") as caught:
            starts(path)
        assert "restore" in caught.value.hint


def test_a_lost_sector_before_an_intact_record_stops(tmp_path: Path) -> None:
    """What is followed by a record was durable before that record was written."""
    path = tmp_path / "w"
    wal = write(path, record(0), record(1, 60), record(61))
    _, (second_end, _), _ = wal.records(wal.first)
    wal.close()
    whole = path.read_bytes()
    for begin in range(512, second_end // 512 * 512, 512):
        data = bytearray(whole)
        data[begin : begin + 512] = bytes(512)
        path.write_bytes(data)
        with pytest.raises(StorageError, match=f"yet a record follows at byte {second_end}"):
            starts(path)


def test_a_later_record_is_found_across_chunks_and_behind_decoys(tmp_path: Path) -> None:
    """Magic numbers in the data prove nothing; a head with its CRC does."""
    path = tmp_path / "w"
    write(path, record(0)).close()
    gap = (b"Brec" + b"x" * 60).ljust((1 << 20) + 2_000, b"y")
    path.write_bytes(path.read_bytes() + bytes(2_000) + gap + record(1))
    with pytest.raises(StorageError, match="yet a record follows"):
        starts(path)
    path.write_bytes(path.read_bytes()[: -len(record(1))])
    assert starts(path) == [0]


@pytest.mark.parametrize("how", ["not-stored", "stored", "full"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_failed_append_is_whole_or_absent_and_ends_the_file(
    tmp_path: Path, step: int, how: How
) -> None:
    """Opened again, it holds all or nothing of the record, and can go on."""
    disk = FaultyDisk()
    wal = WriteAheadFile.create(tmp_path / "w", HEAD, disk=disk)
    disk.fail_at(step, how)
    with pytest.raises(StorageError):
        wal.append(record(0))
    with pytest.raises(StorageError, match="stopped"):
        wal.append(record(0))
    wal.close()
    assert starts(tmp_path / "w") in ([], [0])


@pytest.mark.parametrize("how", ["not-stored", "stored"])
@pytest.mark.parametrize("step", range(4))
def test_a_failed_creation_is_repeated(tmp_path: Path, step: int, how: How) -> None:
    """The file is whole or absent."""
    with pytest.raises(StorageError):
        WriteAheadFile.create(tmp_path / "w", HEAD, disk=FaultyDisk(at=step, how=how))
    WriteAheadFile.create(tmp_path / "w", HEAD).close()
    assert starts(tmp_path / "w") == []


def test_another_file_is_not_taken_for_one(tmp_path: Path) -> None:
    """Missing, foreign and damaged heads are told apart."""
    with pytest.raises(UnknownObjectError):
        WriteAheadFile.open(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(StorageError, match="damaged at byte 0"):
        WriteAheadFile.open(tmp_path / "w")
