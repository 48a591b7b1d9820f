"""Takedowns, the end of ledgers and standing orders, where disk or database fail at any step."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bistro.errors import BistroError, StorageError
from bistro.instant import UnixMillis
from bistro.wire.batches import BatchItem, FrameHead, Release
from bistro.wire.entry import ReleasedEntry, decode_entry
from bistro.wire.relay_notes import Takedown
from bistro_relay.services.custody import HOLD_MS
from bistro_relay.services.ending import KEPT_MS
from bistro_relay.settings import Settings
from bistro_relay.store.orders import Orders, OrdersFile
from bistro_relay.store.takedowns import TakedownFiles
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.paper import HOUR_MS, RELAY, SPRING, PaperCall, PaperServer, Sealed, publishing
from tests.support.relays import RunningRelay, allow, relay_settings, serving_relay
from tests.support.strategies import note_key

KEY = note_key(RELAY)
GONE = Sealed(1, size=3_000_000), Sealed(2, size=1_000)
"""One with a segment of its own, one in a shared segment."""
KEPT = Sealed(3, size=1_000)
NEVER = 10_000
HOWS: tuple[How, ...] = ("not-stored", "stored", "kill", "full")
END_MS = 3 * HOUR_MS + HOLD_MS + KEPT_MS


@dataclass(frozen=True)
class Place:
    """A relay's folder, its destination, and time."""

    settings: Settings
    call: PaperCall
    clock: ManualClock

    @property
    def data(self) -> Path:
        return self.settings.relay.data_path

    @asynccontextmanager
    async def serving(self, disk: FaultyDisk | None = None) -> AsyncIterator[RunningRelay]:
        if disk is None:
            async with serving_relay(self.settings, self.clock) as relay:
                yield relay
        else:
            async with serving_relay(self.settings, self.clock, disk=disk) as relay:
                yield relay


def place_in(root: Path, call: PaperCall, server: PaperServer) -> Place:
    settings = relay_settings(root)
    allow(settings, server)
    return Place(settings, call, ManualClock())


@contextmanager
def dying() -> Iterator[None]:
    """What is done inside may end with the process, or with its disk."""
    with contextlib.suppress(BistroError, KilledError, BaseExceptionGroup):
        yield


def orders_of(sealed: Sealed) -> bytes:
    return Takedown(
        relay=RELAY,
        at=NOON,
        origin=SPRING,
        commitment=sealed.commitment,
        fragments=None,
        reason="an order",
    ).sign(KEY)


async def code_of(relay: RunningRelay, call: PaperCall, sealed: Sealed) -> str | None:
    """What a batch says about a fragment."""
    items = [BatchItem(sealed.commitment, 0, 0)]
    async with relay.collector(call).fetch_batch(items) as frames:
        (head,) = [frame async for frame in frames if isinstance(frame, FrameHead)]
    return head.code


async def take_down(place: Place, *, at: int, how: How) -> int:
    """Order and carry out on a disk that fails once; how many steps there were until then."""
    disk, steps = FaultyDisk(), 0
    with dying():
        async with place.serving(disk) as relay:
            begun = len(disk.calls)
            disk.fail_at(at, how)
            for sealed in GONE:
                with dying():
                    TakedownFiles(place.data, disk=disk).save(orders_of(sealed))
            with dying():
                await relay.services.takedowns.tick()
            steps = len(disk.calls) - begun
    return steps


async def require_taken_down(place: Place) -> None:
    """After the operator has given the order again, wherever it failed."""
    for sealed in GONE:
        TakedownFiles(place.data).save(orders_of(sealed))
    async with place.serving() as relay:
        await relay.services.takedowns.tick()
        for sealed in GONE:
            assert await code_of(relay, place.call, sealed) == "unknown-object"
        assert await code_of(relay, place.call, KEPT) is None
        custody = await relay.services.ledgers.of(SPRING)
        entries = [decode_entry(data) for data in custody.ledger.entries()]
        ends = [entry for entry in entries if isinstance(entry, ReleasedEntry)]
        assert sorted(entry.digest for entry in ends) == sorted(one.commitment for one in GONE)
        for entry in ends:
            assert entry.takedown is not None
            note = await relay.ask("GET", f"/takedowns/{entry.takedown.hex()}")
            Takedown.verify(note.body, KEY.verifier)
        assert relay.services.room.used(SPRING.server) == len(KEPT.fragment(0))
    segments = (place.data / "segments").rglob("*.segment")
    assert not any(GONE[0].fragment(0) in path.read_bytes() for path in segments)


async def hold_all(place: Place) -> None:
    async with place.serving() as relay:
        for sealed in (*GONE, KEPT):
            await relay.stage(place.call, sealed)


async def fail_each_step(root: Path, attempt: Callable[[Place, int], Awaitable[int]]) -> None:
    """Attempt it once without a fault, which tells how many steps there are; then fail each."""
    call = PaperCall()
    async with publishing(call) as server:
        count = await attempt(place_in(root / "whole", call, server), NEVER)
        assert count > 10
        for at in range(count):
            await attempt(place_in(root / str(at), call, server), at)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", HOWS)
async def test_each_durable_step_of_a_takedown_may_fail(tmp_path: Path, how: How) -> None:
    """Given again, it is carried out once, names a note that is there, and spares the others."""

    async def attempt(place: Place, at: int) -> int:
        await hold_all(place)
        steps = await take_down(place, at=at, how=how)
        await require_taken_down(place)
        return steps

    await fail_each_step(tmp_path, attempt)


async def test_no_takedown_is_carried_out_before_its_note_is_durable(tmp_path: Path) -> None:
    """A command may have died between the note's name and its sync: the relay syncs it first."""
    call = PaperCall()
    async with publishing(call) as server:
        place = place_in(tmp_path, call, server)
        await hold_all(place)
        synced: list[Path] = []
        appended: list[int] = []

        class Watched(FaultyDisk):
            def sync_directory(self, path: Path) -> None:
                synced.append(path)
                super().sync_directory(path)

            def write(self, fd: int, data: bytes | memoryview, *, offset: int) -> int:
                appended.append(len(synced))
                return super().write(fd, data, offset=offset)

        disk = Watched()
        async with place.serving(disk) as relay:
            await relay.services.takedowns.tick()
            synced.clear()
            appended.clear()
            (place.data / "takedowns").mkdir(exist_ok=True)
            TakedownFiles(place.data).save(orders_of(GONE[0]))
            await relay.services.takedowns.tick()
        folder = place.data / "takedowns"
        assert appended, "the ledger was written"
        assert {place.data, folder} <= set(synced[: appended[0]])


async def release_and_take_down(place: Place) -> None:
    """All has ended: one released, one taken down, one to expire; and 90 days are over."""
    await hold_all(place)
    async with place.serving() as relay:
        digest = GONE[0].cut.descriptors[0].fragment_hash
        release = Release(SPRING, GONE[0].commitment, 0, digest)
        await relay.collector(place.call).release([release])
        TakedownFiles(place.data).save(orders_of(GONE[1]))
        await relay.services.takedowns.tick()
    place.clock.advance(END_MS - KEPT_MS)
    async with place.serving() as relay:
        await relay.services.keeper.tick()
    place.clock.advance(KEPT_MS - 12 * HOUR_MS)


async def drop(place: Place, *, at: int, how: How) -> int:
    """Drop on a disk that fails once; how many steps there were until then."""
    disk, steps = FaultyDisk(), 0
    with dying():
        async with place.serving(disk) as relay:
            begun = len(disk.calls)
            disk.fail_at(at, how)
            place.clock.advance(24 * HOUR_MS)
            with dying():
                await relay.services.keeper.tick()
            steps = len(disk.calls) - begun
    return steps


async def require_dropped(place: Place) -> None:
    async with place.serving() as relay:
        await relay.services.keeper.tick()
        assert [one async for one in relay.services.uploads.tally()] == []
    left = {
        path.relative_to(place.data)
        for folder in ("custody", "requests", "takedowns")
        for path in (place.data / folder).rglob("*")
        if path.is_file()
    }
    assert left == {Path(f"custody/{SPRING}/dropped")}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", HOWS)
async def test_each_durable_step_of_dropping_a_ledger_may_fail(tmp_path: Path, how: How) -> None:
    """The next start finishes it, or begins it anew; nothing of it is left but its mark."""

    async def attempt(place: Place, at: int) -> int:
        await release_and_take_down(place)
        steps = await drop(place, at=at, how=how)
        await require_dropped(place)
        return steps

    await fail_each_step(tmp_path, attempt)


Rows = Callable[..., Awaitable[Any]]


def failing(monkeypatch: pytest.MonkeyPatch, store: object, name: str, *, stored: bool) -> None:
    """Let the database refuse one kind of change, before or after it was made."""
    real: Rows = getattr(store, name)

    async def fail(*arguments: Any, **more: Any) -> None:
        if stored:
            await real(*arguments, **more)
        raise StorageError("injected: the database failed")

    monkeypatch.setattr(store, name, fail)


@pytest.mark.parametrize("stored", [False, True])
async def test_rows_of_a_takedown_may_fail_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    """The entry is in the ledger by then: the next start finds it, and writes no other."""
    call = PaperCall()
    async with publishing(call) as server:
        place = place_in(tmp_path, call, server)
        await hold_all(place)
        with monkeypatch.context() as patched, dying():
            async with place.serving() as relay:
                failing(patched, relay.services.uploads, "update", stored=stored)
                TakedownFiles(place.data).save(orders_of(GONE[0]))
                await relay.services.takedowns.tick()
        await require_taken_down(place)


@pytest.mark.parametrize("stored", [False, True])
async def test_rows_of_a_dropped_ledger_may_fail_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    """Dropped is dropped: the next start deletes what is left."""
    call = PaperCall()
    async with publishing(call) as server:
        place = place_in(tmp_path, call, server)
        await release_and_take_down(place)
        with monkeypatch.context() as patched, dying():
            async with place.serving() as relay:
                failing(patched, relay.services.uploads, "forget_call", stored=stored)
                place.clock.advance(24 * HOUR_MS)
                await relay.services.keeper.tick()
        await require_dropped(place)


@pytest.mark.parametrize("how", HOWS)
def test_each_durable_step_of_an_order_may_fail(tmp_path: Path, how: How) -> None:
    """What stood before stands, or what was ordered; given again it stands."""
    before, after = Orders(draining_since=NOON), Orders(paused_until=UnixMillis(NOON + 1))
    whole = FaultyDisk()
    OrdersFile(tmp_path, disk=whole).save(after)
    assert len(whole.calls) >= 4
    for at in range(len(whole.calls)):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        OrdersFile(folder).save(before)
        with pytest.raises((StorageError, KilledError)):
            OrdersFile(folder, disk=FaultyDisk(at=at, how=how)).save(after)
        assert OrdersFile(folder).load() in {before, after}
        OrdersFile(folder).save(after)
        assert OrdersFile(folder).load() == after
