"""Hints to sister relays, for uploads that are turned away."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bistro.crypto.keyfile import encode_note_key
from bistro.wire.relay_notes import Hint
from bistro_relay.store.orders import Orders, OrdersFile
from tests.support.clocks import NOON, ManualClock
from tests.support.paper import RELAY, PaperCall, Sealed, paper_terms, publishing
from tests.support.relays import Reply, RunningRelay, allow, relay_settings, serving_relay
from tests.support.strategies import note_key, relay_named

SISTER = "sister.example"


@asynccontextmanager
async def two_relays(tmp_path: Path) -> AsyncIterator[tuple[RunningRelay, RunningRelay, PaperCall]]:
    """A relay and its sister, both named by the terms of one call."""
    clock = ManualClock()
    one = relay_settings(tmp_path / "one")
    two = relay_settings(tmp_path / "two", relay={"name": SISTER})
    two.relay.key_path.write_bytes(encode_note_key(note_key(SISTER)))
    call = PaperCall()
    call.versions.clear()
    relays = (
        relay_named(RELAY, url=one.http.base_url),
        relay_named(SISTER, url=two.http.base_url),
        relay_named("gone.example", url="http://127.0.0.1:9"),
    )
    call.publish(paper_terms(relays=relays))
    async with publishing(call) as server:
        allow(one, server)
        allow(two, server)
        async with serving_relay(one, clock) as first, serving_relay(two, clock) as second:
            yield first, second, call


def order(relay: RunningRelay, orders: Orders) -> None:
    OrdersFile(relay.settings.relay.data_path).save(orders)
    relay.services.orders.look()


def hint_of(reply: Reply) -> Hint | None:
    found = reply.headers.get("Bistro-Sisters")
    if found is None:
        return None
    return Hint.verify(base64.b64decode(found), note_key(RELAY).verifier)


async def turned_away(relay: RunningRelay, call: PaperCall, number: int = 1) -> Hint | None:
    """The hint that a draining relay gives; its sisters are asked before."""
    first = await relay.create(call.claim(Sealed(number)))
    assert first.status == 503
    await relay.services.sisters.tick()
    return hint_of(await relay.create(call.claim(Sealed(number))))


async def test_a_draining_relay_names_a_sister_that_takes_uploads(tmp_path: Path) -> None:
    """Signed, good for a minute, and about that call; one that does not answer is left out."""
    async with two_relays(tmp_path) as (relay, sister, call):
        order(relay, Orders(draining_since=NOON))
        hint = await turned_away(relay, call)
        assert hint is not None
        assert [one.name for one in hint.sisters] == [SISTER]
        assert hint.origin == call.origin
        assert hint.until == NOON + 60_000
        taken = await sister.create(call.claim(Sealed(1)), body=Sealed(1).fragment(0))
        assert taken.status == 201


async def test_a_sister_that_takes_nothing_is_not_named(tmp_path: Path) -> None:
    """After half a minute, when it is asked again."""
    async with two_relays(tmp_path) as (relay, sister, call):
        order(relay, Orders(draining_since=NOON))
        assert await turned_away(relay, call) is not None
        order(sister, Orders(draining_since=NOON))
        relay.clock.advance(30_000)
        await relay.services.sisters.tick()
        assert await turned_away(relay, call) is None


async def test_good_answers_and_other_refusals_carry_no_hint(tmp_path: Path) -> None:
    """Neither where the relay takes uploads, nor where the claim is wrong."""
    async with two_relays(tmp_path) as (relay, _, call):
        await relay.services.sisters.tick()
        taken = await relay.create(call.claim(Sealed(1)))
        assert taken.status == 201
        assert hint_of(taken) is None
        wrong = await relay.create(call.claim(Sealed(1)), Upload_Length="1")
        assert wrong.status == 400
        assert hint_of(wrong) is None
