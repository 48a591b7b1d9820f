"""The write-ahead file: what may be cut off, what stops the ledger, and its segments."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.ledger.record import encode_record
from bistro.ledger.segments import FIRST_SIZE
from bistro.ledger.wal import WriteAheadFile
from bistro.ledger.writer import WalWriter
from bistro.storage.durable import AppendFile
from tests.support.disks import FaultyDisk, How, KilledError

ORIGIN = "a.example/b"
FIRST = f"{0:016d}"


def record(start: int, count: int = 1) -> bytes:
    entries = [b"an entry %05d\n" % number * 9 for number in range(count)]
    return encode_record(start, UnixMillis(5), b"note", [b"key"] * count, entries)


def settled(path: Path) -> WriteAheadFile:
    wal = WriteAheadFile.open(path, ORIGIN)
    places = [place for place, _ in wal.records(0)]
    wal.settle(places[-1] if places else None)
    return wal


def write(path: Path, *records: bytes) -> WriteAheadFile:
    """A file with these records; each has as many entries as its head says."""
    WriteAheadFile.create(path, ORIGIN).close()
    wal = settled(path)
    for one in records:
        wal.append(one, int.from_bytes(one[20:28], "big"))
    return wal


def required(ready: Future[AppendFile] | None) -> Future[AppendFile]:
    assert ready is not None
    return ready


def starts(path: Path, size: int = 0) -> list[int]:
    wal = WriteAheadFile.open(path, ORIGIN)
    try:
        return [one.start for _, one in wal.records(size)]
    finally:
        wal.close()


def ends(path: Path) -> list[int]:
    wal = WriteAheadFile.open(path, ORIGIN)
    found = [place.end for place, _ in wal.records(0)]
    wal.close()
    return found


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


def long_records(count: int = 12) -> Iterator[bytes]:
    """Together far longer than the first segments."""
    for number in range(count):
        yield record(number * 300, 300)


def test_a_long_file_has_several_segments_each_reserved_whole(tmp_path: Path) -> None:
    """No append but the one that begins a segment changes the length of a file."""
    path = tmp_path / "w"
    WriteAheadFile.create(path, ORIGIN).close()
    wal = settled(path)
    seen = set()
    for number, one in enumerate(long_records()):
        wal.append(one, number * 300)
        seen |= {(found.name, found.stat().st_size) for found in path.iterdir()}
    wal.close()
    names = sorted(found.name for found in path.iterdir())
    assert len(names) == len(seen) >= 3
    assert [size for _, size in sorted(seen)][:2] == [FIRST_SIZE, 2 * FIRST_SIZE]
    assert starts(path) == [number * 300 for number in range(12)]
    for size in (0, 300, 1_000, 3_599):
        assert starts(path, size) == list(range(size // 300 * 300, 3_600, 300))


def test_a_first_record_may_be_longer_than_the_first_segment(tmp_path: Path) -> None:
    """It gets one of its size, in place of the empty one; and that one is dropped once."""
    path = tmp_path / "w"
    wal = write(path, record(0, 1_000), record(1_000, 1_000))
    assert wal.begins_at == 0
    wal.drop(1_000)
    assert wal.begins_at == 1_000
    wal.append(record(2_000), 2_000)
    wal.close()
    assert starts(path) == [1_000, 2_000]


def test_large_segments_are_made_ready_before_they_are_needed(tmp_path: Path) -> None:
    """And what was made ready is given up when the file is closed, or used if it is enough."""
    path = tmp_path / "w"
    wal = write(path)
    number = 0
    while wal._next is None:
        wal.append(record(number * 2_000, 2_000), number * 2_000)
        number += 1
    ready = required(wal._next).result()
    assert ready.size == 2 * max(found.stat().st_size for found in path.glob("0*"))
    for _ in range(20):
        wal.append(record(number * 2_000, 2_000), number * 2_000)
        number += 1
    assert ready.path in path.iterdir()
    assert not ready.path.name.startswith(".")
    wal.close()
    assert not list(path.glob(".*"))
    assert starts(path)[-1] == (number - 1) * 2_000


@pytest.mark.parametrize("how", ["not-stored", "stored", "full", "kill"])
@pytest.mark.parametrize("step", range(12))
def test_a_segment_that_cannot_be_begun_loses_nothing(tmp_path: Path, step: int, how: How) -> None:
    """While it is reserved nothing stops, after that the file does; what was durable stays."""
    disk = FaultyDisk()
    path = tmp_path / "w"
    wal = WriteAheadFile.create(path, ORIGIN, disk=disk)
    wal.settle(None)
    records = list(long_records(4))
    disk.fail_at(step, how)
    done = 0
    failure: BaseException | None = None
    try:
        for number, one in enumerate(records):
            wal.append(one, number * 300)
            done += 1
    except (StorageError, UnavailableError, KilledError) as exc:
        failure = exc
    assert failure is not None
    disk.heal()
    if isinstance(failure, UnavailableError):
        wal.append(records[done], done * 300)
        done += 1
    wal.close()
    found = starts(path)
    assert found in (
        [number * 300 for number in range(done)],
        [number * 300 for number in range(done + 1)],
    )
    wal = settled(path)
    wal.append(record(len(found) * 300, 300), len(found) * 300)
    wal.close()
    assert not list(path.glob(".*"))


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


def test_the_first_record_of_a_later_segment_is_never_cut(tmp_path: Path) -> None:
    """The segment got its name only when that record was durable."""
    path = tmp_path / "w"
    write(path, *long_records(4)).close()
    last = max(path.iterdir())
    whole = last.read_bytes()
    for size in (100, whole.index(b"Brec")):
        last.write_bytes(whole[:size].ljust(len(whole), b"\0"))
        with pytest.raises(StorageError, match=f"{last.name}: damaged at byte"):
            starts(path)


def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    """In the middle, whichever is read first; nothing is skipped."""
    path = tmp_path / "w"
    write(path, *long_records()).close()
    second = sorted(path.iterdir())[1]
    second.unlink()
    with pytest.raises(StorageError, match=f"expected entry {int(second.name)}, found"):
        starts(path)


def test_segments_are_dropped_but_never_the_last_nor_while_read(tmp_path: Path) -> None:
    """Exactly those all of whose entries are elsewhere."""
    path = tmp_path / "w"
    wal = write(path, *long_records())
    names = sorted(found.name for found in path.iterdir())
    with wal.kept():
        wal.drop(3_600)
    wal.drop(int(names[1]) - 1)
    assert sorted(found.name for found in path.iterdir()) == names
    wal.drop(int(names[1]))
    assert wal.begins_at == int(names[1])
    wal.drop(1_000_000)
    wal.append(record(3_600, 2), 3_600)
    wal.close()
    assert [found.name for found in path.iterdir()] == names[-1:]
    assert starts(path)[0] == int(names[-1])
    assert starts(path)[-1] == 3_600


def test_a_segment_that_cannot_be_made_ready_ahead_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread's failure is heard when the segment is needed, and nothing was written."""
    monkeypatch.setattr("bistro.ledger.wal._AHEAD_FROM", 1)
    disk = FaultyDisk()
    path = tmp_path / "w"
    wal = WriteAheadFile.create(path, ORIGIN, disk=disk)
    wal.settle(None)
    wal.append(record(0, 200), 0)
    assert wal._next is None
    disk.fail_at(2, "full")
    wal.append(record(200, 150), 200)
    assert isinstance(required(wal._next).exception(), StorageError)
    with pytest.raises(UnavailableError, match="no room"):
        wal.append(record(350, 300), 350)
    disk.heal()
    wal.append(record(350, 300), 350)
    wal.close()
    assert starts(path) == [0, 200, 350]
    assert not list(path.glob(".*"))


def test_segments_are_dropped_one_durably_after_the_other(tmp_path: Path) -> None:
    """A power cut may bring back what was deleted last, and never leaves a gap."""
    write(tmp_path / "w", *long_records()).close()
    disk = FaultyDisk()
    wal = WriteAheadFile.open(tmp_path / "w", ORIGIN, disk=disk)
    wal.drop(3_600)
    wal.close()
    assert disk.calls == ["delete", "sync_directory"] * (len(disk.calls) // 2)
    assert len(disk.calls) >= 4


@pytest.mark.parametrize("how", ["not-stored", "stored"])
def test_a_drop_that_fails_is_repeated(tmp_path: Path, how: How) -> None:
    """Also where the file was gone although the system said otherwise."""
    path = tmp_path / "w"
    write(path, *long_records()).close()
    disk = FaultyDisk()
    wal = WriteAheadFile.open(path, ORIGIN, disk=disk)
    disk.fail_at(0, how)
    with pytest.raises(StorageError, match="delete"):
        wal.drop(3_600)
    wal.close()
    wal = settled(path)
    wal.drop(3_600)
    assert len(list(path.iterdir())) == 1
    wal.close()


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
