"""Relays that take bytes for ever, or not at all: nobody waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bistro.errors import UnavailableError
from bistro.net.relay_client import RelayClient
from bistro.protocol.submission import SubmissionState
from bistro_client.journal import Journal
from bistro_client.oversight import Limits, Oversight
from bistro_client.uploading import Delivery
from tests.unit.client.worlds import World, world

SOON = Limits(stall_s=0.4, dead_s=0.8, period_s=0.02, young_s=0.1, bearable_s=0.5)
LARGE = 3_000_000


@pytest.mark.parametrize("size", [2_000, LARGE])
async def test_a_deaf_relay_delays_nobody(tmp_path: Path, size: int) -> None:
    """It answers the greeting and then nothing; the spare makes up for it."""
    async with world(tmp_path) as w:
        for relay in w.relays:
            relay.how = "deaf" if relay is w.relays[1] else "good"
        done = await w.submitter(limits=SOON).submit(w.wish(w.files(size)))
        assert done.state is SubmissionState.STAGED
        assert sorted(name for names in w.held.values() for name in names) == [
            "anna.example",
            "cora.example",
        ]
        if w.relays[1].creations:
            assert any("took no byte" in one.message for one in done.attempts)


async def test_large_fragments_have_the_line_for_what_is_needed(tmp_path: Path) -> None:
    """Spares start when k receipts are there, not before."""
    async with world(tmp_path) as w:
        done = await w.submitter().submit(w.wish(w.files(LARGE)))
        assert done.state is SubmissionState.STAGED
        assert not done.missing
        assert w.listener.keys.count("staged") == 1


def delivery(w: World, journal: Journal, at: int) -> Delivery:
    relay = w.relays[at]
    client = RelayClient(w.session, relay.url)
    terms = w.destination.terms
    return Delivery(journal, at, relay.in_terms, client, terms, w.listener)


async def pretend(oversight: Oversight, one: Delivery, *, step: int, size: int) -> None:
    """An upload that moves ``step`` bytes now and then, until it is done or given up."""
    async with oversight.watching(one, size):
        while one.sent < size:
            await asyncio.sleep(0.01)
            one.sent += step


@dataclass
class Verdict:
    """A judge who has made up his mind."""

    is_raced: bool = False
    is_left: bool = False
    is_at_the_end: bool = False
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    challenged: asyncio.Event = field(default_factory=asyncio.Event)

    def on_laggard(self) -> None:
        self.seen.set()

    def is_end(self) -> bool:
        return self.is_at_the_end

    def challenge(self, delivery: Delivery) -> bool:
        self.challenged.set()
        return self.is_raced

    def may_leave(self, delivery: Delivery) -> bool:
        return self.is_left


@pytest.mark.parametrize(
    ("verdict", "is_given_up"),
    [
        (Verdict(is_left=True), True),
        (Verdict(), False),
        (Verdict(is_raced=True, is_left=True), False),
    ],
    ids=["nobody races it", "nobody else takes it", "it is raced"],
)
async def test_a_laggard_is_left_only_if_that_helps(
    tmp_path: Path, verdict: Verdict, *, is_given_up: bool
) -> None:
    """A hundred times slower than the others: given up only where nobody races it."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        journal = Journal.open(w.only_folder())
        oversight = Oversight(verdict, SOON)
        watch = asyncio.ensure_future(oversight.run())  # noqa: TID251 - ended below
        fast, slow = delivery(w, journal, 0), delivery(w, journal, 1)
        slow_task = asyncio.ensure_future(  # noqa: TID251 - awaited below
            pretend(oversight, slow, step=10, size=100_000)
        )
        await pretend(oversight, fast, step=2_000, size=100_000)
        await asyncio.wait_for(verdict.seen.wait(), 10)
        if is_given_up:
            with pytest.raises(UnavailableError, match="many times slower"):
                await slow_task
        else:
            assert not slow_task.done()
            slow_task.cancel()
        watch.cancel()
        journal.close()
