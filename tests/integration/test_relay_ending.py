"""Ledgers are dropped 90 days after their last hold, whatever a crash leaves of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bistro.errors import RefusedError
from bistro.wire.batches import Release
from bistro.wire.relay_notes import Takedown
from bistro_relay.services.custody import HOLD_MS
from bistro_relay.services.ending import KEPT_MS, LOOK_MS
from bistro_relay.services.takedowns import order_takedown
from tests.support.clocks import NOON, ManualClock
from tests.support.paper import HOUR_MS, RELAY, SPRING, PaperCall, Sealed
from tests.support.relays import RunningRelay, allowed_relay, serving_relay
from tests.support.strategies import note_key

END_MS = 3 * HOUR_MS + HOLD_MS + KEPT_MS
"""From noon to 90 days after the last hold of the call."""


@asynccontextmanager
async def after_a_call(
    root: Path, clock: ManualClock
) -> AsyncIterator[tuple[RunningRelay, PaperCall]]:
    """A relay that held three fragments: one was released, one taken down, one expires."""
    async with allowed_relay(root) as (settings, call), serving_relay(settings, clock) as relay:
        for number in (1, 2, 3):
            await relay.stage(call, Sealed(number))
        digest = Sealed(1).cut.descriptors[0].fragment_hash
        await relay.collector(call).release([Release(SPRING, Sealed(1).commitment, 0, digest)])
        order = Takedown(
            relay=RELAY,
            at=NOON,
            origin=SPRING,
            commitment=Sealed(2).commitment,
            fragments=None,
            reason="an order",
        )
        order_takedown(settings.relay.data_path, note_key(RELAY), order)
        await relay.services.takedowns.tick()
        yield relay, call


def left(relay: RunningRelay) -> set[str]:
    """What is left of ledgers, requests and takedowns."""
    data = relay.settings.relay.data_path
    return {
        str(path.relative_to(data))
        for folder in ("custody", "requests", "takedowns")
        for path in (data / folder).rglob("*")
        if path.is_file()
    }


async def row_count(relay: RunningRelay) -> int:
    return sum([tally.count async for tally in relay.services.uploads.tally()])


DROPPED = {f"custody/{SPRING.server}/{SPRING.call}/dropped"}


async def test_a_ledger_is_dropped_ninety_days_after_its_last_hold(tmp_path: Path) -> None:
    """Not a day before; then with its rows, requests and takedowns."""
    clock = ManualClock()
    async with after_a_call(tmp_path, clock) as (relay, _):
        clock.advance(END_MS)
        await relay.services.keeper.tick()
        assert await row_count(relay) == 3
        assert any(name.startswith("requests/") for name in left(relay))
        clock.advance(LOOK_MS)
        await relay.services.keeper.tick()
        assert await row_count(relay) == 0
        assert left(relay) == DROPPED


async def test_no_second_ledger_is_begun_under_a_dropped_name(tmp_path: Path) -> None:
    """It would be a second history; uploads are refused, also after a restart."""
    clock = ManualClock()
    async with after_a_call(tmp_path, clock) as (relay, call):
        settings = relay.settings
        clock.advance(END_MS + LOOK_MS)
        await relay.services.keeper.tick()
        with pytest.raises(RefusedError):
            await relay.services.ledgers.of(SPRING)
        call.extend(2 * (END_MS + LOOK_MS))
        relay.services.book._fetches[SPRING.server].ended_ms = None
        while relay.services.book.find_terms(SPRING).version == 1:
            await relay.services.book._poll(relay.services.book.destinations[0])
        refused = await relay.create(call.claim(Sealed(9)), body=Sealed(9).fragment(0))
        assert refused.status == 403
        assert b"90 days" in refused.body
        data = settings.relay.data_path
    assert {path.name for path in (data / "custody").rglob("*") if path.is_file()} == {"dropped"}


@pytest.mark.parametrize("cut", ["rows", "files"])
async def test_what_a_crash_leaves_of_a_drop_is_finished_at_the_start(
    tmp_path: Path, cut: str
) -> None:
    """Dropped is dropped, though rows or files are there still."""
    clock = ManualClock()
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings, clock) as relay:
            for number in (1, 2):
                await relay.stage(call, Sealed(number))
            clock.advance(END_MS - KEPT_MS + 1)
            while await relay.services.uploads.last_hold_of_ended(SPRING) is None:
                await relay.services.keeper.tick()
            await relay.services.ledgers.drop(SPRING)
            if cut == "files":
                assert await relay.services.uploads.forget_call(SPRING, limit=1) == 1
        async with serving_relay(settings, clock) as relay:
            assert relay.services.keeper.recovered.is_set()
            assert await row_count(relay) == 0
            assert left(relay) == DROPPED
