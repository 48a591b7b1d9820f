"""Segments of a write-ahead file: reserved ahead, dropped in order, and what is missing found."""

from concurrent.futures import Future
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.ledger.segments import FIRST_SIZE
from bistro.ledger.wal import WriteAheadFile
from bistro.storage.durable import AppendFile
from tests.support.disks import FaultyDisk, How, KilledError
from tests.unit.ledger.walfiles import (
    ORIGIN,
    long_records,
    record,
    settled,
    starts,
    write,
)


def required(ready: Future[AppendFile] | None) -> Future[AppendFile]:
    assert ready is not None
    return ready


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
    elif isinstance(failure, StorageError):
        with pytest.raises(StorageError):
            wal.append(record(done * 300), done * 300)
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
