"""The open loop begins requests when they are due, and tells when it could not."""

from __future__ import annotations

import asyncio
import json
import os
import random  # noqa: TID251 - seeded
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from bistro.wire.ticketing import TicketRequests
from tests.bench.floors.ticket import Echo
from tests.bench.loads import LATE_LIMIT_MS, Timed
from tests.bench.loads.timed import (
    Crowd,
    Look,
    Watch,
    arrivals,
    report,
    share,
    status_of,
    ticket_requests,
)
from tests.bench.measuring import NotMeasured

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 unavailable\r\nContent-Length: 4\r\n\r\nbusy"
MS = 1_000_000


async def crowd_at(
    protocol: Callable[[], Echo],
    due: list[int],
    *,
    connections: int = 3,
    looks: Sequence[Look] = (),
) -> Crowd:
    """A crowd that has asked a server for something at each of the moments ``due``."""
    loop = asyncio.get_running_loop()
    made: list[Echo] = []

    def make() -> Echo:
        made.append(protocol())
        return made[-1]

    async with await loop.create_server(make, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        def ask() -> Crowd:
            crowd = Crowd(port, connections)
            requests = ticket_requests("/calls/x/tickets", bytes(32), len(due))
            crowd.run(requests, due, looks)
            crowd.close()
            return crowd

        crowd = await asyncio.to_thread(ask)
        async with asyncio.timeout(5):
            # Also those that the crowd made anew at its end, which were not accepted yet.
            while sum(hasattr(one, "_transport") for one in made) < crowd.connected_count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for one in made:
            one._transport.abort()
        await asyncio.sleep(0)
        return crowd


def parsed(crowd: Crowd, due: list[int], **changes: Any) -> Timed:
    values = {"offered": len(due), "seconds": 1.0, "settle_s": 0.0, **changes}
    return Timed.parse(json.dumps(report(crowd, **values)))


async def test_everybody_is_answered_on_a_connection_that_stays_open() -> None:
    """More requests than connections, one after the other on each."""
    due = [number * MS for number in range(50)]
    found = parsed(await crowd_at(lambda: Echo(GOOD), due), due)
    assert (found.offered, found.answered, found.refused, found.missing) == (50, 50, 0, 0)
    assert 0 < found.took_ms[0] <= found.took_ms[1] <= found.took_ms[2]


async def test_refusals_are_counted_and_give_no_times() -> None:
    """A quick no is no quick ticket."""
    due = [0, MS, 2 * MS]
    found = parsed(await crowd_at(lambda: Echo(BUSY), due), due)
    assert (found.answered, found.refused, found.goodput) == (0, 3, 0.0)
    assert found.took_ms == (0.0, 0.0, 0.0)


class Closing(Echo):
    """Says no, and closes the connection."""

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._transport.close()


async def test_a_connection_that_is_closed_after_a_refusal_is_made_anew() -> None:
    """A server may close what it refuses; the next request needs a connection all the same."""
    due = [number * 20 * MS for number in range(5)]
    last = BUSY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = parsed(await crowd_at(lambda: Closing(last), due, connections=1), due)
    assert (found.refused, found.missing) == (5, 0)


class Slow(Echo):
    """Answers in two parts, the second of them 20 ms later."""

    def on_message_complete(self) -> None:
        self._transport.write(GOOD[:20])
        asyncio.get_running_loop().call_later(0.02, self._transport.write, GOOD[20:])


async def test_who_finds_no_free_connection_is_late_and_the_time_counts() -> None:
    """Requests do not wait for each other in silence: time begins when one is due."""
    due = [0, 0, 0]
    crowd = await crowd_at(lambda: Slow(GOOD), due, connections=1)
    found = parsed(crowd, due)
    assert found.answered == 3
    assert found.took_ms[2] >= 60
    assert found.late_ms[1] >= 40
    assert found.doubt is not None
    assert found.doubt.endswith("connections were too few")


class Mute(Echo):
    """Answers nothing."""

    def on_message_complete(self) -> None:
        """Leave it."""


async def test_a_client_that_is_a_second_late_gives_up() -> None:
    """It would only keep others from their core."""
    due = [0, MS]
    found = parsed(await crowd_at(lambda: Mute(GOOD), due, connections=1), due)
    assert (found.missing, found.left_out) == (2, 1)
    assert found.doubt == "1 requests were given up, a second late; connections were too few"


async def test_who_finds_no_free_connection_may_be_turned_away() -> None:
    """As by a server that takes no more: it is neither late nor missing, but counted."""
    crowd = Crowd(0, 0, turns_away=True)
    crowd.run([b"", b""], [0, MS])
    crowd.close()
    found = parsed(crowd, [0, MS])
    assert (found.turned_away, found.missing, found.left_out) == (2, 0, 0)
    assert found.doubt is None


def test_a_client_that_was_on_time_raises_no_doubt() -> None:
    """The limit itself is on time."""
    values = {"offered": 1, "answered": 1, "refused": 0, "missing": 0, "goodput": 1.0}
    fixed = {**values, "took_ms": (1.0, 1.0, 1.0), "seconds": 1.0}
    assert Timed(**cast("Any", fixed), late_ms=(LATE_LIMIT_MS, 99.0)).doubt is None
    doubt = Timed(**cast("Any", fixed), late_ms=(LATE_LIMIT_MS + 0.1, 99.0)).doubt
    assert doubt == "one request in 1,000 began 10.1 ms late or more"


async def test_other_answers_make_the_measurement_void() -> None:
    """As a lost connection does."""
    wrong = b"HTTP/1.1 404 unknown-object\r\nContent-Length: 0\r\n\r\n"
    crowd = await crowd_at(lambda: Echo(wrong), [0])
    with pytest.raises(NotMeasured, match="1 requests failed"):
        parsed(crowd, [0])


def test_only_what_came_after_settling_is_goodput() -> None:
    """The queue that fills at first is no steady rate, and what comes after the end is late."""
    crowd = Crowd(0, 0)
    crowd.close()
    crowd.took = [(int(due * 1e9), int(came * 1e9)) for due, came in ((0, 0.5), (0.2, 1.2))]
    crowd.took += [(int(1.1e9), int(1.9e9)), (int(1.2e9), int(2.1e9))]
    found = report(crowd, offered=4, seconds=2.0, settle_s=1.0)
    assert found["goodput"] == 2.0
    assert found["took_ms"] == [900.0, 900.0, 900.0]


async def test_a_server_is_watched_from_settling_to_the_end() -> None:
    """And no longer: making connections is no part of what was offered."""
    watch = Watch(os.getpid(), min(os.sched_getaffinity(0)))
    assert watch.shares() == {}
    due, looks = [0], [(0, watch.look), (60 * MS, watch.look)]
    found = parsed(await crowd_at(lambda: Echo(GOOD), due, looks=looks), due)
    assert found.answered == 1
    shares = watch.shares()
    assert 0 <= shares["busy"] <= 1
    assert shares["own"] >= 0


def test_arrivals_are_in_order_and_as_many_as_were_wanted() -> None:
    """A Poisson process, the same from the same seed."""
    due = arrivals(1_000.0, 2.0, random.Random(1))
    assert len(due) == 2_000
    assert due == sorted(due) == arrivals(1_000.0, 2.0, random.Random(1))
    assert 1.8e9 < due[-1] < 2.2e9


def test_every_request_is_whole_and_for_another_commitment() -> None:
    """What is repeated would be answered without being stamped."""
    bodies = [one.partition(b"\r\n\r\n")[2] for one in ticket_requests("/x", b"h" * 32, 100)]
    items = [TicketRequests.decode(body).items[0] for body in bodies]
    assert len({item.commitment for item in items}) == 100
    assert {item.terms_hash for item in items} == {b"h" * 32}


@pytest.mark.parametrize("cut", [1, 20, 40, len(GOOD) - 1])
def test_an_answer_counts_when_it_is_whole(cut: int) -> None:
    """Not before."""
    assert status_of(GOOD[:cut]) is None
    assert (status_of(GOOD), status_of(BUSY)) == (200, 503)


def test_shares_are_of_what_there_is() -> None:
    """The longest is the last; nothing has no quantile."""
    numbers = [number * MS for number in range(100)]
    assert (share(numbers, 0.99), share(numbers, 1.0), share([], 0.5)) == (99.0, 99.0, 0.0)
