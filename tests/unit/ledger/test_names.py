"""Names that a process which died has left: whoever relies on them makes them durable first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.storage.disk import SystemDisk
from tests.support.clocks import NOON
from tests.support.disks import FaultyDisk, KilledError
from tests.unit.ledger.drafts import append, item, open_ledger


class NameDisk(SystemDisk):
    """The real disk, on which no name counts as durable until its folder is synced."""

    def __init__(self) -> None:
        self.synced: set[Path] = set()

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.synced.discard(target.parent)

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self.synced.discard(path.parent)

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.synced.add(path)


async def fill(path: Path, disk: FaultyDisk) -> None:
    """Begin a ledger, so many entries that a second segment begins, and publish."""
    ledger = await open_ledger(path, disk=disk)
    try:
        for begin in range(0, 900, 300):
            await append(ledger, [item(at) for at in range(begin, begin + 300)], last_time=NOON)
        await ledger.publish()
    finally:
        disk.heal()
        await ledger.close()


async def steps(path: Path) -> list[str]:
    """The changing calls of ``fill``."""
    disk = FaultyDisk()
    await fill(path, disk)
    return disk.calls


async def test_what_is_answered_stands_under_durable_names(tmp_path: Path) -> None:
    """Killed before any sync of a folder; the next one appends one entry, and publishes."""
    calls = await steps(tmp_path / "counted")
    syncs = [at for at, name in enumerate(calls) if name == "sync_directory"]
    assert len(syncs) > 8
    for at in syncs:
        path = tmp_path / str(at) / "log"
        path.parent.mkdir()
        with pytest.raises(KilledError):
            await fill(path, FaultyDisk(at=at, how="kill"))
        disk = NameDisk()
        ledger = await open_ledger(path, disk=disk)
        size = ledger.size
        await append(ledger, [item(5_000)], last_time=NOON)
        assert {path.parent, path, path / "wal"} <= disk.synced
        await append(ledger, [item(number) for number in range(6_000, 6_000 + 300)], last_time=NOON)
        await ledger.publish()
        folders = {path / "tile", path / "tile/0", path / "tile/entries"}
        assert folders <= disk.synced, f"killed before call {at}, at {size} entries"
        await ledger.close()
