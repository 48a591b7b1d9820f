"""How much one address may ask for, over real connections from several loopback addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bistro.api import media
from bistro.wire.ticketing import Postponed, TicketAnswers, Ticketed, TicketRequest, TicketRequests
from bistro_server.app import Server
from bistro_server.store.filers import Filers
from bistro_server.store.schema import open_database
from tests.integration.test_registered_tickets import ADA, BOB, asking
from tests.support.clocks import ManualClock
from tests.support.destinations import commitment, make_call, make_server, serving_folder
from tests.support.timestamps import Request

BURST = 1_000
GRANTED = bytes.fromhex("3003020100")


@dataclass
class Line:
    """A connection from one address."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def get(self, path: str) -> bytes:
        """The body of an answer."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.split("content-length: ")[1].split("\r\n")[0]
        return await self.reader.readexactly(int(length))

    async def post(
        self, body: bytes, *, target: str = "/calls/spring/tickets", **fields: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body of the answer to a request, for tickets of ``spring``."""
        every = {
            "Host": "h",
            "Content-Type": media.MSGPACK,
            "Content-Length": str(len(body)),
            **{name.replace("_", "-"): value for name, value in fields.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
        self.writer.write(f"POST {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        answer = await self.reader.readexactly(int(found["content-length"]))
        return int(head[0].split()[1]), found, answer


@dataclass
class Site:
    """A server whose addresses may ask for a thousand tickets, and one more in a long time."""

    server: Server
    terms_hash: bytes

    @contextlib.asynccontextmanager
    async def line(self, address: str) -> AsyncIterator[Line]:
        """A connection from an address of this machine."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.http.port, local_addr=(address, 0)
        )
        try:
            yield Line(reader, writer)
        finally:
            writer.close()

    def body(self, number: int) -> bytes:
        """A request for one ticket."""
        return TicketRequests((TicketRequest(commitment(number), self.terms_hash),)).encode()

    def array(self, first: int, count: int) -> bytes:
        """A request for many."""
        items = [TicketRequest(commitment(first + at), self.terms_hash) for at in range(count)]
        return TicketRequests(tuple(items), is_bulk=True).encode()


@contextlib.asynccontextmanager
async def site(
    root: Path, *, call: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Site]:
    """A running site; ``more`` are settings of tickets."""
    limits = {"address_rate_per_s": 0.001, "address_burst_count": BURST, **more}
    folder, settings = make_server(root, tickets=limits)
    clock = ManualClock()
    made = await make_call(folder, clock, **(call or {}))
    database = await open_database(folder.database)
    await Filers(database, clock).put([(ADA, "Ada"), (BOB, "Bob")])
    await database.close()
    async with serving_folder(folder, settings, clock) as (server, _):
        yield Site(server, made.terms.hash)


async def empty(line: Line, found: Site, first: int = 0, **fields: str) -> None:
    """Take all that the bucket of a line's address holds."""
    status, _, body = await line.post(found.array(first, BURST), **fields)
    assert status == 200
    assert all(isinstance(one, Ticketed) for one in TicketAnswers.decode(body).items)


def require_limited(answer: tuple[int, dict[str, str], bytes]) -> None:
    """The answer is 503 with a time to come back, and no 429."""
    status, fields, body = answer
    assert status == 503
    assert int(fields["retry-after"]) >= 1
    assert b'"code":"overloaded"' in body
    assert b"from your address" in body


async def test_an_address_is_limited_and_others_are_not(tmp_path: Path) -> None:
    """By items, also in arrays; on all its connections; over the quick way and the other."""
    async with site(tmp_path / "d") as found, found.line("127.0.0.2") as greedy:
        await empty(greedy, found)
        require_limited(await greedy.post(found.body(5_000)))
        require_limited(await greedy.post(found.body(5_000)))
        require_limited(await greedy.post(found.array(5_000, 2)))
        require_limited(await greedy.post(found.body(5_000), Proxy_Connection="keep-alive"))
        async with found.line("127.0.0.2") as again:
            require_limited(await again.post(found.body(5_000)))
        async with found.line("127.0.0.3") as other:
            assert (await other.post(found.body(5_001)))[0] == 200
            assert (await other.post(found.array(6_000, BURST - 1)))[0] == 200
            require_limited(await other.post(found.body(5_001)))
        assert found.server.calls.get("spring").log.size == 1 + BURST + 1 + BURST - 1
        async with found.line("127.0.0.1") as operator:
            shown = await operator.get("/metrics")
        assert b"\nbistro_server_tickets_limited_total 7.0\n" in shown


async def test_a_limited_request_sent_ahead_keeps_its_place(tmp_path: Path) -> None:
    """Answers come in the order of requests, also where one of them is a refusal."""
    async with site(tmp_path / "d") as found, found.line("127.0.0.2") as line:
        assert (await line.post(found.array(0, BURST - 1)))[0] == 200
        body = found.body(7_000)
        head = (
            "POST /calls/spring/tickets HTTP/1.1\r\nHost: h\r\n"
            f"Content-Type: {media.MSGPACK}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        line.writer.write(head + body + head + body)
        for status in (200, 503):
            answer = (await line.reader.readuntil(b"\r\n\r\n")).decode()
            assert answer.startswith(f"HTTP/1.1 {status} ")
            length = answer.lower().split("content-length: ")[1].split("\r\n")[0]
            await line.reader.readexactly(int(length))


async def test_a_trusted_proxy_speaks_for_its_clients(tmp_path: Path) -> None:
    """Each has its own bucket; where it names none, nobody's is used; others are not believed."""
    async with site(tmp_path / "d") as found, found.line("127.0.0.1") as proxy:
        await empty(proxy, found, X_Forwarded_For="192.0.2.1")
        require_limited(await proxy.post(found.body(1), X_Forwarded_For="192.0.2.1"))
        require_limited(await proxy.post(found.body(1), X_Forwarded_For="192.0.2.9, 192.0.2.1"))
        require_limited(
            await proxy.post(
                found.body(1), X_Forwarded_For="192.0.2.1", Proxy_Connection="keep-alive"
            )
        )
        assert (await proxy.post(found.body(1), X_Forwarded_For="192.0.2.2"))[0] == 200
        for number in range(2):
            await empty(proxy, found, 10_000 * number)
        assert (await proxy.post(found.body(2)))[0] == 200
        async with found.line("127.0.0.2") as stranger:
            await empty(stranger, found, X_Forwarded_For="192.0.2.3")
            require_limited(await stranger.post(found.body(3), X_Forwarded_For="192.0.2.4"))


async def test_who_is_named_unreadably_counts_as_the_proxy(tmp_path: Path) -> None:
    """Nobody gets rid of the limits by having a trusted proxy pass on nonsense."""
    async with site(tmp_path / "d") as found, found.line("127.0.0.1") as proxy:
        await empty(proxy, found, X_Forwarded_For="nonsense")
        for unreadable in ("nonsense", "192.0.2.1, unknown", "_hidden"):
            require_limited(await proxy.post(found.body(1), X_Forwarded_For=unreadable))
        assert (await proxy.post(found.body(1), X_Forwarded_For="192.0.2.1"))[0] == 200


async def test_time_stamps_and_tickets_share_the_bucket_of_an_address(tmp_path: Path) -> None:
    """By the quick way and the ordinary one; who has another address is not concerned."""
    way = {"target": "/tsa", "Content_Type": media.TIMESTAMP_QUERY}
    async with site(tmp_path / "d") as found, found.line("127.0.0.2") as one:
        status, _, token = await one.post(Request().encode(), **way)
        assert status == 200
        assert token[4:9] == GRANTED
        require_limited(await one.post(found.array(0, BURST)))
        status, _, _ = await one.post(found.array(0, BURST - 1))
        assert status == 200
        require_limited(await one.post(Request().encode(), **way))
        require_limited(await one.post(Request().encode(), **way, Proxy_Connection="keep-alive"))
        async with found.line("127.0.0.3") as other:
            assert (await other.post(Request().encode(), **way))[0] == 200


async def test_a_filer_is_limited_wherever_it_asks_from(tmp_path: Path) -> None:
    """Behind the verified signature: forged admissions cost their address, not the filer."""
    call = {"filers": "registered"}
    limits = {"filer_rate_per_s": 0.001, "filer_burst_count": 3}
    async with (
        site(tmp_path / "d", call=call, **limits) as found,
        found.line("127.0.0.2") as one,
        found.line("127.0.0.3") as two,
    ):

        async def ask(line: Line, number: int, filer: str, commit: int | None = None) -> Any:
            request = asking(found.terms_hash, number, filer)
            if commit is not None:
                request = TicketRequest(commitment(commit), found.terms_hash, request.admission)
            items = TicketRequests((request,), is_bulk=True)
            status, _, body = await line.post(items.encode())
            assert status == 200
            return TicketAnswers.decode(body).items[0]

        for number in range(5):
            assert await ask(one, 50, "ada", commit=100 + number) == Postponed("not-verified")
        for number in range(3):
            assert isinstance(await ask(one if number else two, number, "ada"), Ticketed)
        limited = await ask(two, 3, "ada")
        assert isinstance(limited, Postponed)
        assert limited.code == "overloaded"
        assert limited.retry_ms > 0
        assert isinstance(await ask(two, 4, "bob"), Ticketed)


async def test_the_plain_port_takes_no_requests_of_registered_calls(tmp_path: Path) -> None:
    """They name their filer; the answer sends the client to HTTPS, quick way or not."""
    call = {"filers": "registered"}
    async with site(tmp_path / "d", call=call, plain_port=0) as found:
        part = found.server.tickets
        assert part is not None
        for fields in ({}, {"Proxy_Connection": "keep-alive"}):
            for body in (
                TicketRequests((asking(found.terms_hash, 1),)).encode(),
                found.body(1),
                found.array(1, 2),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", part.port)
                status, _, answer = await Line(reader, writer).post(body, **fields)
                writer.close()
                assert status == 403
                assert b'"code":"refused"' in answer
                assert b"HTTPS" in answer
        assert found.server.calls.get("spring").log.size == 1


@pytest.mark.parametrize("count", [1, 2])
async def test_what_a_bucket_refuses_costs_it_nothing(tmp_path: Path, count: int) -> None:
    """Whoever asks for less after a refusal is served."""
    async with site(tmp_path / "d") as found, found.line("127.0.0.2") as line:
        assert (await line.post(found.array(0, BURST - count)))[0] == 200
        require_limited(await line.post(found.array(5_000, count + 1)))
        assert (await line.post(found.array(5_000, count)))[0] == 200
