"""The client waits for nobody, asks again for whom it must, and tells how late it was."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

from bistro.protocol.backoff import Backoff
from bistro.wire.ticketing import Postponed, Refused, TicketAnswer, TicketAnswers, Ticketed
from tests.workload.chance import draw_line, seeded
from tests.workload.client import Crowd, Target
from tests.workload.exchange import parse_response
from tests.workload.filings import Filing
from tests.workload.records import Run

LINE = draw_line(seeded(1, "line"))
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b'Content-Length: 80\r\n\r\n{"code":"overloaded","detail":"x","hint":"","retry_after_ms":1'
    b',"status":503     }'
)


def answered(answer: TicketAnswer) -> bytes:
    body = TicketAnswers((answer,)).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


TICKET, REFUSAL = answered(Ticketed("a ticket")), answered(Refused("a refusal"))


def filing(number: int, due_s: float = 0.0) -> Filing:
    return Filing(number, due_s, bytes([number]) * 32, f"127.1.0.{number}", (0.001,), 1, LINE)


class Peer(asyncio.Protocol):
    """Answers each request with what ``script`` says; None: not at all; b"": hangs up."""

    def __init__(self, script: Callable[[bytes], bytes | None]) -> None:
        self._script = script

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        answer = self._script(data)
        if answer is not None:
            self._transport.write(answer)
            self._transport.close()


@contextlib.asynccontextmanager
async def peer(script: Callable[[bytes], bytes | None]) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Peer(script), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def run(port: int, *filings: Filing, end_s: float = 30.0, reads: bool = False) -> Run:
    target = Target(port, "spring", bytes(32))
    crowd = Crowd(
        target,
        begin=time.perf_counter(),
        end_s=end_s,
        reads_until_s=end_s if reads else 0.0,
        seed=1,
        backoff=Backoff(first_ms=1, cap_ms=1),
    )
    return await crowd.run([(one, target.ticket_request(one.commitment)) for one in filings])


def in_turn(*answers: bytes) -> Callable[[bytes], bytes]:
    left: Iterator[bytes] = iter(answers)
    return lambda _: next(left)


async def test_a_filer_who_is_put_off_asks_again() -> None:
    """By a problem document, an item that is postponed, or a connection that breaks."""
    script = in_turn(BUSY, answered(Postponed("overloaded", 1)), b"", TICKET)
    async with peer(script) as port:
        seen = await run(port, filing(1))
    (record,) = seen.records
    assert (record.answer, record.promise, record.attempts) == ("ticket", "a ticket", 4)
    assert record.took_s is not None
    assert seen.postponed == {"overloaded": 2}


async def test_nobody_waits_for_another() -> None:
    """Who gets no answer holds up nobody who is due later, and is given up at the end."""
    seen_order: list[int] = []

    def script(data: bytes) -> bytes | None:
        seen_order.append(data[-40])
        return b"" if len(seen_order) == 1 else TICKET

    async with peer(script) as port:
        seen = await run(port, filing(1), filing(2, 0.01), filing(3, 0.02), end_s=0.0)
    assert [record.answer for record in seen.records] == ["none", "ticket", "ticket"]
    assert "ConnectionResetError" in seen.records[0].problem


async def test_a_refusal_is_an_answer() -> None:
    """It is kept, and not asked for again; neither is what cannot succeed."""
    script = in_turn(REFUSAL, answered(Postponed("not-registered")))
    async with peer(script) as port:
        seen = await run(port, filing(1), filing(2, 0.05))
    assert [(x.answer, x.attempts) for x in seen.records] == [("refusal", 1), ("none", 1)]
    assert seen.records[1].problem == "not-registered"


async def test_statuses_are_read_after_the_ticket() -> None:
    """From the same address, and counted by how they were answered."""
    paths: list[bytes] = []

    def script(data: bytes) -> bytes:
        paths.append(data.split(b" ")[1])
        return b"HTTP/1.1 404 Not Found\r\n\r\n" if data.startswith(b"GET") else TICKET

    async with peer(script) as port:
        seen = await run(port, filing(1), reads=True)
    assert paths == [b"/calls/spring/tickets", b"/calls/spring/status/" + b"01" * 32]
    assert seen.reads == {404: 1}
    assert len(seen.reads_s) == 1


async def test_a_late_generator_says_so() -> None:
    """What should have begun a second ago is a second late, and its ticket took as long."""
    async with peer(lambda _: TICKET) as port:
        seen = await run(port, filing(1, due_s=-1.0))
    (record,) = seen.records
    assert record.late_s >= 1.0
    assert record.took_s is not None
    assert record.took_s >= record.late_s


def test_half_an_answer_is_none() -> None:
    """Head or body may arrive in pieces."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello"
    assert all(parse_response(whole[:size]) is None for size in range(len(whole)))
    found = parse_response(whole)
    assert found is not None
    assert (found.status, found.content_type, found.body) == (200, "a/b", b"hello")
