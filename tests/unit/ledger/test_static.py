"""The folder of a ledger alone, behind any web server, is a log that can be verified."""

import shutil
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnavailableError
from bistro.ledger.ledger import Ledger
from bistro.ledger.static import partial_tiles
from tests.support.clocks import NOON
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.static_log import read_log
from tests.unit.ledger.drafts import KEY, append, entry, item, open_ledger

VKEY = KEY.verifier.format()


async def fill(ledger: Ledger, count: int, *, batch: int = 100) -> None:
    while (begin := ledger.size) < count:
        numbers = range(begin, min(begin + batch, count))
        await append(ledger, [item(number) for number in numbers], last_time=NOON)


def require_published(directory: Path, count: int) -> None:
    assert read_log(directory, VKEY) == [entry(number) for number in range(count)]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
async def test_a_published_checkpoint_has_all_its_tiles(tmp_path: Path, count: int) -> None:
    """Full and partial, at every level; again after more entries, and after a restart."""
    ledger = await open_ledger(tmp_path / "l")
    assert not await ledger.publish_checkpoint()
    await fill(ledger, count)
    assert await ledger.publish_checkpoint()
    assert not await ledger.publish_checkpoint()
    require_published(tmp_path / "l", count)
    await fill(ledger, count + 300)
    require_published(tmp_path / "l", count)
    await ledger.close()
    ledger = await open_ledger(tmp_path / "l")
    assert await ledger.publish_checkpoint()
    require_published(tmp_path / "l", count + 300)
    assert (await ledger.check()).size == count + 300
    await ledger.close()


async def test_tiles_of_the_second_level_are_published_too(tmp_path: Path) -> None:
    """65,536 entries complete one; until then and after it there are partial ones."""
    ledger = await open_ledger(tmp_path / "l", publish_after=16_384)
    for count in (65_000, 65_536 + 700):
        await fill(ledger, count, batch=5_000)
        await ledger.publish_checkpoint()
    require_published(tmp_path / "l", 65_536 + 700)
    assert not (tmp_path / "l/tile/1/000.p").exists()
    assert (tmp_path / "l/tile/1/001.p/2").exists()
    assert (tmp_path / "l/tile/2/000.p/1").exists()
    await ledger.close()


async def test_partial_tiles_stay_until_their_full_tile_is_there(tmp_path: Path) -> None:
    """Who has read an older checkpoint still finds what it covers."""
    ledger = await open_ledger(tmp_path / "l")
    for count in (10, 20, 250):
        await fill(ledger, count)
        await ledger.publish_checkpoint()
        kept = tmp_path / "kept" / str(count)
        shutil.copytree(tmp_path / "l", kept)
    for count in (10, 20, 250):
        shutil.copy(tmp_path / "kept" / str(count) / "checkpoint", tmp_path / "copy")
        shutil.copy(tmp_path / "copy", tmp_path / "l/checkpoint")
        require_published(tmp_path / "l", count)
    await fill(ledger, 300)
    await ledger.publish_checkpoint()
    require_published(tmp_path / "l", 300)
    assert not (tmp_path / "l/tile/0/000.p").exists()
    assert not (tmp_path / "l/tile/entries/000.p").exists()
    await ledger.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["not-stored", "stored", "full", "kill"])
async def test_whatever_step_fails_the_published_log_is_whole(tmp_path: Path, how: How) -> None:
    """The old checkpoint or the new one, with everything that it covers; a restart goes on."""

    async def history(directory: Path, disk: FaultyDisk) -> None:
        ledger = await open_ledger(directory, disk=disk)
        try:
            await fill(ledger, 300)
            begun.append(len(disk.calls))
            await ledger.publish_checkpoint()
        finally:
            disk.heal()
            await ledger.close()

    begun: list[int] = []
    old = tmp_path / "old"
    ledger = await open_ledger(old)
    await fill(ledger, 200)
    await ledger.publish_checkpoint()
    await ledger.close()
    counting = FaultyDisk()
    await history(shutil.copytree(old, tmp_path / "count"), counting)
    assert {"rename", "delete"} <= set(counting.calls[begun[0] :])
    for step in range(begun[0], len(counting.calls)):
        directory = shutil.copytree(old, tmp_path / f"l{step}")
        with pytest.raises((StorageError, UnavailableError, KilledError)):
            await history(directory, FaultyDisk(at=step, how=how))
        published = len(read_log(directory, VKEY))
        assert published in {200, 300}
        ledger = await open_ledger(directory)
        assert await ledger.publish_checkpoint() == (published == 200)
        require_published(directory, 300)
        await ledger.close()
        shutil.rmtree(directory)


async def test_a_damaged_checkpoint_file_is_named(tmp_path: Path) -> None:
    """It can be published again; nothing is trusted from it."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, 3)
    (tmp_path / "l/checkpoint").write_bytes(b"nonsense")
    with pytest.raises(StorageError, match="l/checkpoint: ") as caught:
        await ledger.publish_checkpoint()
    assert "delete the file" in caught.value.hint
    await ledger.close()


def test_the_partial_tiles_of_a_size() -> None:
    """C2SP tlog-tiles: 70,000 entries have 112 of level 0, 17 of level 1 and 1 of level 2."""
    assert [path.format() for path in partial_tiles(70_000)] == [
        "tile/0/273.p/112",
        "tile/entries/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert list(partial_tiles(65_536 * 256)) == [next(partial_tiles(1 << 24))]
    assert list(partial_tiles(0)) == []
