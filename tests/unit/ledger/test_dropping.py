"""Segments of the write-ahead file are dropped once nothing needs them; nothing is lost by it."""

import shutil
from pathlib import Path

import pytest

from bistro.crypto.signing import LocalSigner
from bistro.errors import StorageError, UnavailableError
from bistro.ledger.ledger import Ledger
from bistro.storage.disk import SYSTEM_DISK, Disk
from tests.support.clocks import NOON
from tests.support.disks import FaultyDisk, How, KilledError
from tests.unit.ledger.drafts import (
    KEY,
    append,
    commitment,
    find,
    item,
    open_ledger,
    require_proven,
)

COUNT = 1_500


def key_of(entry: bytes) -> bytes:
    return bytes.fromhex(entry.split(b"sha256:", 1)[1].decode())


async def open_dropping(directory: Path, *, disk: Disk = SYSTEM_DISK) -> Ledger:
    """A ledger that can make its keys anew."""
    return await Ledger.open(
        directory, signer=LocalSigner(KEY), disk=disk, publish_after=256, key_of=key_of
    )


async def fill(ledger: Ledger, count: int) -> None:
    for begin in range(ledger.size, count, 100):
        items = [item(number) for number in range(begin, min(begin + 100, count))]
        await append(ledger, items, last_time=NOON)


async def make(directory: Path) -> None:
    ledger = await open_dropping(directory)
    await fill(ledger, COUNT)
    await ledger.publish()
    await ledger.close()


async def require_whole(ledger: Ledger, count: int = COUNT) -> None:
    assert ledger.size == count
    assert [key_of(one) for one in ledger.entries()] == [commitment(at) for at in range(count)]
    for number in (0, 255, 256, count // 2, count - 1):
        found = await find(ledger, number)
        assert found.index == number
        require_proven(found, number)
    assert (await ledger.check()).size == count


def segments(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in (directory / "wal").iterdir())


async def test_what_is_published_and_indexed_is_dropped(tmp_path: Path) -> None:
    """So the disk does not hold a log twice; everything is found and proven as before."""
    await make(tmp_path / "l")
    assert len(segments(tmp_path / "l")) == 1
    assert 0 < segments(tmp_path / "l")[0] < COUNT
    for count in (COUNT, COUNT + 1_000):
        ledger = await open_dropping(tmp_path / "l")
        await fill(ledger, count)
        await require_whole(ledger, count)
        await ledger.publish()
        await require_whole(ledger, count)
        await ledger.close()


async def test_a_ledger_that_cannot_make_its_keys_anew_keeps_everything(tmp_path: Path) -> None:
    """A lost index could not be made again."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, COUNT)
    await ledger.publish()
    await ledger.close()
    assert segments(tmp_path / "l")[0] == 0
    assert len(segments(tmp_path / "l")) > 1


@pytest.mark.parametrize(
    "lost", [["snapshot"], ["index"], ["snapshot", "index"], ["snapshot", "index", "tile/0"]]
)
async def test_what_is_lost_is_made_anew_from_bundles(tmp_path: Path, lost: list[str]) -> None:
    """Whatever is derived: the bundles have the entries that the segments had."""
    await make(tmp_path / "l")
    for name in lost:
        path = tmp_path / "l" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ledger = await open_dropping(tmp_path / "l")
    await require_whole(ledger)
    await ledger.close()
    ledger = await open_dropping(tmp_path / "l")
    await require_whole(ledger)
    await ledger.close()


@pytest.mark.parametrize(("name", "at"), [("000", 40), ("001", 9_000), ("004", 30)])
async def test_a_bundle_that_was_changed_stops_a_rebuild(
    tmp_path: Path, name: str, at: int
) -> None:
    """The next record's signed root covers every entry before it."""
    await make(tmp_path / "l")
    path = tmp_path / "l" / "tile/entries" / name
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)
    ledger = await open_dropping(tmp_path / "l")
    with pytest.raises(StorageError):
        await ledger.check()
    await ledger.close()
    (tmp_path / "l" / "snapshot").unlink()
    with pytest.raises(StorageError):
        await open_dropping(tmp_path / "l")


async def test_keys_that_are_nowhere_stop_the_ledger(tmp_path: Path) -> None:
    """It would take a commitment a second time."""
    await make(tmp_path / "l")
    shutil.rmtree(tmp_path / "l" / "index")
    with pytest.raises(StorageError, match=r"the keys of entries 0 to \d+ are gone"):
        await open_ledger(tmp_path / "l")


async def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    """By opening where it is needed, and by checking."""
    await make(tmp_path / "l")
    (tmp_path / "l" / "tile/entries/001").unlink()
    ledger = await open_dropping(tmp_path / "l")
    with pytest.raises(StorageError, match="tile/entries/001: missing"):
        await ledger.check()
    await ledger.close()
    (tmp_path / "l" / "snapshot").unlink()
    with pytest.raises(StorageError, match="tile/entries/001: missing"):
        await open_dropping(tmp_path / "l")


async def test_an_old_snapshot_does_not_continue_a_newer_ledger(tmp_path: Path) -> None:
    """The segments that it would replay are gone, so it cannot be this ledger's."""
    ledger = await open_dropping(tmp_path / "l")
    await fill(ledger, 300)
    await ledger.publish()
    await ledger.close()
    old = (tmp_path / "l" / "snapshot").read_bytes()
    await make(tmp_path / "l")
    (tmp_path / "l" / "snapshot").write_bytes(old)
    with pytest.raises(StorageError, match="begins behind entry"):
        await open_dropping(tmp_path / "l")


class History:
    """Appends and publishes in turn until the disk fails."""

    def __init__(self, directory: Path, disk: FaultyDisk) -> None:
        self.acknowledged = 0
        self._directory = directory
        self._disk = disk

    async def run(self) -> None:
        ledger = await open_dropping(self._directory, disk=self._disk)
        try:
            for count in (300, 600, 900):
                while ledger.size < count:
                    await fill(ledger, ledger.size + 100)
                    self.acknowledged = ledger.size
                await ledger.publish()
        finally:
            self._disk.heal()
            await ledger.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["not-stored", "stored", "kill"])
async def test_whatever_step_fails_nothing_is_dropped_too_early(tmp_path: Path, how: How) -> None:
    """Every acknowledged entry is found at its index, whichever files a crash leaves."""
    counting = FaultyDisk()
    await History(tmp_path / "count", counting).run()
    assert "delete" in counting.calls
    first = counting.calls.index("rename") + 8
    for step in range(first, len(counting.calls), 2):
        directory = tmp_path / f"l{step}"
        history = History(directory, FaultyDisk(at=step, how=how))
        with pytest.raises((StorageError, UnavailableError, KilledError)):
            await history.run()
        ledger = await open_dropping(directory)
        assert ledger.size in {history.acknowledged, history.acknowledged + 100}
        for number in range(0, history.acknowledged, 97):
            assert (await find(ledger, number)).index == number
        await fill(ledger, 1_000)
        await ledger.publish()
        await require_whole(ledger, 1_000)
        await ledger.close()
        shutil.rmtree(directory)
