"""Quick requests over real loopback connections, and their way to the ordinary server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from bistro.api import routes
from bistro.daemon import connection, front
from bistro.daemon.bodies import read_body
from bistro.daemon.bursts import Bodies, Burst
from bistro.daemon.listening import HttpPart, bind_tcp
from bistro.daemon.quick import Exchange, Gathering, Heads, Pending, QuickEndpoint
from bistro.daemon.web import Endpoint, new_app
from bistro.errors import BistroError, OverloadedError, StorageError
from tests.support.clocks import NOON, ManualClock
from tests.support.serving import is_always_ready, running

MSGPACK = "application/msgpack"
PATH = "/calls/spring/tickets"


def request(body: bytes = b"abc", *, line: str = f"POST {PATH} HTTP/1.1", **fields: str) -> bytes:
    """A quick request; a field given here replaces that of the same name or is added."""
    every = {"Host": "h", "Content-Type": MSGPACK, "Content-Length": str(len(body))}
    every |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return f"{line}\r\n{lines}\r\n".encode() + body


class Desk:
    """Answers with the body backwards, at once, never, or with an error."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, Exchange]] = []
        self.left = 0
        self.error: BistroError | None = None
        self.is_silent = False

    def begin(self, call: str, body: bytes, exchange: Exchange) -> Pending:
        self.asked.append((call, body, exchange))
        if self.error is not None:
            raise self.error
        if not self.is_silent:
            exchange.tell(b"quick " + body[::-1])
        return self

    def leave(self) -> None:
        self.left += 1


GATHERED = 7
"""Bytes of requests that are answered together."""


class Hall:
    """Remembers bursts, and answers them backwards when it is told."""

    def __init__(self) -> None:
        self.bursts: list[tuple[str, Burst]] = []
        self.error: BistroError | None = None
        self.is_silent = False

    def begin(self, call: str, burst: Burst) -> None:
        self.bursts.append((call, burst))
        if self.error is not None:
            raise self.error
        if not self.is_silent:
            self.answer(burst)

    def answer(self, burst: Burst) -> None:
        places = range(len(burst.bodies))
        burst.tell_all(places, Bodies([b"together " + body[::-1] for body in burst.bodies]))


async def ordinary(request: web.Request) -> web.Response:
    """What the ordinary server says to the same route."""
    body = await read_body(request, limit=1_000)
    return web.Response(body=b"ordinary " + body[::-1])


class Site:
    """A running part with one route that is quick and ordinary."""

    def __init__(self, desk: Desk, hall: Hall, port: int, registry: CollectorRegistry) -> None:
        self.desk = desk
        self.hall = hall
        self.port = port
        self.registry = registry

    async def connect(self) -> Line:
        return Line(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """One answer over a connection of its own."""
        async with await self.connect() as line:
            line.send(data)
            return await line.answer()


class Line:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, fields, body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:-2])
        body = await self._reader.readexactly(int(fields.get("Content-Length", "0")))
        return int(head[0].split()[1]), fields, body

    async def ended(self) -> bool:
        """Whether the server closed without another byte."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read() == b""
        return True

    def break_off(self) -> None:
        self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(*, unfinished_limit: int = 1 << 20, **more: Any) -> AsyncIterator[Site]:
    desk, hall, registry = Desk(), Hall(), CollectorRegistry()
    gathering = Gathering(GATHERED, hall.begin)
    endpoint = QuickEndpoint(routes.TICKETS, MSGPACK, 10_000, desk.begin, gathering=gathering)
    app = new_app(
        [Endpoint(routes.TICKETS, ordinary)],
        registry=registry,
        is_ready=is_always_ready,
        unfinished_limit=unfinished_limit,
    )
    quick = Heads([endpoint], ManualClock())
    part = HttpPart(app, bind_tcp(host="127.0.0.1", port=0), quick=quick, grace_s=0.5, **more)
    async with running(part):
        yield Site(desk, hall, part.port, registry)


async def test_a_quick_answer_has_the_fields_of_every_answer() -> None:
    """A reader cannot tell the ways apart, but for what was asked."""
    async with serving() as site:
        status, quick, body = await site.ask(request())
        assert (status, body) == (200, b"quick cba")
        (call, asked, exchange) = site.desk.asked[0]
        assert (call, asked, exchange.address) == ("spring", b"abc", "127.0.0.1")
        assert exchange.received_at == NOON
        _, other, body = await site.ask(request(X="é"))
        assert body == b"ordinary cba"
    assert quick.pop("Content-Type") == MSGPACK
    assert quick.pop("Cache-Control") == "no-store"
    assert other.pop("Content-Type") == "application/octet-stream"
    assert quick.keys() == other.keys()
    assert quick[routes.REQUEST_ID] != other[routes.REQUEST_ID]
    same = quick.keys() - {routes.REQUEST_ID, "Date", "Content-Length"}
    assert {name: quick[name] for name in same} == {name: other[name] for name in same}


async def test_bytes_may_come_one_by_one_or_all_at_once() -> None:
    """Where the network cuts makes no difference, nor what was sent ahead."""
    async with serving() as site, await site.connect() as line:
        for at in range(len(request())):
            line.send(request()[at : at + 1])
            await asyncio.sleep(0)
        assert (await line.answer())[2] == b"quick cba"
        line.send(b"".join(request(b"%d" % number) for number in range(10, 60)))
        answers = [(await line.answer())[2] for _ in range(50)]
        assert answers == [b"quick " + str(number)[::-1].encode() for number in range(10, 60)]


@pytest.mark.parametrize(
    "data",
    [
        request(line=f"PUT {PATH} HTTP/1.1"),
        request(line=f"POST {PATH}?x=1 HTTP/1.1"),
        request(line="POST /calls/%73pring/tickets HTTP/1.1"),
        request(line="POST /calls/spring/receipts HTTP/1.1"),
        request(line=f"POST {PATH} HTTP/1.0", Connection="keep-alive"),
        request(Content_Type="application/json"),
        request(Content_Length="0", body=b""),
        request(Content_Length="03"),
        request(bytes(10_001)),
        request(Connection="close"),
        request(Expect="100-continue"),
        request(Content_Encoding="gzip"),
        request(Upgrade="h2c"),
        request(b"3\r\nabc\r\n0\r\n\r\n", Transfer_Encoding="chunked").replace(
            b"Content-Length: 13\r\n", b""
        ),
        request().replace(b"Host", b"Content-Length: 3\r\nHost"),
        request().replace(b"Host: h\r\n", b""),
        request().replace(b"Host", b"Host :x\r\nHost"),
        request(X="a\x01"),
        request(X="é"),
        b"no HTTP at all\r\n\r\n",
        request().replace(b"Host", b"X: y\r\n" * 70 + b"Host"),
    ],
    ids=range(21),
)
async def test_what_is_not_exactly_a_quick_request_is_left_to_the_ordinary_server(
    data: bytes,
) -> None:
    """It answers, or refuses, as if there were no quick way."""
    async with serving() as site, await site.connect() as line:
        line.send(data)
        status, _, body = await line.answer()
        if status == 100:
            status, _, body = await line.answer()
        assert not body.startswith(b"quick")
        assert site.desk.asked == []


async def test_a_connection_goes_over_with_every_byte_and_stays() -> None:
    """Also those that were sent ahead."""
    async with serving() as site, await site.connect() as line:
        line.send(request(b"1") + request(b"2") + request(b"3", Accept="é") + request(b"4"))
        assert [(await line.answer())[2] for _ in range(4)] == [
            b"quick 1",
            b"quick 2",
            b"ordinary 3",
            b"ordinary 4",
        ]


async def test_a_head_without_end_goes_over_at_64_kib() -> None:
    """The ordinary server knows how to refuse it."""
    async with serving() as site:
        status, _, _ = await site.ask(b"POST /" + b"x" * 70_000)
        assert status == 400


async def test_errors_are_problem_documents_with_a_time_to_come_back() -> None:
    """As those of the ordinary server, and the connection goes on."""
    async with serving() as site, await site.connect() as line:
        site.desk.error = OverloadedError("full", retry_after_s=1.5)
        line.send(request())
        status, fields, body = await line.answer()
        assert (status, fields["Retry-After"]) == (503, "2")
        assert json.loads(body)["retry_after_ms"] == 1_500
        assert len(fields[routes.REQUEST_ID]) == 16
        site.desk.error = None
        line.send(request())
        assert (await line.answer())[0] == 200
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="200"} 1.0' in text
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="503"} 1.0' in text
    assert 'bistro_http_errors_total{code="overloaded",route="tickets"} 1.0' in text
    assert 'bistro_http_request_duration_seconds_count{route="tickets"} 2.0' in text


async def test_a_storage_error_is_answered_and_stops_the_part() -> None:
    """Over a store that failed nothing may be promised any more."""

    async def serve() -> None:
        async with serving() as site:
            site.desk.error = StorageError("disk: no space left")
            assert (await site.ask(request()))[0] == 500
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(StorageError, match="no space left")


async def test_whoever_goes_away_takes_the_request_along() -> None:
    """What is told to nobody harms nobody."""
    async with serving() as site:
        site.desk.is_silent = True
        line = await site.connect()
        line.send(request())
        await until(lambda: len(site.desk.asked) == 1)
        line.break_off()
        await until(lambda: site.desk.left == 1)
        site.desk.asked[0][2].tell(b"late")
        site.desk.is_silent = False
        assert (await site.ask(request()))[0] == 200


async def test_an_answer_that_cannot_be_sent_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop hears of it; all others of their answers."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    send = connection.Connection.send

    def broken(self: connection.Connection, data: bytes, **more: Any) -> None:
        if b"kcorb" in data:
            raise RuntimeError("the handler is closed")
        send(self, data, **more)

    monkeypatch.setattr(connection.Connection, "send", broken)
    async with serving() as site:
        site.desk.is_silent = True
        lines = [await site.connect() for _ in range(3)]
        for line, body in zip(lines, (b"1", b"brock", b"3"), strict=True):
            line.send(request(body))
        await until(lambda: len(site.desk.asked) == 3)
        for _, body, exchange in site.desk.asked:
            exchange.tell(body[::-1])
        assert [(await line.answer())[2] for line in lines[::2]] == [b"1", b"3"]
        assert [type(one["exception"]) for one in heard] == [RuntimeError]
        for line in lines:
            line.break_off()


async def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without a request, without a head's end, and requests without an answer."""
    monkeypatch.setattr(front, "SWEEP_S", 0.01)
    async with serving(idle_timeout_s=0.05, request_timeout_s=0.05) as site:
        for data in (b"", b"POST /", request()[:-1]):
            async with await site.connect() as line:
                line.send(data)
                assert await line.ended()
        site.desk.is_silent = True
        async with await site.connect() as line:
            line.send(request())
            status, _, body = await line.answer()
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert site.desk.left == 1


async def test_open_requests_are_answered_when_the_part_stops() -> None:
    """And told that the connection ends; idle ones are closed at once."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving())
        idle, asking = await site.connect(), await site.connect()
        site.desk.is_silent = True
        asking.send(request())
        await until(lambda: len(site.desk.asked) == 1)
        asyncio.get_running_loop().call_later(0.05, site.desk.asked[0][2].tell, b"good bye")
        await stack.aclose()
        assert (await asking.answer())[2] == b"good bye"
        assert await asking.ended()
        assert await idle.ended()
        asking.break_off()
        idle.break_off()


async def test_requests_of_one_size_are_answered_together() -> None:
    """Those of one pass of the event loop, each its own, in any order of sizes."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving())
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(20)]
        for number in range(3):
            for at, line in enumerate(lines):
                line.send(request(b"%03d %03d" % (at, number)))
            answers = [await line.answer() for line in lines]
            expected = [b"together " + (b"%03d %03d" % (at, number))[::-1] for at in range(20)]
            assert [body for _, _, body in answers] == expected
            assert len({fields[routes.REQUEST_ID] for _, fields, _ in answers}) == 20
            lines[number].send(request(b"abc"))
            assert (await lines[number].answer())[2] == b"quick cba"
        assert len(site.hall.bursts) < 60
        assert {(call, burst.received_at) for call, burst in site.hall.bursts} == {("spring", NOON)}
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_requests_total{method="POST",route="tickets",status="200"} 63.0' in text
    assert 'bistro_http_request_duration_seconds_count{route="tickets"} 63.0' in text


async def test_requests_sent_ahead_of_a_burst_are_answered_in_order() -> None:
    """One at a time, as everywhere; also when they come in pieces."""
    async with serving() as site, await site.connect() as line:
        data = b"".join(request(b"%07d" % number) for number in range(30))
        for begin in range(0, len(data), 100):
            line.send(data[begin : begin + 100])
            await asyncio.sleep(0)
        answers = [(await line.answer())[2] for _ in range(30)]
    assert answers == [b"together " + (b"%07d" % number)[::-1] for number in range(30)]


async def test_an_error_answers_a_whole_burst() -> None:
    """With one text, counted for each."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving())
        site.hall.error = OverloadedError("full", retry_after_s=1.5)
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(5)]
        for line in lines:
            line.send(request(b"refused"))
        for line in lines:
            status, fields, body = await line.answer()
            assert (status, fields["Retry-After"]) == (503, "2")
            assert json.loads(body)["code"] == "overloaded"
        site.hall.error = None
        lines[0].send(request(b"granted"))
        assert (await lines[0].answer())[0] == 200
        text = generate_latest(site.registry).decode()
    assert 'bistro_http_errors_total{code="overloaded",route="tickets"} 5.0' in text


async def test_whoever_leaves_a_burst_harms_no_other() -> None:
    """Gone before the answer, or answered already that it took too long."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving())
        site.hall.is_silent = True
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(3)]
        for number, line in enumerate(lines):
            line.send(request(b"%07d" % number))
        await until(lambda: sum(len(burst.bodies) for _, burst in site.hall.bursts) == 3)
        assert [burst.has_left for _, burst in site.hall.bursts] == [False] * len(site.hall.bursts)
        lines[1].break_off()
        await until(lambda: sum(burst.waiting_count for _, burst in site.hall.bursts) == 2)
        for _, burst in site.hall.bursts:
            site.hall.answer(burst)
            site.hall.answer(burst)
        assert (await lines[0].answer())[2] == b"together 0000000"
        assert (await lines[2].answer())[2] == b"together 2000000"


async def test_a_burst_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its late answer is not taken for that to the next request."""
    monkeypatch.setattr(front, "SWEEP_S", 0.01)
    async with serving(request_timeout_s=0.05) as site, await site.connect() as line:
        site.hall.is_silent = True
        line.send(request(b"slow..."))
        assert (await line.answer())[0] == 503
        line.send(request(b"another"))
        await until(lambda: len(site.hall.bursts) == 2)
        site.hall.answer(site.hall.bursts[0][1])
        site.hall.answer(site.hall.bursts[1][1])
        assert (await line.answer())[2] == b"together rehtona"


async def test_an_answer_of_a_burst_that_cannot_be_sent_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop hears of it; all others of their answers."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    send = connection.Connection.send

    def broken(self: connection.Connection, data: bytes, **more: Any) -> None:
        if b"nekorb" in data:
            raise RuntimeError("the handler is closed")
        send(self, data, **more)

    monkeypatch.setattr(connection.Connection, "send", broken)
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving())
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(3)]
        for line, body in zip(lines, (b"whole 1", b"1broken", b"whole 3"), strict=True):
            line.send(request(body))
        assert (await lines[0].answer())[2] == b"together 1 elohw"
        assert (await lines[2].answer())[2] == b"together 3 elohw"
        assert [type(one["exception"]) for one in heard] == [RuntimeError]


@pytest.mark.parametrize("accept", ["x", "é"], ids=["quick", "ordinary"])
async def test_unfinished_requests_share_a_budget(accept: str) -> None:
    """The oldest goes first, told so where it asked the quick way; the newest are answered."""
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(serving(unfinished_limit=2_500))
        lines = [await stack.enter_async_context(await site.connect()) for _ in range(4)]
        whole = request(bytes(900), Accept=accept)
        for line in lines[:2]:
            line.send(whole[:-1])
            await asyncio.sleep(0.05)
        lines[2].send(whole[:-1])
        if accept == "x":
            status, fields, body = await lines[0].answer()
            assert (status, json.loads(body)["code"]) == (503, "overloaded")
            assert (fields["Connection"], fields["Retry-After"]) == ("close", "1")
        assert await lines[0].ended()
        for line in lines[1:3]:
            line.send(whole[-1:])
            assert (await line.answer())[0] == 200
        lines[3].send(whole)
        assert (await lines[3].answer())[0] == 200


async def test_a_connection_without_room_is_closed_at_once() -> None:
    """Also where the others went to the ordinary server; whoever leaves makes room."""
    async with serving(connections_limit=4) as site:
        quick, ordinary = await site.connect(), await site.connect()
        quick.send(request())
        ordinary.send(request(Accept="é"))
        assert (await quick.answer())[2] == b"quick cba"
        assert (await ordinary.answer())[2] == b"ordinary cba"
        async with await site.connect() as third:
            assert await third.ended()
        ordinary.break_off()
        await asyncio.sleep(0.05)
        assert (await site.ask(request()))[0] == 200
        quick.break_off()


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop work until something has happened."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a poll is all there is
            await asyncio.sleep(0.001)
