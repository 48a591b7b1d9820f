"""Load processes count what was answered, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bistro.wire.ticketing import TicketRequests
from tests.bench.floors.ticket import Echo
from tests.bench.loads import Load
from tests.bench.loads.raw import Connection, Stock
from tests.bench.loads.requests import post, read_requests, write_requests
from tests.bench.loads.tickets import bulk_body, ticket_body
from tests.bench.measuring import NotMeasured

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


@contextlib.asynccontextmanager
async def answering(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    transports: list[asyncio.BaseTransport] = []

    def make() -> asyncio.Protocol:
        made = protocol()
        begin = made.connection_made

        def remember(transport: asyncio.BaseTransport) -> None:
            transports.append(transport)
            begin(transport)

        made.connection_made = remember  # type: ignore[method-assign]
        return made

    loop = asyncio.get_running_loop()
    async with await loop.create_server(make, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        # Whoever was accepted last begins in the next passes.
        await asyncio.sleep(0.01)
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)


async def loaded(port: int, count: int, *, body: bytes = b"") -> tuple[Load, bytes]:
    """What a connection reports that sends ``count`` requests, and one answer."""
    requests = [post("/x", {"Content-Length": 3 + len(body)}, b"abc") for _ in range(count)]
    stock = Stock(iter(requests), body=body, seconds=10, core=0)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(stock), "127.0.0.1", port)
    await connection.done
    return Load.parse(stock.report()), stock.sample


async def test_every_request_is_answered_and_counted() -> None:
    """The floor answers whole requests, also those whose body comes from a file of its own."""
    async with answering(lambda: Echo(GOOD)) as port:
        load, sample = await loaded(port, 7, body=b"d" * 100_000)
    assert load.answered == 7
    assert load.rate > 0
    assert sample == b"hello"


async def test_a_refusal_makes_the_measurement_void() -> None:
    """A server that says no quickly is not fast."""
    async with answering(lambda: Echo(BAD)) as port:
        with pytest.raises(NotMeasured, match="HTTP 503: b'busy'"):
            await loaded(port, 3)


class Mute(asyncio.Protocol):
    """Closes the connection on the first byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.close()


async def test_a_lost_connection_makes_the_measurement_void() -> None:
    """What was not answered must not be forgotten."""
    async with answering(Mute) as port:
        with pytest.raises(NotMeasured, match="connection lost"):
            await loaded(port, 3)


@pytest.mark.parametrize("output", ["", "no report\n", "Traceback\nEOFError: x\n"])
def test_a_load_without_report_is_no_measurement(output: str) -> None:
    """A load process that died has measured nothing."""
    with pytest.raises(NotMeasured):
        Load.parse(output)


def test_a_load_without_answers_is_no_measurement() -> None:
    """There is no rate of nothing."""
    report = {"answered": 0, "seconds": 0.0, "failed": 0, "problem": ""}
    with pytest.raises(NotMeasured):
        Load.parse(json.dumps(report))


def test_requests_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Whatever bytes they have."""
    requests = [post("/a", {}, bytes(range(256))), post("/b", {"Content-Length": 9}), b"\0"]
    assert write_requests(tmp_path / "requests", requests) == 3
    assert list(read_requests(tmp_path / "requests")) == requests


def test_ticket_requests_are_for_new_commitments() -> None:
    """Repeated commitments would be answered without being stamped."""
    terms_hash = bytes(32)
    items = [
        *TicketRequests.decode(bulk_body(terms_hash, 50)).items,
        *TicketRequests.decode(ticket_body(terms_hash)).items,
    ]
    assert len({item.commitment for item in items}) == 51
    assert len(ticket_body(terms_hash)) == 71  # the script for wrk relies on it
