"""Arrays of one address come one after the other, with others in between."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bistro.daemon.buckets import Bucket, Rate
from bistro.daemon.bursts import Answer
from bistro.daemon.peers import Peers
from bistro.errors import BistroError, UnavailableError
from bistro.wire.ticket import Ticket
from bistro.wire.ticketing import Postponed, TicketAnswers, Ticketed, TicketRequest, TicketRequests
from bistro_server.services.tickets import TicketDesk
from tests.support.destinations import Destination, commitment, destination


@dataclass
class Asker:
    """Somebody at an address."""

    address: str
    bucket: Bucket | None
    answer: asyncio.Future[Answer] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def tell(self, answer: Answer) -> None:
        self.answer.set_result(answer)

    async def indexes(self) -> list[int]:
        """The places in the log of all the tickets that were asked for."""
        answer = await self.answer
        assert isinstance(answer, bytes), answer
        found = TicketAnswers.decode(answer).items
        return [Ticket.parse(one.ticket).index for one in found if isinstance(one, Ticketed)]


class Counter:
    """A desk of a running server, and askers at addresses of their own."""

    def __init__(self, site: Destination) -> None:
        self._site = site
        self._first = 0
        self._desk = TicketDesk(
            site.clock,
            secrets.SystemRandom(),
            registration=site.server.registration,
            peers=Peers(),
        )
        self.ledgers = site.server.calls.get("spring")

    def ask(self, address: str, count: int, *, is_known: bool = True) -> tuple[Asker, object]:
        """Ask for so many new tickets in an array, at once."""
        items = [
            TicketRequest(commitment(self._first + at), self._site.terms.hash)
            for at in range(count)
        ]
        self._first += count
        asker = Asker(address, Bucket(Rate(1e6, 10**6)) if is_known else None)
        body = TicketRequests(tuple(items), is_bulk=True).encode()
        now = self._site.clock.now()
        return asker, self._desk.ask(self.ledgers, body, asker, received_at=now)

    @property
    def waiting_count(self) -> int:
        return self._desk.waiting_count


async def test_others_come_in_between(tmp_path: Path) -> None:
    """Of five arrays that came first only one is stamped before somebody else's."""
    async with destination(tmp_path) as site:
        counter = Counter(site)
        greedy = [counter.ask("greedy", 900)[0] for _ in range(5)]
        other, _ = counter.ask("other", 3)
        found = [await one.indexes() for one in greedy]
        assert [len(one) for one in found] == [900] * 5
        place = max(await other.indexes())
        assert sum(min(one) < place for one in found) == 1
        assert found == sorted(found), "each one's arrays stay in order"
        assert counter.waiting_count == 0


async def test_an_unknown_address_takes_no_turns(tmp_path: Path) -> None:
    """A proxy that names nobody may be anybody: its arrays come as they came."""
    async with destination(tmp_path) as site:
        counter = Counter(site)
        everybody = [counter.ask("", 900, is_known=False)[0] for _ in range(3)]
        other, _ = counter.ask("other", 3)
        place = max(await other.indexes())
        assert all([min(await one.indexes()) < place for one in everybody])


async def test_whoever_leaves_makes_room_for_the_next(tmp_path: Path) -> None:
    """In the queue or behind it, an array that nobody waits for is passed over."""
    async with destination(tmp_path) as site:
        counter = Counter(site)
        asked = [counter.ask("greedy", 10) for _ in range(5)]
        for at in (0, 2):
            asked[at][1].leave()  # type: ignore[attr-defined]
        for at in (1, 3, 4):
            assert len(await asked[at][0].indexes()) == 10
        assert counter.waiting_count == 0
        last, _ = counter.ask("greedy", 2)
        assert len(await last.indexes()) == 2


@pytest.mark.parametrize("count", [1, 4])
async def test_a_ledger_that_stops_answers_those_behind_the_queue(
    tmp_path: Path, count: int
) -> None:
    """Nobody waits for ever, and nothing is dispatched twice."""
    async with destination(tmp_path) as site:
        counter = Counter(site)
        asked = [counter.ask("greedy", 10)[0] for _ in range(count)]
        sequencer = counter.ledgers.log_sequencer
        sequencer._stopped = "a test"  # as when its disk failed
        for at, one in enumerate(asked):
            answer = await one.answer
            if at:
                assert isinstance(answer, bytes)
                items = TicketAnswers.decode(answer).items
                assert {item.code for item in items if isinstance(item, Postponed)} == {
                    UnavailableError.code
                }
            else:
                assert not isinstance(answer, BistroError)
        assert counter.waiting_count == 0
        sequencer._stopped = None
        again, _ = counter.ask("greedy", 2)
        assert len(await again.indexes()) == 2
