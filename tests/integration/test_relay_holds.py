"""Later terms prolong holds: those that go on, and none that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from bistro.protocol.transfer import TransferState
from bistro.wire.entry import decode_entry
from tests.support.clocks import ManualClock
from tests.support.paper import HOUR_MS, SPRING, PaperCall, Sealed
from tests.support.relays import RunningRelay, allowed_relay, serving_relay

DAY_MS = 24 * HOUR_MS


async def kinds_of(relay: RunningRelay, sealed: Sealed) -> list[str]:
    """What the ledger says of a fragment, in order."""
    custody = await relay.services.ledgers.of(SPRING)
    entries = [decode_entry(data) for data in custody.ledger.entries()]
    return [entry.KIND for entry in entries if entry.digest == sealed.commitment]


async def end_in_ledger(relay: RunningRelay, sealed: Sealed, request: bytes | None) -> None:
    """What a release, or the end of a hold, has done when the process dies before the row."""
    upload = await relay.services.uploads.find_custody(SPRING, sealed.commitment, 0)
    assert upload is not None
    ledger = await relay.services.ledgers.of(SPRING)
    draft = relay.services.keeper._custody._ended_draft(ledger.origin, upload, request, None)
    await ledger.append(draft)


async def hear_of_more_time(relay: RunningRelay, call: PaperCall, more_ms: int) -> None:
    call.extend(more_ms)
    relay.clock.advance(60_000)
    book = relay.services.book
    while book.find_terms(SPRING).version == 1:
        await book._poll(book.destinations[0])


@pytest.mark.parametrize("size", [1_000, 3_000_000])
@pytest.mark.parametrize("request_hash", [bytes(32), None], ids=["released", "expired"])
async def test_no_hold_is_prolonged_behind_its_end(
    tmp_path: Path, size: int, request_hash: bytes | None
) -> None:
    """Killed between that entry and its row, a relay ends the row; other holds go on."""
    ended, held = Sealed(1, size=size), Sealed(2, size=size)
    clock = ManualClock()
    async with allowed_relay(tmp_path) as (settings, call):
        async with serving_relay(settings, clock) as relay:
            await relay.stage(call, ended)
            await relay.stage(call, held)
            await end_in_ledger(relay, ended, request_hash)
        async with serving_relay(settings, clock) as relay:
            await hear_of_more_time(relay, call, 20 * DAY_MS)
            await relay.services.keeper.tick()
            assert await kinds_of(relay, ended) == ["receipt", "released"]
            assert await kinds_of(relay, held) == ["receipt", "held"]
            over = TransferState.EXPIRED if request_hash is None else TransferState.RELEASED
            states = {one.state async for one in relay.services.uploads.tally()}
            assert states == {TransferState.HELD, over}
            assert relay.services.room.used(SPRING.server) == len(held.fragment(0))
