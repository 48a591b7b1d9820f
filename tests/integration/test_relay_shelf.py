"""Small fragments through crashes: lost rows, lost databases, torn segments, kills, moves."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from bistro.errors import BistroError
from bistro.wire.batches import BatchItem, Release
from bistro.wire.receipt import Receipt
from bistro_relay.settings import Settings
from bistro_relay.store.placing import Move
from bistro_relay.store.shared import SEGMENT_SIZE
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.paper import RELAY, SPRING, PaperCall, PaperServer, Sealed, publishing
from tests.support.relays import (
    RunningRelay,
    allow,
    allowed_relay,
    relay_settings,
    relay_site,
    serving_relay,
)
from tests.support.strategies import note_key

KEY = note_key(RELAY).verifier
BIG = 1_600_000


def release_of(sealed: Sealed) -> Release:
    return Release(SPRING, sealed.commitment, 0, sealed.cut.descriptors[0].fragment_hash)


async def require_held(relay: RunningRelay, call: PaperCall, sealed: Sequence[Sealed]) -> None:
    """Everything is listed and comes back byte for byte; nothing else is."""
    client = relay.collector(call)
    assert len(await client.fetch_staged()) == len(sealed)
    found: list[bytes] = []
    items = [BatchItem(one.commitment, 0, 0) for one in sealed]
    if items:
        async with client.fetch_batch(items) as frames:
            async for frame in frames:
                if isinstance(frame, bytes):
                    found[-1] += frame
                else:
                    found.append(b"")
    assert found == [one.fragment(0) for one in sealed]
    used = sum(len(one.fragment(0)) for one in sealed)
    assert relay.services.room.used(SPRING.server) == used


def database(settings: Settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.relay.data_path / "relay.sqlite3", isolation_level=None)


def forget_rows(settings: Settings, condition: str = "1") -> None:
    with contextlib.closing(database(settings)) as found:
        chosen = f"SELECT id FROM upload WHERE {condition}"
        found.execute(f"DELETE FROM staged WHERE upload IN ({chosen})")
        found.execute(f"DELETE FROM upload WHERE {condition}")
        found.execute("DELETE FROM settled")


async def stage_once(
    root: Path, call: PaperCall, server: PaperServer, *, at: int, how: How
) -> tuple[Settings, Receipt | None, int]:
    """Stage, fail one changing call of the disk on the way; what was told."""
    settings = relay_settings(root)
    allow(settings, server)
    disk = FaultyDisk()
    told: Receipt | None = None
    calls = 0
    try:
        async with serving_relay(settings, disk=disk) as relay:
            await relay.stage(call, Sealed(1))
            calls = len(disk.calls)
            disk.fail_at(at, how)
            with contextlib.suppress(BistroError):
                told = (await relay.stage(call, Sealed(2))).receipt
            calls = len(disk.calls) - calls
    except (aiohttp.ClientError, KilledError, BaseExceptionGroup, OSError):
        pass  # the connection, or the whole relay, died with its disk
    return settings, told, calls


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["not-stored", "stored", "kill", "full"])
async def test_each_durable_step_of_a_small_fragment_may_fail(tmp_path: Path, how: How) -> None:
    """Whatever failed: a receipt that was told is honoured, and staging again succeeds."""
    call = PaperCall()
    async with publishing(call) as server:
        _, receipt, count = await stage_once(tmp_path / "whole", call, server, at=99, how=how)
        assert receipt is not None
        assert count >= 4, "segment and ledger, a write and a sync each"
        for at in range(count):
            settings, told, _ = await stage_once(tmp_path / str(at), call, server, at=at, how=how)
            async with serving_relay(settings) as relay:
                again = (await relay.stage(call, Sealed(2))).receipt
                assert again is not None
                if told is not None:
                    assert again.entry == told.entry, "a promise is given once"
                await require_held(relay, call, [Sealed(1), Sealed(2)])


async def test_rows_that_a_crash_kept_from_being_written_are_made_again(tmp_path: Path) -> None:
    """Records and receipts are durable before the row: the start finds them."""
    sealed = [Sealed(number, size=size) for number, size in enumerate([10_000, BIG, 2, 70_000])]
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            receipts = [(await relay.stage(call, one)).receipt for one in sealed]
        forget_rows(settings, f"commitment = x'{sealed[1].commitment.hex()}'")
        async with serving_relay(settings) as relay:
            await require_held(relay, call, sealed)
            for one, receipt in zip(sealed, receipts, strict=True):
                again = (await relay.stage(call, one)).receipt
                assert again is not None
                assert receipt is not None
                assert again.entry == receipt.entry
            await require_held(relay, call, sealed)


async def test_a_lost_database_is_made_again_from_segments_and_ledgers(tmp_path: Path) -> None:
    """What was held is, what was released is not, over many segments."""
    sealed = [Sealed(number, size=BIG) for number in range(50)]
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            for one in sealed:
                await relay.stage(call, one)
            await relay.collector(call).release([release_of(one) for one in sealed[::3]])
        held = [one for at, one in enumerate(sealed) if at % 3]
        for path in settings.relay.data_path.glob("relay.sqlite3*"):
            path.unlink()
        async with serving_relay(settings) as relay:
            await require_held(relay, call, held)
            await relay.collector(call).release([release_of(one) for one in held])
            await require_held(relay, call, [])
            await relay.services.tending.tick()
            names = list(settings.relay.data_path.rglob("shared/*.segment"))
            for number in range(100, 120):
                await relay.stage(call, Sealed(number, size=BIG))
            assert list(settings.relay.data_path.rglob("shared/*.segment")) == names


async def test_only_what_is_not_settled_is_scanned(tmp_path: Path) -> None:
    """After a clean end nothing is read; a settled segment that is damaged is found when asked."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(1))
        disk = FaultyDisk()
        opened: list[Path] = []
        usual = disk.open

        def note(path: Path, flags: int) -> int:
            opened.append(path)
            return usual(path, flags)

        disk.open = note  # type: ignore[method-assign]
        async with serving_relay(settings, disk=disk) as relay:
            assert not [path for path in opened if path.parent.name == "shared"]
            await require_held(relay, call, [Sealed(1)])
        with contextlib.closing(database(settings)) as found:
            assert found.execute("SELECT COUNT(*) FROM settled").fetchone()[0] == 1


async def test_a_torn_segment_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    """The last batch is not there, what stands before it is; another segment takes what comes."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(1))
            shelf = relay.services.tending._shelf
            end = SEGMENT_SIZE - (shelf._open.room if shelf._open else 0)
        (path,) = settings.relay.data_path.rglob("shared/*.segment")
        data = bytearray(path.read_bytes())
        data[end : end + 700] = data[:700]
        path.write_bytes(data)
        forget_rows(settings)
        async with serving_relay(settings) as relay:
            await require_held(relay, call, [Sealed(1)])
            await relay.stage(call, Sealed(2))
            await require_held(relay, call, [Sealed(1), Sealed(2)])
            assert len(list(settings.relay.data_path.rglob("shared/*.segment"))) == 2


async def test_a_missing_segment_is_said_and_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loudly in the log, `storage` to the destination; the relay goes on for the others."""
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(1))
        (path,) = settings.relay.data_path.rglob("shared/*.segment")
        path.unlink()
        async with serving_relay(settings) as relay:
            await relay.stage(call, Sealed(2))
            items = [BatchItem(Sealed(number).commitment, 0, 0) for number in (1, 2)]
            async with relay.collector(call).fetch_batch(items) as frames:
                found = [frame async for frame in frames]
            assert getattr(found[0], "code", None) == "storage"
            assert found[2] == Sealed(2).fragment(0)
            assert await relay.collector(call).release([release_of(Sealed(1))])
        assert "records_lost" in capsys.readouterr().out


async def test_sparse_segments_are_emptied_beside_normal_operation(tmp_path: Path) -> None:
    """Live records move, are read where they are now, survive a restart; segments come free."""
    async with relay_site(tmp_path) as site:
        relay, call = site.relay, site.call
        sealed = [Sealed(number, size=BIG) for number in range(60)]
        for one in sealed:
            await relay.stage(call, one)
        held = [one for at, one in enumerate(sealed) if at % 10 == 0]
        gone = [one for one in sealed if one not in held]
        await relay.collector(call).release([release_of(one) for one in gone])
        shelf = relay.services.tending._shelf
        before = len(shelf._books)
        for _ in range(20):
            await relay.services.tending.tick()
        assert len(shelf._books) < before
        assert shelf.find_sparse() is None
        await require_held(relay, call, held)
        await relay.collector(call).release([release_of(held[0])])
        await require_held(relay, call, held[1:])
        settings = relay.settings
    async with serving_relay(settings) as relay:
        await require_held(relay, call, held[1:])


async def test_a_release_that_comes_while_a_record_moves_wins(tmp_path: Path) -> None:
    """The copy is dead, whatever came first."""
    async with relay_site(tmp_path) as site:
        relay, call = site.relay, site.call
        await relay.stage(call, Sealed(1))
        tending = relay.services.tending
        (upload,) = await tending._placed.live_in(0, limit=9)
        copies = tending._copy([upload])
        (place,) = tending._shelf.write([record for _, record in copies])
        await relay.collector(call).release([release_of(Sealed(1))])
        moves = [Move(upload, place)]
        moved = await tending._placed.move(moves, now=relay.clock.now())
        tending._settle_moves(moves, moved)
        assert moved == []
        assert all(books.live_count == 0 for books in tending._shelf._books.values())
        assert all(books.waiting == 0 for books in tending._shelf._books.values())
