"""A made-up story, with real tickets and receipts, for tests of what is made from stories."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bistro.instant import UnixMillis
from bistro.wire.clauses import Spread
from bistro.wire.entry import ReceiptEntry, RefusedEntry, TicketEntry
from bistro.wire.receipt import Receipt
from bistro.wire.refusal import Refusal
from bistro.wire.terms import Terms
from bistro.wire.ticket import Ticket
from tests.e2e.demo.filings import Filing, Shape, plan
from tests.e2e.demo.measure import Meter
from tests.e2e.demo.promises import Promise
from tests.e2e.demo.stage import RELAYS, SERVER
from tests.e2e.demo.story import FilingStory, KillStory, Story
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import SPRING
from tests.support.promises import MemoryLedger
from tests.support.strategies import X25519_RECIPIENTS, call_keys, note_key, relay_named

SHAPE = Shape(count=10)


def terms() -> Terms:
    """A call that opens at noon and closes 20 s later."""
    return Terms(
        origin=SPRING,
        title="Permits",
        opens=NOON,
        closes=UnixMillis(NOON + 20_000),
        grace_ms=1_000,
        stage_by=UnixMillis(NOON + 90_000),
        repair_by=UnixMillis(NOON + 180_000),
        sealed_until="closes",
        time_zone="UTC",
        recipients=tuple(X25519_RECIPIENTS[:1]),
        envelope_limit=2**31,
        files_limit=1_000,
        spread=Spread(k=2, n=3),
        keys=call_keys(SPRING),
        relays=tuple(relay_named(relay.name) for relay in RELAYS),
    )


def filing_story(filing: Filing, at: UnixMillis) -> FilingStory:
    """A filing that went well: a ticket at ``at``, uploads within the second after it."""
    digest = hashlib.sha256(str(filing.number).encode()).digest()
    one = FilingStory(filing=filing, source=Path("source"), home=Path("home"))
    one.began_at = UnixMillis(at - 400)
    one.commitment = digest.hex()
    if filing.is_late:
        log = MemoryLedger(note_key(SPRING.refusals))
        entry = RefusedEntry(
            origin=SPRING.refusals, time=at, digest=digest, reason="deadline-passed"
        )
        one.refusal = Refusal.parse(log.promise(entry))
        one.exits = [3]
        return one
    ticket = TicketEntry(origin=str(SPRING), time=at, digest=digest)
    one.ticket = Ticket.parse(MemoryLedger(note_key(str(SPRING))).promise(ticket))
    receipts = [
        ReceiptEntry(
            origin=SPRING.custody(relay.name),
            time=UnixMillis(at + 500 + 100 * index),
            digest=digest,
            index=index,
            size=filing.size // 2,
            fragment_hash=digest,
            hold_until=UnixMillis(at + 10**9),
        )
        for index, relay in enumerate(RELAYS)
    ]
    one.receipts = tuple(
        Receipt.parse(MemoryLedger(note_key(entry.origin)).promise(entry)) for entry in receipts
    )
    one.exits, one.outcome, one.inbox = [0], "opened", Path("inbox")
    one.collected_at = UnixMillis(NOON + 23_000)
    one.is_identical = one.is_own_evidence_good = one.is_inbox_evidence_good = True
    return one


def story() -> Story:
    """Ten filings, all promises kept."""
    clock = ManualClock(NOON)
    meter = Meter(clock)
    filings = plan(1, SHAPE)
    made = Story(
        seed=1,
        clock_statement="Nobody knows, 50 ms <assumed>.",
        is_clock_assumed=True,
        meter=meter,
        destination=SERVER,
        relays=RELAYS,
        filings=[
            filing_story(x, UnixMillis(NOON + round(1_000 * x.arrives_s) + 1_100)) for x in filings
        ],
        began_at=NOON,
        kill=KillStory("birch.example", UnixMillis(NOON + 8_000), sent=10, size=20),
        collecting=(UnixMillis(NOON + 22_000), UnixMillis(NOON + 25_000)),
        opening=(UnixMillis(NOON + 25_000), UnixMillis(NOON + 27_000)),
        ended_at=UnixMillis(NOON + 40_000),
    )
    made.terms = terms()
    if made.kill is not None:
        made.kill.back_at = UnixMillis(NOON + 9_000)
    for channel, size in ((SERVER, 5_000), *((relay.name, 10**6) for relay in RELAYS)):
        meter.count(channel, size)
    clock.advance(23_000)
    meter.count(made.collected_channels[0], 3 * 10**6)
    for promise in Promise:
        made.verdicts.examined(promise, (), "as it should be")
    return made
