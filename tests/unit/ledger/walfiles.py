"""Write-ahead files for tests: records of some length, files with them, what opening finds."""

from collections.abc import Iterator
from pathlib import Path

from bistro.instant import UnixMillis
from bistro.ledger.record import encode_record
from bistro.ledger.wal import WriteAheadFile

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


def long_records(count: int = 12) -> Iterator[bytes]:
    """Together far longer than the first segments."""
    for number in range(count):
        yield record(number * 300, 300)
