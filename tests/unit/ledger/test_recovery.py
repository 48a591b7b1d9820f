"""Recovery: every durable step fails twice, every kind of damage stops, nothing is lost."""

import shutil
from pathlib import Path

import pytest

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import Frontier
from bistro.crypto.signing import SigningKey
from bistro.errors import StorageError, UnavailableError
from bistro.ledger.record import encode_record
from bistro.storage.disk import SystemDisk
from bistro.wire.checkpoint import Checkpoint
from tests.support.clocks import NOON
from tests.support.disks import FaultyDisk, How, KilledError
from tests.unit.ledger.drafts import (
    KEY,
    ORIGIN,
    append,
    commitment,
    entry,
    find,
    item,
    open_ledger,
    require_proven,
)


class History:
    """Opens, appends and publishes until the disk fails.

    Attributes:
        acknowledged: Entries that were acknowledged so far.
    """

    def __init__(self, directory: Path, disk: FaultyDisk) -> None:
        self.acknowledged = 0
        self._directory = directory
        self._disk = disk

    async def run(self) -> None:
        ledger = await open_ledger(self._directory, disk=self._disk)
        try:
            for begin in range(0, 600, 100):
                items = [item(number) for number in range(begin, begin + 100)]
                await append(ledger, items, last_time=NOON)
                self.acknowledged += 100
            await ledger.publish()
        except (StorageError, UnavailableError, KilledError):
            if ledger.failure is not None:
                with pytest.raises(UnavailableError, match="has stopped"):
                    await append(ledger, [item(9_999)], last_time=NOON)
            raise
        finally:
            self._disk.heal()
            await ledger.close()


async def count_steps(directory: Path) -> int:
    disk = FaultyDisk()
    await History(directory, disk).run()
    return len(disk.calls)


@pytest.mark.parametrize("how", ["not-stored", "stored", "full", "kill"])
async def test_whatever_step_fails_every_acknowledged_entry_is_found(
    tmp_path: Path, how: How
) -> None:
    """At its index, with a proof; and the ledger goes on from there, without a fork."""
    steps = await count_steps(tmp_path / "count")
    for step in range(steps):
        directory = tmp_path / f"l{step}"
        history = History(directory, FaultyDisk(at=step, how=how))
        with pytest.raises((StorageError, UnavailableError, KilledError)):
            await history.run()
        ledger = await open_ledger(directory)
        begin = ledger.size
        assert begin in {history.acknowledged, min(history.acknowledged + 100, 600)}
        for number in range(0, history.acknowledged, 99):
            found = await find(ledger, number)
            assert found.index == number
            require_proven(found, number)
        await append(ledger, [item(number) for number in range(begin, begin + 200)], last_time=NOON)
        await ledger.publish()
        await ledger.check()
        await ledger.close()


def last_segment(directory: Path) -> Path:
    return max((directory / "wal").glob("0*"))


def cut(segment: Path, count: int) -> None:
    """Take the last bytes that are no reserve, and the reserve."""
    whole = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(whole[: len(whole) - count])


async def make(directory: Path, count: int = 600, *, publish: bool = True) -> None:
    ledger = await open_ledger(directory)
    for begin in range(0, count, 100):
        items = [item(number) for number in range(begin, begin + 100)]
        await append(ledger, items, last_time=NOON)
    if publish:
        await ledger.publish()
    await ledger.close()


async def test_recovery_writes_the_last_record_again_and_syncs(tmp_path: Path) -> None:
    """What is read may be pages that a failed sync left behind; they must become durable."""
    await make(tmp_path / "l", publish=False)
    disk = FaultyDisk()
    await (await open_ledger(tmp_path / "l", disk=disk, publish_after=10_000)).close()
    assert [call for call in disk.calls if call != "sync_directory"] == ["write", "sync"]
    failing = FaultyDisk(at=disk.calls.index("sync"), how="stored")
    with pytest.raises(StorageError, match="injected"):
        await open_ledger(tmp_path / "l", disk=failing, publish_after=10_000)
    await (await open_ledger(tmp_path / "l")).close()


class NamingDisk(SystemDisk):
    """The real disk, which remembers in which order folders were synced and names were given.

    Attributes:
        done: Folders that were synced and files that got their names.
    """

    def __init__(self) -> None:
        self.done: list[Path] = []

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.done.append(target)

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.done.append(path)


async def test_names_that_are_found_are_made_durable(tmp_path: Path) -> None:
    """Whoever made them may have died before; a power cut would take them away later."""
    await make(tmp_path / "l", publish=False)
    disk = NamingDisk()
    ledger = await open_ledger(tmp_path / "l", disk=disk, publish_after=10_000)
    folders = [tmp_path, *(tmp_path / "l" / name for name in ("", "wal", "index"))]
    assert set(folders) <= set(disk.done)
    # Made by one who died before it was durable.
    (tmp_path / "l" / "tile" / "entries").mkdir(parents=True)
    disk.done.clear()
    await ledger.publish()
    await ledger.close()
    published = disk.done.index(tmp_path / "l" / "snapshot")
    for name in ("", "tile", "tile/entries", "tile/0"):
        assert disk.done.index(tmp_path / "l" / name) < published


async def test_a_torn_tail_is_cut_and_appending_goes_on(tmp_path: Path) -> None:
    """The half record's entries were never answered; their indexes are given out again."""
    await make(tmp_path / "l", publish=False)
    cut(last_segment(tmp_path / "l"), 10)
    ledger = await open_ledger(tmp_path / "l")
    assert ledger.size == 500
    (again,) = await append(ledger, [item(500)], last_time=NOON)
    require_proven(again, 500)
    await ledger.close()


async def test_what_was_durable_is_never_cut(tmp_path: Path) -> None:
    """The snapshot knows how far the ledger had got; fewer entries are damage."""
    await make(tmp_path / "l")
    path = last_segment(tmp_path / "l")
    whole = path.read_bytes()
    cut(path, 10)
    with pytest.raises(StorageError, match="ends at entry 500, although 600 were durable"):
        await open_ledger(tmp_path / "l")
    path.unlink()
    with pytest.raises(StorageError, match="although 600 were durable"):
        await open_ledger(tmp_path / "l")
    folder = path.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="wal: no segments, although"):
        await open_ledger(tmp_path / "l")
    shutil.rmtree(path.parent, ignore_errors=True)
    folder.rename(path.parent)
    path.write_bytes(whole)
    await (await open_ledger(tmp_path / "l")).close()


async def test_any_damaged_derived_file_is_named(tmp_path: Path) -> None:
    """Snapshot and tiles stop the ledger; without the snapshot everything is made anew."""
    directory = tmp_path / "l"
    await make(directory)
    for name, pattern in [
        ("snapshot", "snapshot: damaged at byte 0"),
        ("tile/0/001", "snapshot: signed are 500 entries"),
        ("tile/0/000", "snapshot: signed are 500 entries"),
    ]:
        whole = (directory / name).read_bytes()
        changed = bytearray(whole)
        changed[40] ^= 1
        (directory / name).write_bytes(changed)
        with pytest.raises(StorageError, match=pattern) as caught:
            await open_ledger(directory)
        assert "without" in caught.value.hint
        (directory / name).write_bytes(whole)
    (directory / "snapshot").unlink()
    (directory / "tile/0/001").write_bytes(b"")
    ledger = await open_ledger(directory)
    await ledger.publish()
    await ledger.check()
    await ledger.close()


async def test_a_damaged_tile_behind_the_snapshot_s_size_is_found(tmp_path: Path) -> None:
    """Its hashes beyond the signed size are checked by the last record's checkpoint."""
    await make(tmp_path / "l")
    path = tmp_path / "l" / "tile/0/001"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(StorageError, match="tiles: signed are 600 entries"):
        await open_ledger(tmp_path / "l")


async def test_a_lost_index_is_refilled_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys there are; duplicates are found as before."""
    monkeypatch.setattr("bistro.ledger.rebuilding._KEYS_AT_ONCE", 150)
    await make(tmp_path / "l")
    shutil.rmtree(tmp_path / "l" / "index")
    ledger = await open_ledger(tmp_path / "l")
    assert (await find(ledger, 3)).index == 3
    await ledger.check()
    await ledger.close()


async def test_an_index_that_knows_more_than_the_file_stops(tmp_path: Path) -> None:
    """It was filled with durable entries only: they are gone."""
    await make(tmp_path / "l")
    (tmp_path / "l" / "snapshot").unlink()
    last_segment(tmp_path / "l").unlink()
    with pytest.raises(StorageError, match="although 512 were durable"):
        await open_ledger(tmp_path / "l")


async def test_a_snapshot_that_promises_more_than_the_file_has_stops(tmp_path: Path) -> None:
    """Also where only the index has to be refilled from it."""
    await make(tmp_path / "l")
    shutil.rmtree(tmp_path / "l" / "index")
    last_segment(tmp_path / "l").unlink()
    with pytest.raises(StorageError, match=r"ends at entry \d00, although 512 are published"):
        await open_ledger(tmp_path / "l")


def forge(start: int, size: int, key: SigningKey, *, note: bytes | None = None) -> bytes:
    """A record with one entry whose checkpoint says ``size`` and a root of its own."""
    leaves = [leaf_hash(entry(number)) for number in range(size)]
    root = Frontier.empty().extend(leaves).root()
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)
    signed = checkpoint.signed(key.verifier, key.sign(checkpoint.text()))
    note = signed if note is None else note
    return encode_record(start, NOON, note, [commitment(start)], [entry(start)])


async def test_a_record_that_contradicts_itself_stops(tmp_path: Path) -> None:
    """Intact bytes are not enough: the entries must lead to the checkpoint beside them."""
    ledger = await open_ledger(tmp_path / "l")
    await append(ledger, [item(0)], last_time=NOON)
    await ledger.close()
    path = last_segment(tmp_path / "l")
    cut(path, 0)
    whole = path.read_bytes()
    for record, pattern in [
        (forge(1, 1, KEY), "do not lead to the checkpoint"),
        (forge(0, 2, KEY), "expected entry 1, found 0"),
        (forge(1, 2, KEY, note=b"nonsense"), "note"),
        (forge(1, 2, SigningKey.generate(ORIGIN)), "expected a signature by"),
    ]:
        path.write_bytes(whole + record)
        with pytest.raises(StorageError, match=pattern):
            await open_ledger(tmp_path / "l")
    path.write_bytes(whole + forge(1, 2, KEY))
    ledger = await open_ledger(tmp_path / "l")
    assert ledger.size == 2
    await ledger.close()


async def test_checking_finds_what_opening_trusts(tmp_path: Path) -> None:
    """Old records, bundles, keys and times that a restart does not look at."""
    directory = tmp_path / "l"
    await make(directory)

    async def check() -> None:
        ledger = await open_ledger(directory)
        try:
            await ledger.check()
        finally:
            await ledger.close()

    await check()
    for name, at, pattern in [
        (f"wal/{0:016d}", 5_000, "damaged at byte"),
        ("tile/entries/000", 300, "tile/entries/000: not what the entries say"),
    ]:
        whole = (directory / name).read_bytes()
        changed = bytearray(whole)
        changed[at] ^= 1
        (directory / name).write_bytes(changed)
        with pytest.raises(StorageError, match=pattern):
            await check()
        (directory / name).write_bytes(whole)


async def test_checking_reads_tiles_from_the_disk_not_from_memory(tmp_path: Path) -> None:
    """A tile that was read before it was damaged is still found out."""
    await make(tmp_path / "l")
    ledger = await open_ledger(tmp_path / "l")
    await ledger.prove(300)
    path = tmp_path / "l" / "tile/0/001"
    path.write_bytes(bytes(path.stat().st_size))
    await ledger.prove(300)
    with pytest.raises(StorageError, match="tile/0/001: not what the entries say"):
        await ledger.check()
    await ledger.close()


async def test_checking_finds_a_time_that_goes_back(tmp_path: Path) -> None:
    """A ledger whose writer broke the rule is told apart from a good one."""
    ledger = await open_ledger(tmp_path / "l")
    await append(ledger, [item(0, NOON + 5), item(1, NOON)], last_time=NOON)
    with pytest.raises(StorageError, match="time goes back"):
        await ledger.check()
    await ledger.close()


async def test_checking_finds_a_key_used_twice(tmp_path: Path) -> None:
    """Two tickets for one commitment would be two times."""
    ledger = await open_ledger(tmp_path / "l")
    await append(ledger, [item(0), item(0)], last_time=NOON)
    with pytest.raises(StorageError, match="entries 0 and 1 have the same key"):
        await ledger.check()
    await ledger.close()


async def test_a_damaged_bundle_is_not_served_as_an_entry(tmp_path: Path) -> None:
    """The tile says what its leaf must be."""
    await make(tmp_path / "l")
    path = tmp_path / "l" / "tile/entries/000"
    changed = bytearray(path.read_bytes())
    changed[30] ^= 1
    path.write_bytes(changed)
    ledger = await open_ledger(tmp_path / "l")
    with pytest.raises(StorageError, match="not what its tile says"):
        await ledger.prove(0)
    await ledger.close()
