"""Opening stopped at any durable step goes on to exactly the same end."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro_server.services.folder import ServerFolder
from bistro_server.services.opening import CallOpening
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.world import SMALL_FILES, World, world

CALL = "spring"
HOWS: tuple[How, ...] = ("kill", "not-stored", "stored")


async def prepare(found: World) -> None:
    """A call with every kind of outcome, ready to be opened."""
    await found.submit()
    await found.submit(filer="grace")
    await found.submit({"b.txt": b"b"}, filer="grace", nonce="2")
    await found.staged(await found.ticket(found.seal(envelope=b"x" * 400)))
    await found.ticket(found.seal(filer="tardy"))
    await found.staged(
        await found.ticket(found.seal({f"{one}.txt": b"" for one in range(101)}, filer="eve"))
    )
    await found.collect()
    found.pass_stage_by()


def copy_of(found: World, name: str) -> ServerFolder:
    """The server's folder as a machine that crashed now would have it."""
    target = found.root / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        found.site.folder.root, target, ignore=shutil.ignore_patterns("*.sock", "*-journal")
    )
    return ServerFolder(target)


def opening(found: World, folder: ServerFolder, disk: FaultyDisk) -> CallOpening:
    return CallOpening(folder=folder, clock=found.clock, error_limit_ms=100, disk=disk)


def results(folder: ServerFolder) -> dict[str, bytes]:
    """All that filers, strangers and offices get."""
    call = folder.call(CALL)
    parts = {"minutes": call.minutes.read_bytes()}
    for root in (call.inbox, folder.status):
        for path in root.rglob("*"):
            if path.is_file():
                parts[str(path.relative_to(folder.root))] = path.read_bytes()
    return parts


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", HOWS)
async def test_opening_goes_on_where_it_was_stopped(tmp_path: Path, how: How) -> None:
    """Killed, or refused by the disk, at any step: the second run ends like an undisturbed one."""
    async with world(tmp_path) as found:
        await prepare(found)
        whole = FaultyDisk()
        reference = copy_of(found, "reference")
        opened = await opening(found, reference, whole).run(CALL)
        assert opened.counts == {
            "lapsed": 1,
            "opened": 2,
            "rejected": 1,
            "superseded": 1,
            "void": 1,
        }
        expected = results(reference)
        assert expected["inbox/spring/index.jsonl"]
        struck_count = 0
        # The three runs take turns with the steps; each of them alone has been tried with all.
        steps = range(HOWS.index(how), len(whole.calls), len(HOWS))
        for at in steps:
            folder = copy_of(found, "tried")
            disk = FaultyDisk(at=at, how=how)
            with contextlib.suppress(KilledError, StorageError):
                await opening(found, folder, disk).run(CALL)
            struck_count += len(disk.calls) > at
            again = await opening(found, folder, FaultyDisk()).run(CALL)
            assert again.counts == opened.counts
            assert results(folder) == expected, (at, whole.calls[at])
        # The log's static files are published beside it: their calls come sooner, later or not.
        assert struck_count >= 0.6 * len(steps)


async def test_a_full_disk_stops_opening_until_there_is_room(tmp_path: Path) -> None:
    """Nothing is lost: the same command goes on."""
    async with world(tmp_path) as found:
        await prepare(found)
        folder = copy_of(found, "full")
        disk = FaultyDisk(at=40, how="full")
        with pytest.raises(StorageError, match=r"no space left|injected, full"):
            await opening(found, folder, disk).run(CALL)
        again = await opening(found, folder, FaultyDisk()).run(CALL)
        assert again.counts["opened"] == 2


async def test_what_a_crash_left_half_unpacked_is_removed(tmp_path: Path) -> None:
    """A hidden folder of an opening that died is no filing."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.collect()
        found.pass_stage_by()
        hidden = found.inbox / f".{filing.commitment.hex()}.unpacking"
        (hidden / "files").mkdir(parents=True)
        (hidden / "files" / "half.txt").write_bytes(b"ha")
        await found.open()
        assert not hidden.exists()
        place = found.inbox / filing.commitment.hex() / "files"
        names = {str(one.relative_to(place)) for one in place.rglob("*") if one.is_file()}
        assert names == set(SMALL_FILES)
