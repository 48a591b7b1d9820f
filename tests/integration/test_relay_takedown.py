"""Takedowns, statements of service, and what a relay tells of a promise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.errors import StorageError
from bistro.wire.batches import BatchItem, FrameHead
from bistro.wire.entry import Entry, ReleasedEntry, decode_entry
from bistro.wire.proof import Proof
from bistro.wire.receipt import Receipt
from bistro.wire.relay_notes import Service, Takedown, name_of
from bistro_relay.services.takedowns import order_takedown
from bistro_relay.store.takedowns import TakedownFiles
from tests.support.clocks import NOON, ManualClock
from tests.support.paper import HOUR_MS, RELAY, SPRING, PaperCall, Sealed
from tests.support.relays import Reply, RunningRelay, Site, allowed_relay, relay_site, serving_relay
from tests.support.strategies import note_key

KEY = note_key(RELAY)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with relay_site(tmp_path) as found:
        yield found


def takedown(sealed: Sealed, *fragments: int) -> Takedown:
    return Takedown(
        relay=RELAY,
        at=NOON,
        origin=SPRING,
        commitment=sealed.commitment,
        fragments=fragments or None,
        reason="order 7 of a court",
    )


async def carried_out(relay: RunningRelay, order: Takedown) -> bytes:
    """As the command does; the relay is made to look now."""
    name = order_takedown(relay.settings.relay.data_path, KEY, order)
    await relay.services.takedowns.tick()
    return name


async def last_entry(relay: RunningRelay, call: PaperCall) -> Entry:
    custody = await relay.services.ledgers.of(call.origin)
    return [decode_entry(data) for data in custody.ledger.entries()][-1]


async def code_of(site: Site, sealed: Sealed) -> str | None:
    """What a batch says about a fragment."""
    client = site.relay.collector(site.call)
    async with client.fetch_batch([BatchItem(sealed.commitment, 0, 0)]) as frames:
        heads = [frame async for frame in frames if isinstance(frame, FrameHead)]
    return heads[0].code


async def sent(relay: RunningRelay, path: str, data: bytes) -> Reply:
    """All of a fragment, in two requests; the last answer."""
    half = len(data) // 2
    await relay.patch(path, data[:half], at=0)
    return await relay.patch(path, data[half:], at=half)


def has_bytes(relay: RunningRelay, data: bytes) -> bool:
    """Whether a fragment of its own file lies anywhere on the disk."""
    files = (relay.settings.relay.data_path / "segments").rglob("*.segment")
    return any(data in path.read_bytes() for path in files)


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_a_takedown_deletes_and_leaves_a_trace(site: Site, size: int) -> None:
    """The ledger names the signed order, everybody may read it, and the bytes are gone."""
    relay, sealed, other = site.relay, Sealed(1, size=size), Sealed(2, size=size)
    await relay.stage(site.call, sealed)
    await relay.stage(site.call, other)
    name = await carried_out(relay, takedown(sealed))
    entry = await last_entry(relay, site.call)
    assert isinstance(entry, ReleasedEntry)
    assert (entry.digest, entry.takedown, entry.request) == (sealed.commitment, name, None)
    answer = await relay.ask("GET", f"/takedowns/{name.hex()}")
    assert Takedown.verify(answer.body, KEY.verifier).reason == "order 7 of a court"
    assert name_of(answer.body) == name
    assert await code_of(site, sealed) == "unknown-object"
    assert await code_of(site, other) is None
    if size > 1_000_000:
        assert not has_bytes(relay, sealed.fragment(0))


async def test_what_was_taken_down_is_not_taken_again(site: Site) -> None:
    """403 before bytes flow, whole or not; other fragments of the commitment are."""
    relay, sealed = site.relay, Sealed(1)
    await relay.stage(site.call, sealed)
    await carried_out(relay, takedown(sealed, 0))
    for body in (None, sealed.fragment(0)):
        refused = await relay.create(site.call.claim(sealed), body=body)
        assert refused.status == 403
        assert json.loads(refused.body)["code"] == "refused"
    await relay.stage(site.call, sealed, index=1)


@pytest.mark.parametrize("size", [10_000, 3_000_000])
async def test_an_upload_that_had_begun_is_refused_with_its_last_bytes(
    site: Site, size: int
) -> None:
    """Nothing is promised for it; its bytes and its room are gone."""
    relay, sealed = site.relay, Sealed(1, size=size)
    await relay.stage(site.call, Sealed(2))
    used, entry = relay.services.room.used(SPRING.server), await last_entry(relay, site.call)
    data = sealed.fragment(0)
    created = await relay.create(site.call.claim(sealed))
    await carried_out(relay, takedown(sealed))
    done = await sent(relay, created.path, data)
    assert (done.status, json.loads(done.body)["code"]) == (403, "refused")
    assert await last_entry(relay, site.call) == entry
    assert not has_bytes(relay, data)
    assert relay.services.room.used(SPRING.server) == used
    assert (await relay.ask("HEAD", created.path)).status == 410


async def test_an_order_given_while_the_relay_is_down_is_carried_out_at_its_start(
    tmp_path: Path,
) -> None:
    """And it is found done, not done twice, by every later start."""
    async with allowed_relay(tmp_path) as (settings, call):
        clock, sealed = ManualClock(), Sealed(1)
        async with serving_relay(settings, clock) as relay:
            await relay.stage(call, sealed)
        order_takedown(settings.relay.data_path, KEY, takedown(sealed))
        kinds: list[str] = []
        for _ in range(2):
            async with serving_relay(settings, clock) as relay:
                await relay.services.takedowns.tick()
                custody = await relay.services.ledgers.of(call.origin)
                kinds = [decode_entry(data).KIND for data in custody.ledger.entries()]
        assert kinds == ["receipt", "released"]


async def test_only_the_relays_own_word_takes_down(tmp_path: Path) -> None:
    """A file that somebody else signed stops the relay, and is named."""
    async with allowed_relay(tmp_path) as (settings, _):
        forged = takedown(Sealed(1)).sign(note_key("evil.example"))
        TakedownFiles(settings.relay.data_path).save(forged)
        with pytest.raises(StorageError, match="takedown"):
            async with serving_relay(settings):
                pass


async def test_an_unknown_takedown_is_unknown(site: Site) -> None:
    """And what is no hash is malformed, whatever path it would be."""
    assert (await site.relay.ask("GET", f"/takedowns/{'0' * 64}")).status == 404
    assert (await site.relay.ask("GET", "/takedowns/..%2Frelay.lock")).status in {400, 404}


async def test_the_statement_of_service_counts_what_came_and_left(site: Site) -> None:
    """Signed by the relay; one month of it, too."""
    relay, sealed = site.relay, Sealed(1)
    size = len(sealed.fragment(0))
    await relay.stage(site.call, sealed)
    await code_of(site, sealed)
    for path, period in (("/service", "all"), ("/service/2026-11", "2026-11")):
        answer = await relay.ask("GET", path)
        (one,) = Service.verify(answer.body, KEY.verifier).destinations
        assert Service.verify(answer.body, KEY.verifier).period == period
        assert one.server == "permits.example"
        assert (one.accepted_bytes, one.delivered_bytes, one.held_bytes) == (size, size, size)
    assert (await relay.ask("GET", "/service/2026-10")).status == 404
    assert (await relay.ask("GET", "/service/october")).status == 400


async def test_a_statement_is_signed_once_in_five_seconds(site: Site) -> None:
    """Reading it costs no signature; afterwards it is made anew."""
    first = await site.relay.ask("GET", "/service")
    await site.relay.stage(site.call, Sealed(1))
    assert (await site.relay.ask("GET", "/service")).body == first.body
    site.relay.clock.advance(5_000)
    assert (await site.relay.ask("GET", "/service")).body != first.body


async def test_custody_shows_receipt_hold_and_release(site: Site) -> None:
    """Each as a proof; before there is a receipt there is nothing."""
    relay, sealed = site.relay, Sealed(1, size=3_000_000)
    created = await relay.create(site.call.claim(sealed))
    path = created.path + "/custody"
    assert (await relay.ask("GET", path)).status == 404
    await sent(relay, created.path, sealed.fragment(0))
    found = json.loads((await relay.ask("GET", path)).body)
    receipt = Receipt.parse(found["receipt"])
    receipt.verify(KEY.verifier, SPRING, sealed.commitment)
    assert found["held"] is found["released"] is None
    site.call.extend(HOUR_MS)
    relay.clock.advance(60_000)
    while json.loads((await relay.ask("GET", path)).body)["held"] is None:
        await relay.services.keeper.tick()
    await carried_out(relay, takedown(sealed))
    found = json.loads((await relay.ask("GET", path)).body)
    entries = [decode_entry(Proof.parse(found[name]).entry or b"") for name in ("held", "released")]
    assert [entry.KIND for entry in entries] == ["held", "released"]
    assert {entry.digest for entry in entries} == {sealed.commitment}


async def test_discovery_says_whom_to_tell_of_abuse(tmp_path: Path) -> None:
    """As the settings say."""
    async with relay_site(tmp_path, relay={"abuse_contact": "abuse@example.net"}) as site:
        assert (await site.relay.api.fetch_discovery()).abuse_contact == "abuse@example.net"
