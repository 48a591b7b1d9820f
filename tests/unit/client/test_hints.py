"""Advice of relays that turn uploads away: taken where it is signed, fresh and of this call."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.errors import OverloadedError, UnavailableError
from bistro.instant import UnixMillis
from bistro.protocol.placement import Placement
from bistro.protocol.submission import SubmissionState
from bistro.wire.clauses import Spread
from bistro.wire.relay_notes import MAX_NOTE_SIZE, Hint, Sister
from bistro_client.hints import GOOD_MS, read_hint
from bistro_client.patience import Patience
from bistro_client.roster import Roster
from tests.support.strategies import note_key
from tests.unit.client.worlds import World, world

ANNA, BERT, CORA = "anna.example", "bert.example", "cora.example"


def hint(w: World, *sisters: str, relay: str = ANNA, good_ms: int = 60_000) -> Hint:
    now = w.clock.now()
    return Hint(
        relay=relay,
        at=now,
        until=UnixMillis(now + good_ms),
        origin=w.destination.terms.origin,
        sisters=tuple(Sister(name=one, load=10, free_bytes=10**9) for one in sisters),
    )


def signed(one: Hint, *, seed: str = "") -> str:
    return base64.b64encode(one.sign(note_key(one.relay, seed=seed))).decode()


def read(w: World, field: str | None) -> dict[str, int]:
    error = OverloadedError("full", retry_after_s=60)
    error.sisters = field
    anna = w.destination.terms.relay(ANNA)
    assert anna is not None
    return read_hint(error, anna, w.destination.terms, w.clock.now())


async def test_advice_is_taken_for_as_long_as_it_is_good(tmp_path: Path) -> None:
    """At most a minute, whatever it says; relays that the terms do not name are not known."""
    async with world(tmp_path) as w:
        assert read(w, signed(hint(w, CORA, "mallory.example"))) == {CORA: 60_000}
        assert read(w, signed(hint(w, BERT, CORA, good_ms=10**9))) == {BERT: GOOD_MS, CORA: GOOD_MS}
        assert read(w, signed(hint(w, BERT, good_ms=7))) == {BERT: 7}
        assert read(w, signed(hint(w, "mallory.example"))) == {}


async def test_what_is_no_good_advice_is_none(tmp_path: Path) -> None:
    """Late, of another call, of another relay, signed by another key, too long, or no note."""
    async with world(tmp_path) as w:
        good = hint(w, CORA)
        elsewhere = replace(good, origin=replace(good.origin, call="autumn"))
        for bad in (
            None,
            "",
            "no base64",
            base64.b64encode(b"no note").decode(),
            base64.b64encode(bytes(MAX_NOTE_SIZE + 1)).decode(),
            signed(hint(w, CORA, good_ms=-1)),
            signed(elsewhere),
            signed(good, seed="forged"),
            signed(hint(w, CORA, relay=BERT)),
        ):
            assert read(w, bad) == {}, bad


async def test_advice_comes_before_chance_and_after_the_rules(tmp_path: Path) -> None:
    """Of relays that may be chosen the recommended one is, until the advice is old."""
    async with world(tmp_path) as w:
        patience = Patience(w.clock, chooser=secrets.SystemRandom())
        roster = Roster(w.session, w.destination.terms, Placement(1, 2, 100), patience, {})
        await roster.probe()
        await roster.heed({CORA: 1_000})
        assert {roster.choose(0, tried={ANNA}, failed=()) for _ in range(30)} == {CORA}
        # The rule of operators is not advice.
        assert {roster.choose(1, tried=(), failed=()) for _ in range(30)} <= {ANNA, BERT}
        del roster.holders[0], roster.holders[1]
        w.clock.advance(1_001)
        assert {roster.choose(0, tried={ANNA}, failed=()) for _ in range(60)} == {BERT, CORA}


async def test_a_recommended_relay_that_was_left_out_is_asked_again(tmp_path: Path) -> None:
    """It may be back; but nobody makes us ask more often than every ten seconds."""
    async with world(tmp_path) as w:
        w.relays[2].how = "silent"
        roster = Roster(w.session, w.destination.terms, Placement(1, 1, 100), Patience(w.clock), {})
        await roster.probe()
        w.relays[2].how = "good"
        await roster.heed({CORA: 60_000})
        assert not roster.is_up(CORA)
        w.clock.advance(10_000)
        await roster.heed({CORA: 60_000})
        assert roster.is_up(CORA)
        assert roster.choose(0, tried=(), failed=()) == CORA


@pytest.mark.parametrize("how", ["full", "busy"])
async def test_a_fragment_goes_where_the_relay_that_refuses_it_points(
    tmp_path: Path, how: str
) -> None:
    """507 and 503 alike; in every one of eight submissions."""
    async with world(tmp_path, spread=Spread(1, 1)) as w:
        w.relays[0].sisters = signed(hint(w, CORA, good_ms=10**9))
        w.relays[0].retry_after_s = 600
        for number in range(8):
            w.relays[0].how = how
            w.relays[1].how = "silent"
            asked = w.relays[0].creations
            done = await w.submitter().submit(w.wish(slot=f"s{number}"))
            assert done.state is SubmissionState.STAGED
            if w.relays[0].creations > asked:
                assert done.fragments[0].relay == CORA


async def test_bytes_that_are_there_are_worth_a_moment(tmp_path: Path) -> None:
    """503 with a few seconds in the middle of a fragment: it goes on there, not elsewhere."""
    async with world(tmp_path, spread=Spread(1, 1)) as w:
        for relay in w.relays:
            relay.how, relay.then, relay.retry_after_s = "breaks", "pauses", 9
        before = w.clock.now()
        done = await w.submitter().submit(w.wish(w.files(3_000_000)))
        assert done.state is SubmissionState.STAGED
        assert sum(relay.creations for relay in w.relays) == 1
        assert w.clock.now() - before >= 9_000


async def test_a_relay_that_asks_for_long_is_left_in_the_middle(tmp_path: Path) -> None:
    """Another relay gets the whole fragment, and the first is told that it may forget its part."""
    async with world(tmp_path, spread=Spread(1, 1)) as w:
        shared = ["breaks", "good", "good"]
        for relay in w.relays:
            relay.how, relay.roles, relay.then, relay.retry_after_s = "cast", shared, "pauses", 600
        done = await w.submitter().submit(w.wish(w.files(3_000_000)))
        assert done.state is SubmissionState.STAGED
        assert sum(relay.creations for relay in w.relays) == 2
        assert sum(len(relay.ended) for relay in w.relays) == 1
        assert [one.code for one in done.attempts] == [UnavailableError.code]
